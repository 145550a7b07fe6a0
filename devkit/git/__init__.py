"""Clones: their state as plain data, snapshots of it, and the way back."""
