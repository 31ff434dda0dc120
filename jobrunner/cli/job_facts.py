"""A job as facts for programs."""

import json

from jobrunner import outputs
from jobrunner.masking import hide_call
from jobrunner.models import Attempt, Job, Json
from jobrunner.times import iso


def hidden(job: Job) -> Job:
    """The job with the secrets among its arguments and in its environment replaced."""
    task, args, policy = hide_call(job.kind, job.task, job.args, job.policy)
    return job._replace(task=task, args=args, policy=policy)


def facts(job: Job) -> dict[str, Json]:
    """All that its row tells, whole; times in UTC."""
    return {
        "id": job.id,
        "status": job.status.value,
        "kind": job.kind,
        "task": job.task,
        "args": parsed(job.args),
        "outputs": bool(job.outputs),
        "queue": job.queue,
        "priority": job.priority,
        "label": job.label,
        "key": job.unique_key,
        "parent": job.parent,
        "schedule": job.schedule,
        "batch": job.batch,
        "policy": parsed(job.policy),
        "attempts": job.attempts,
        "crashes": job.crashes,
        "claim": job.claim,
        "runner": job.runner,
        "created_at": iso(job.created_at),
        "run_at": iso(job.run_at),
        "expires_at": iso(job.expires_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "cancel_at": iso(job.cancel_at),
        "reason": job.reason,
        "error": error(job.error_type, job.error_message),
    }


def attempt_facts(attempt: Attempt) -> dict[str, Json]:
    """What was measured of an attempt; times in UTC."""
    times = {"started_at": iso(attempt.started_at), "finished_at": iso(attempt.finished_at)}
    return attempt._asdict() | times


def error(kind: str | None, message: str | None) -> Json:
    """The error, if there is one."""
    return None if kind is None else {"type": kind, "message": message}


def error_line(job: Job) -> str | None:
    """The error in a line, if there is one, and the job has not succeeded all the same."""
    if job.error_type is None or job.status == "success":
        return None
    return f"{job.error_type}: {job.error_message}"


def parsed(text: str | None) -> Json:
    """JSON as it is kept; as text where it was written by hand and Python cannot read it."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def command_line(job: Job) -> str:
    """Task and arguments in a line, as one would type them."""
    args = parsed(job.args)
    if job.kind == "shell":
        return job.task
    if job.kind == "command" and isinstance(args, list):
        import shlex

        return shlex.join([job.task, *(str(word) for word in args)])
    if isinstance(args, dict):
        return " ".join([job.task, *(f"{name}={_value(job, value)}" for name, value in args.items())])
    return f"{job.task} {_value(job, args) if job.outputs else job.args or ''}".rstrip()


def _value(job: Job, value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return outputs.shown(text) if job.outputs else text
