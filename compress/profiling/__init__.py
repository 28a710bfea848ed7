"""Latency, memory and size: the statistics of what a target sent back."""
