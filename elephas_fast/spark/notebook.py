"""Where the driver's code runs."""

from __future__ import annotations

import sys


def is_running_in_notebook() -> bool:
    """Whether this process is the kernel of a Jupyter notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
