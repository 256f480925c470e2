"""The pages of a release: what people see of it, from a server or as files."""
