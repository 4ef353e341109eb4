"""Predicates over a machine and a request that answer with a reason."""
