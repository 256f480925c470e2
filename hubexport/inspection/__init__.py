"""Tells what is in modules and checkpoints, without TensorFlow."""
