"""One face for all runtimes: arrays in, arrays out."""
