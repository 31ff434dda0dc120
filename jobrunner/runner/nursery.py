"""Where a template forks its workers: what they begin with is made ready, then they are forked in a row."""

import bisect
import os
from collections.abc import Sequence

from jobrunner import kernel
from jobrunner.models import Claimed
from jobrunner.runner import output_router
from jobrunner.runner.birth import Birth
from jobrunner.runner.marks import Mark
from jobrunner.runner.places import Order
from jobrunner.runner.ready import MEASURED, PLAIN, ready
from jobrunner.runner.variables import Variables
from jobrunner.runner.worker import JOB_VARIABLES, WORKER_VARIABLE, run_worker, worker_name
from jobrunner.worker_end import WorkerEnd

Span = tuple[int, int]


class Nursery:
    """It is there as long as its template."""

    def __init__(self, mine: tuple[int, int, int], name: kernel.OwnEnvironment, pass_env: list[str]) -> None:
        """`mine`: descriptors that no worker may have; `name`: what tells others who a process is."""
        self._stdin = os.open(os.devnull, os.O_RDONLY)
        self._mine = (*mine, self._stdin)
        self._place = name.memory
        self._pass_env = pass_env
        self._pid = os.getpid()
        self._of_worker = Variables(WORKER_VARIABLE)
        self._of_job = Variables(WORKER_VARIABLE, *JOB_VARIABLES)

    def fork(
        self, orders: Sequence[Order], marks: Sequence[Mark | None], foreign: Sequence[int]
    ) -> tuple[list[int], OSError | None]:
        """Fork workers for these; those with a mark begin when they are told to, and set it then.

        `foreign`: descriptors that are none of theirs. Gives their pids, fewer than the orders where an error says why.
        What a template writes to after a fork it has to copy, so nothing else is done in between.
        """
        births = self._births(orders, marks, foreign)
        pids: list[int] = []
        try:
            for birth in births:
                pid = os.fork()
                if pid == 0:
                    run_worker(birth)
                pids.append(pid)
        except OSError as error:
            return pids, error
        finally:
            for birth in births:
                birth.end.leave()
        return pids, None

    def _births(self, orders: Sequence[Order], marks: Sequence[Mark | None], foreign: Sequence[int]) -> list[Birth]:
        output_router.flush()
        output_router.rebind()
        self._of_worker.look()
        self._of_job.look()
        theirs = [descriptor for order in orders for descriptor in order.descriptors]
        spans = _spans([*self._mine, *foreign, *theirs])
        return [self._birth(order, mark, spans) for order, mark in zip(orders, marks, strict=True)]

    def _birth(self, order: Order, mark: Mark | None, spans: list[Span]) -> Birth:
        channel, stdout, stderr = order.descriptors
        name = worker_name(order.key)
        end = WorkerEnd(channel)
        verb = order.first[0] if order.first else ""
        is_job = verb in {PLAIN, MEASURED}
        claimed = Claimed(*order.first[1:]) if is_job else None
        numbers = map(str, claimed[:3]) if claimed is not None else ()
        return Birth(
            template=self._pid,
            streams=(self._stdin, stdout, stderr),
            foreign=_without(channel, spans),
            place=self._place,
            name=name.encode(),
            waits=None if order.is_spare else mark,
            variables=(self._of_job if is_job else self._of_worker).made(name, *numbers),
            end=end,
            first=order.first,
            ready=None if claimed is None else ready(claimed, end, measure=verb == MEASURED),
            pass_env=self._pass_env,
            spare=mark if order.is_spare else None,
        )


def _spans(descriptors: list[int]) -> list[Span]:
    """Them as few spans, each from its first to behind its last."""
    spans: list[Span] = []
    for one in sorted(descriptors):
        if spans and spans[-1][1] == one:
            spans[-1] = (spans[-1][0], one + 1)
        else:
            spans.append((one, one + 1))
    return spans


def _without(descriptor: int, spans: list[Span]) -> list[Span]:
    place = bisect.bisect(spans, (descriptor + 1, 0)) - 1
    first, behind = spans[place]
    parts = [(first, descriptor), (descriptor + 1, behind)]
    return [*spans[:place], *((low, high) for low, high in parts if low < high), *spans[place + 1 :]]
