"""aiter's own gates executed in a process of their own, without a GPU, torch or Triton: only where it is asked for."""
