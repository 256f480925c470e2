"""Photographs from files to what modules take."""
