"""One archive of what a run has made, with checksums."""
