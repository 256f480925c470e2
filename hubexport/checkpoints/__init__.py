"""Where trained values come from. Nothing here needs TensorFlow."""
