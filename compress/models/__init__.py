"""Where networks come from, and how one lies on disk."""
