"""For tools that still call setup.py: hands over to pip, which reads pyproject.toml."""

import subprocess
import sys

sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "."]))
