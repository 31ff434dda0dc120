"""Messages between processes arrive whole."""

import os
import signal
import threading
import time

from jobrunner import channel
from jobrunner.channel import Channel

LONG = "x" * (1 << 20)
"""More than a socket has room for."""


def test_a_signal_in_the_middle_of_a_message_with_descriptors_does_not_cut_it() -> None:
    came = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: came.set())
    ours, theirs = (Channel(end) for end in channel.pair())
    read: list[channel.Message] = []

    def disturb_and_read() -> None:
        time.sleep(0.2)  # by now there is no room, and the sender waits
        os.kill(os.getpid(), signal.SIGUSR1)
        came.wait()
        read.extend([theirs.receive(), theirs.receive()])

    reader = threading.Thread(target=disturb_and_read)
    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        reader.start()
        ours.send_with([descriptor], "spawn", LONG)
        ours.send("next")
        reader.join(30)
        assert read == [["spawn", LONG], ["next"]]
        (received,) = theirs.take_descriptors(1)
        os.close(received)
    finally:
        os.close(descriptor)
        ours.close()
        theirs.close()
        signal.signal(signal.SIGUSR1, before)
