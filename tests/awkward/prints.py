"""Prints while it is imported, and reads what nobody types."""

import sys

sys.stdout.write("hello from the import\n")
typed = sys.stdin.read()


def what_was_typed() -> str:
    return typed
