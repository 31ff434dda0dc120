"""Nothing that a user or a job may write reaches a terminal as it is, and secrets do not reach a screen at all."""

import json
import re
from pathlib import Path

import pytest

from jobrunner.masking import MASK, masked, masked_line, masked_words
from jobrunner.models import Json
from jobrunner.text import visible
from tests.cli_helpers import Cli
from tests.helpers.files import rows

EVIL = {
    "csi": "\x1b[2J\x1b[31mred",
    "title": "\x1b]0;title\x07",
    "clipboard": "\x1b]52;c;ZXZpbA==\x1b\\",
    "link": "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "c1": "\x9b31m\x9d0;title\x9c\x90\x85",
    "bidi": "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c",
    "unseen": "zero\u200bwidth\u200d\u2060\ufeff\u00ad\U000e0041",
    "return": "good\rbad\b\b\x7f",
    "lines": "one\ntwo\u2028three\u2029four\x0b\x0c",
    "long": "\x1b[31m" + "x" * 5000,
}
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\u00ad\U000e0041]")
STYLE = re.compile(r"\x1b\[[\d;]*m")
"""What rich itself writes: colours, which a user's text cannot be, since its escapes are written out."""


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


@pytest.fixture
def ids(cli: Cli, path: Path) -> list[str]:
    """Jobs with evil in every place that a user or a job may write to: done, failed, running no more, and waiting."""
    lines = []
    for evil in EVIL.values():
        places = {"label": evil, "queue": evil, "env": {"E": evil}}
        lines += [
            {"task": "shop:fail", "args": {"text": evil}, "key": evil, **places},
            {"task": "shop:write", "args": {"out": evil, "err": evil}, **places},
            {"task": "shop:echo", "args": [evil, {evil: evil}], **places},
            {"task": f"shop:{evil}", **places},
            {"command": ["cat", evil], "cwd": "/", **places},
            {"sh": f"jobrunner_said='{evil}'; printf '%s' \"$jobrunner_said\"; exit 1", **places},
            {"command": ["true"], "hold": True, "cwd": "/" + evil, **places},
        ]
    cli.ok("enqueue", "--jsonl", "-", stdin="\n".join(map(json.dumps, lines)))
    cli.drain()
    for number, evil in enumerate(EVIL.values()):
        job = number * 7 + 1
        rows(
            path,
            "INSERT INTO jr_progress(invocation, claim, fraction, message, at) VALUES (?, 1, 0.5, ?, 1)",
            job,
            evil,
        )
        rows(path, "UPDATE jr_invocation SET task = task || ? WHERE id = ?", evil, job + 6)
    return [str(number + 1) for number in range(len(lines))]


READING = {
    "list": ("list",),
    "found": ("list", "queue:" + EVIL["csi"]),
    "show": ("show", "IDS"),
    "reveal": ("show", "IDS", "--reveal"),
    "status": ("status",),
    "wait": ("wait", "1", "2", "3", "4", "5", "6"),
    "runners": ("runner", "list"),
    "tables": ("sql", "SELECT * FROM jobs; SELECT * FROM failures; SELECT * FROM queues; SELECT * FROM history"),
    "names": ("sql", f'SELECT 1 AS "{EVIL["csi"]}"'),
    "no query": ("list", "status:" + EVIL["csi"]),
    "no file": ("--db", "/nowhere/" + EVIL["title"], "status"),
    "no command": (EVIL["clipboard"],),
    "no option": ("list", "--" + EVIL["csi"]),
    "rehearsal": ("enqueue", "--check", "--label", EVIL["csi"], "--", "cat", EVIL["c1"], EVIL["bidi"]),
    "json": ("--json", "list"),
}


def test_nothing_evil_reaches_a_terminal_or_breaks_a_line(cli: Cli, ids: list[str]) -> None:
    for name, reading in READING.items():
        words = [one for word in reading for one in (ids if word == "IDS" else [word])]
        seen = STYLE.sub("", cli.at_terminal(*words, columns=200))
        assert UNSAFE.findall(seen) == [], name
        done = cli(*words)
        assert UNSAFE.findall(done.stdout + done.stderr) == [], name


def test_what_a_job_wrote_is_harmless_on_a_terminal_and_whole_in_a_pipe(cli: Cli, ids: list[str]) -> None:
    for number, evil in enumerate(EVIL.values()):
        job = ids[number * 7 + 1]
        assert not UNSAFE.findall(cli.at_terminal("log", job))
        assert not UNSAFE.findall(cli.at_terminal("log", job, "-f", "--json"))
        assert cli.ok("log", job, "--stdout") == evil


def test_a_line_of_a_pipe_is_a_job_whatever_it_is_called(cli: Cli, ids: list[str]) -> None:
    lines = cli.ok("list").split("\n")[:-1]
    assert [line.split("\t")[0] for line in lines] == ids[::-1]
    assert {line.count("\t") for line in lines} == {10}


def test_the_log_of_a_runner_is_harmless(cli: Cli, path: Path) -> None:
    lines: list[dict[str, Json]] = [{"task": f"shop:{evil}", "label": evil} for evil in EVIL.values()]
    lines += [{"task": "shop:fail", "args": {"text": evil}} for evil in EVIL.values()]
    lines += [{"sh": f"true '{evil}'"} for evil in EVIL.values()]
    cli.ok("enqueue", "--jsonl", "-", stdin="\n".join(map(json.dumps, lines)))
    done = cli("run", "--drain", "-v")
    assert "job 1 shop:\\e[2J\\e[31mred" in done.stderr
    assert not UNSAFE.findall(done.stderr)
    assert all(re.match(r"\d{4}-", line) for line in done.stderr.splitlines()), "no text begins a line of its own"


def test_who_waits_at_a_terminal_for_output_gets_it_harmless(cli: Cli, folder: Path) -> None:
    cli.ok("init")
    with cli.start("run", "--max-jobs", "1", "-q") as runner:
        seen = cli.at_terminal("enqueue", "--wait", "--", "printf", "%s", EVIL["clipboard"])
        runner.wait(60)
    assert "\\e]52;c;ZXZpbA==\\e\\" in seen
    assert not UNSAFE.findall(seen)


@pytest.mark.parametrize("number", [*range(0x20), *range(0x7F, 0xA0), 0xD800, 0xDFFF, 0xE000, 0xFFF9])
def test_every_character_that_acts_is_written_out(number: int) -> None:
    assert visible(f"a{chr(number)}b").isprintable()
    assert visible(f"a{chr(number)}b").startswith("a\\")


# Secrets ------------------------------------------------------------------------------------------------


def test_what_has_a_secrets_name_is_hidden_however_deep() -> None:
    assert masked({"user": 7, "API_KEY": "k", "a": [{"dbPassword": {"x": 1}}], "Tokens": None}) == {
        "user": 7,
        "API_KEY": MASK,
        "a": [{"dbPassword": MASK}],
        "Tokens": MASK,
    }
    assert masked(["token", 1, None]) == ["token", 1, None]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("curl --token=x -v", "curl --token=*** -v"),
        ("curl --token x -v", "curl --token *** -v"),
        ("curl --api-key x y", "curl --api-key *** y"),
        ("curl -v --password", "curl -v --password"),
        ("curl --no-token --x y", "curl --no-token --x y"),
        ("env DB_PASSWORD=x psql", "env DB_PASSWORD=*** psql"),
        ("cat tokens.txt secret", "cat tokens.txt secret"),
    ],
)
def test_words_of_a_command_and_of_a_line_are_hidden(words: str, shown: str) -> None:
    assert masked_words(words.split()) == shown.split()
    assert masked_line(words) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("TOKEN='a b' x --secret \"c d\" | y", "TOKEN=*** x --secret *** | y"),
        ("tokens TOKEN=x my-tokens TOKEN=y", "tokens TOKEN=*** my-tokens TOKEN=***"),
        ("curl -H 'X-Api-Key: abc' u", "curl -H 'X-Api-Key: ***' u"),
        ("PASSWORD=$(cat f); echo", "PASSWORD=*** f); echo"),
    ],
)
def test_a_line_for_the_shell_is_read_by_eye(line: str, shown: str) -> None:
    assert masked_line(line) == shown


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "part", ["a", "token", "token ", "-token ", "token=", "token:", "token='", 'token="', " ", "\\"]
)
def test_no_line_takes_long_to_look_at(part: str) -> None:
    many = (1 << 20) // len(part)
    masked_line(part * many)
    masked_line("token" + part * many)
    masked_line('token="' + part * many)


def test_secrets_are_shown_nowhere_but_where_they_are_asked_for(cli: Cli) -> None:
    function = ("shop:echo", "password=hunter2", 'deep:={"a": [{"api_key": "hunter2"}]}')
    cli.ok("enqueue", *function, "--env", "MY_TOKEN=hunter2")
    cli.ok("enqueue", "--", "echo", "--token", "hunter2", "--password=hunter2")
    cli.ok("enqueue", "--sh", "PASSWORD=hunter2 true --secret hunter2")
    checked = cli("enqueue", "--check", *function, "--env", "MY_TOKEN=hunter2")
    done = cli("run", "--drain", "-v")
    told = [checked.stdout + checked.stderr, done.stdout + done.stderr]
    for words in (["list"], ["show", "1", "2", "3"], ["status"], ["wait"], ["list", "task:shop"]):
        told += [cli.ok(*words), cli.ok("--json", *words), cli.at_terminal(*words, columns=300)]
    assert [text for text in told if "hunter2" in text] == []
    assert cli.ok("show", "1", "2", "3", "--reveal").count("hunter2") == 9
    assert cli.json("show", "1", "--reveal")["args"]["password"] == "hunter2"
    assert "hunter2" in cli.ok("sql", "SELECT args FROM jobs WHERE id = 1"), "who asks in SQL sees the file itself"
