import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli_helpers import HOSTILE, Cli
from tests.helpers.files import is_ours, rows
from tests.helpers.waiting import until

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e]")
STYLE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


def enqueue_hostile(cli: Cli) -> None:
    """One function with each hostile text as label and argument; they fail with the text, or write it."""
    lines = [{"task": "shop:fail", "args": {"text": one}, "label": one, "queue": one.strip()} for one in HOSTILE]
    lines += [{"task": "shop:write", "args": {"out": one, "err": "e\n"}, "label": one} for one in HOSTILE]
    cli.ok("enqueue", "--jsonl", "-", stdin="\n".join(map(json.dumps, lines)))


# Hostile texts


def test_programs_get_hostile_texts_whole(cli: Cli) -> None:
    enqueue_hostile(cli)
    cli.drain()
    listed = list(reversed(cli.json("list")))
    assert [one["label"] for one in listed] == [*HOSTILE, *HOSTILE]
    assert [one["args"]["text"] for one in listed[: len(HOSTILE)]] == list(HOSTILE)
    assert [one["error"]["message"] for one in listed[: len(HOSTILE)]] == list(HOSTILE)
    shown = cli.json("show", *(str(n + 1) for n in range(len(HOSTILE))))
    assert [one["label"] for one in shown] == list(HOSTILE)
    written = [cli.json("log", str(len(HOSTILE) + n + 1), "--stdout")["text"] for n in range(len(HOSTILE))]
    assert written == list(HOSTILE)


def test_people_get_hostile_texts_harmless(cli: Cli) -> None:
    enqueue_hostile(cli)
    cli.drain()
    ids = [str(n + 1) for n in range(2 * len(HOSTILE))]
    piped = (
        cli.ok("list")
        + cli.ok("show", *ids)
        + cli.ok("status")
        + cli.ok("--json", "list")
        + cli.ok("sql", "SELECT * FROM jobs")
    )
    assert not CONTROL.search(piped)
    assert "\\e[31mred\\e]0;title\\x07" in piped
    assert "nul\\0inside" in piped
    assert "two\\nlines\\tand a tab\\r" in piped
    for line in (
        ["list"],
        ["status"],
        ["show", *ids],
        ["log", ids[-1]],
        ["log", ids[len(HOSTILE)]],
        ["sql", "SELECT * FROM jobs"],
    ):
        seen = cli.at_terminal(*line, columns=200)
        assert not CONTROL.search(STYLE.sub("", seen)), line
    seen = STYLE.sub("", cli.at_terminal("list", columns=2000))
    assert "[bold]markup[/bold] [link=http://x]y[/link]" in seen
    assert "'; DROP TABLE jr_invocation; --" in seen


def test_piped_output_of_a_job_is_byte_for_byte(cli: Cli) -> None:
    cli.ok("enqueue", "--sh", r"printf 'a\0\377\033[31m\r\n'; printf 'err' >&2")
    cli.drain()
    piped = subprocess.run(
        cli.command("log", "1", "--stdout"), cwd=cli.folder, env=cli.environment, capture_output=True, check=True
    )
    assert piped.stdout == b"a\0\xff\x1b[31m\r\n"
    assert cli.ok("log", "1", "--stderr") == "err"
    assert "a\\0\\xff\\e[31m\\r\n" in cli.at_terminal("log", "1", "--stdout")
    assert cli.json("log", "1", "--stdout")["base64"]


# list


def test_list_has_a_line_for_each_job_newest_first(cli: Cli) -> None:
    cli.enqueue("--label", "x" * 300, "shop:echo", f"text={'y' * 300}")
    cli.enqueue("-Q", "mail", "--", "sh", "-c", "exit 3")
    cli.drain()
    newest, oldest = (line.split("\t") for line in cli.ok("list").splitlines())
    assert newest[:7] == ["2", "failed", "mail", "sh", '["-c","exit 3"]', "", "1"]
    assert newest[10] == "ExitCode: exited with code 3"
    assert oldest[:7] == ["1", "success", "default", "shop:echo", f'{{"text":"{"y" * 300}"}}', "x" * 300, "1"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", one) for one in cli.ok("list", "--utc").split("\t")[7:10])


FOUND = {
    "status:failed": [2],
    "status:failed,success": [3, 2],
    "queue:mail": [4, 2],
    "queue:mail status:pending": [4],
    "task:shop": [3, 1],
    "label:light": [4],
    "error:bad": [2],
    "parent:1": [],
    "since:1h": [4, 3, 2, 1],
    "until:1h": [],
    "since:2000-01-01 until:2099-01-01": [4, 3, 2, 1],
    "nightly": [4],
    "shop:add": [3, 1],
    "-n 2": [4, 3],
    "no such text": [],
}
"""What each query finds among the jobs of the test."""


def test_list_finds_what_query_words_say(cli: Cli) -> None:
    cli.enqueue("--in", "1h", "shop:add", "a:=1")
    cli.enqueue("-Q", "mail", "--", "sh", "-c", "echo; exit 3 # bad")
    cli.enqueue("shop:add", "a:=1")
    rows(
        cli.folder / "jobs.db",
        "UPDATE jr_invocation SET task = 'shop:fail', kind = 'function', args = '{}' WHERE id = 2",
    )
    cli.drain()
    rows(cli.folder / "jobs.db", "UPDATE jr_invocation SET task = 'sh' WHERE id = 2")
    cli.enqueue("-Q", "mail", "--label", "nightly light", "--", "true")
    listed = {query: cli.ok("list", *query.split()).splitlines() for query in FOUND}
    assert {query: [int(line.split("\t")[0]) for line in lines] for query, lines in listed.items()} == FOUND


def test_a_terminal_gets_a_table_of_the_newest_fifty(cli: Cli) -> None:
    cli.ok("enqueue", "--each", "--label", "the label of {}", "--", "echo", stdin="".join(f"{n}\n" for n in range(60)))
    seen = STYLE.sub("", cli.at_terminal("list", columns=70)).splitlines()
    assert seen[0].split() == ["id", "status", "queue", "job", "label", "time", "error"]
    assert len(seen) == 51
    assert seen[1].split()[:5] == ["60", "pending", "default", "echo", "59"]
    assert max(map(len, seen)) <= 70
    assert "\x1b" not in cli.at_terminal("list", "--color", "never")
    assert "\x1b[1m" in cli.ok("list", "--color", "always")


# show, status


def test_show_tells_all_of_a_failure(cli: Cli) -> None:
    cli.enqueue(
        "--retries", "1", "--backoff", "1ms", "--label", "nightly", "--env", "A=b", "shop:fail", "text=two\nlines"
    )
    cli.drain()
    text = cli.ok("show", "1")
    for part in (
        "job 1: failed, ValueError in attempt 2",
        'function  shop:fail text="two\\nlines"',
        "label     nightly",
        "env       A=b",
        "retries   1 (waiting 1 ms before each)",
        "1: failed, took",
        "2: failed, took",
        "peak memory",
        "  Traceback (most recent call last):",
        "  ValueError: two\n  lines\n",
        "scheduled: ValueError in attempt 1 of 2",
    ):
        assert part in text
    shown = cli.json("show", "1")
    assert shown["error"] == {"type": "ValueError", "message": "two\nlines"}
    assert [one["attempt"] for one in shown["executions"]] == [1, 2]
    assert "in fail" in shown["executions"][1]["traceback"]
    assert [one["to_status"] for one in shown["history"]] == [
        "pending",
        "running",
        "scheduled",
        "pending",
        "running",
        "failed",
    ]


def test_show_tells_exit_codes_signals_and_results(cli: Cli) -> None:
    cli.enqueue("--", "sh", "-c", "exit 3")
    rows(cli.folder / "jobs.db", """UPDATE jr_invocation SET policy = '{"on_crash": "fail"}'""")
    cli.enqueue("--", "sh", "-c", "kill -9 $$")
    cli.enqueue("shop:add", "a:=41")
    cli.drain()
    first, second, third = cli.ok("show", "1", "2", "3").split("\n\n")
    assert "exit code 3" in first
    assert "signal 9 (SIGKILL)" in second
    assert "\nresult\n  42\n" in third
    assert cli.json("show", "3")["result"] == 42


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--in", "1h"), r"waits     until .* \(in 59 min"),
        (("--hold",), r"waits     held; `jobrunner retry 1` lets it go"),
        (("-Q", "mail"), r"waits     no runner serves the queue 'mail': `jobrunner run` starts one"),
    ],
)
def test_show_tells_why_a_job_waits(cli: Cli, words: tuple[str, ...], why: str) -> None:
    cli.enqueue(*words, "--", "true")
    assert re.search(why, cli.ok("show", "1"))


def test_status_counts_and_names_the_living_runners(cli: Cli) -> None:
    cli.enqueue("-Q", "mail", "--", "true")
    cli.enqueue("--hold", "--", "true")
    runner = cli.start("run", "-j", "3", "other")
    try:
        found = until(lambda: cli.json("status")["runners"] and cli.json("status"))
        assert (found["jobs"]["pending"], found["jobs"]["blocked"]) == (1, 1)
        assert found["oldest_pending_since"].endswith("Z")
        assert {one["queue"]: one["pending"] for one in found["queues"]} == {"mail": 1, "default": 0}
        assert [(one["pid"], one["slots"], one["queues"]) for one in found["runners"]] == [(runner.pid, 3, ["other"])]
        assert re.search(rf"^runner\t1\t{runner.pid}\t", cli.ok("status"), re.MULTILINE)
        assert "no runner serves the queue 'mail'" in cli.ok("show", "1")
        runner.kill()
        runner.wait()
        assert cli.json("status")["runners"] == []
    finally:
        runner.kill()
        runner.communicate()
        cli.drain("none")


def test_the_bare_command_is_status(cli: Cli) -> None:
    cli.enqueue("--", "true")
    assert cli.ok() == cli.ok("status")
    seen = STYLE.sub("", cli.at_terminal("-q"))
    assert f"{cli.folder / 'jobs.db'}: 1 pending" in seen
    assert "no runner: `jobrunner run` starts one" in seen


# init, sql


def test_init_makes_the_database_and_leaves_one_alone(cli: Cli, path: Path) -> None:
    assert cli.ok("init") == f"{path}\n"
    assert is_ours(path)
    cli.enqueue("--", "true")
    assert cli.json("init") == {"path": str(path)}
    assert cli.enqueue("--", "true") == 2


def test_sql_asks_and_changes_nothing_unless_told(cli: Cli, path: Path) -> None:
    cli.enqueue("--label", "a\tb", "--", "true")
    assert cli.ok("sql", "SELECT id, label, NULL, 1.5 FROM jobs; SELECT 'x'") == "1\ta\\tb\t\t1.5\nx\n"
    assert cli.ok("sql", "-", stdin="SELECT 1;\nSELECT 2") == "1\n2\n"
    assert cli.json("sql", "SELECT id, label, x'ff41' AS bytes FROM jobs") == {
        "id": 1,
        "label": "a\tb",
        "bytes": "\\xffA",
    }
    change = "UPDATE jobs SET status = 'cancelled'"
    refused = cli("sql", change)
    assert (refused.returncode, refused.stderr) == (
        2,
        "jobrunner: this SQL changes the database: to allow that, add --write\n",
    )
    assert cli.ok("sql", "--write", change) == ""
    assert rows(path, "SELECT status FROM jobs") == [("cancelled",)]
    assert "only the status of a job" in cli("sql", "--write", "UPDATE jobs SET status = 'done'").stderr
    assert "id  status" in STYLE.sub("", cli.at_terminal("sql", "SELECT id, status FROM jobs"))
    assert "\nfinished_at  2" in cli.at_terminal("sql", "SELECT * FROM jobs")
