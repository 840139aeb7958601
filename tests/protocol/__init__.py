"""A model of everything around the parameter server, for histories of faults that a seed chooses.

The server, its gate, sessions, ledger, store and codec are the real ones. Simulated are the network, the clock, Spark's
attempts and the driver (``python -m tests.protocol SEED`` prints one history).
"""
