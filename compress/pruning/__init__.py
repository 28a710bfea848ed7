"""Channels that a network can do without are removed."""
