"""A tree's CMake, read without running it."""
