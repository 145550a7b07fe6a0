"""Make, enter and mend environments: virtual ones and containers."""
