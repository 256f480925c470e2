"""Consumers: old and new TensorFlows, each in its own environment, that use modules as programs of their time would."""
