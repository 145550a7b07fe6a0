"""Create, enter and repair environments: virtual environments and containers."""
