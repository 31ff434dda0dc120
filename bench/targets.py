"""What is to be reached: figures beside others, with bounds."""

from typing import NamedTuple

from bench.measure import Figures


class Target(NamedTuple):
    """A figure over another, or less another, or by itself; a bound begins with >= or <."""

    words: str
    figure: str
    beside: str = ""
    bound: str = ""
    how: str = "/"

    def of(self, figures: Figures) -> float | None:
        """Its value in a round; None where something was not measured."""
        if self.figure not in figures or (self.beside and not figures.get(self.beside)):
            return None
        value, other = figures[self.figure], figures.get(self.beside, 1.0)
        if self.how == "-":
            return value - other
        return value / other if self.beside else value

    def reached(self, value: float) -> bool | None:
        """None where there is no bound."""
        if not self.bound:
            return None
        sign, number = self.bound.split()
        return value >= float(number) if sign == ">=" else value < float(number)


TARGETS = (
    Target("drain, thread mode / huey, best", "drain_thread", "huey_best", ">= 15"),
    Target("drain, thread mode / huey, fsync=False, best", "drain_thread", "huey_best_unsafe", ">= 5"),
    Target("drain, thread mode / claim + finish in batches of 100", "drain_thread", "raw_claim_finish", ">= 0.4"),
    Target("drain, process mode / fork + task + result, no database", "drain_process", "raw_task_template", ">= 0.85"),
    Target("drain, process mode / fork + exit + wait", "drain_process", "raw_fork_template", ">= 0.5"),
    Target("drain, process mode / huey, best", "drain_process", "huey_best"),
    Target("drain, process mode / RQ", "drain_process", "rq_drain", ">= 7"),
    Target("enqueue one by one / commits of one row, FULL", "enqueue_full", "raw_full_schema", ">= 0.8"),
    Target("the same, relaxed / NORMAL", "enqueue_relaxed", "raw_normal_schema", ">= 0.7"),
    Target("enqueue_many / rows in bulk", "enqueue_many", "raw_bulk_schema", ">= 0.35"),
    Target("enqueue --jsonl / rows in bulk", "enqueue_jsonl", "raw_bulk_schema"),
    Target("commits of one row, FULL, our schema / plain table", "raw_full_schema", "raw_full"),
    Target("commits of one row, NORMAL, our schema / plain table", "raw_normal_schema", "raw_normal"),
    Target("rows in bulk, our schema / plain table", "raw_bulk_schema", "raw_bulk"),
    Target("enqueue to result, thread mode, idle, p50: ms", "latency_thread_p50", bound="< 1.5"),
    Target("enqueue to result, thread mode, p50 / huey", "latency_thread_p50", "huey_latency_p50", "< 0.2"),
    Target("the same in process mode / huey", "latency_process_p50", "huey_latency_p50"),
    Target("enqueue to result, process mode, less a raw fork: ms", "latency_process_p50", "raw_fork_ms", "< 2", "-"),
    Target("wake of a waiter, thread mode, p50: ms", "wake_thread_p50", bound="< 2"),
    Target("wake of a waiter, process mode, p50: ms", "wake_process_p50", bound="< 2"),
    Target("claim + record, full file / empty", "grown_full", "grown_empty", ">= 0.85"),
    Target("drain, thread mode, full file / empty", "drain_full", "drain_empty"),
    Target("jobs that keep a processor busy, 2 processes / 1", "burn_two", "burn_one", ">= 1.85"),
    Target("status, full file, beyond the start: ms", "status_full", bound="< 300"),
    Target("list, full file, beyond the start: ms", "list_full", bound="< 300"),
    Target("show, full file, beyond the start: ms", "show_full", bound="< 300"),
    Target("idle runner with its template: % of a core", "idle_cpu", bound="< 0.5"),
    Target("idle runner with its template: bytes written", "idle_written", bound="< 1"),
    Target("runner, 1,000,000 queued less 1,000: MB", "memory_many", "memory_few", "< 10", "-"),
    Target("CPU: jobrunner enqueue -- true / import typer, apsw", "command_cpu", "imports_cpu", "< 1.3"),
)
