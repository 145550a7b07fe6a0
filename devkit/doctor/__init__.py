"""What this machine is, what of it works for Paddle, and what mends the rest: ``devkit doctor``.

Each module has one subject: a frozen dataclass of facts, a thin ``gather`` that reads them from the machine, and pure
``check`` functions that turn facts into findings.
"""
