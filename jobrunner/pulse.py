"""Whether a runner is live, stalled or dead: from what the kernel knows of the process that holds its byte.

Nobody writes a heartbeat for this. A loop that turns wakes at least every 0.4 s, and each time the kernel counts a
switch; a process that is stopped, or hangs in one call, has counters that stand still.
"""

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import psutil

from jobrunner import ownership
from jobrunner.models import Runner, RunnerId

SAMPLE_SECONDS = 1.2
"""How long to look at a runner whose counters stand still before it is called stalled: three turns of an idle loop."""
_BETWEEN_LOOKS = 0.02
_STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


class Life(StrEnum):
    """What a runner that has not said that it stopped is."""

    LIVE = "live"
    STALLED = "stalled"  # it lives, and its loop does not turn
    DEAD = "dead"  # nobody holds its byte


class Pulse(NamedTuple):
    """What can be seen of a runner from outside, and a word about it where there is something to say."""

    life: Life
    note: str | None = None


class Sign(NamedTuple):
    """A process at one moment: whether it is stopped, whether it wants a processor, and counters that only grow."""

    is_stopped: bool
    is_ready: bool
    counters: tuple[float, ...]

    def is_still(self, before: "Sign") -> bool:
        """Whether nothing has gone on since. Who waits for a processor on a busy machine is not still."""
        return not self.is_ready and self.counters == before.counters


STOPPED = Pulse(Life.STALLED, "its process is stopped")
SILENT = Pulse(Life.STALLED, "its loop does not turn")
ELSEWHERE = Pulse(Life.LIVE, "in another pid namespace, so it cannot be seen whether it works")
_DEAD = Pulse(Life.DEAD)
_LIVE = Pulse(Life.LIVE)


def sign(process: psutil.Process) -> Sign:
    """What the process shows now; psutil.Error where it is gone, or not ours to see."""
    with process.oneshot():
        status, switches, times = process.status(), process.num_ctx_switches(), process.cpu_times()
    counters = (switches.voluntary, switches.involuntary, times.user, times.system)
    return Sign(status in _STOPPED, status == psutil.STATUS_RUNNING, counters)


def process_of(runner: Runner, holder: int | None) -> psutil.Process | None:
    """The runner's process, where the holder of its byte is the one that its row names; None where it is not.

    The caller must ask for the holder once more before it sends a signal: only a process that was there before and
    still holds the byte after is this one.
    """
    if holder != runner.pid:
        return None
    try:
        return psutil.Process(holder)
    except psutil.Error:
        return None


def is_rescuer(runner: Runner, holder: int) -> bool:
    """Whether the byte is held by another process of ours: a rescuer has it for as long as it works."""
    return holder > 0 and (holder == runner.pid or _shares_our_namespace(holder))


def pulses(database: Path, runners: Sequence[Runner], *, thorough: bool = True) -> dict[RunnerId, Pulse]:
    """Which of these are live, stalled or dead; thorough: it takes up to a second where one does not answer."""
    holders = ownership.holders(database, [runner.id for runner in runners])
    return take(runners, holders, SAMPLE_SECONDS if thorough else 0.0)


def take(runners: Sequence[Runner], holders: Mapping[RunnerId, int], seconds: float) -> dict[RunnerId, Pulse]:
    """The pulses of all, looked at side by side for up to so long; with 0 only the stopped are found stalled."""
    found = {one.id: _at_once(one, holders.get(one.id)) for one in runners}
    still = {one.id: seen for one in runners if (seen := _first_sign(one, holders.get(one.id), found[one.id]))}
    deadline = time.monotonic() + seconds
    while still and time.monotonic() < deadline:
        time.sleep(_BETWEEN_LOOKS)
        still = {one: seen for one, seen in still.items() if _is_still(*seen)}
    return found | (dict.fromkeys(still, SILENT) if seconds else {})


def _at_once(runner: Runner, holder: int | None) -> Pulse:
    if holder is None:
        return _DEAD
    process = process_of(runner, holder)
    if process is None:
        return _DEAD if is_rescuer(runner, holder) else ELSEWHERE
    try:
        return STOPPED if sign(process).is_stopped else _LIVE
    except psutil.Error:
        return _LIVE


def _first_sign(runner: Runner, holder: int | None, found: Pulse) -> tuple[psutil.Process, Sign] | None:
    # Inline, jobs run in the loop itself, which so may stand still for as long as they like.
    process = process_of(runner, holder) if found is _LIVE and runner.mode != "inline" else None
    try:
        return None if process is None else (process, sign(process))
    except psutil.Error:
        return None


def _is_still(process: psutil.Process, before: Sign) -> bool:
    try:
        return sign(process).is_still(before)
    except psutil.Error:
        return False


def _shares_our_namespace(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink() == Path("/proc/self/ns/pid").readlink()
    except OSError:  # not ours to see; where there is no /proc there are no namespaces either
        return not Path("/proc/self/ns/pid").exists()
