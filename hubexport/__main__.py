"""Runs the command line for `python -m hubexport`."""

from hubexport.cli.entry import run

run()
