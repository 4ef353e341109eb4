"""A decision as documents, tables and pictures."""
