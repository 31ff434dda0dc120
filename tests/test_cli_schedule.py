"""`jobrunner schedule`: made, listed, paused, run, removed; and taken from a crontab."""

import json
from pathlib import Path

import pytest

from jobrunner.crontab import lines
from tests.cli_helpers import Cli
from tests.helpers.files import rows

ARGS = '{"day":"today","n":3}'
CURL = ("--", "curl", "-fsS", "--json", "http://[::1]/")
BACKUP = ("--tz", "UTC", "--sh", "pg_dump shop | gzip > a.gz", "--jitter", "10m")
CALL = ("--tz", "Europe/Berlin", "shop.tasks:report", "day=today", "n:=3")


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


def test_a_function_a_command_and_a_line_are_scheduled(cli: Cli, path: Path) -> None:
    done = cli("schedule", "add", "nightly", "0 3 * * *", *CALL, "-Q", "reports", "--retries", "2")
    assert done.returncode == 0
    assert "schedule nightly: next 20" in done.stderr
    cli.ok(
        "schedule", "add", "pulse", "every 30s", "--overlap", "allow", "--", "curl", "-fsS", "--json", "http://[::1]/"
    )
    cli.ok(
        "schedule", "add", "backup", "@daily", "--tz", "UTC", "--sh", "pg_dump shop | gzip > a.gz", "--jitter", "10m"
    )
    found = rows(path, "SELECT name, spec, zone, kind, task, args, queue, jitter FROM jr_schedule ORDER BY name")
    assert found == [
        ("backup", "@daily", "UTC", "shell", "pg_dump shop | gzip > a.gz", "[]", "default", 600_000),
        (
            "nightly",
            "0 3 * * *",
            "Europe/Berlin",
            "function",
            "shop.tasks:report",
            '{"day":"today","n":3}',
            "reports",
            0,
        ),
        ("pulse", "every 30s", "UTC", "command", "curl", '["-fsS","--json","http://[::1]/"]', "default", 0),
    ]
    listed = [line.split("\t") for line in cli.ok("schedule", "list").splitlines()]
    assert [(line[0], line[6], line[7]) for line in listed] == [
        ("backup", "on", "pg_dump shop | gzip > a.gz"),
        ("nightly", "on", "shop.tasks:report"),
        ("pulse", "on", "curl"),
    ]
    facts = cli.json("schedule", "list")[1]
    assert (facts["name"], facts["is"], facts["last_at"], facts["missed"]) == ("nightly", "on", None, "one")
    assert "nightly" in cli.at_terminal("schedule", "list")


def test_a_name_that_is_taken_is_not_taken_again_by_chance(cli: Cli, path: Path) -> None:
    cli.ok("schedule", "add", "a", "@hourly", "--", "true")
    done = cli("schedule", "add", "a", "@daily", "--", "false")
    assert (done.returncode, "--replace puts this one in its place" in done.stderr) == (2, True)
    cli.ok("schedule", "add", "a", "@daily", "--replace", "--", "false")
    assert rows(path, "SELECT spec, task FROM jr_schedule") == [("@daily", "false")]


def test_the_next_times_are_told_with_the_change_of_the_clocks(cli: Cli) -> None:
    cli.ok("schedule", "add", "a", "30 2 * * *", "--tz", "Europe/Berlin", "--", "true")
    told = [line.split("\t") for line in cli.ok("schedule", "next", "a", "-n", "400").splitlines()]
    assert len(told) == 400
    changes = {line[0][5:]: line[1] for line in told if len(line) > 1}
    assert set(changes.values()) == {
        "the clocks go forward by 1 h before this",
        "the clocks go back by 1 h before this",
    }
    assert all(line[0].endswith(("02:30:00+01:00", "02:30:00+02:00", "03:00:00+02:00")) for line in told)
    objects = cli.json("schedule", "next", "a", "-n", "2")
    assert [sorted(one) for one in objects] == [["at", "clocks", "local"]] * 2
    cli.ok("schedule", "add", "once", "@yearly", "--until", "2000-01-01", "--", "true")
    assert cli.ok("schedule", "next", "once") == ""
    assert cli.ok("schedule", "list").splitlines()[1].split("\t")[6] == "ended"


def test_one_is_paused_resumed_run_and_removed(cli: Cli, path: Path) -> None:
    cli.ok("schedule", "add", "a", "@hourly", "--", "true")
    cli.ok("schedule", "pause", "a")
    assert cli.ok("schedule", "list").split("\t")[6] == "paused"
    assert rows(path, "SELECT next_at, paused FROM schedules") == [(None, 1)]
    cli.ok("schedule", "pause", "a", "--until", "2030-01-07 08:00")
    assert cli.ok("schedule", "list").split("\t")[6].startswith("paused until 2030-01-07 08:00")
    assert rows(path, "SELECT next_at >= '2030-01-07', paused FROM schedules") == [(1, 1)]
    cli.ok("schedule", "resume", "a")
    assert cli.ok("schedule", "list").split("\t")[6] == "on"
    job = int(cli.ok("schedule", "run-now", "a"))
    assert cli.json("schedule", "run-now", "a") == {"id": job + 1}
    cli.drain()
    assert rows(path, "SELECT status, schedule FROM jobs") == [("success", "a")] * 2
    cli.ok("schedule", "remove", "a")
    assert cli.ok("schedule", "list") == ""


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("add", "a"), 2, "schedule add NAME WHEN"),
        (("add", "a", "@daily"), 2, "what is to be done?"),
        (("add", "a", "@daily", "--sh", "x", "--", "true"), 2, "what is to be done?"),
        (("add", "a", "61 * * * *", "--", "true"), 2, "is no cron expression (bad minute)"),
        (("add", "a", "@daily", "--tz", "Mars", "--", "true"), 2, "there is no time zone 'Mars'"),
        (("add", "a", "@daily", "--missed", "some", "--", "true"), 2, "missed is none, one or all"),
        (("add", "", "@daily", "--", "true"), 2, "a schedule has a name"),
        (("add", "a", "@daily", "shop.report"), 2, "a colon parts module and function"),
        (("next", "b"), 4, "there is no schedule 'b'"),
        (("next",), 2, "which schedule?"),
        (("remove", "b"), 4, "there is no schedule 'b'"),
        (("pause", "b"), 4, "there is no schedule 'b'"),
        (("dance",), 2, "none of add, list, next"),
        (("import", "nowhere"), 2, "nowhere: No such file"),
        (("import",), 2, "import a crontab"),
    ],
)
def test_slips_are_told_in_a_sentence(cli: Cli, words: tuple[str, ...], code: int, sentence: str) -> None:
    cli.ok("init")
    done = cli("schedule", *words)
    assert (done.returncode, sentence in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr
    assert cli.ok("schedule", "list") == ""


CRONTAB = r"""# m h dom mon dow command
SHELL=/bin/sh
MAILTO=ops@example.org
PATH=/usr/local/bin:/usr/bin:/bin
CRON_TZ=America/New_York
30 2 * * *   /usr/local/bin/backup --all
*/5 * * * 1-5 cd /srv && ./poll.sh > /dev/null 2>&1
@hourly backup now
@reboot /usr/bin/true
0 9 * * MON mail -s "week \%V" ops%Hello,%it is Monday.
99 * * * * /bin/false
0 0 * * *
"""


def test_a_crontab_is_converted_and_what_could_not_be_is_told(cli: Cli, path: Path, folder: Path) -> None:
    (folder / "old").write_text(CRONTAB)
    dry = cli("schedule", "import", "old", "--dry-run")
    assert (dry.returncode, len(dry.stdout.splitlines())) == (1, 4)
    assert cli("schedule", "list").returncode != 0, "nothing was made"
    done = cli("schedule", "import", "old")
    assert done.returncode == 1
    assert done.stdout == dry.stdout
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["line 3", "line 9", "line 11", "line 12"]
    assert "no mail is sent" in done.stderr
    assert "@reboot has no time" in done.stderr
    assert "bad minute" in done.stderr
    found = rows(
        path,
        "SELECT name, spec, zone, task, overlap, missed FROM schedules ORDER BY name",
    )
    assert found == [
        ("backup", "30 2 * * *", "America/New_York", "/usr/local/bin/backup --all", "allow", "none"),
        ("backup-2", "@hourly", "America/New_York", "backup now", "allow", "none"),
        ("cd", "*/5 * * * 1-5", "America/New_York", "cd /srv && ./poll.sh > /dev/null 2>&1", "allow", "none"),
        (
            "mail",
            "0 9 * * MON",
            "America/New_York",
            "printf '%s\\n' Hello, 'it is Monday.' | { mail -s \"week %V\" ops; }",
            "allow",
            "none",
        ),
    ]
    policy = json.loads(rows(path, "SELECT policy FROM jr_schedule WHERE name = 'backup'")[0][0])
    assert policy == {"cwd": str(Path.home()), "env": {"PATH": "/usr/local/bin:/usr/bin:/bin"}}
    again = cli("schedule", "import", "old")
    assert (again.returncode, "nothing was imported" in again.stderr) == (2, True)


def test_lines_of_the_systems_crontab_name_their_user() -> None:
    text = "0 3 * * * root /usr/bin/updatedb\n0 4 * * *  shop  /srv/report\n@daily shop /srv/daily\n"
    found = list(lines(text, "shop", has_users=True))
    assert [(one.plan and (one.plan.name, one.plan.task)) for one in found] == [
        None,
        ("report", "/srv/report"),
        ("daily", "/srv/daily"),
    ]
    assert "it is for the user 'root'" in str(found[0].remark)


def test_a_line_with_standard_input_does_what_cron_would_do(cli: Cli, folder: Path, path: Path) -> None:
    cli.ok("schedule", "import", "-", stdin=f"@hourly cat > {folder}/out # note%one%two \\% three\n")
    cli.ok("schedule", "run-now", "cat")
    cli.drain()
    assert rows(path, "SELECT status FROM jobs") == [("success",)]
    assert (folder / "out").read_text() == "one\ntwo % three\n"
