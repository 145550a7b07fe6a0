"""Paddle from source: what would fail, the phases of a build, what failed and why, and the builds to spare."""
