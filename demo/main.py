"""The demo from start to end: enqueue, run, show, check against a plain loop over the same files."""

import argparse
import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from demo import shell, show
from demo.check import Totals, differences, other_faults, plain_loop, told_by_jobs, totals
from demo.shell import Shell
from demo.show import say
from demo.stdlib_survey import app
from demo.work import Work, enqueue, library_files
from jobrunner.location import VARIABLE

HERE = Path(__file__).parent.parent


def main() -> int:
    """Run the demo; the exit code tells whether all totals agree."""
    options = _parse_options()
    with _folder(keep=options.keep) as folder:
        os.environ[VARIABLE] = str(folder / "jobs.db")
        try:
            return _demonstrate(folder, options.limit)
        finally:
            app.close()


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Survey the standard library, a job a file.")
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder with the database")
    parser.add_argument("--limit", type=int, metavar="N", help="only some N of the files, spread over all")
    return parser.parse_args()


@contextlib.contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="jobrunner-demo-"))
    try:
        yield folder
    finally:
        if keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


def _demonstrate(folder: Path, limit: int | None) -> int:
    work = _enqueue(folder, limit)
    if (code := _run(folder)) != 0:
        say(f"the runner ended with exit code {code}:\n{(folder / 'runner.log').read_text('utf-8', 'replace')[-4000:]}")
        return 1
    show.statuses(app.counts())
    show.slowest(work)
    show.failures(work)
    return _verdict(work, folder)


def _enqueue(folder: Path, limit: int | None) -> Work:
    files = library_files()
    chosen = files[:: max(1, len(files) // limit)] if limit else files
    say(f"the standard library of Python {platform.python_version()}: {len(chosen):,} files")
    began = time.perf_counter()
    work = enqueue(chosen, folder)
    say(f"enqueued {len(work.jobs):,} jobs in {time.perf_counter() - began:.2f} s")
    return work


def _run(folder: Path) -> int:
    """`jobrunner run --drain`, a process of its own as everywhere; 1 says that a job failed, as one of these is to."""
    began = time.perf_counter()
    with (folder / "runner.log").open("wb") as log:
        words = [sys.executable, "-m", "jobrunner", "run", "--drain", "--app-dir", str(HERE)]
        done = subprocess.run(words, stdout=log, stderr=log, check=False)
    took = time.perf_counter() - began
    say(f"jobrunner run --drain: {took:.1f} s, a process for each attempt")
    return 0 if done.returncode == 1 else done.returncode


def _verdict(work: Work, folder: Path) -> int:
    expected, told = plain_loop(work.surveys), told_by_jobs(work)
    broken = told[str(folder / "broken.py")]
    sums = totals(told)
    faults = [*differences(expected, told), *other_faults(work, broken), *_ask_the_shell(work, folder, sums)]
    if faults:
        _complain(faults)
        return 1
    say(
        f"the totals agree: {sums.files:,} files, {sums.lines:,} lines, {sums.functions:,} functions, "
        f"{sums.classes:,} classes; {sums.unparsable} do not parse"
    )
    return 0


def _ask_the_shell(work: Work, folder: Path, sums: Totals) -> list[str]:
    sqlite = Shell.find(folder / "jobs.db")
    if sqlite is None:
        say("no sqlite3 shell here, so it is not asked")
        return []
    show.by_shell(sqlite)
    counts = {status.value: count for status, count in app.counts().items() if count}
    return list(shell.differences(sqlite, sums, counts, work.flaky.details.attempts))


def _complain(faults: Sequence[str]) -> None:
    for fault in faults[: show.MANY]:
        say(f"WRONG: {fault}")
    if len(faults) > show.MANY:
        say(f"WRONG: and {len(faults) - show.MANY} more")


if __name__ == "__main__":
    sys.exit(main())
