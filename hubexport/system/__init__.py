"""What any program needs of the system it runs on: files, locks, processes, archives. Nothing here knows a network."""
