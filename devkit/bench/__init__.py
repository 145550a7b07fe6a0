"""Benchmarks: what is measured, in which order, and what the figures say."""
