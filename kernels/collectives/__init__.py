"""Collectives among ranks, checked and timed."""
