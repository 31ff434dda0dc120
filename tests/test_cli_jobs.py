import json
import shlex
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.cli_helpers import Cli
from tests.helpers.files import rows
from tests.helpers.waiting import until


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


# wait


def test_wait_fails_when_one_did_not_succeed(cli: Cli) -> None:
    cli.ok("enqueue", "--each", "--", "sh", "-c", stdin="exit 0\nexit 3\n")
    cli.drain()
    assert cli.ok("wait", "1") == "1\tsuccess\t\n"
    failed = cli("wait", "1", "2")
    assert (failed.returncode, failed.stdout) == (1, "1\tsuccess\t\n2\tfailed\tExitCode: exited with code 3\n")
    assert json.loads(cli("wait", "--json", "2").stdout)["error"] == {
        "type": "ExitCode",
        "message": "exited with code 3",
    }
    assert cli("wait", "-q", "2").stdout == ""


def test_wait_without_numbers_waits_for_all_that_is_unfinished(cli: Cli) -> None:
    cli.ok("enqueue", "--each", "--", "sh", "-c", stdin="true\ntrue\n")
    waiting = cli.start("wait")
    until(lambda: watches(waiting.pid))
    cli.drain()
    out, _ = waiting.communicate()
    assert (waiting.returncode, out) == (0, "1\tsuccess\t\n2\tsuccess\t\n")
    assert cli.ok("wait") == ""


def test_a_wait_that_lasts_too_long_ends_with_124(cli: Cli) -> None:
    cli.enqueue("--", "true")
    done = cli("wait", "1", "--timeout", "20ms")
    assert (done.returncode, done.stdout, done.stderr) == (124, "", "jobrunner: not finished within 0.02 s: job 1\n")


@pytest.mark.parametrize(
    "words", [("wait",), ("log", "1", "-f"), ("enqueue", "--wait", "--", "echo"), ("status", "--watch")]
)
def test_ctrl_c_ends_what_waits_without_a_word(cli: Cli, path: Path, words: tuple[str, ...]) -> None:
    cli.enqueue("--", "true")
    waiting = cli.start(*words)
    until(lambda: watches(waiting.pid))
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate()
    assert (waiting.returncode, err) == (130, "")
    assert rows(path, "SELECT DISTINCT status FROM jobs") == [("pending",)]


def watches(pid: int) -> bool:
    """Whether the process sleeps until there is a commit; it may have a watch before, and still import."""
    try:
        watching = any("inotify" in str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir())
        return watching and psutil.Process(pid).status() == psutil.STATUS_SLEEPING
    except (OSError, psutil.NoSuchProcess):
        return False


# cancel, retry


def test_cancel_prints_what_it_stopped_and_names_what_was_over(cli: Cli, path: Path) -> None:
    cli.enqueue("--", "true")
    cli.drain()
    cli.enqueue("--", "true")
    done = cli("cancel", "1", "2")
    assert (done.returncode, done.stdout) == (0, "2\n")
    assert done.stderr == "job 1 is success: nothing to be done\n"
    assert cli("cancel", "2", "-q").stderr == ""
    assert rows(path, "SELECT status FROM jobs") == [("success",), ("cancelled",)]


def test_cancel_and_retry_take_what_a_query_finds(cli: Cli, path: Path) -> None:
    for queue in ("mail", "mail", "other"):
        cli.enqueue("-Q", queue, "--", "false")
    assert cli.ok("cancel", "queue:mail").split() == ["1", "2"]
    cli.drain()
    assert cli.ok("retry", "since:1h").split() == ["3"]
    assert cli.ok("retry", "queue:mail") == ""
    assert cli.json("retry", "queue:mail", "status:cancelled") == [{"id": 1}, {"id": 2}]
    assert rows(path, "SELECT DISTINCT status FROM jobs") == [("pending",)]


def test_cancel_reaches_children_when_asked(cli: Cli, path: Path) -> None:
    cli.enqueue("--", "true")
    cli.enqueue("--", "true")
    rows(path, "UPDATE jr_invocation SET parent = 1 WHERE id = 2")
    assert cli.ok("cancel", "1", "--children").split() == ["1", "2"]


def family_of(cli: Cli, job: int) -> list[str]:
    shown = cli.ok("show", str(job))
    return shown.partition("family\n")[2].splitlines()


def test_show_draws_the_tree_from_the_first_ancestor_to_the_last_descendant(cli: Cli, path: Path) -> None:
    for _ in range(6):
        cli.enqueue("--", "true")
    for child, parent in {2: 1, 3: 2, 4: 3, 5: 3, 6: 2}.items():
        rows(path, "UPDATE jr_invocation SET parent = ? WHERE id = ?", parent, child)
    assert family_of(cli, 3) == [
        "  1 pending true",
        "    2 pending true",
        "      3 pending true  <- this one",
        "        4 pending true",
        "        5 pending true",
    ]
    assert [line.split()[0] for line in family_of(cli, 1)] == ["1", "2", "3", "4", "5", "6"]
    cli.enqueue("--", "true")
    assert family_of(cli, 7) == []


def test_the_tree_of_a_large_or_impossible_family_ends(cli: Cli, path: Path) -> None:
    cli.enqueue("--", "true")
    count = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 60)"
    rows(path, f"INSERT INTO jobs(task, args) {count} SELECT 'true', '[]' FROM n")
    rows(path, "UPDATE jr_invocation SET parent = CASE WHEN id < 5 THEN id % 4 + 1 WHEN id < 55 THEN 50 ELSE 999 END")
    assert [line.split()[0] for line in family_of(cli, 1)] == ["4", "3", "2", "1", "4", "3", "2"]
    assert len(family_of(cli, 50)) == 42
    assert family_of(cli, 50)[-1] == "  and more: `jobrunner list parent:50` has all that it enqueued itself"
    assert family_of(cli, 60) == ["  999 (gone)", "    60 pending true  <- this one"]


# log


def test_log_tells_the_output_of_all_attempts_or_of_one(cli: Cli) -> None:
    job = str(cli.enqueue("--retries", "1", "--backoff", "1ms", "--sh", "echo out$JOBRUNNER_ATTEMPT; exit 3"))
    cli.drain()
    assert cli.ok("log", job) == "out1\nout2\n"
    assert cli.ok("log", job, "--attempt", "2") == "out2\n"
    assert cli.ok("log", job, "--attempt", "3") == ""
    assert cli.ok("log", job, "--stderr") == ""


def test_log_marks_what_was_cut(cli: Cli) -> None:
    job = str(cli.enqueue("--sh", "printf %0200d 7"))
    cli.drain("--output-limit", "100")
    text = cli.ok("log", job)
    assert text == "0" * 50 + "\n[100 bytes cut here]\n" + "0" * 49 + "7"
    assert [one.get("cut") for one in cli.json("log", job)] == [None, 100, None]


def test_log_follows_a_job_to_its_end(cli: Cli) -> None:
    job = cli.enqueue("--sh", "echo first; while [ ! -e go ]; do sleep 0.01; done; echo second")
    runner = cli.start("run", "--max-jobs", "1", "-q")
    following = cli.start("log", str(job), "-f")
    assert following.stdout is not None
    assert following.stdout.readline() == "first\n"
    (cli.folder / "go").touch()
    assert following.communicate()[0] == "second\n"
    assert following.returncode == 0
    runner.communicate()


# run


def test_run_tells_what_happens_on_the_standard_error(cli: Cli) -> None:
    cli.enqueue("shop:fail", "text=\x1b[31m")
    done = cli("run", "--drain", "--utc")
    assert (done.returncode, done.stdout) == (1, "")
    assert " warning: job 1 shop:fail failed after " in done.stderr
    assert "\\e[31m" in done.stderr
    assert done.stderr.splitlines()[0][:4].isdigit()
    cli.enqueue("shop:add", "a:=1")
    told = [json.loads(line) for line in cli("run", "--drain", "--log-format", "json").stderr.splitlines()]
    assert any(one["level"] == "info" and "job 2 shop:add success" in one["message"] for one in told)
    assert cli("run", "--drain", "-q").stderr == ""
    cli.enqueue("shop:add", "a:=1")
    assert "started as process" in cli("run", "--drain", "-v").stderr


@pytest.mark.parametrize("form", ["text", "json"])
def test_run_tells_of_each_job_in_a_line_of_its_own_however_many_end_together(cli: Cli, form: str) -> None:
    cli.ok("enqueue", "--jsonl", "-", stdin='{"task": "shop:add", "args": {"a": 1}}\n' * 40)
    told = cli("run", "--drain", "--mode", "thread", "--log-format", form).stderr.splitlines()
    messages = [json.loads(line)["message"] for line in told] if form == "json" else [line[30:] for line in told]
    done = [message.split() for message in messages if "shop:add" in message]
    assert sorted(int(words[1]) for words in done) == list(range(1, 41))
    assert {(words[0], *words[2:5]) for words in done} == {("job", "shop:add", "success", "after")}


def test_run_serves_the_queues_that_are_named(cli: Cli, path: Path) -> None:
    for queue in ("a", "b", "c"):
        cli.enqueue("-Q", queue, "--", "true")
    cli.ok("run", "--drain", "a", "b")
    assert rows(path, "SELECT status FROM jobs ORDER BY id") == [("success",), ("success",), ("pending",)]


def test_run_ends_after_so_many_jobs_or_when_idle(cli: Cli, path: Path) -> None:
    cli.ok("enqueue", "--each", "--", "echo", stdin="1\n2\n3\n")
    cli.ok("run", "-j", "1", "--max-jobs", "2")
    assert rows(path, "SELECT count(*) FROM jobs WHERE status = 'success'") == [(2,)]
    cli.ok("run", "--max-idle", "10ms")
    assert rows(path, "SELECT count(*) FROM jobs WHERE status = 'success'") == [(3,)]


def test_run_imports_tasks_from_the_folder_that_is_named(cli: Cli, folder: Path) -> None:
    there = folder / "there"
    there.mkdir()
    (there / "depot.py").write_text("def here(): return __file__")
    cli.enqueue("depot:here")
    cli.ok("run", "--drain", "--app-dir", "there", "--import", "depot")
    assert cli.json("show", "1")["result"] == str(there / "depot.py")
    failed = cli("run", "--drain", "--import", "depot")
    assert failed.returncode == 1
    assert "--import depot failed" in failed.stderr


def test_run_stops_at_term_and_gives_back_what_it_had(cli: Cli, path: Path) -> None:
    cli.enqueue("--sh", "echo started; sleep 60")
    runner = cli.start("run", "--shutdown-timeout", "10ms")
    until(lambda: rows(path, "SELECT 1 FROM jr_output") if path.exists() else [])
    runner.terminate()
    runner.communicate()
    assert runner.returncode == 0
    assert rows(path, "SELECT status, attempts FROM jobs") == [("pending", 0)]


# Ends of pipes


def test_a_reader_that_leaves_is_no_error(cli: Cli) -> None:
    cli.ok("enqueue", "--each", "--", "echo", stdin="".join(f"{n}\n" for n in range(3000)))
    process = cli.start("list")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("3000\t")
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate()
    assert (process.returncode, err) == (141, "")


def test_a_runner_without_standard_streams_does_the_work(cli: Cli) -> None:
    cli("enqueue", "shop:write", "out=hello", "err=bad")
    words = shlex.join(cli.command("run", "--drain", "--max-idle", "0", "--allow-root"))
    done = subprocess.run(["sh", "-c", f"{words} <&- >&- 2>&-"], cwd=cli.folder, env=cli.environment, check=False)
    assert done.returncode == 0
    assert sorted(cli("log", "1").stdout) == sorted("hellobad")


def test_a_full_disk_is_told(cli: Cli) -> None:
    cli.enqueue("--", "true")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            cli.command("list"), cwd=cli.folder, env=cli.environment, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 74
    assert done.stderr == b"jobrunner: cannot write: [Errno 28] No space left on device\n"
