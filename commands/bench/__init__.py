"""Measure kernels: right first, then how fast, side by side."""
