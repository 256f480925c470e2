"""A module hub over HTTP, for programs and people."""
