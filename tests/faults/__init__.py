"""Faults injected on purpose, and what must be true afterwards. What each number means: docs/reliability.md."""
