"""Loads modules into TensorFlow, and runs and trains them there."""
