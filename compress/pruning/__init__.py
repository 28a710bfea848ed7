"""Structured pruning: which channels hang together, what each is worth, which to remove, and the surgery."""
