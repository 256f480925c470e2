"""Apache Beam, which can do on many machines what takes one too long: what a user says of it, and how it is run."""
