"""elephas_fast as a contender: each module is one process that answers the same calls as its peers."""
