"""Whoever waits for commits sees them, whoever makes them; and what is done after a commit, beside telling of it."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import App, InvocationCancelled
from jobrunner.commit_watch import CommitWatch
from jobrunner.connection import Patience, connect
from jobrunner.database import Database
from tests.helpers.files import sqlite_shell
from tests.helpers.processes import run_python
from tests.helpers.waiting import until

ENQUEUE = "from jobrunner import App; App().enqueue('a:b')"
BY_HAND = "INSERT INTO jobs(task) VALUES ('a:b')"


@pytest.fixture
def watch(app: App, path: Path) -> Iterator[CommitWatch]:
    app.counts()
    with Database(path) as database, CommitWatch(database) as watching:
        yield watching


def test_nothing_is_told_where_nothing_is_committed(watch: CommitWatch) -> None:
    assert not watch.has_committed()
    assert not watch.wait(0.01)


def test_a_commit_of_another_process_is_told_once(watch: CommitWatch, folder: Path) -> None:
    assert run_python(folder, ENQUEUE).returncode == 0
    assert until(lambda: watch.wait(1.0))
    assert not watch.has_committed()


def test_a_commit_of_the_shell_is_told(watch: CommitWatch, path: Path) -> None:
    sqlite_shell(path, BY_HAND)
    assert until(lambda: watch.wait(1.0))


def test_a_commit_that_can_be_seen_is_told_without_a_look_at_it_before(watch: CommitWatch, app: App) -> None:
    assert not watch.has_committed()
    app.enqueue("a:b")
    assert watch.has_committed()


def test_a_write_of_a_transaction_that_is_taken_back_is_no_commit(watch: CommitWatch, path: Path) -> None:
    with Database(path) as other, contextlib.suppress(ZeroDivisionError), other.transaction():
        other.script(BY_HAND)
        raise ZeroDivisionError
    assert not watch.has_committed()


@pytest.mark.parametrize("relaxed", [True, False])
def test_what_another_thread_does_on_the_same_connection_ends_a_wait(path: Path, relaxed: bool) -> None:
    job = App(path, relaxed=relaxed).enqueue("a:b")
    caught: list[str] = []

    def wait() -> None:
        try:
            job.result(timeout=60)
        except InvocationCancelled as error:
            caught.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert job.cancel()
    waiting.join(60)
    assert len(caught) == 1


@pytest.mark.parametrize("relaxed", [True, False])
def test_the_log_is_brought_into_the_file_when_it_has_so_many_pages(app: App, path: Path, relaxed: bool) -> None:
    app.counts()
    connection = connect(path, Patience(1.0), relaxed=relaxed, checkpoint_pages=50).connection
    page = connection.pragma("page_size")
    for _ in range(500):
        connection.execute(BY_HAND)
    assert Path(f"{path}-wal").stat().st_size < 100 * page
    connection.close()
