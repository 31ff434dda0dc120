"""The demo's tasks: what one file of Python source holds, and a job that needs three attempts."""

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from jobrunner import App, Retry, current

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where statements keep statements."""

app = App()  # the database that JOBRUNNER_DB names


class Survey(TypedDict):
    """What one file holds; `longest` names its longest function, of `longest_lines` lines, "" where it has none."""

    lines: int
    functions: int
    classes: int
    longest: str
    longest_lines: int


def survey(path: str) -> Survey:
    """Parse the file and count; what does not parse raises what `ast` raises."""
    source = Path(path).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old files have escapes that newer Pythons warn of
        nodes = list(_statements(ast.parse(source, filename=Path(path).name)))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    longest = max(functions, key=_length, default=None)
    return Survey(
        lines=len(source.splitlines()),
        functions=len(functions),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        longest=longest.name if longest else "",
        longest_lines=_length(longest) if longest else 0,
    )


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every statement, however deep; not the expressions, which hold no definitions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for block in BLOCKS:
            waiting += getattr(node, block, [])


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


@app.task
def survey_file(path: str) -> Survey:
    """The job of one file."""
    return survey(path)


@app.task(retry=Retry(attempts=3, backoff="constant", base="200ms"))
def succeed_at_last() -> str:
    """Fails twice, then succeeds."""
    attempt = current().attempt
    if attempt < 3:
        raise ConnectionError(f"attempt {attempt} finds nobody at home")
    return f"attempt {attempt} was heard"
