"""Opens and describes modules, whoever wrote them, without TensorFlow."""
