"""Measures how costs grow with the data: of the log itself, and of operations that must not grow."""
