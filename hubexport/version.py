"""The version of hubexport; apart from the package, so that all modules can import it."""

__version__ = "0.1.0"
