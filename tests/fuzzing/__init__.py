"""Damages the inputs of every reader at random, and counts the outcomes: see `__main__`."""
