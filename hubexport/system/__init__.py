"""What any program needs of its system: files, locks, processes, archives, HTTP. Nothing here knows a network."""
