"""Releases: many modules, verified, packed, documented, and published together by one index.

`plan` says what has to be made and why, `make_artifact` makes it, and `release_modules` shares the work between
processes and publishes. `check` tells from the files alone whether a release is complete and correct.
"""
