"""How an invocation is to be done: retries, timeout, what a crash means, folder and environment.

Kept with the invocation as one JSON object; durations in it are milliseconds.
"""

import json
from collections.abc import Mapping
from typing import Literal

from jobrunner.errors import UsageError, type_name
from jobrunner.facts import Facts
from jobrunner.models import Failure, Json
from jobrunner.times import LONGEST_MS, Duration, duration_ms

Backoff = Literal["constant", "exponential"]
OnCrash = Literal["retry", "fail"]
ExceptionNames = tuple[type[BaseException] | str, ...]

CRASH_BUDGET = 3
"""How often an invocation may take its worker's process down before it is failed."""


class Retry(Facts):
    """How often and when a failed attempt is followed by another.

    `attempts` counts all, the first included. The wait before attempt n+1 is `base` (constant) or
    `base * 2**(n-1)`, at most `cap` (exponential), made longer by up to the fraction `jitter`.
    Only failures of the types `on` (default: all) and none of the types `never` are retried; a type
    is an exception class, or its qualified name such as "ConnectionError" or "httpx.HTTPError".
    """

    attempts: int = 3
    backoff: Backoff = "exponential"
    base: Duration = "1s"
    cap: Duration = "1h"
    jitter: float = 0.1
    on: ExceptionNames = ()
    never: ExceptionNames = ()

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 1_000_000:
            raise UsageError(f"attempts must be at least 1 (the first one counts), not {self.attempts}")
        if self.backoff not in ("constant", "exponential"):
            raise UsageError(f"backoff is 'constant' or 'exponential', not {self.backoff!r}")
        if not 0 <= self.jitter <= 1:
            raise UsageError(f"jitter is a fraction from 0 to 1, not {self.jitter}")
        object.__setattr__(self, "base", duration_ms(self.base) / 1000)
        object.__setattr__(self, "cap", duration_ms(self.cap) / 1000)
        object.__setattr__(self, "on", type_names(self.on))
        object.__setattr__(self, "never", type_names(self.never))

    def allows(self, failure: Failure, attempt: int) -> bool:
        """Whether attempt number `attempt`, which ended so, is followed by another."""
        types = {failure.type, *failure.types}
        return attempt < self.attempts and not types & {*self.never} and (not self.on or bool(types & {*self.on}))

    def delay_ms(self, attempt: int) -> int:
        """The wait after attempt number `attempt`, in milliseconds."""
        import random  # only runners need it

        base, cap = duration_ms(self.base), duration_ms(self.cap)
        delay = base if self.backoff == "constant" else min(cap, base * 2 ** min(attempt - 1, 50))
        return round(delay * (1 + random.random() * self.jitter))

    def to_json(self) -> Json:
        """As kept with the invocation."""
        facts = {
            "attempts": self.attempts,
            "backoff": self.backoff,
            "base": duration_ms(self.base),
            "cap": duration_ms(self.cap),
            "jitter": self.jitter,
        }
        return facts | {name: list(types) for name in ("on", "never") if (types := getattr(self, name))}

    @staticmethod
    def from_json(facts: Json) -> "Retry":
        """Read what `to_json` wrote."""
        return Retry(
            attempts=facts["attempts"],
            backoff=facts.get("backoff", "exponential"),
            base=facts.get("base", 1000) / 1000,
            cap=facts.get("cap", 3_600_000) / 1000,
            jitter=facts.get("jitter", 0.1),
            on=tuple(facts.get("on", ())),
            never=tuple(facts.get("never", ())),
        )


class Policy(Facts):
    """How one invocation is done; None and empty mean: not said."""

    retry: Retry | None = None
    timeout_ms: int | None = None
    on_crash: OnCrash | None = None
    cwd: str | None = None
    env: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        timeout: object = self.timeout_ms
        if timeout is not None and (not isinstance(timeout, int) or not 0 < timeout <= LONGEST_MS):
            raise UsageError("a timeout must be longer than nothing, and at most a thousand years")
        if self.on_crash not in (None, "retry", "fail"):
            raise UsageError(f"on_crash is 'retry' or 'fail', not {self.on_crash!r}")
        cwd: object = self.cwd
        if cwd is not None and (not isinstance(cwd, str) or not cwd):
            raise UsageError(f"cwd is the name of a folder, not {self.cwd!r}")
        for name, value in self.env.items():
            if not name or "=" in name or "\0" in name + value:
                raise UsageError(f"{name!r} cannot be the name of an environment variable, or its value has a NUL")

    def to_json(self) -> str | None:
        """The JSON text kept with the invocation; None when nothing was said."""
        facts = {
            "retry": self.retry and self.retry.to_json(),
            "timeout": self.timeout_ms,
            "on_crash": self.on_crash,
            "cwd": self.cwd,
            "env": dict(self.env) or None,
        }
        said = {name: value for name, value in facts.items() if value is not None}
        return json.dumps(said, ensure_ascii=False) if said else None

    @staticmethod
    def from_json(text: str | None) -> "Policy":
        """Read what `to_json` wrote; UsageError where somebody else wrote what cannot be meant."""
        if not text:
            return _UNSAID
        try:
            facts = json.loads(text)
            return Policy(
                retry=Retry.from_json(facts["retry"]) if "retry" in facts else None,
                timeout_ms=facts.get("timeout"),
                on_crash=facts.get("on_crash"),
                cwd=facts.get("cwd"),
                env=facts.get("env", {}),
            )
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise UsageError(f"the policy cannot be read: {error!r}") from error

    def or_else(self, declared: "Policy") -> "Policy":
        """This policy, with what it leaves unsaid taken from the one that the task declares."""
        return Policy(
            retry=self.retry or declared.retry,
            timeout_ms=self.timeout_ms or declared.timeout_ms,
            on_crash=self.on_crash or declared.on_crash,
            cwd=self.cwd or declared.cwd,
            env={**declared.env, **self.env},
        )


_UNSAID = Policy()


def type_names(types: ExceptionNames) -> tuple[str, ...]:
    """Qualified names of exception classes; those of builtins have no prefix."""
    return tuple(one if isinstance(one, str) else type_name(one) for one in types)
