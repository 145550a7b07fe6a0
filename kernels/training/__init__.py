"""Sharded training of a decoder-only transformer on real text: one rank is one process of this package."""
