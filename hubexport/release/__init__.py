"""Releases: many modules packed, documented, proved, and published together by one file, their index.

`plan` says what is to be made and why, `work` makes it, `run` lets processes share the work and publishes, `check`
finds out from the files alone whether a release is whole and right.
"""
