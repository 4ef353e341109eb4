"""Mutants of what decides and what parses: `python -m mutants [PART ...]`."""
