"""The revision of what the emitters in this folder write, which `hubexport.json` records as `format_revision`."""

# Raise it whenever the bytes of a module change, whichever file they are in: `hubexport verify` builds a module of this
# revision again and expects the same bytes, and compares one of another revision part by part. Modules from before
# there were revisions have none, which counts as 0.
FORMAT_REVISION = 1
