"""Elephas' ``enums``."""
