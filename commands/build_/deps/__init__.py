"""Fetch what a build needs ahead of it, into a cache that all worktrees share."""
