"""The report of a verification as an HTML page."""
