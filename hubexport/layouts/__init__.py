"""What other frameworks call a network's variables, and how they lay them out: one file a format."""
