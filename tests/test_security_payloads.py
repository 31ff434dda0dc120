"""Arguments and results within their limits, from every side; and a package in which nothing evaluates data."""

import ast
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from jobrunner import App, payload
from jobrunner.errors import InvocationFailed, NotSerializable
from tests.cli_helpers import Cli
from tests.helpers.files import rows
from tests.helpers.processes import ROOT, RunnerProcess
from tests.helpers.runners import RUNNERS, slots

Drain = Callable[..., RunnerProcess]

BOMBS = {
    "[" * 101 + "]" * 101: "nested deeper than 100",
    '{"a":' * 5000 + "1" + "}" * 5000: "nested deeper than 100",
    "[" * 500_000: "nested deeper than 100",
    "NaN": "not valid JSON",
    "-Infinity": "not valid JSON",
    "1e999999": "not plain JSON data",
    "1" * 5000: "not valid JSON",
    '"' + "x" * (1 << 20) + '"': "1,048,57",
    '{"a": 1': "not valid JSON",
    '"\\udcff"': "lone surrogate",
    "": "not valid JSON",
}
"""JSON that is refused, and a part of the sentence that says so."""
FINE = {"1" * 4000: int("1" * 4000), str(2**70): 2**70, '{"a": 1, "a": 2}': {"a": 2}, "1e-999999": 0.0}


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


@pytest.mark.parametrize("text", BOMBS)
def test_a_bomb_is_refused_in_a_sentence_from_every_side(cli: Cli, text: str) -> None:
    line = f'{{"task": "shop:echo", "args": {{"k": {text}}}}}'
    calls = [cli("enqueue", "--jsonl", "-", stdin=line), cli("enqueue", "--check", "--jsonl", "-", stdin=line)]
    if len(text) < 100_000:  # the kernel's own limit of a word
        calls.append(cli("enqueue", "shop:echo", f"k:={text}"))
    for done in calls:
        assert (done.returncode, done.stdout) == (2, ""), done
        assert BOMBS[text] in done.stderr or "not valid JSON" in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr) < 1000


@pytest.mark.parametrize("mode", RUNNERS)
def test_what_is_odd_and_allowed_comes_out_as_it_went_in(app: App, drain: Drain, mode: str) -> None:
    jobs = [app.enqueue("tests.security_tasks:same", {"value": payload.load(text, "v")}) for text in FINE]
    drain(**slots(mode, 2))
    assert [job.result(timeout=0) for job in jobs] == list(FINE.values())


def test_a_text_from_a_file_is_bounded_even_where_the_file_is_not(cli: Cli) -> None:
    done = cli("enqueue", "shop:echo", "k=@/dev/zero")
    assert done.returncode == 2
    assert "k=@/dev/zero is larger than the limit, 1,048,576 bytes" in done.stderr
    (cli.folder / "big").write_bytes(b"x" * (1 << 20))
    assert "the limit is 1,048,576" in cli("enqueue", "shop:echo", "k=@big").stderr


def test_many_items_are_held_to_the_limit_each(cli: Cli) -> None:
    done = cli("enqueue", "--each", "--", "cat", stdin="small\n" + "x" * (1 << 20) + "\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 2: the arguments are" in done.stderr
    assert "nothing was queued" in done.stderr


@pytest.mark.parametrize("kind", ["nan", "infinity", "surrogate", "large", "deep", "digits", "bytes"])
def test_an_argument_that_cannot_be_kept_is_refused(app: App, kind: str) -> None:
    from tests.security_tasks import bad_result

    with pytest.raises(NotSerializable, match="the arguments"):
        app.enqueue("tests.security_tasks:same", {"value": bad_result(kind)})


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_result_that_cannot_be_kept_fails_its_job_and_says_that_the_work_was_done(
    app: App, drain: Drain, mode: str
) -> None:
    kinds = ("nan", "infinity", "surrogate", "large", "deep", "digits", "bytes")
    jobs = [app.enqueue("tests.security_tasks:bad_result", {"kind": kind}) for kind in kinds]
    drain(**slots(mode, 2))
    for job in jobs:
        with pytest.raises(InvocationFailed, match="the function was done, but the result") as caught:
            job.result(timeout=0)
        assert caught.value.kind == "jobrunner.errors.NotSerializable"


@pytest.mark.parametrize("mode", RUNNERS)
def test_bombs_that_were_written_by_hand_end_their_own_jobs_alone(
    app: App, drain: Drain, path: Path, mode: str
) -> None:
    texts = ['{"value": ' + text + "}" for text in BOMBS if len(text) < 100_000]
    jobs = [app.enqueue("tests.security_tasks:same", {"value": 0}) for _ in texts]
    neighbour = app.enqueue("tests.security_tasks:same", {"value": 6})
    kept = 0
    for job, text in zip(jobs, texts, strict=True):
        with contextlib.suppress(apsw.Error):  # most are refused by the database itself
            rows(path, "UPDATE jr_invocation SET args = ? WHERE id = ?", text, job.id)
            kept += 1
    assert kept
    drain(**slots(mode, 2))
    assert neighbour.result(timeout=0) == 6
    assert all(job.status.is_final for job in jobs)


# The package --------------------------------------------------------------------------------------------

EVALUATING = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "yaml", "xml", "code", "dbm"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.loads"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted((ROOT / "jobrunner").rglob("*.py")):
        yield str(file.relative_to(ROOT)), ast.parse(file.read_text())


def faults(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (one.name for one in names if one.name.split(".")[0] in EVALUATING)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in EVALUATING:
                yield module
            case ast.Call(func=function, keywords=keywords):
                if (name := ast.unparse(function)) in CALLS:
                    yield name
                if any(one.arg == "shell" and ast.unparse(one.value) != "False" for one in keywords):
                    yield f"{name}(shell=...)"
                if "import_module" in name and "multiprocessing" in ast.unparse(node):
                    yield name


def test_nothing_in_the_package_evaluates_data() -> None:
    looked = dict(modules())
    assert len(looked) > 50
    assert {name: found for name, tree in looked.items() if (found := list(faults(tree)))} == {}


@pytest.mark.parametrize(
    "code", ["import pickle", "from marshal import loads", "eval(x)", "os.system(x)", "subprocess.run(x, shell=True)"]
)
def test_the_test_itself_would_notice(code: str) -> None:
    assert list(faults(ast.parse(code)))


def test_what_is_sent_over_a_channel_is_json(app: App) -> None:
    from jobrunner import channel

    ours, theirs = channel.pair()
    with contextlib.closing(ours), contextlib.closing(theirs):
        channel.Channel(ours).send("verb", {"a": [1, None]})
        data = theirs.recv(1000)
    assert json.loads(data[data.index(b"[") :]) == ["verb", {"a": [1, None]}]


@pytest.mark.parametrize("mode", RUNNERS)
def test_the_limit_can_be_raised_by_who_enqueues_and_who_runs(
    app: App, drain: Drain, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    large = "\xe9" * 1_500_000  # 3 MB, and six characters each where they are escaped
    with pytest.raises(NotSerializable, match=r"the limit is 1,048,576 \(JOBRUNNER_MAX_PAYLOAD\)"):
        app.enqueue("tests.security_tasks:same", {"value": large})
    monkeypatch.setenv(payload.VARIABLE, str(4 << 20))
    job = app.enqueue("tests.security_tasks:same", {"value": large})
    drain(**slots(mode, 2))
    assert job.result() == large
    again = app.enqueue("tests.security_tasks:same", {"value": large})
    monkeypatch.delenv(payload.VARIABLE)
    drain(**slots(mode, 2))
    with pytest.raises(InvocationFailed, match="the limit is 1,048,576"):
        again.result()


@pytest.mark.parametrize("word", ["1", "-5", "4MiB", "9" * 30])
def test_a_limit_that_is_none_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv(payload.VARIABLE, word)
    large = json.dumps({"task": "a:b", "args": {"k": "x" * 2_000_000}})
    done = Cli(cli.folder)("enqueue", "--jsonl", "-", stdin=large)
    assert done.returncode == 2
    assert "JOBRUNNER_MAX_PAYLOAD is a number of bytes from 1,048,576 to 8,388,608" in done.stderr
