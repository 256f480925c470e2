"""A module hub over HTTP, for programs and for people."""
