"""Old and new TensorFlows, each in an environment of its own, that use modules as programs of their time would."""
