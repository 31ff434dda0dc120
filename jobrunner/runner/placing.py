"""What a runner must know how to do, and what it may: the holes in the order that `base_runner` owns."""

from abc import ABC, abstractmethod

from jobrunner.runner.running import Running


class Placing(ABC):
    """Where work is placed, how it is signalled, and how it pauses."""

    @abstractmethod
    def _on_start(self) -> None:
        """Start the processes that work is placed in. Nothing is open yet."""

    @abstractmethod
    def _on_stop(self) -> None:
        """End every process that is left. Called however the loop ended."""

    @abstractmethod
    def _start(self, running: Running) -> None:
        """Place an attempt; OSError where no process can be had for it."""

    def _send_off(self) -> None:
        """All that this turn has to place is placed."""

    def _get_ready(self) -> None:
        """This turn is over; where nothing is done now, what comes next may be prepared."""

    @abstractmethod
    def _signal(self, running: Running, number: int) -> None:
        """Send a signal to the processes of an attempt, and to none else."""

    def _renew(self) -> None:
        """Load new code where HUP or a changed file asks for it, and take it when it is loaded; called once a turn."""

    def _code_is_new(self) -> None:
        """What is started from now on has the new code."""

    def _tend(self) -> None:
        """See to the processes that work is placed in; called once a turn."""

    def _has_news(self) -> bool:
        """Whether `_write_news` has something to tell."""
        return False

    def _write_news(self) -> None:
        """Inside the turn's transaction: write down what people want to see of this runner's processes."""

    def _news_are_written(self) -> None:
        """What `_write_news` wrote is committed."""

    @abstractmethod
    def _pause_waiting_process(self, running: Running) -> None:
        """It waits for others from now on, and is `paused` in the table: it may stop working."""

    @abstractmethod
    def _resume_waiting_process(self, running: Running) -> None:
        """What it waited for is final, and it is `resumed` in the table: it may go on. The answer follows."""

    @property
    @abstractmethod
    def max_parallel_slots(self) -> int:
        """How many invocations at a time."""
