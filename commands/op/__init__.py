"""Operators: create one, check one, and find where one lives."""
