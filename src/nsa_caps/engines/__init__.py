"""Thin shims: this library's answer under the names and in the shapes that an engine already uses.

Importing one imports neither the engine nor torch.
"""
