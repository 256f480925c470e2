"""Where trained values come from. Only `tensorflow_reader` imports TensorFlow, and only V1 checkpoints need it."""
