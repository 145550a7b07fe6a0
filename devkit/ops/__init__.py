"""Operators: making a new one, checking one, and where one lives."""
