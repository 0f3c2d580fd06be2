"""Search engines beside the one of NumPy."""
