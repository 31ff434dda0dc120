"""The command line: it parses, calls once, and prints. One module for each group of commands."""

import gc
import sys
from typing import NoReturn


def main() -> NoReturn:
    """What the command `jobrunner` runs; ends the process with the exit code."""
    gc.disable()  # imports make no garbage worth looking for; switched on again when the command begins
    from jobrunner.cli.entry import run

    sys.exit(run(sys.argv[1:]))
