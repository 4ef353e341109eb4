"""Fuzzing of every parser: `python -m fuzz --inputs 100000 [PARSER]`."""
