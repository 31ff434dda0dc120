"""The command line: it parses, calls once, and prints. One module for each group of commands."""

import gc
import sys
from collections.abc import Sequence
from typing import NoReturn

from jobrunner import early_signals

_WITH_VALUE = {"--db", "--color"}
"""Options before the name of a command that are followed by a word of theirs."""


def main() -> NoReturn:
    """What the command `jobrunner` runs; ends the process with the exit code."""
    if _command(sys.argv[1:]) == "run":
        early_signals.keep()  # before all the imports: whoever starts a runner may tell it something at once
    gc.disable()  # imports make no garbage worth looking for; switched on again when the command begins
    from jobrunner.cli.entry import run

    sys.exit(run(sys.argv[1:]))


def _command(words: Sequence[str]) -> str | None:
    before = ""
    for word in words:
        if not word.startswith("-") and before not in _WITH_VALUE:
            return word
        before = word
    return None
