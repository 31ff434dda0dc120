"""Run as a program: a runner on the database that JOBRUNNER_DB names, with settings given as JSON."""

import json
import logging
import sys
from pathlib import Path

from jobrunner import App
from tests.helpers.processes import ROOT

settings = json.loads(sys.argv[1])
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
app_dir = Path(settings.pop("app_dir", ROOT))
mode = settings.pop("mode", "process")
words = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
App().run(mode, app_dir=app_dir, **words)
