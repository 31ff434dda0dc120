"""Where a template forks its workers: what they begin with is made ready, then they are forked in a row."""

import os
from collections.abc import Sequence

from jobrunner import kernel
from jobrunner.runner import output_router
from jobrunner.runner.birth import Birth
from jobrunner.runner.marks import Mark
from jobrunner.runner.places import Order
from jobrunner.runner.worker import run_worker, worker_name


class Nursery:
    """It is there as long as its template."""

    def __init__(self, mine: tuple[int, int, int], name: kernel.OwnEnvironment, pass_env: list[str]) -> None:
        """`mine`: descriptors that no worker may have; `name`: what tells others who a process is."""
        self._mine = mine
        self._name = name
        self._pass_env = pass_env
        self._pid = os.getpid()
        self._stdin = os.open(os.devnull, os.O_RDONLY)

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
        return pids, None

    def _births(self, orders: Sequence[Order], marks: Sequence[Mark | None], foreign: Sequence[int]) -> list[Birth]:
        output_router.flush()
        output_router.rebind()
        births = []
        for order, mark in zip(orders, marks, strict=True):
            others = (descriptor for one in orders if one is not order for descriptor in one.descriptors)
            channel, stdout, stderr = order.descriptors
            name = worker_name(order.key)
            births.append(
                Birth(
                    template=self._pid,
                    foreign=[*self._mine, *foreign, *others],
                    take_name=self._name.writer(name),
                    streams=(self._stdin, stdout, stderr),
                    waits=None if order.is_spare else mark,
                    name=name,
                    channel=channel,
                    first=order.first,
                    pass_env=self._pass_env,
                    spare=mark if order.is_spare else None,
                )
            )
        return births
