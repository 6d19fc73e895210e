"""`python workflow/run.py <verb>`: the command line without installation.

This file's folder is first on Python's path, so the package beside it is found also inside conda jobs, where
PYTHONPATH is removed.
"""

from matryobench.cli import main

main()
