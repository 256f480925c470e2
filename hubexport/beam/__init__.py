"""Apache Beam, which spreads long work over many machines: its options, and how pipelines are run."""
