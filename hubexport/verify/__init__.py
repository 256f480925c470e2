"""Proves that an export is right: named checks over one module, each with a measured figure and its limit."""
