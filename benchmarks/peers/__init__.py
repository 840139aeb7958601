"""The peers, each run as its own process by the interpreter of its own environment."""
