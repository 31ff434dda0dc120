"""One measure in a process of its own; prints its figures as JSON: python -m bench.alone MODULE:FUNCTION FOLDER 0|1."""

import importlib
import json
import os
import sys
from pathlib import Path

from bench.measure import Measurement, Place
from jobrunner.location import VARIABLE


def main() -> None:
    """Take the measure that the command line names."""
    name, folder, quick = sys.argv[1:]
    place = Place(Path(folder), quick == "1")
    os.environ[VARIABLE] = str(place.database)
    module, _, function = name.partition(":")
    take: Measurement = getattr(importlib.import_module(module), function)
    sys.stdout.write(json.dumps(take(place)) + "\n")


if __name__ == "__main__":
    main()
