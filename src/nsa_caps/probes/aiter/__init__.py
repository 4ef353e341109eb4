"""The installed aiter's source, read in a closed world: what is not accounted for is not known."""
