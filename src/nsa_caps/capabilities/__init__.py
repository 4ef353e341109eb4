"""The facts of a machine: records, switches, and what is known of aiter's history."""
