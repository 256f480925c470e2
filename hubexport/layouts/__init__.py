"""The names and shapes that other frameworks give to a network's variables: one file per format."""
