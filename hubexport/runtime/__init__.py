"""Modules in TensorFlow's hands: loaded, and run on images. Everything here imports TensorFlow."""
