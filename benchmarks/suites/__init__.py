"""One module per question; each has `run(settings) -> Iterator[line]`."""
