"""What jobs print: kept within bounds, its beginning and its end, and there to be read while they run."""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobrunner import App, Status
from jobrunner.runner.capture import Capture, Piece
from tests.helpers.files import rows
from tests.helpers.waiting import until

Drain = Callable[..., object]

chunks = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=40)), max_size=60)


def captured(limit: int, written: list[tuple[str, bytes]], take_every: int) -> list[Piece]:
    capture = Capture(limit)
    pieces: list[Piece] = []
    for number, (stream, data) in enumerate(written, 1):
        capture.add(stream, data)
        if number % take_every == 0:
            pieces += capture.head()
            capture.forget_head()
    return pieces + capture.all()


@given(st.integers(1, 300), chunks, st.integers(1, 20))
def test_head_and_tail_and_what_was_cut_are_all_that_was_written(
    limit: int, written: list[tuple[str, bytes]], take_every: int
) -> None:
    pieces = captured(limit, written, take_every)
    whole = b"".join(data for _, data in written)
    kept = b"".join(piece.data for piece in pieces)
    cut = sum(piece.cut for piece in pieces)
    assert len(kept) + cut == len(whole)
    assert len(kept) == min(limit, len(whole))
    marks = [number for number, piece in enumerate(pieces) if piece.cut]
    assert len(marks) == (cut > 0)
    head = b"".join(piece.data for piece in pieces[: marks[0] if marks else None])
    assert whole == head + whole[len(head) : len(head) + cut] + kept[len(head) :]


@given(chunks)
def test_each_stream_keeps_its_own_order(written: list[tuple[str, bytes]]) -> None:
    pieces = captured(1 << 20, written, 3)
    for stream in ("stdout", "stderr"):
        assert b"".join(p.data for p in pieces if p.stream == stream) == b"".join(d for s, d in written if s == stream)


def test_a_byte_at_a_time_makes_no_heap_of_pieces() -> None:
    capture = Capture(100_000)
    for _ in range(200_000):
        capture.add("stdout", b"x")
    pieces = capture.all()
    assert len(pieces) < 10
    assert sum(len(piece.data) for piece in pieces) == 100_000


def test_what_a_job_prints_can_be_read_while_it_runs(app: App, runner: Drain, folder: Any) -> None:
    job = app.enqueue_shell("echo out; echo err >&2; until [ -e go ]; do sleep 0.01; done; echo end", cwd=str(folder))
    runner(jobs=1)
    until(lambda: {piece.stream: piece.data for piece in job.log_pieces()} == {"stdout": b"out\n", "stderr": b"err\n"})
    assert job.status is Status.RUNNING
    (folder / "go").touch()
    app.wait([job])
    assert job.log().endswith("end\n")


def test_each_attempt_has_its_own_output(app: App, drain: Drain) -> None:
    from jobrunner import Retry

    job = app.enqueue_shell('echo "attempt $JOBRUNNER_ATTEMPT"; exit 1', retry=Retry(attempts=3, base="1ms"))
    drain()
    assert [(piece.claim, piece.data) for piece in job.log_pieces()] == [
        (n, f"attempt {n}\n".encode()) for n in (1, 2, 3)
    ]


def test_what_is_cut_is_marked(app: App, drain: Drain, path: Any) -> None:
    job = app.enqueue_shell("head -c 30000 /dev/zero | tr '\\0' a; head -c 70000 /dev/zero | tr '\\0' b")
    drain(output_limit=10_000)
    assert job.log() == "a" * 5000 + "\n[90000 bytes cut here]\n" + "b" * 5000
    marks = [text for (text,) in rows(path, "SELECT text FROM output WHERE job = 1 AND text LIKE '[%'")]
    assert marks == ["[90000 bytes cut here]"]


def test_output_that_is_not_text_is_kept_byte_by_byte(app: App, drain: Drain) -> None:
    job = app.enqueue_shell(r"printf '\377\000\033[31m\303'")
    drain()
    assert b"".join(piece.data for piece in job.log_pieces()) == b"\xff\0\x1b[31m\xc3"
    assert job.log() == "\\xff\0\x1b[31m\\xc3"


def test_output_survives_the_death_of_its_job(app: App, drain: Drain) -> None:
    job = app.enqueue_shell("echo last words; kill -9 $$", on_crash="fail")
    drain()
    assert (job.status, job.log()) == (Status.FAILED, "last words\n")
