"""Trying a pull request: the code before and after it, the tests that it concerns, and a verdict."""
