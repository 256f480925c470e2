"""The report of a verification, as a page that people open in a browser."""
