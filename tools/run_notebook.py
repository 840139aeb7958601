"""Runs a notebook and keeps what it prints and draws: ``python tools/run_notebook.py FILE [--out OTHER]``.

What Spark and TensorFlow write to stderr at their start is left out of the file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def run(source: Path, target: Path, timeout: int = 600) -> None:
    """Run all cells of ``source`` in its own folder and write it to ``target``.

    Raises nbclient's ``CellExecutionError`` where a cell fails, ``CellTimeoutError`` where one takes longer than
    ``timeout`` seconds.
    """
    notebook = nbformat.read(source, as_version=4)
    NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(source.parent)}},
    ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.validate(notebook)
    nbformat.write(notebook, target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path, help="instead of the notebook itself")
    options = parser.parse_args()
    run(options.notebook, options.out or options.notebook)
