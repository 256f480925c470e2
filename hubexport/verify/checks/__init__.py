"""The checks of `hubexport verify`: one file per group, and a registry that lists all of them."""
