"""What users install: the wheel and the source distribution hold all that they must, and work on their own."""

import os
import sqlite3
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from jobrunner import __version__

pytestmark = pytest.mark.heavy

TOP = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, TOP)
    return folder


@pytest.fixture(scope="module")
def installed(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new virtual environment that has the wheel and what it depends on."""
    environment = tmp_path_factory.mktemp("venv")
    venv.create(environment)
    programs = environment / "bin"
    pip = ("pip", "--disable-pip-version-check", "--python", programs / "python")  # ours: to install one takes long
    run(sys.executable, "-m", *pip, "install", "--quiet", "--no-compile", the_wheel(distributions))
    return programs


def test_the_wheel_holds_the_sql_the_marker_of_types_and_the_license(distributions: Path) -> None:
    with zipfile.ZipFile(the_wheel(distributions)) as wheel:
        names = set(wheel.namelist())
        assert wheel.read("jobrunner/schema.sql") == (TOP / "schema.sql").read_bytes()
    assert {"jobrunner/queries.sql", "jobrunner/py.typed"} <= names
    assert f"sqlite_jobrunner-{__version__}.dist-info/licenses/LICENSE" in names
    assert not [name for name in names if not name.startswith(("jobrunner/", "sqlite_jobrunner-"))]


def test_the_source_distribution_holds_what_it_takes_to_build_test_and_check(distributions: Path) -> None:
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    needed = {"pyproject.toml", "schema.sql", "LICENSE", "CHANGELOG.md", "jobrunner/queries.sql", "scripts/_venv"}
    assert needed <= names
    assert {f"tests/{file.name}" for file in (TOP / "tests").glob("*.py")} <= names


def test_the_installed_command_tells_its_version(installed: Path, tmp_path: Path) -> None:
    assert __version__ in run(installed / "jobrunner", "--version", cwd=tmp_path)


def test_the_installed_command_makes_a_database(installed: Path, tmp_path: Path) -> None:
    database = tmp_path / "jobs.db"
    run(installed / "jobrunner", "--db", database, "init", cwd=tmp_path)
    connection = sqlite3.connect(database)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    finally:
        connection.close()
    assert {"jr_invocation", "jr_runner", "jr_history"} <= tables


def the_wheel(distributions: Path) -> Path:
    """The only one there."""
    (wheel,) = distributions.glob("*.whl")
    return wheel


def run(program: str | Path, *arguments: str | Path, cwd: Path | None = None) -> str:
    """What a program prints on standard output, all of its output in the failure where it fails."""
    # This checkout must not be what is imported.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JOBRUNNER"))}
    done = subprocess.run([program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{program} {arguments}:\n{done.stdout}{done.stderr}"
    return done.stdout
