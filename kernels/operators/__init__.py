"""Checking an operator: forward, gradients, InferMeta, aliasing, shapes, dtypes, determinism, threads."""
