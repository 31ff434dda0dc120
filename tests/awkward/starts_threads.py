"""Starts a thread while it is imported, which must not be carried into a template."""

import threading

held = threading.Lock()
started = threading.Event()


def hold() -> None:
    with held:
        started.set()
        threading.Event().wait()


threading.Thread(target=hold, daemon=True).start()
started.wait()


def thread_is_alive() -> bool:
    return threading.active_count() == 2
