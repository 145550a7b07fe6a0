"""Train a transformer on real text, sharded over this machine's GPUs or CPU ranks."""
