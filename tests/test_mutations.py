"""Planted faults are noticed; `scripts/test --mutations` plants all of them."""

from pathlib import Path

import pytest

import jobrunner
from tests.helpers.processes import ROOT, run_python
from tests.mutations import gate


def test_what_is_tested_is_the_package_beside_the_tests(folder: Path) -> None:
    beside = ROOT / "jobrunner" / "__init__.py"
    assert Path(jobrunner.__file__) == beside
    done = run_python(folder, "import jobrunner; print(jobrunner.__file__)")
    assert done.stdout.strip() == str(beside), done.stderr


@pytest.mark.parametrize("fault", gate.faults(), ids=lambda fault: fault.name)
def test_each_fault_can_be_planted(fault: gate.Fault) -> None:
    assert gate.planted(fault)


def test_a_fault_whose_place_is_gone_is_told() -> None:
    gone = gate.Fault("gone", [gate.Edit("schema.sql", "what is not there", "")], [])
    with pytest.raises(gate.NotPlanted, match="0 times"):
        gate.planted(gone)


@pytest.mark.heavy
@pytest.mark.timeout(gate.SECONDS + 20)
@pytest.mark.parametrize("instead", ["pytest.skip('not here')", "assert False, 'no fixture'"])
def test_a_test_that_cannot_be_run_is_none_that_has_not_noticed(instead: str) -> None:
    fixture = gate.Edit("tests/test_locks.py", "    make_file(path)\n", f"    {instead}\n")
    with pytest.raises(gate.NotPlanted, match="cannot be run, so that it cannot notice"):
        gate.judge(gate.Fault("a fixture that fails", [fixture], ["tests/test_locks.py"]))


@pytest.mark.heavy
@pytest.mark.timeout(gate.SECONDS + 20)
def test_where_nothing_is_planted_nothing_is_noticed() -> None:
    simulated = next(one for one in gate.faults() if one.quick).tests
    assert gate.judge(gate.Fault("nothing", [], simulated)).caught_by is None


@pytest.mark.heavy
@pytest.mark.timeout(gate.SECONDS + 20)
@pytest.mark.parametrize("fault", [one for one in gate.faults() if one.quick], ids=lambda fault: fault.name)
def test_a_planted_fault_is_noticed(fault: gate.Fault) -> None:
    assert gate.judge(fault).caught_by is not None
