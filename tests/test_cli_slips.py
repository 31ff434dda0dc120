"""A call that cannot be meant is answered with a sentence that says what to type."""

from pathlib import Path

import pytest

from tests.cli_helpers import Cli

SLIPS = [
    # of enqueue
    ("enqueue", 2, "what is to be queued? `jobrunner enqueue MODULE:FUNCTION name=value`"),
    ("enqueue ffmpeg -i a b", 2, "`jobrunner enqueue -- ffmpeg -i a b`"),
    ("enqueue --label x ffmpeg -i a b", 2, "`jobrunner enqueue -- ffmpeg -i a b`"),
    ("enqueue grep -Q x", 2, "`jobrunner enqueue -- grep -Q x`"),
    ("enqueue shop.add", 2, "`jobrunner enqueue shop:add`"),
    ("enqueue shop.tasks.send", 2, "`jobrunner enqueue shop.tasks:send`"),
    ("enqueue shop/tasks.py:send", 2, "`jobrunner enqueue shop.tasks:send`"),
    ("enqueue ./shop.py:add", 2, "`jobrunner enqueue shop:add`"),
    ("enqueue shop:", 2, "is not MODULE:FUNCTION"),
    ("enqueue http://x/y:z", 2, "is not MODULE:FUNCTION"),
    ("enqueue shop:add 7", 2, "write `jobrunner enqueue shop:add name=7`, or name:=7 for JSON"),
    ("enqueue shop:add a=1 a=2", 2, "'a' is given twice"),
    ("enqueue shop:add a:=x", 2, "for text write a=x"),
    ("enqueue shop:add a=@no.txt", 2, "No such file or directory"),
    ("enqueue shop:add --retires 3", 2, "did you mean --retries?"),
    ("enqueue --foo -- true", 2, "enqueue has no option --foo"),
    ("enqueue --", 2, "there is no program after `--`"),
    ("enqueue shop:add -- true", 2, "one at a time"),
    ("enqueue --sh x shop:add", 2, "one at a time"),
    ("enqueue --jsonl jobs.jsonl", 2, "--jsonl jobs.jsonl: No such file or directory"),
    ("enqueue --jsonl . --sh x", 2, "--jsonl says all there is to do"),
    ("enqueue --in yesterday -- true", 2, "'yesterday' is not a duration: write it like"),
    ("enqueue --at yesterday -- true", 2, "'yesterday' is not a time: write it like"),
    ("enqueue --expires soon -- true", 2, "'soon' is not a time"),
    ("enqueue --in 5s --at 18:00 -- true", 2, "not both"),
    ("enqueue --retries -1 -- true", 2, "0 or more, not -1"),
    ("enqueue --retries many -- true", 2, "--retries wants a whole number"),
    ("enqueue --backoff 10s -- true", 2, "give both"),
    ("enqueue --retries 1 --backoff x..y -- true", 2, "'x' is not a duration"),
    ("enqueue --priority high -- true", 2, "--priority wants a whole number"),
    ("enqueue --timeout 0 -- true", 2, "a timeout must be longer than nothing"),
    ("enqueue --env PATH -- true", 2, "--env wants NAME=VALUE"),
    ("enqueue --env 1A=3 -- true", 2, "--env wants NAME=VALUE"),
    ("enqueue --if-exists maybe --key k -- true", 2, "'skip', 'replace', 'error' or 'once'"),
    ("enqueue --key {user} shop:add a:=1", 2, "'user', which is no argument of this call"),
    ("enqueue --label", 2, "requires an argument"),
    # of commands that name jobs
    ("log", 2, "which job? Type its number, as in `jobrunner log 7`"),
    ("show", 2, "which job?"),
    ("cancel", 2, "which job?"),
    ("cancel abc", 2, "'abc' is not the number of a job"),
    ("retry -1", 2, "-1"),
    ("cancel 7 status:pending", 2, "either numbers of jobs or words such as status:failed"),
    ("log 1 2", 2, "unexpected extra argument"),
    ("log 1 --stdout --stderr", 2, "both streams come"),
    ("show 99", 4, "there is no job 99"),
    ("log 99", 4, "there is no job 99"),
    ("log -f 99", 4, "there is no job 99"),
    ("wait 99", 4, "there is no job 99"),
    ("cancel 1 99", 4, "there is no job 99"),
    ("retry 99999999999999999999999", 4, "there is no job 99999999999999999999999"),
    ("wait 1 --timeout soon", 2, "'soon' is not a duration"),
    # of the others
    ("run --jobs 0", 2, "at least one slot"),
    ("run -j many", 2, "--jobs wants a whole number"),
    ("run --mode thraed", 2, "there is no runner 'thraed'"),
    ("run --log-format xml", 2, "--log-format is text or json"),
    ("run --app-dir nowhere", 2, "there is no folder"),
    ("list status:done", 2, "there is no status 'done': there are scheduled"),
    ("list stauts:failed", 2, "did you mean status:failed?"),
    ("list status:", 2, "wants a value"),
    ("list queue:a queue:b", 2, "wants one value"),
    ("list since:foo", 2, "is not a time"),
    ("list -n 0", 2, "--limit is 1 or more"),
    ("sql selct", 2, 'near "selct": syntax error'),
    ("sql", 2, "there is no SQL"),
    ("progress 40%", 2, "for commands that run as a job"),
    ("statsu", 2, "did you mean `jobrunner status`?"),
    ("frobnicate", 2, "there is no command 'frobnicate': there are enqueue, run"),
    ("shop:add", 2, "type `jobrunner enqueue shop:add`"),
    ("--color red status", 2, "--color is auto, always or never"),
    ("init --bogus", 2, "--bogus"),
    ("show --db nowhere.db 1", 2, "no database at"),
    ("status --db shop.py", 65, "is not a SQLite database"),
    ("status --db .", 77, "is not a file"),
]


NEED_A_JOB = ("sql selct",)


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


@pytest.mark.parametrize(("words", "code", "says"), SLIPS, ids=[words for words, _, _ in SLIPS])
def test_a_slip_is_told(cli: Cli, words: str, code: int, says: str) -> None:
    if code == 4 or words in NEED_A_JOB:
        cli.ok("enqueue", "--", "true")
    done = cli(*words.split())
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("jobrunner: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["status", "list", "show 1", "log 1", "wait", "cancel 1", "retry 1", "sql x", ""])
def test_what_reads_makes_no_database(cli: Cli, path: Path, command: str) -> None:
    done = cli(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"jobrunner: no database at {path}: `jobrunner init` or the first `jobrunner enqueue` makes it\n"
    )
    assert not path.exists()


def test_what_is_told_is_harmless_on_a_terminal(cli: Cli) -> None:
    done = cli("cancel", "\x1b[31mred\n")
    assert done.stderr == (
        "jobrunner: '\\x1b[31mred\\n' is not the number of a job: type it as in `jobrunner cancel 7`\n"
    )
    assert "\x1b" not in cli("enqueue", "--", "\x1b[31m").stderr + cli("\x1b[31m").stderr


@pytest.mark.parametrize(
    "words",
    [("--label=\udcff", "--", "true"), ("--", "cat", "\udcff"), ("-Q", "\udcff", "--", "true"), ("m:f", "a=\udcff")],
)
def test_bytes_that_are_no_text_are_refused(cli: Cli, words: tuple[str, ...]) -> None:
    done = cli("enqueue", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "surrogate" in done.stderr


def test_a_traceback_is_there_for_those_who_ask(cli: Cli) -> None:
    done = cli("-v", "cancel", "abc")
    assert done.stderr.startswith("Traceback")
    assert done.stderr.splitlines()[-1].startswith("jobrunner: 'abc' is not")


def test_help_tells_the_commands_and_the_exit_codes(cli: Cli) -> None:
    text = cli.ok("--help")
    for word in (
        "enqueue",
        "run",
        "status",
        "list",
        "show",
        "log",
        "wait",
        "cancel",
        "retry",
        "init",
        "sql",
        "progress",
    ):
        assert f"\n  {word} " in text
    assert "jobrunner enqueue --retries 3" in cli.ok("enqueue", "-h")
    assert " 124  the wait timed out" in text


def test_the_version_is_told(cli: Cli) -> None:
    from jobrunner.version import VERSION

    assert cli.ok("--version") == f"jobrunner {VERSION}\n"
