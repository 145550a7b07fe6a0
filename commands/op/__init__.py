"""Operators: make a new one, check one, and see where one lives."""
