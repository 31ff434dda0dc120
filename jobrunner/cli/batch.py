"""`jobrunner batch`: jobs that are looked at as one."""

import sys
import time
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from jobrunner import batches
from jobrunner.arrangements import Batch
from jobrunner.batch_book import wait as wait_for
from jobrunner.cli import printing, session
from jobrunner.cli.session import Session
from jobrunner.database import Database
from jobrunner.errors import UsageError
from jobrunner.text import visible
from jobrunner.times import duration_ms, iso, words

_HEADS = ("name", "total", "done", "failed", "status", "created", "finished")
_BAR = 30
_BETWEEN_LINES = 5.0
_BETWEEN_LOOKS = 0.2


def batch(
    context: typer.Context,
    action: Annotated[str, typer.Argument(metavar="list|show|wait|cancel|retry|close", help="What to do.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", hidden=True)] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="DURATION", help="wait: exit 124 when it is not complete by then."),
    ] = None,
) -> None:
    r"""Look at jobs as one. They join by `enqueue --batch NAME`, or in code; it is complete when all have ended.

    \b
    ls *.wav | jobrunner enqueue --batch wavs --each -- lame {}
    jobrunner batch list
    jobrunner batch wait wavs        with a bar and the time left; exit code 1 when a member did not succeed
    jobrunner batch retry wavs       those that did not succeed
    jobrunner list batch:wavs status:failed
    """
    called, said = session.of(context), names or []
    if action == "list" and not said:
        _list(called)
    elif action == "wait":
        wait(called, _one(said, action), None if timeout is None else duration_ms(timeout) / 1000)
    elif action in _ACTIONS:
        with called.client() as client:
            _ACTIONS[action](called, client.database, _one(said, action))
    else:
        _refuse(action)


def wait(called: Session, name: str, seconds: float | None) -> None:
    """Wait until it is complete, and tell how it goes; exit code 1 when a member did not succeed."""
    with called.client() as client:
        found = batches.find(client.database, name)
        progress = _Progress(called)
        found = wait_for(client.database, found.id, seconds, progress.look)
        progress.end()
    _print(called, found)
    if found.failed:
        raise typer.Exit(1)


class _Progress:
    """A bar on a terminal, else a line now and then; both on standard error."""

    def __init__(self, called: Session) -> None:
        self._is_quiet = called.quiet
        self._is_terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._first: int | None = None
        self._told_at = 0.0

    def look(self, batch: Batch) -> float:
        now = time.monotonic()
        ended = batch.done + batch.failed
        self._first = ended if self._first is None else self._first
        between = _BETWEEN_LOOKS if self._is_terminal else _BETWEEN_LINES
        if not self._is_quiet and (now - self._told_at >= between or batch.finished_at is not None):
            self._told_at = now
            self._tell(batch, ended, (ended - self._first) / max(now - self._began, 0.001))
        return between

    def end(self) -> None:
        if self._is_terminal and not self._is_quiet:
            sys.stderr.write("\n")

    def _tell(self, batch: Batch, ended: int, rate: float) -> None:
        left = words(round(1000 * (batch.total - ended) / rate)) if rate > 0 and ended < batch.total else ""
        text = f"{ended}/{batch.total}" + (f", {batch.failed} failed" if batch.failed else "")
        text += f", {rate:.1f}/s" + (f", {left} left" if left else "")
        if self._is_terminal:
            full = _BAR * ended // batch.total if batch.total else _BAR
            sys.stderr.write(f"\r[{'#' * full}{'.' * (_BAR - full)}] {text}\x1b[K")
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _list(called: Session) -> None:
    with called.client() as client:
        found = batches.batches(client.database)
    if called.for_people:
        printing.write_table(called, _HEADS, map(_row, found))
    else:
        for one in found:
            _print(called, one)


def _show(called: Session, database: Database, name: str) -> None:
    found = batches.find(database, name)
    _print(called, found)
    if found.remark is not None:
        called.notice(visible(found.remark))


def _cancel(called: Session, database: Database, name: str) -> None:
    printing.write_ids(called, batches.cancel(database, batches.find(database, name).id))


def _retry(called: Session, database: Database, name: str) -> None:
    printing.write_ids(called, batches.retry(database, batches.find(database, name).id))


def _close(called: Session, database: Database, name: str) -> None:
    batches.close(database, batches.find(database, name).id)


_ACTIONS: dict[str, Callable[[Session, Database, str], None]] = {
    "show": _show,
    "cancel": _cancel,
    "retry": _retry,
    "close": _close,
}


def _print(called: Session, one: Batch) -> None:
    if called.json:
        printing.write_json(dict(zip(_HEADS, _row(one), strict=True)))
    else:
        printing.write_tabs(_row(one))


def _row(one: Batch) -> list[object]:
    return [one.name, one.total, one.done, one.failed, one.status, iso(one.created_at), iso(one.finished_at)]


def _one(names: list[str], action: str) -> str:
    if len(names) != 1:
        raise UsageError(f"which batch? `jobrunner batch {action} NAME`: `jobrunner batch list` shows them")
    return names[0]


def _refuse(action: str) -> NoReturn:
    raise UsageError(f"`jobrunner batch {action}` is none of list, show, wait, cancel, retry and close")
