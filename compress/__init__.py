"""Distil, prune, quantize, export and measure a trained network for the hardware it must run on."""

__version__ = "0.1.0"
