"""The literature's reference networks, one family a file."""
