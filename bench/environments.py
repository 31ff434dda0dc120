"""Environments of their own for what the bench needs and the package does not: made on request, once."""

import subprocess
import sys
import venv
from pathlib import Path


def python_of(name: str) -> Path:
    """The interpreter of an environment inside of ours, so that it goes with it."""
    return Path(sys.prefix) / name / "bin" / "python"


def make(name: str, packages: tuple[str, ...]) -> Path:
    """Its interpreter; the environment has these packages."""
    python = python_of(name)
    folder = python.parent.parent
    made_of = folder / "made-of"
    if not made_of.exists() or made_of.read_text("utf-8") != str(packages):
        venv.create(folder, clear=True, with_pip=True)
        words = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(words, check=True)
        made_of.write_text(str(packages), "utf-8")
    return python
