"""Timing the user's own functions by the rules of our benchmarks."""
