"""Losses placed between two networks: what each reads of them, and what of it is learnt along with the student."""
