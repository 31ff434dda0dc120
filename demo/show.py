"""What the demo prints: short tables."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from demo.shell import STATUSES, TOTALS, Shell
from demo.work import Work
from jobrunner import Status
from jobrunner.models import Job
from jobrunner.text import visible

MANY = 10
"""Of failures and faults no more than so many are shown."""


def say(line: str = "") -> None:
    """A line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def statuses(counts: dict[Status, int]) -> None:
    """How many jobs are in each status that has any."""
    _table("status", ((status.value, f"{count:,}") for status, count in counts.items() if count))


def slowest(work: Work) -> None:
    """The five that took longest from their claim to their record."""
    details = [job.details for job in work.jobs]
    longest = sorted(details, key=lambda job: (-_took_ms(job), job.id))[:5]
    _table("slowest five", ((f"{_took_ms(job):,} ms", f"job {job.id}", _subject(job)) for job in longest))


def failures(work: Work) -> None:
    """The jobs that failed, and why."""
    failed = [job for job in (job.details for job in work.jobs) if job.status is Status.FAILED]
    shown = failed[-MANY:]
    title = "failures" if shown == failed else f"failures, the last {len(shown)} of {len(failed)}"
    _table(title, ((f"job {job.id}", _subject(job), _why(job)) for job in shown))


def by_shell(shell: Shell) -> None:
    """The statuses and totals as the sqlite3 shell reads them."""
    _table(f"the same by the sqlite3 shell {shell.version}", shell.query(STATUSES))
    files, lines, functions, classes, failed = (int(number) for number in shell.query(TOTALS)[0])
    say(f"  {files:,} files, {lines:,} lines, {functions:,} functions, {classes:,} classes, {failed} failed")
    say()


def _table(title: str, rows: Iterable[Sequence[str]]) -> None:
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    say(f"\n{title}")
    for row in rows:
        say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _took_ms(job: Job) -> int:
    return (job.finished_at or 0) - (job.started_at or 0)


def _subject(job: Job) -> str:
    """What it was about: the name of its file, which is its last argument; else the task."""
    args = json.loads(job.args or "[]")
    values = list(args.values() if isinstance(args, dict) else args)
    return visible(Path(values[-1]).name if values else job.task)


def _why(job: Job) -> str:
    return visible(f"{job.error_type}: {job.error_message}")[:100]
