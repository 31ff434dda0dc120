"""The tasks that are measured: they do nothing."""

from jobrunner import App

app = App()  # the database that JOBRUNNER_DB names
relaxed_app = App(relaxed=True)


@app.task
def noop() -> None:
    """Nothing."""


@relaxed_app.task
def relaxed_noop() -> None:
    """Nothing, enqueued without waiting for the disk."""
