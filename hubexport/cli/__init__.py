"""The command line: one module per subcommand, which parses arguments, calls the library and prints the result."""
