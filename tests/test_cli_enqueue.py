import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli_helpers import HOSTILE, Cli
from tests.helpers.files import rows


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


def row(path: Path, *columns: str) -> tuple[Any, ...]:
    """Of the newest job."""
    return rows(path, f"SELECT {', '.join(columns)} FROM jr_invocation ORDER BY id DESC LIMIT 1")[0]


def policy(path: Path) -> Any:
    return json.loads(row(path, "policy")[0])


def count(path: Path) -> int:
    return int(rows(path, "SELECT count(*) FROM jr_invocation")[0][0])


# What is to be done


def test_the_id_is_all_that_is_printed(cli: Cli) -> None:
    done = cli("enqueue", "shop:add", "a:=1")
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert cli.ok("enqueue", "shop:add", "a:=1", "--json") == '{"id": 2, "new": true}\n'


def test_arguments_are_text_or_json_or_the_text_of_a_file(cli: Cli, path: Path) -> None:
    (cli.folder / "letter.txt").write_text("Dear\nyou")
    cli.enqueue("shop:echo", "a=7", "b:=7", "c=@letter.txt", "d=", "e=x=y:=z", 'f:={"k": [null, true]}', "g= -1 ")
    kind, task, args = row(path, "kind", "task", "args")
    assert (kind, task) == ("function", "shop:echo")
    assert json.loads(args) == {
        "a": "7",
        "b": 7,
        "c": "Dear\nyou",
        "d": "",
        "e": "x=y:=z",
        "f": {"k": [None, True]},
        "g": " -1 ",
    }


def test_what_follows_two_dashes_is_a_program_and_its_words(cli: Cli, path: Path) -> None:
    cli.enqueue("-Q", "media", "--", "sh", "-c", "--json", "-Q", "x", "--", "a b", "k=v", "")
    assert row(path, "kind", "task", "queue") == ("command", "sh", "media")
    assert json.loads(row(path, "args")[0]) == ["-c", "--json", "-Q", "x", "--", "a b", "k=v", ""]


def test_a_line_for_the_shell_is_kept_as_it_is(cli: Cli, path: Path) -> None:
    cli.enqueue("--sh", "echo a | tr a b > c")
    assert row(path, "kind", "task", "args") == ("shell", "echo a | tr a b > c", "[]")


def test_a_command_works_from_where_it_was_typed(cli: Cli, path: Path) -> None:
    there = cli.folder / "there"
    there.mkdir()
    (there / "a.txt").write_text("hello")
    assert cli("enqueue", "--", "gzip", "a.txt", cwd=there).returncode == 0
    assert policy(path)["cwd"] == str(there)
    cli.drain()
    assert (there / "a.txt.gz").exists()


def test_a_folder_that_is_said_is_seen_from_here(cli: Cli, path: Path) -> None:
    cli.enqueue("--cwd", "deep/er", "--", "true")
    assert policy(path)["cwd"] == str(cli.folder / "deep" / "er")
    cli.enqueue("shop:add", "a:=1")
    assert row(path, "policy") == (None,)


# How


def test_flags_say_how_it_is_done(cli: Cli, path: Path) -> None:
    now = time.time() * 1000
    cli.enqueue(
        *("-Q", "mail", "-P", "5", "--in", "10m", "--expires", "1h", "--key", "mail:{user}", "--label", "to you"),
        *("--timeout", "1h30m", "--env", "LANG=C", "--env", "EMPTY=", "shop:echo", "user:=7"),
    )
    queue, priority, status, key, label = row(path, "queue", "priority", "status", "unique_key", "label")
    assert (queue, priority, status, key, label) == ("mail", 5, "scheduled", "mail:7", "to you")
    run_at, expires_at = row(path, "run_at", "expires_at")
    assert 0 <= run_at - now - 600_000 < 60_000
    assert 0 <= expires_at - now - 3_600_000 < 60_000
    assert policy(path) == {"timeout": 5_400_000, "env": {"LANG": "C", "EMPTY": ""}}


def test_times_of_the_clock_are_taken_for_start_and_expiry(cli: Cli, path: Path) -> None:
    cli.enqueue("--at", "2099-01-31T18:00Z", "--expires", "2099-02-01T00:00Z", "--", "true")
    times = (datetime(2099, 1, 31, 18, tzinfo=UTC), datetime(2099, 2, 1, tzinfo=UTC))
    assert row(path, "run_at", "expires_at") == tuple(round(one.timestamp() * 1000) for one in times)


@pytest.mark.parametrize(
    ("words", "retry"),
    [
        ((), {"attempts": 4, "backoff": "exponential"}),
        (("--backoff", "10s"), {"attempts": 4, "backoff": "constant", "base": 10_000}),
        (("--backoff", "5s..1h"), {"attempts": 4, "backoff": "exponential", "base": 5000, "cap": 3_600_000}),
    ],
)
def test_retries_are_attempts_after_the_first(
    cli: Cli, path: Path, words: tuple[str, ...], retry: dict[str, Any]
) -> None:
    cli.enqueue("--retries", "3", *words, "--", "true")
    assert retry.items() <= policy(path)["retry"].items()


def test_a_held_job_waits_until_it_is_let_go(cli: Cli, path: Path) -> None:
    job = cli.enqueue("--hold", "--", "true")
    assert row(path, "status") == ("blocked",)
    assert cli.ok("retry", str(job)) == "1\n"
    assert row(path, "status") == ("pending",)


def test_a_key_is_held_by_one_unfinished_job(cli: Cli, path: Path) -> None:
    cli.enqueue("--key", "k", "--", "true")
    skipped = cli("enqueue", "--key", "k", "--", "true")
    assert (skipped.returncode, skipped.stdout) == (0, "1\n")
    assert "not queued: job 1 has this key" in skipped.stderr
    assert cli("-q", "enqueue", "--key", "k", "--", "true").stderr == ""
    assert cli.json("enqueue", "--key", "k", "--", "true") == {"id": 1, "new": False}
    refused = cli("enqueue", "--key", "k", "--if-exists", "error", "--", "true")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert cli.enqueue("--key", "k", "--if-exists", "replace", "--", "true") == 2
    assert rows(path, "SELECT status FROM jr_invocation ORDER BY id") == [("cancelled",), ("pending",)]


def test_options_of_all_commands_stand_before_or_after_the_name(cli: Cli) -> None:
    for number, words in enumerate(
        (["--db", "other.db", "--json", "enqueue"], ["enqueue", "--json", "--db", "other.db"]), 1
    ):
        assert json.loads(cli.ok(*words, "--", "true"))["id"] == number


# Many


def test_each_line_of_a_file_is_a_job(cli: Cli, path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"task": "shop:add", "args": {"a": 1}, "queue": "mail", "priority": 3, "label": HOSTILE[5], "retries": 2},
        {"task": "shop:echo", "args": [1, 2], "env": {"A": "b"}, "hold": True, "cwd": None},
        {"task": "shop:echo", "key": "{n}", "args": {"n": 7}, "if-exists": "error", "in": 60, "timeout": 1.5},
        {"command": ["gzip", "-k", "a b"]},
        {"sh": "a | b", "cwd": "/tmp"},
    ]
    (cli.folder / "jobs.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    assert cli.ok("enqueue", "--jsonl", "jobs.jsonl", "-Q", "usual").split() == ["1", "2", "3", "4", "5"]
    found = rows(path, "SELECT kind, task, args, queue, status, label, unique_key FROM jr_invocation ORDER BY id")
    assert found == [
        ("function", "shop:add", '{"a":1}', "mail", "pending", HOSTILE[5], None),
        ("function", "shop:echo", "[1,2]", "usual", "blocked", None, None),
        ("function", "shop:echo", '{"n":7}', "usual", "scheduled", None, "7"),
        ("command", "gzip", '["-k","a b"]', "usual", "pending", None, None),
        ("shell", "a | b", "[]", "usual", "pending", None, None),
    ]
    policies = [json.loads(one or "{}") for (one,) in rows(path, "SELECT policy FROM jr_invocation ORDER BY id")]
    assert [one.get("cwd") for one in policies] == [None, None, None, str(cli.folder), "/tmp"]
    assert (policies[0]["retry"]["attempts"], policies[1]["env"], policies[2]["timeout"]) == (3, {"A": "b"}, 1500)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"task": "shop:add"', "not valid JSON"),
        ("[1]", "each line is an object"),
        ('{"args": {}}', "a job needs"),
        ('{"task": "shop:add", "sh": "x"}', "only one of them"),
        ('{"task": "add"}', "MODULE:FUNCTION"),
        ('{"task": "shop:add", "args": 7}', '"args" is an object or a list'),
        ('{"command": "gzip a"}', "list of texts"),
        ('{"sh": ""}', "is a text"),
        ('{"sh": "x", "quue": "mail"}', "there is no field 'quue'"),
        ('{"sh": "x", "queue": 7}', "queue is text"),
        ('{"sh": "x", "priority": true}', "priority is a whole number"),
        ('{"sh": "x", "in": "yesterday"}', "is not a duration"),
        ('{"sh": "x", "env": {"A": 1}}', "env"),
        ('{"sh": "x", "retries": -1}', "retries"),
        ('{"task": "shop:add", "args": {"a": NaN}}', "NaN is not JSON"),
        ('{"task": "shop:add", "args": {"a": "\\ud800"}}', "surrogate"),
        ("[" * 200_000, "nested"),
    ],
)
def test_a_broken_line_is_named_and_nothing_is_queued(cli: Cli, path: Path, line: str, says: str) -> None:
    good = '{"task": "shop:add", "args": {"a": 1}}\n'
    done = cli("enqueue", "--jsonl", "-", stdin=good * 16 + line + "\n" + good)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("jobrunner: line 17: ")
    assert says in done.stderr
    assert not path.exists()


@pytest.mark.long
def test_a_hundred_thousand_lines_are_one_transaction(cli: Cli, path: Path) -> None:
    lines = "".join(f'{{"task": "shop:add", "args": {{"a": {n}}}}}\n' for n in range(100_000))
    assert cli.ok("enqueue", "--jsonl", "-", stdin=lines).split()[-1] == "100000"
    assert rows(path, "SELECT count(DISTINCT created_at), count(*) FROM jr_invocation") == [(1, 100_000)]


def test_each_makes_a_job_of_each_line(cli: Cli, path: Path) -> None:
    items = "a b\n\n'; rm -rf /\n$(x) {}\n"
    assert cli.ok("enqueue", "--each", "--label", "of {}", "--", "gzip", "-k", "x/{}", stdin=items) == "1\n2\n3\n"
    found = rows(path, "SELECT args, label FROM jr_invocation ORDER BY id")
    assert [json.loads(args)[1] for args, _ in found] == ["x/a b", "x/'; rm -rf /", "x/$(x) {}"]
    assert found[0][1] == "of a b"


def test_without_a_hole_the_item_is_the_last_argument(cli: Cli, path: Path) -> None:
    cli.ok("enqueue", "--each", "--", "gzip", "-k", stdin="a b\n")
    assert json.loads(row(path, "args")[0]) == ["-k", "a b"]
    cli.ok("enqueue", "--each", "shop:echo", "x=1", stdin="a b\n")
    job = str(row(path, "id")[0])
    cli.drain()
    assert cli.json("show", job)["result"] == [["a b"], {"x": "1"}]


def test_items_may_end_with_nul_and_hold_newlines(cli: Cli, path: Path) -> None:
    cli.ok("enqueue", "--each", "-0", "shop:echo", "name={}", "n:=[{}]", stdin="1\n\0")
    assert json.loads(row(path, "args")[0]) == {"name": "1\n", "n": [1]}


def test_an_item_is_one_word_for_the_shell_whatever_is_in_it(cli: Cli) -> None:
    items = [one.replace("\0", "").replace("\n", " ") for one in HOSTILE]
    cli.ok("enqueue", "--each", "--sh", "printf '%s\\n' {}", stdin="\n".join(items))
    cli.drain()
    assert [cli.ok("log", str(n + 1)) for n in range(len(items))] == [f"{item}\n" for item in items]
    assert not (cli.folder / "pwned").exists()


def test_braces_of_an_item_name_no_argument_in_a_key(cli: Cli, path: Path) -> None:
    cli.ok("enqueue", "--each", "--key", "zip:{}", "--", "gzip", stdin="a{b}{}\n")
    assert row(path, "unique_key") == ("zip:a{b}{}",)


def test_a_broken_item_is_named_and_nothing_is_queued(cli: Cli, path: Path) -> None:
    done = cli("enqueue", "--each", "shop:add", "a:={}", stdin="1\n2\nx\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 3: " in done.stderr
    assert not path.exists()


# Before and after


def test_check_says_what_would_be_queued_without_a_database(cli: Cli, path: Path) -> None:
    assert cli.ok("enqueue", "--check", "-Q", "mail", "shop:add", "a:=1").startswith("would queue function shop:add")
    assert cli.json("enqueue", "--check", "--", "true")["task"] == "true"
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nomodule:f",), 1, "there is no module 'nomodule'"),
        (("shop:nofunction",), 1, "shop has no 'nofunction'"),
        (("shop:add", "c=1"), 2, "does not take these arguments: missing a required argument: 'a'"),
        (("broken:f",), 1, "importing broken failed: ZeroDivisionError"),
        (("--", "no-such-program"), 2, "there is no program 'no-such-program'"),
    ],
)
def test_check_finds_what_would_fail(cli: Cli, words: tuple[str, ...], code: int, says: str) -> None:
    (cli.folder / "broken.py").write_text("1 / 0")
    done = cli("enqueue", "--check", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr


def test_wait_prints_the_result_of_a_function(cli: Cli) -> None:
    waiting = cli.start("enqueue", "--wait", "shop:add", "a:=3")
    cli.ok("run", "--max-jobs", "1")
    assert waiting.communicate() == ("4\n", "")
    assert waiting.returncode == 0


def test_wait_prints_the_output_of_a_command_and_fails_with_it(cli: Cli) -> None:
    waiting = cli.start("enqueue", "--wait", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    cli.ok("run", "--max-jobs", "1")
    out, err = waiting.communicate()
    assert (waiting.returncode, out) == (1, "out\n")
    assert err == "err\njobrunner: job 1 failed in attempt 1: ExitCode: exited with code 3\n"


def test_a_command_in_a_job_enqueues_children_and_tells_its_progress(cli: Cli, path: Path) -> None:
    ours = " ".join(cli.command())
    job = cli.enqueue("--sh", f"{ours} progress 12/30 'half {HOSTILE[1]}' && {ours} enqueue -- true")
    cli.drain()
    shown = cli.json("show", str(job))
    assert (shown["status"], shown["children"]) == ("success", [2])
    assert (shown["progress"]["fraction"], shown["progress"]["message"]) == (0.4, f"half {HOSTILE[1]}")
    assert rows(path, "SELECT parent FROM jr_invocation WHERE id = 2") == [(job,)]


def test_a_job_of_another_database_is_no_parent(cli: Cli, path: Path) -> None:
    cli.ok("enqueue", "--db", str(path), "--", "true", JOBRUNNER_DB="/elsewhere.db", JOBRUNNER_JOB="7")
    assert row(path, "parent") == (None,)


# The start


def test_enqueue_imports_little(cli: Cli) -> None:
    code = (
        "import sys, runpy; sys.argv = ['jobrunner', 'enqueue', '-Q', 'mail', '--', 'true']\n"
        "try: runpy.run_module('jobrunner', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print(*sys.modules)"
    )
    imported = set(_run(cli, code).split())
    slow = {"rich", "psutil", "asyncio", "logging", "importlib.metadata", "tomllib", "pydantic", "socket"}
    assert not imported & slow
    assert not imported & {f"jobrunner.{name}" for name in ("app", "execution", "state_backend", "runner", "cli.show")}


def _run(cli: Cli, code: str) -> str:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cli.folder, env=cli.environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_database_is_the_one_of_the_project(cli: Cli) -> None:
    (cli.folder / "pyproject.toml").write_text('[tool.jobrunner]\ndb = "project.db"\n')
    below = cli.folder / "below"
    below.mkdir()
    done = cli("enqueue", "--", "true", cwd=below, variables={"JOBRUNNER_DB": ""})
    assert done.returncode == 0, done.stderr
    assert (cli.folder / "project.db").exists()
