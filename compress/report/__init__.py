"""What each file costs and is worth, for people and for programs."""
