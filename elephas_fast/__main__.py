"""``python -m elephas_fast script.py args...``: run a script written for Elephas as it is."""

from __future__ import annotations

import os
import runpy
import sys

from elephas_fast.alias import install_as_elephas


def main() -> None:
    """Run the script named on the command line as ``__main__``, with ``elephas`` meaning this package."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit("usage: python -m elephas_fast script.py [arguments...]")
    install_as_elephas()
    script = sys.argv[1]
    del sys.argv[0]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
