"""Runs the command line for `python -m hubexport`."""

from hubexport.cli.main import run

run()
