"""What an engine holds: one row, bound to this machine."""
