"""The mutated code of `make stress`: what is changed, by which tests it is tried, and what comes of it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.stress import mutants

MODULES = [
    path.relative_to(mutants.REPOSITORY).as_posix()
    for place in map(mutants.REPOSITORY.joinpath, mutants.MUTATED)
    for path in ([place] if place.is_file() else sorted(place.glob("[!_]*.py")))
]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_tests_and_those_of_its_own_come_first(module: str) -> None:
    tests = mutants.tests_of(module)
    assert all((mutants.REPOSITORY / test).is_file() for test in tests)
    assert tests[0].startswith(f"tests/unit/test_{module.split('/')[1]}_")


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, mutants.SURVIVED), (1, mutants.KILLED), (-11, mutants.KILLED), (99, mutants.BROKEN), (None, mutants.LATE)],
)
def test_only_a_green_run_is_a_survivor(code: int | None, outcome: str) -> None:
    change = {"path": "vqad_lib/losses/vq.py", "line": 2, "operator": "core/NumberReplacer"}
    row = mutants._row(change, "a = 1\n  b = 2\n", "a = 1\n  b = 3\n", code)
    assert (row["before"], row["after"], row["outcome"]) == ("b = 2", "b = 3", outcome)


def test_changes_are_those_of_the_code_as_it_is() -> None:
    pytest.importorskip("cosmic_ray", reason="make stress installs it")
    listed = mutants.changes()
    assert len(listed) > mutants.TRIED
    assert {change["path"] for change in listed} <= set(MODULES)
    for change in listed[::97]:
        before = (mutants.REPOSITORY / change["path"]).read_text(encoding="utf-8").splitlines()
        after = mutants._mutated(change).splitlines()
        changed = [number for number, (a, b) in enumerate(zip(before, after, strict=False), start=1) if a != b]
        assert changed, change
        assert changed[0] >= change["line"] or change["operator"].endswith("RemoveDecorator"), change
