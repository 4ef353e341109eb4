"""Thin shims: this library's answer under the names and in the shapes that an engine already uses.

Importing one imports neither the engine nor torch. ROCm/ATOM needs none: it runs aiter's rows, and the one thing of its
own, rows padded to 144 bytes, is `PageFormat.row_stride`.
"""
