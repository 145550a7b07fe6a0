"""Attention for GPUs in Triton, for Paddle's and torch's tensors. Not yet run on a GPU."""
