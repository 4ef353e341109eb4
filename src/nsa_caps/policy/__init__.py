"""The decision: what is asked, what each row needs, and why a row is chosen or not. Pure."""
