"""Writers of module directories, one file a format."""
