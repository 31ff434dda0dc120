"""Driven by the system's cron: lines as they stand in a crontab, done by the shell that cron would take."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_helpers import Cli
from tests.helpers.files import rows, sqlite_shell
from tests.helpers.processes import environment

NIGHTLY = "jobrunner enqueue -q --key nightly-$(date +\\%F) --if-exists once -- sh -c 'echo report >> out; exit $1' - 0"
WORK = "jobrunner run --drain --max-idle 0 -q"


@pytest.fixture
def shell(folder: Path) -> dict[str, str]:
    """The environment of a crontab: a PATH with the program, and where the jobs are."""
    return environment(folder, PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")


def line(folder: Path, shell: dict[str, str], text: str) -> "subprocess.Popen[str]":
    """What cron starts for a line; in a crontab a percent sign stands behind a backslash."""
    return subprocess.Popen(
        ["/bin/sh", "-c", text.replace("\\%", "%")],
        cwd=folder,
        env=shell,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_nightly_report_is_made_once_however_often_its_lines_are_done(
    folder: Path, path: Path, shell: dict[str, str]
) -> None:
    for _ in range(2):
        for started in [line(folder, shell, NIGHTLY) for _ in range(3)]:
            assert started.communicate()[0] == "1\n"
            assert started.returncode == 0
        overlapping = [line(folder, shell, WORK) for _ in range(2)]
        assert [(one.communicate()[0], one.returncode) for one in overlapping] == [("", 0)] * 2, "cron sends no mail"
    assert (folder / "out").read_text() == "report\n"
    told = sqlite_shell(path, "SELECT task, status, attempts FROM jobs")
    assert told.stdout == "sh|success|1\n"


def test_the_exit_code_tells_that_a_job_failed(folder: Path, path: Path, shell: dict[str, str]) -> None:
    line(folder, shell, NIGHTLY.replace("- 0", "- 3")).communicate()
    started = line(folder, shell, WORK)
    started.communicate()
    assert started.returncode == 1
    again = line(folder, shell, WORK)
    again.communicate()
    assert again.returncode == 0, "it is told once"
    told = sqlite_shell(path, "SELECT error FROM failures")
    assert told.stdout == "ExitCode: exited with code 3\n"


def test_once_is_once_also_after_the_end_and_skip_is_not(folder: Path, path: Path) -> None:
    cli = Cli(folder)
    first = cli.enqueue("--key", "k", "--if-exists", "once", "--", "true")
    assert cli.enqueue("--key", "k", "--if-exists", "once", "--", "true") == first
    cli.drain()
    done = cli("enqueue", "--key", "k", "--if-exists", "once", "--", "true")
    assert (done.stdout, done.stderr) == (f"{first}\n", f"not queued: job {first} has this key\n")
    assert cli.enqueue("--key", "k", "--", "true") == first + 1
    assert rows(path, "SELECT count(*) FROM jr_invocation") == [(2,)]
