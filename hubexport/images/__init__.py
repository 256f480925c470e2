"""Finds and reads images, and runs modules on them: classes and feature vectors."""
