"""Triton kernels of our own, for every GPU that Triton compiles for."""
