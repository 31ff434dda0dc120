"""`jobrunner status`: what there is, what runs, what waits."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from jobrunner import state_backend
from jobrunner.cli import printing, session
from jobrunner.cli.runner_facts import no_answer, stalled_at_once
from jobrunner.cli.session import Session
from jobrunner.commit_watch import CommitWatch
from jobrunner.direct_client import DirectClient
from jobrunner.models import Json, Runner, RunnerId
from jobrunner.state_backend import QueueCounts
from jobrunner.status import Status
from jobrunner.text import visible
from jobrunner.times import iso, now_ms, words

_BETWEEN_LOOKS = 0.5
_AT_LEAST = 5.0
_RUNNER_HEADS = ("runner", "pid", "mode", "slots", "jobs", "queues", "for")
_CLEAR = "\x1b[H\x1b[J"


class _Overview(NamedTuple):
    counts: dict[Status, int]
    queues: list[QueueCounts]
    runners: list[Runner]
    started: dict[RunnerId, int]
    waiting_since: int | None
    stalled: dict[RunnerId, str]
    unknown: dict[str, int]


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C, at each change.")] = False,
) -> None:
    """Tell how many jobs there are, and who does them. In each status, in each queue, and how long the oldest waits."""
    called = session.of(context)
    with called.client() as client:
        if not watch:
            _print(called, client.database.path, _look(client))
            return
        _print_changes(called, client)


def _look(client: DirectClient) -> _Overview:
    database = client.database
    with database.snapshot():
        runners = client.runners()
        return _Overview(
            counts=state_backend.counts(database),
            queues=state_backend.queue_counts(database),
            runners=runners,
            started=state_backend.started_counts(database),
            waiting_since=state_backend.waiting_since(database),
            stalled=stalled_at_once(client, runners),
            unknown=state_backend.unknown_tasks(database),
        )


def _print_changes(called: Session, client: DirectClient) -> None:
    shown: _Overview | None = None
    with CommitWatch(client.database) as commits:
        while True:
            seen = _look(client)
            if called.for_people:
                sys.stdout.write(_CLEAR)
                _print(called, client.database.path, seen)
            elif seen != shown:
                _print(called, client.database.path, seen)
            sys.stdout.flush()
            shown = seen
            _until_changed(commits)


def _until_changed(commits: CommitWatch) -> None:
    deadline = time.monotonic() + _AT_LEAST
    while not commits.wait(_AT_LEAST) and time.monotonic() < deadline:
        pass
    time.sleep(_BETWEEN_LOOKS)  # a busy queue commits hundreds of times a second


def _print(called: Session, path: Path, seen: _Overview) -> None:
    if called.json:
        printing.write_json(_facts(seen))
    elif called.for_people:
        _print_for_people(called, path, seen)
    else:
        _print_tabs(seen)


def _facts(seen: _Overview) -> Json:
    return {
        "jobs": {status.value: count for status, count in seen.counts.items()},
        "oldest_pending_since": iso(seen.waiting_since),
        "queues": [one._asdict() for one in seen.queues],
        "unknown_tasks": seen.unknown,
        "runners": [
            {
                "id": one.id,
                "pid": one.pid,
                "mode": one.mode,
                "slots": one.slots,
                "stalled": one.id in seen.stalled,
                "jobs": seen.started.get(one.id, 0),
                "queues": json.loads(one.queues),
                "started_at": iso(one.started_at),
            }
            for one in seen.runners
        ],
    }


def _print_tabs(seen: _Overview) -> None:
    for status, count in seen.counts.items():
        printing.write_tabs(["jobs", status.value, count])
    printing.write_tabs(["oldest pending", iso(seen.waiting_since)])
    for queue in seen.queues:
        printing.write_tabs(["queue", *queue])
    for task, count in seen.unknown.items():
        printing.write_tabs(["unknown tasks", task, count])
    for row in _runner_rows(seen):
        printing.write_tabs(["runner", *row])


def _print_for_people(called: Session, path: Path, seen: _Overview) -> None:
    counted = [f"{count} {status}" for status, count in seen.counts.items() if count]
    printing.write(f"{visible(str(path))}: {', '.join(counted) or 'no jobs'}")
    if seen.waiting_since is not None:
        printing.write(f"the oldest pending job waits for {words(max(0, now_ms() - seen.waiting_since))}")
    if seen.queues:
        printing.write("")
        printing.write_table(called, QueueCounts._fields, seen.queues, shrink=("queue",))
    printing.write("")
    if seen.runners:
        printing.write_table(called, _RUNNER_HEADS, _runner_rows(seen), shrink=("queues",))
    else:
        printing.write("no runner: `jobrunner run` starts one")
    for task, count in seen.unknown.items():
        printing.write(f"no runner knows {visible(task)} ({count} jobs): they wait for one that does")
    for one, note in seen.stalled.items():
        printing.write(no_answer(one, note))


def _runner_rows(seen: _Overview) -> list[Sequence[object]]:
    now = now_ms()
    return [
        (
            one.id,
            one.pid,
            one.mode,
            one.slots,
            seen.started.get(one.id, 0),
            ",".join(json.loads(one.queues)) or "all",
            words(max(0, now - one.started_at)),
        )
        for one in seen.runners
    ]
