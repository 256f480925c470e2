"""Whole models for inference where there is no TensorFlow: one writer a format, from a folded network."""
