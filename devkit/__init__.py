"""devkit: one terminal command for the working day of people who develop PaddlePaddle or on it."""

__version__ = "0.1.0"
