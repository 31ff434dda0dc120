"""What a runner may be told to do: --only, and what it never imports or shows to a job."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App
from jobrunner.errors import InvocationFailed, NotAllowed, UsageError
from jobrunner.invocation import Invocation
from jobrunner.models import Claimed, InvocationId, Kind
from jobrunner.policy import Policy
from jobrunner.runner.only import check_pattern, permit
from tests.cli_helpers import Cli
from tests.helpers.processes import RunnerProcess
from tests.helpers.runners import RUNNERS, slots

Drain = Callable[..., RunnerProcess]


def is_permitted(kind: Kind, task: str, *patterns: str, policy: Policy | None = None) -> bool:
    claimed = Claimed(InvocationId(1), 1, 1, 0, kind, task, "{}", None, "default", 0, 0)
    try:
        permit(claimed, policy or Policy(), patterns)
    except NotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "task", "pattern", "is_meant"),
    [
        ("function", "shop.tasks:send", "shop.tasks:send", True),
        ("function", "shop.tasks:send", "shop.*:*", True),
        ("function", "shop.tasks.mail:send", "shop.*:s[ea]nd", True),
        ("function", "shop:send", "shop.*:*", False),
        ("function", "SHOP.tasks:send", "shop.*:*", False),
        ("function", "shop.tasks:os.system", "shop.*:*", False),
        ("function", "shop.tasks:Mail.send", "shop.*:*.*", True),
        ("function", "os:system", "shop.*:*", False),
        ("function", "os:system", "*:*", True),
        ("function", "os:system", "command:*", False),
        ("command", "gzip", "*:*", False),
        ("command", "gzip", "command:gzip", True),
        ("command", "gzip", "command:*", True),
        ("command", "/usr/bin/gzip", "command:gzip", False),
        ("command", "/usr/bin/gzip", "command:*", False),
        ("command", "/usr/bin/gzip", "command:/usr/bin/*", True),
        ("command", "/usr/bin/../../tmp/x", "command:/usr/bin/*/*/*/*", False),
        ("command", "./gzip", "command:./gzip", False),
        ("command", "gzip", "shell:*", False),
        ("shell", "gzip < a", "command:gzip*", False),
        ("shell", "gzip < a", "*:*", False),
        ("shell", "gzip < a", "shell:*", True),
        ("shell", "gzip < a\nrm -rf .", "shell:gzip < a", False),
    ],
)
def test_a_pattern_permits_what_it_says_and_nothing_beside(kind: Kind, task: str, pattern: str, is_meant: bool) -> None:
    assert is_permitted(kind, task, pattern) is is_meant
    assert is_permitted(kind, task, "nothing:else", pattern) is is_meant, "one of several is enough"
    assert is_permitted(kind, task), "without patterns all is permitted"


def test_a_variable_cannot_lead_what_is_permitted_to_other_code() -> None:
    assert not is_permitted("command", "gzip", "command:gzip", policy=Policy(env={"PATH": "/tmp"}))
    assert is_permitted("command", "gzip", policy=Policy(env={"PATH": "/tmp"}))


@pytest.mark.parametrize("pattern", ["", "shop", "shop.*", ":x", "shop:", "command:", "shell"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="is no pattern: write MODULE:FUNCTION"):
        check_pattern(pattern)


def test_a_slip_in_a_pattern_ends_the_runner_before_it_begins(cli: Cli) -> None:
    done = cli("run", "--only", "shop")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--only 'shop' is no pattern" in done.stderr


@pytest.mark.parametrize("mode", RUNNERS)
def test_what_is_not_permitted_fails_once_and_nothing_is_imported(
    app: App, drain: Drain, folder: Path, mode: str
) -> None:
    (folder / "spy.py").write_text("open('imported', 'w').close()\ndef f(): ...\n")
    policy: dict[str, Any] = {"retry": 5}
    refused = [
        app.enqueue("spy:f", **policy),
        app.enqueue("tests.tasks:os.getcwd", **policy),
        app.enqueue_command("touch", str(folder / "touched"), **policy),
        app.enqueue_shell(f"touch {folder / 'touched'}", **policy),
        app.enqueue("tests.tasks:square", {"n": 2}, env={"A": "1"}, **policy),
    ]
    permitted = [app.enqueue("tests.tasks:square", {"n": 3}), app.enqueue_command("true")]
    drain(**slots(mode, 2), only=["tests.*:*", "command:true"], app_dir=str(folder))
    assert [one.status for one in permitted] == ["success", "success"]
    for one in refused:
        with pytest.raises(InvocationFailed) as caught:
            one.result(timeout=0)
        assert (caught.value.kind, caught.value.attempt) == ("NotAllowed", 1)
    assert message_of(refused[0]) == "spy:f is not what this runner was told to do: --only tests.*:*, command:true"
    assert message_of(refused[3]).startswith("this line for the shell is not what this runner was told to do")
    assert "it sets A, and a variable can lead what is permitted to other code" in message_of(refused[-1])
    assert not (folder / "imported").exists()
    assert not (folder / "touched").exists()


def message_of(job: Invocation[Any]) -> str:
    return str(job.details.error_message)


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


def test_the_command_line_hands_patterns_on(cli: Cli) -> None:
    jobs = [cli.enqueue("shop:add", "a:=1"), cli.enqueue("--", "true"), cli.enqueue("os:getcwd")]
    cli.drain("--only", "shop:*", "--only", "command:true")
    assert [one["status"] for one in cli.json("show", *map(str, jobs))] == ["success", "success", "failed"]


# Importing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", RUNNERS)
def test_neither_the_jobs_folder_nor_the_databases_shadows_a_module(
    cli: Cli, folder: Path, path: Path, mode: str
) -> None:
    there = folder / "there"
    there.mkdir()
    for evil in ("json.py", "depot.py", "shop.py"):
        (there / evil).write_text("def add(a): return 'evil'\n")
    beside = folder / "apart"
    beside.mkdir(mode=0o700)
    (beside / "depot.py").write_text("def add(a): return 'evil'\n")
    database = ("--db", str(beside / "jobs.db"))
    cwd = () if mode == "thread" else ("--cwd", str(there))
    shop, depot = (int(cli.ok(*database, "enqueue", task, "a:=1", *cwd)) for task in ("shop:add", "depot:add"))
    cli.ok(*database, "run", "--drain", "-q", "--mode", mode)
    found = cli.json(*database, "show", str(shop), str(depot))
    assert [one["result"] for one in found] == [2, None]
    assert found[1]["status"] == "scheduled"
    assert "no runner knows its task: there is no module 'depot' on the path" in found[1]["reason"]


@pytest.mark.parametrize(
    "task", ["../evil:f", "/tmp/evil:f", "a/evil:f", ".evil:f", "evil.py\0:f", "evil;f:f", " evil:f", "evil..f:f"]
)
def test_a_module_is_a_name_and_no_path(app: App, drain: Drain, folder: Path, task: str) -> None:
    for place in (folder, folder / "a"):
        place.mkdir(exist_ok=True)
        (place / "evil.py").write_text("def f(): return 'evil'\n")
    (folder / "app").mkdir()
    job = app.enqueue(task)
    drain(app_dir=str(folder / "app"))
    with pytest.raises(InvocationFailed) as caught:
        job.result(timeout=0)
    assert caught.value.kind == "jobrunner.errors.TaskNotFound"


# What a job gets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_program_is_given_three_descriptors_and_no_more(app: App, drain: Drain, mode: str) -> None:
    jobs = [app.enqueue_shell("ls -l /proc/$$/fd"), app.enqueue_command("ls", "/proc/self/fd")]
    drain(**slots(mode, 2))
    assert all(one.status == "success" for one in jobs)
    lines = jobs[0].log().splitlines()[1:]
    assert [line.split()[8] for line in lines if "->" in line] == ["0", "1", "2"]
    assert jobs[1].log().split() == ["0", "1", "2", "3"], "the last one is the folder that ls reads"


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_function_is_given_its_channel_and_no_file_of_ours(app: App, drain: Drain, path: Path, mode: str) -> None:
    job = app.enqueue("tests.security_tasks:descriptors")
    drain(**slots(mode, 2))
    found: dict[str, str] = job.result()
    assert {"0", "1", "2"} <= found.keys()
    assert not [name for name in found.values() if path.name in name]
    assert sum(name.startswith("socket:") for name in found.values()) == 1, found
    assert all(name.startswith(("socket:", "pipe:", "/dev/null")) for name in found.values()), found


ODD = ["-n", "--", "", " ", "two words", "new\nline", "$(touch pwned)", "`id`", "*", "'\"\\", "\x1b[31m", "世界"]


def test_a_program_gets_its_arguments_as_they_are_and_no_shell_reads_them(app: App, drain: Drain, folder: Path) -> None:
    job = app.enqueue_command("printf", "%s\\0", *ODD)
    drain()
    written = b"".join(piece.data for piece in job.log_pieces())
    assert written == b"".join(one.encode() + b"\0" for one in ODD)
    assert not (folder / "pwned").exists()
    with pytest.raises(UsageError, match="surrogate"):
        app.enqueue_command("printf", "\udcff")


def test_an_argument_with_a_nul_fails_its_job_alone(app: App, drain: Drain) -> None:
    bad, good = app.enqueue_command("true", "a\0b"), app.enqueue_command("true")
    drain()
    assert (bad.status, good.status) == ("failed", "success")
