"""Benchmarks of elephas_fast against its peers: `python -m benchmarks NAME [--quick]`.

Nothing is imported here: peers run these modules with their own interpreter, which lacks our dependencies.
"""
