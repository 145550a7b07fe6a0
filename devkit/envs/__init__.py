"""Environments: the Pythons that the device side runs in."""
