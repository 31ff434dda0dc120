"""Enqueues a job that does nothing every few milliseconds until it is terminated: python -m bench.load MILLISECONDS."""

import sys
import time

from bench import tasks


def main() -> None:
    """Until the signal comes."""
    pause = float(sys.argv[1]) / 1000
    while True:
        tasks.noop.enqueue()
        time.sleep(pause)


if __name__ == "__main__":
    main()
