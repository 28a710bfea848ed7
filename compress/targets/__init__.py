"""The machines on which files are measured."""
