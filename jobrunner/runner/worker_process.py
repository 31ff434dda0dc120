"""A worker as its runner sees it: a key that the template knows it by, a channel, and two streams of output."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from jobrunner import channel
from jobrunner.channel import Channel
from jobrunner.runner.running import Running


@dataclass(eq=False)
class WorkerProcess:
    """It starts with `open`, before the fork, and ends with `close`. `streams` maps descriptors to names."""

    key: int
    running: Running
    channel: Channel
    streams: dict[int, str]
    pid: int = 0

    @classmethod
    def open(cls, key: int, running: Running) -> tuple[Self, contextlib.AbstractContextManager[tuple[int, int, int]]]:
        """Our side, and a context that lends the worker's three descriptors; OSError where none are left."""
        with contextlib.ExitStack() as opened:
            ours, theirs = channel.pair()
            opened.callback(ours.close)
            opened.callback(theirs.close)
            pipes = [_pipe(opened), _pipe(opened)]
            opened.pop_all()
        streams = {pipes[0][0]: "stdout", pipes[1][0]: "stderr"}
        worker = cls(key, running, Channel(ours), streams)
        return worker, _lend(theirs.detach(), pipes[0][1], pipes[1][1])

    def close_stream(self, stream: int) -> None:
        """Nothing more comes out of it."""
        del self.streams[stream]
        os.close(stream)

    def close(self) -> None:
        """Close our side."""
        self.channel.close()
        for stream in list(self.streams):
            self.close_stream(stream)


def _pipe(opened: contextlib.ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    opened.callback(os.close, reader)
    opened.callback(os.close, writer)
    os.set_blocking(reader, False)
    return reader, writer


@contextlib.contextmanager
def _lend(*descriptors: int) -> Iterator[tuple[int, int, int]]:
    try:
        yield descriptors[0], descriptors[1], descriptors[2]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
