"""Network architectures as data; imports no TensorFlow."""
