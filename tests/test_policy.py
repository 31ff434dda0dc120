"""How an invocation is to be done, what its end means, and durations and times as people write them."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner import Retry, Status, UsageError
from jobrunner.errors import type_name
from jobrunner.models import Claimed, Exit, Failure, InvocationId, Kind, Outcome, StopReason
from jobrunner.options import unique_key
from jobrunner.orchestrator import Ended, judge
from jobrunner.policy import CRASH_BUDGET, Policy
from jobrunner.times import duration_ms, instant_ms, iso, now_ms, words

# Retries ---------------------------------------------------------------------------------------------


def delays(retry: Retry, attempts: int) -> list[int]:
    return [retry.delay_ms(attempt) for attempt in range(1, attempts + 1)]


def test_a_constant_backoff_stays_as_it_is() -> None:
    assert delays(Retry(backoff="constant", base="5s", cap="1s", jitter=0), 4) == [5000] * 4


def test_an_exponential_backoff_doubles_up_to_its_cap() -> None:
    retry = Retry(base="5s", cap="1m", jitter=0)
    assert delays(retry, 6) == [5000, 10_000, 20_000, 40_000, 60_000, 60_000]
    assert retry.delay_ms(1_000_000) == 60_000


@given(st.integers(1, 10**6), st.floats(0, 1), st.integers(1, 60), st.sampled_from(["constant", "exponential"]))
def test_jitter_only_makes_a_delay_longer_and_by_no_more_than_its_fraction(
    base: int, jitter: float, attempt: int, backoff: Any
) -> None:
    plain = Retry(base=base / 1000, backoff=backoff, jitter=0).delay_ms(attempt)
    assert (
        plain <= Retry(base=base / 1000, backoff=backoff, jitter=jitter).delay_ms(attempt) <= plain * (1 + jitter) + 1
    )


def test_jitter_differs_from_time_to_time() -> None:
    retry = Retry(base="1h", jitter=0.5)
    assert len({retry.delay_ms(1) for _ in range(20)}) > 10


def failure(error: BaseException) -> Failure:
    kinds = tuple(type_name(cls) for cls in type(error).__mro__[:-1])
    return Failure(kinds[0], str(error), None, kinds)


@pytest.mark.parametrize(
    ("retry", "error", "allowed"),
    [
        (Retry(), ValueError(), True),
        (Retry(on=(OSError,)), ConnectionResetError(), True),
        (Retry(on=(ConnectionResetError,)), OSError(), False),
        (Retry(on=("OSError",)), ConnectionResetError(), True),
        (Retry(on=(OSError, ValueError)), json.JSONDecodeError("", "", 0), True),
        (Retry(on=("json.decoder.JSONDecodeError",)), json.JSONDecodeError("", "", 0), True),
        (Retry(on=("JSONDecodeError",)), json.JSONDecodeError("", "", 0), False),
        (Retry(never=(OSError,)), ConnectionResetError(), False),
        (Retry(never=(ConnectionResetError,)), OSError(), True),
        (Retry(on=(OSError,), never=(ConnectionError,)), ConnectionResetError(), False),
        (Retry(on=(OSError,), never=(ConnectionError,)), FileNotFoundError(), True),
        (Retry(on=(Exception,)), KeyboardInterrupt(), False),
    ],
)
def test_which_errors_are_retried_follows_their_classes(retry: Retry, error: BaseException, allowed: bool) -> None:
    assert retry.allows(failure(error), 1) is allowed


def test_the_first_attempt_counts() -> None:
    allowed = [Retry(attempts=3).allows(failure(ValueError()), attempt) for attempt in (1, 2, 3, 4)]
    assert allowed == [True, True, False, False]
    assert not Retry(attempts=1).allows(failure(ValueError()), 1)


@pytest.mark.parametrize(
    "words_of_it",
    [
        {"attempts": 0},
        {"attempts": 10**7},
        {"backoff": "linear"},
        {"jitter": 1.1},
        {"jitter": -0.1},
        {"jitter": float("nan")},
        {"base": "soon"},
        {"cap": -1},
    ],
)
def test_a_retry_that_cannot_be_meant_is_refused(words_of_it: Any) -> None:
    with pytest.raises(UsageError):
        Retry(**words_of_it)


# Policies --------------------------------------------------------------------------------------------

milliseconds = st.integers(0, 10**10)
names = st.text(st.characters(codec="utf-8", exclude_characters="=\0"), min_size=1, max_size=20)
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
retries = st.builds(
    Retry,
    attempts=st.integers(1, 10**6),
    backoff=st.sampled_from(["constant", "exponential"]),
    base=milliseconds.map(lambda ms: timedelta(milliseconds=ms)),
    cap=milliseconds.map(lambda ms: timedelta(milliseconds=ms)),
    jitter=st.floats(0, 1),
    on=st.lists(names, max_size=3).map(tuple),
    never=st.lists(names, max_size=3).map(tuple),
)
policies = st.builds(
    Policy,
    retry=st.none() | retries,
    timeout_ms=st.none() | st.integers(1, 10**12),
    on_crash=st.sampled_from([None, "retry", "fail"]),
    cwd=st.none() | names,
    env=st.dictionaries(names, values, max_size=3),
)


@given(policies)
def test_a_policy_comes_back_from_its_json_as_it_was(policy: Policy) -> None:
    assert Policy.from_json(policy.to_json()) == policy


@given(policies)
def test_what_a_policy_leaves_unsaid_is_not_kept(policy: Policy) -> None:
    said = {
        "retry": policy.retry,
        "timeout": policy.timeout_ms,
        "on_crash": policy.on_crash,
        "cwd": policy.cwd,
        "env": policy.env,
    }
    assert json.loads(policy.to_json() or "{}").keys() == {name for name, value in said.items() if value}


@given(policies, policies)
def test_what_the_invocation_says_goes_before_what_the_task_declares(said: Policy, declared: Policy) -> None:
    both = said.or_else(declared)
    assert both.retry == (said.retry or declared.retry)
    assert both.timeout_ms == (said.timeout_ms or declared.timeout_ms)
    assert both.env == {**declared.env, **said.env}
    assert said.or_else(Policy()) == said
    assert Policy().or_else(said) == said


# Judging ---------------------------------------------------------------------------------------------

KINDS: tuple[Kind, ...] = ("function", "command", "shell")
STOPPED: tuple[StopReason | None, ...] = (None, "timeout", "cancel", "shutdown", "not_started")
OUTCOMES = {"nothing": None, "a result": Outcome("1"), "an error": Outcome(failure=Failure("ValueError", "no"))}
EXITS = {
    "none": None,
    "code 0": Exit(7, 0),
    "code 3": Exit(7, 3),
    "code 76": Exit(7, 76),
    "signal 9": Exit(7, signal=9),
    "signal 64": Exit(7, signal=64),
}
PROGRAM = ("command", "shell")
ANY = "any"

# The first line that fits tells the status, the word for the attempt, and the type of its error.
TABLE: list[tuple[str, str, str | None, Any, tuple[Status, str, str | None]]] = [
    ("a result", ANY, ANY, ANY, (Status.SUCCESS, "success", None)),
    ("nothing", "code 0", None, PROGRAM, (Status.SUCCESS, "success", None)),
    (ANY, ANY, "cancel", ANY, (Status.CANCELLED, "cancelled", "Cancelled")),
    (ANY, ANY, "shutdown", ANY, (Status.PENDING, "interrupted", "Interrupted")),
    (ANY, ANY, "not_started", ANY, (Status.PENDING, "interrupted", "Interrupted")),
    (ANY, ANY, "timeout", ANY, (Status.FAILED, "timeout", "TimedOut")),
    ("an error", ANY, None, ANY, (Status.FAILED, "failed", "ValueError")),
    ("nothing", "none", None, ANY, (Status.PENDING, "crashed", "WorkerDied")),
    ("nothing", "signal 9", None, ANY, (Status.PENDING, "crashed", "WorkerDied")),
    ("nothing", "signal 64", None, ANY, (Status.PENDING, "crashed", "WorkerDied")),
    ("nothing", "code 76", None, ("function",), (Status.FAILED, "failed", "OutcomeLost")),
    ("nothing", ANY, None, ("function",), (Status.FAILED, "failed", "WorkerExited")),
    ("nothing", ANY, None, PROGRAM, (Status.FAILED, "failed", "ExitCode")),
]


def wanted(outcome: str, exit: str, stopped: str | None, kind: str) -> tuple[Status, str, str | None]:
    facts = (outcome, exit, stopped, kind)
    return next(line[4] for line in TABLE if all(map(fits, line[:4], facts)))


def fits(said: Any, fact: str | None) -> bool:
    return said == ANY or (fact in said if isinstance(said, tuple) else fact == said)


def claimed(kind: Kind = "function", attempt: int = 1, crashes: int = 1) -> Claimed:
    return Claimed(InvocationId(1), 1, attempt, crashes, kind, "a:b", "{}", None, "default", 0, now_ms())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stopped", STOPPED)
@pytest.mark.parametrize("exit", EXITS)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_combination_has_its_verdict(outcome: str, exit: str, stopped: StopReason | None, kind: Kind) -> None:
    ended = Ended(claimed(kind), Policy(timeout_ms=1500), OUTCOMES[outcome], EXITS[exit], stopped)
    verdict = judge(ended)
    error = verdict.failure.type if verdict.failure else None
    assert (verdict.status, verdict.outcome, error) == wanted(outcome, exit, stopped, kind)
    assert (verdict.reason is None) == (verdict.status is Status.SUCCESS), "what did not succeed has a reason"
    assert verdict.retry_in_ms is None, "nothing was said of retries"


@pytest.mark.parametrize(
    ("outcome", "exit", "stopped", "reason", "message"),
    [
        (None, Exit(7, signal=11), None, "crash 1 of 3, so once more", "signal 11 (SIGSEGV)"),
        (None, Exit(7, signal=64), None, "crash 1 of 3, so once more", "signal 64"),
        (None, None, None, "the runner died; crash 1 of 3, so once more", "the runner died"),
        (None, Exit(7, 3), None, "WorkerExited in attempt 1", "exited with code 3 before the function returned"),
        (None, Exit(7, 76), None, "OutcomeLost in attempt 1", "closed the channel"),
        (None, Exit(7, signal=9), "timeout", "TimedOut in attempt 1", "longer than its timeout of 1.5 s"),
        (None, Exit(7, signal=9), "cancel", "cancelled while it ran", "stopped on request"),
        (None, Exit(7, signal=9), "shutdown", "its runner was stopped", "its runner was stopped"),
        (None, None, "not_started", "its process could not be started", "could not be started"),
    ],
)
def test_a_verdict_says_why(outcome: Any, exit: Any, stopped: Any, reason: str, message: str) -> None:
    verdict = judge(Ended(claimed(), Policy(timeout_ms=1500), outcome, exit, stopped))
    assert verdict.reason
    assert verdict.reason.endswith(reason)
    assert verdict.failure
    assert message in verdict.failure.message


def test_a_failure_is_retried_while_attempts_are_left() -> None:
    policy = Policy(Retry(attempts=3, base="2s", jitter=0))
    verdicts = [judge(Ended(claimed(attempt=n), policy, OUTCOMES["an error"], Exit(7, 0))) for n in (1, 2, 3)]
    assert [(one.status, one.retry_in_ms) for one in verdicts] == [
        (Status.SCHEDULED, 2000),
        (Status.SCHEDULED, 4000),
        (Status.FAILED, None),
    ]
    assert verdicts[0].reason == "ValueError in attempt 1 of 3; again in 2 s"


@pytest.mark.parametrize(
    ("stopped", "exit", "becomes"),
    [("timeout", Exit(7, signal=9), Status.SCHEDULED), (None, Exit(7, 3), Status.SCHEDULED)],
)
def test_a_timeout_and_an_exit_code_are_retried_like_an_error(stopped: Any, exit: Exit, becomes: Status) -> None:
    policy = Policy(Retry(attempts=2), timeout_ms=100)
    for kind, outcome in itertools.product(KINDS, (None,)):
        assert judge(Ended(claimed(kind), policy, outcome, exit, stopped)).status is becomes


def test_a_crash_has_a_budget_of_its_own() -> None:
    policy = Policy(Retry(attempts=100))
    for crashes in range(1, CRASH_BUDGET + 2):
        verdict = judge(Ended(claimed(attempt=50, crashes=crashes), policy, None, Exit(7, signal=9)))
        assert verdict.status is (Status.PENDING if crashes < CRASH_BUDGET else Status.FAILED)


def test_what_must_not_be_tried_after_a_crash_fails_at_once() -> None:
    for exit in (Exit(7, signal=9), None):
        verdict = judge(Ended(claimed(), Policy(Retry(attempts=9), on_crash="fail"), None, exit))
        assert verdict.status is Status.FAILED
        assert verdict.reason
        assert verdict.reason.endswith("it is not to be tried after a crash")


# Durations and times ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration", "ms"),
    [
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("1h 30min", 5_400_000),
        ("250ms", 250),
        ("1.5h", 5_400_000),
        ("2D", 172_800_000),
        ("1w", 604_800_000),
        (" 10 m ", 600_000),
        ("7", 7000),
        ("0.25", 250),
        (7, 7000),
        (0.0004, 0),
        (timedelta(minutes=1, microseconds=1600), 60_002),
        ("0s", 0),
    ],
)
def test_a_duration_is_read_as_people_write_it(duration: Any, ms: int) -> None:
    assert duration_ms(duration) == ms


@pytest.mark.parametrize("text", ["", " ", "s", "1x", "1h30", "-5s", "5 s and more", "1e3s", "∞", "1,5h", "h1"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a duration|cannot be negative"):
        duration_ms(text)


PRECISIONS = [(1000, 1), (60_000, 51), (3_600_000, 1000), (86_400_000, 60_000), (10**13, 3_600_000)]
"""Up to which duration, in ms, how much its words may differ from it."""


@given(st.integers(0, 10**12))
def test_a_duration_in_words_is_read_back_to_the_precision_of_its_words(ms: int) -> None:
    finest = next(unit for below, unit in PRECISIONS if ms < below)
    assert abs(duration_ms(words(ms)) - ms) < finest


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1 s"),
        (3249, "3.2 s"),
        (59_999, "60 s"),
        (250_000, "4 min 10 s"),
        (7_500_000, "2 h 5 min"),
        (86_400_000, "1 d"),
        (273_600_000, "3 d 4 h"),
    ],
)
def test_a_duration_is_said_in_words(ms: int, text: str) -> None:
    assert words(ms) == text


@given(st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_time_comes_back_from_its_text_as_it_was(moment: datetime) -> None:
    ms = instant_ms(moment)
    text = iso(ms)
    assert text
    assert instant_ms(text) == ms
    assert instant_ms(iso(ms, utc=False) or "") == ms


def test_a_time_of_day_is_the_next_that_comes() -> None:
    for text in ("00:00", "12:34", "23:59"):
        assert now_ms() - 1000 < instant_ms(text) <= now_ms() + 90_000_000


@pytest.mark.parametrize("text", ["24:00", "12:60", "noon", "2030-02-30", "", "18"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        instant_ms(text)


# Unique keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "args", "key"),
    [
        ("welcome", {"user": 7}, "welcome"),
        ("welcome:{user}", {"user": 7}, "welcome:7"),
        ("{a}-{b}-{a}", {"a": 1, "b": "x"}, "1-x-1"),
        ("{{{a}}}", {"a": 1}, "{1}"),
        ("{a}", {"a": "{b}"}, "{b}"),
    ],
)
def test_a_key_is_made_of_the_arguments(template: str, args: Any, key: str) -> None:
    assert unique_key(template, args) == key


@pytest.mark.parametrize(
    "template", ["{missing}", "{a.__class__}", "{a[0]}", "{}", "{0}", "{a", "a}", "{a:>9}", "{a!r}"]
)
def test_a_key_names_arguments_and_nothing_else(template: str) -> None:
    with pytest.raises(UsageError):
        unique_key(template, {"a": "x"})
