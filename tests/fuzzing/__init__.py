"""Damages an input of every reader at random, and counts what the readers make of it: see `__main__`."""
