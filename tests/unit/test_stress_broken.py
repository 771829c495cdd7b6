"""Some of the broken inputs of `make stress`; and that an attempt which goes wrong is not taken for a good one."""

import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from vqad_lib.errors import VqadError

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.stress import broken

EVERY = 40


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it reads none the less
def test_some_of_all_kinds_of_broken_input(tmp_path: Path) -> None:
    cases = list(broken.cases(tmp_path))
    assert len(cases) > 4000
    assert len({(case.kind, case.name) for case in cases}) == len(cases)
    of_kind = defaultdict(list)
    for case in cases:
        of_kind[case.kind].append(case)
    some = [case for found in of_kind.values() for case in found[::EVERY]]
    found = {case.name: broken.outcome(case, tmp_path / str(number)) for number, case in enumerate(some)}
    assert {name: outcome for name, outcome in found.items() if outcome not in broken.GOOD} == {}
    assert min(Counter(found.values())[outcome] for outcome in broken.GOOD) > 5


def say(*words: str) -> None:
    raise VqadError(*words)


def leave_something(folder: Path) -> bool:
    (folder / ".x.1.part.txt").touch()
    return True


@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [
        (lambda _: True, broken.RIGHT),
        (lambda _: False, "wrong result"),
        (lambda _: say("picture.png is cut off"), broken.ERROR),
        (lambda _: say("something is cut off"), "names nothing: something is cut off"),
        (lambda _: {}["x"], "traceback: KeyError: 'x'"),
        (lambda _: time.sleep(9), "hangs for 1 s"),
        (leave_something, "left behind: ['.x.1.part.txt']"),
    ],
)
def test_what_goes_wrong_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt, outcome: str) -> None:
    monkeypatch.setattr(broken, "ALLOWED_S", 1)
    case = broken.Case("frames", "a case", attempt, ("picture.png",))
    assert broken.outcome(case, tmp_path / "case") == outcome
    assert not (tmp_path / "case").exists()
