"""Int8: where, with which scales, and training with them."""
