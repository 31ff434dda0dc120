"""The table of faults in docs/guarantees.md names, for every fault, tests that there are, or says what is missing."""

import re
from typing import NamedTuple

import pytest

from tests.helpers.processes import ROOT


class Line(NamedTuple):
    fault: str
    promises: str
    tests: str


def table() -> list[Line]:
    text = (ROOT / "docs/guarantees.md").read_text().partition("## The faults, and the test of each")[2]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [Line(*row) for row in rows[1:]]


def test_the_table_has_every_fault_of_the_battery() -> None:
    assert len(table()) == len({line.fault for line in table()}) == 23


@pytest.mark.parametrize("line", table(), ids=lambda line: line.fault)
def test_each_fault_has_a_test_that_is_there_or_the_gap_is_told(line: Line) -> None:
    assert re.fullmatch(r"P\d+((, | to )P\d+)*", line.promises)
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", line.tests)
    assert named or "**not yet**: " in line.tests
    assert line.tests.count("`") == 2 * len(named), "what stands in `` is a test"
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), test
