"""The client for tests: an enqueued function runs at once, here, and what it raises is raised at the enqueue."""

import json
from collections.abc import Sequence

from jobrunner import execution, outputs, payload
from jobrunner.context import Current, enter, leave
from jobrunner.errors import InvocationNotFound, OutputMissing, UsageError
from jobrunner.models import InvocationId, Job, Json, LogPiece, Progress, Request, State
from jobrunner.status import Status
from jobrunner.times import now_ms


class InlineClient:
    """It starts with `app.inline()` and ends with it; it has no database and forgets all."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._results: list[str] = []
        self._progress: dict[int, Progress] = {}

    def enqueue(self, requests: Sequence[Request]) -> list[InvocationId]:
        """Run them one after the other; nothing is put off, but what a key that was used forbids is not run again."""
        ids: list[InvocationId] = []
        for request in requests:
            ids.append(self._earlier(request) or self._run(outputs.placed(request, ids)))
        return ids

    def enqueue_one(self, request: Request) -> InvocationId:
        """The same for one alone."""
        return self.enqueue([request])[0]

    def _earlier(self, request: Request) -> InvocationId | None:
        if request.unique_key is None or request.if_exists not in ("once", "throttle"):
            return None
        since = now_ms() - (request.window or 0) if request.if_exists == "throttle" else 0
        same = [job.id for job in self._jobs if job.unique_key == request.unique_key and job.created_at > since]
        return same[-1] if same else None

    def _run(self, request: Request) -> InvocationId:
        if request.kind != "function":
            raise UsageError("inline runs functions, not programs")
        args = self._with_results(request.args) if request.outputs else request.args
        job_id = InvocationId(len(self._jobs) + 1)
        now = now_ms()
        self._jobs.append(_job(job_id, request, now))
        self._results.append("null")
        here = Current(job_id, claim=1, attempt=1)
        token = enter(here)
        try:
            # The arguments and the result take the way through JSON that they take in earnest.
            returned = execution.call(execution.find(request.task).function, json.loads(args))
            self._results[job_id - 1] = payload.dump(returned, "result")
        except BaseException:
            self._jobs[job_id - 1] = self._jobs[job_id - 1]._replace(status=Status.FAILED, finished_at=now_ms())
            raise
        finally:
            leave(token)
            if here.said is not None:
                self._progress[job_id] = Progress(*here.said, now_ms())
        self._jobs[job_id - 1] = self._jobs[job_id - 1]._replace(status=Status.SUCCESS, finished_at=now_ms())
        return job_id

    def _with_results(self, args: str) -> str:
        wanted = outputs.wanted(args)
        for state in self.states(list(wanted)):
            if state.status is not Status.SUCCESS:
                raise OutputMissing(state.id, state.status)
        return outputs.filled(args, {one: self._results[one - 1] for one in wanted})

    def job(self, invocation_id: int) -> Job:
        """All facts of one invocation."""
        if not 1 <= invocation_id <= len(self._jobs):
            raise InvocationNotFound(invocation_id)
        return self._jobs[invocation_id - 1]

    def states(self, ids: Sequence[int]) -> list[State]:
        """Where these stand, in order."""
        return [State(job.id, job.status, job.attempts, job.reason) for job in map(self.job, ids)]

    def result(self, invocation_id: int) -> Json:
        """What it returned."""
        self.job(invocation_id)
        return json.loads(self._results[invocation_id - 1])

    def cancel(self, ids: Sequence[int], *, children: bool = False) -> list[InvocationId]:
        """Nothing: all is finished."""
        self.states(ids)
        return []

    def retry(self, ids: Sequence[int]) -> list[InvocationId]:
        """Nothing: a test enqueues again."""
        self.states(ids)
        return []

    def log(self, invocation_id: int, after: int = 0) -> list[LogPiece]:
        """Nothing: output goes where the caller's goes."""
        self.job(invocation_id)
        return []

    def progress(self, invocation_id: int) -> Progress | None:
        """What it last said of itself."""
        self.job(invocation_id)
        return self._progress.get(invocation_id)

    def counts(self) -> dict[Status, int]:
        """How many are in each status."""
        return {status: sum(job.status is status for job in self._jobs) for status in Status}

    def wait(self, ids: Sequence[int], timeout: float | None) -> list[State]:
        """All of them: they are final."""
        return self.states(ids)

    def await_result(self, invocation_id: int, timeout: float | None) -> Json:
        """Its result, at once."""
        self.wait([invocation_id], timeout)
        return self.result(invocation_id)

    async def wait_async(self, ids: Sequence[int], timeout: float | None) -> None:
        """They are final."""
        self.states(ids)


def _job(job_id: InvocationId, request: Request, now: int) -> Job:
    return Job(
        id=job_id,
        status=Status.RUNNING,
        kind=request.kind,
        task=request.task,
        args=request.args,
        queue=request.queue,
        priority=request.priority,
        label=request.label,
        unique_key=request.unique_key,
        parent=request.parent,
        policy=request.policy,
        attempts=1,
        crashes=0,
        claim=1,
        runner=None,
        created_at=now,
        run_at=request.run_at,
        expires_at=request.expires_at,
        started_at=now,
        finished_at=None,
        cancel_at=None,
        reason=None,
        error_type=None,
        error_message=None,
        outputs=request.outputs,
    )
