"""The same numbers by another program: plain SQL on the views, in the sqlite3 shell."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from demo.check import Totals

TOTALS = """
SELECT count(*),
       sum(json_extract(result, '$.lines')), sum(json_extract(result, '$.functions')),
       sum(json_extract(result, '$.classes')), sum(status = 'failed')
  FROM jobs WHERE task = 'demo.stdlib_survey:survey_file'
"""
STATUSES = "SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status"
FAILURES = "SELECT count(*) FROM failures"
ATTEMPTS = "SELECT count(*) FROM attempts WHERE job = (SELECT max(id) FROM jobs)"


class Shell:
    """The sqlite3 program of this machine, on one database; `find` gives None where there is none."""

    def __init__(self, program: str, database: Path) -> None:
        self._program = program
        self._database = database

    @classmethod
    def find(cls, database: Path) -> "Shell | None":
        """The shell, if the machine has one."""
        program = shutil.which("sqlite3")
        return None if program is None else cls(program, database)

    @property
    def version(self) -> str:
        """Of its SQLite."""
        return self._run("--version").split()[0]

    def query(self, statement: str) -> list[list[str]]:
        """The rows, as text."""
        printed = self._run("-readonly", "-batch", "-list", str(self._database), statement)
        return [line.split("|") for line in printed.splitlines()]

    def _run(self, *words: str) -> str:
        done = subprocess.run([self._program, *words], capture_output=True, text=True, check=True, timeout=60)
        return done.stdout


def differences(shell: Shell, expected: Totals, statuses: dict[str, int], attempts: int) -> Iterator[str]:
    """Where the shell reads something else than jobrunner tells."""
    told = Totals(*(int(number) for number in shell.query(TOTALS)[0]))
    if told != expected:
        yield f"the sqlite3 shell reads {told}, and the jobs count {expected}"
    counted = {status: int(count) for status, count in shell.query(STATUSES)}
    if counted != statuses:
        yield f"the sqlite3 shell counts {counted}, jobrunner {statuses}"
    for statement, wanted in ((FAILURES, statuses.get("failed", 0)), (ATTEMPTS, attempts)):
        if (read := int(shell.query(statement)[0][0])) != wanted:
            yield f"the sqlite3 shell reads {read} for {statement!r}, where {wanted} is right"
