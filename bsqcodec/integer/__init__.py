"""Integer arithmetic that gives the same numbers on every machine, thread count and kernel."""
