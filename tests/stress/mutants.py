"""Mutated code: of a change to what numbers come from, whether a test notices.

cosmic-ray says what can be changed, one place at a time: another operator or comparison, a number that is one more or
less, a condition turned round, a loop left out, a decorator removed. A sample of all such changes, drawn from a seed,
is tried in a copy of the repository, by the unit tests that name the module or its package, until one of them fails.

python tests/stress/mutants.py PLACE    a line of JSON for each; a process of its own, for it forks with torch imported
                                        and vqad_lib not
"""

import contextlib
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]
MUTATED = ("vqad_lib/detectors", "vqad_lib/evaluation", "vqad_lib/losses", "vqad_lib/models/quantiser.py")
TRIED, SEED = 200, 2026
KILLED, SURVIVED, LATE, BROKEN = "a test fails", "no test fails", "no end", "cannot be imported"
_LIMIT_S, _AT_A_TIME = 300.0, 2
_CHANGES = {  # of cosmic-ray's; bit operations in place of arithmetic fail at once, and would flatter
    "ReplaceBinaryOperator_": "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_Mul Pow_Mul BitAnd_BitOr BitOr_BitAnd",
    "ReplaceComparisonOperator_": "Lt_LtE LtE_Lt Gt_GtE GtE_Gt Lt_Gt Gt_Lt Eq_NotEq NotEq_Eq Is_IsNot IsNot_Is",
    "ReplaceUnaryOperator_": "Delete_Not Delete_USub Delete_Invert",
    "": "AddNot NumberReplacer ReplaceAndWithOr ReplaceOrWithAnd ReplaceTrueWithFalse ReplaceFalseWithTrue "
    "ZeroIterationForLoop ReplaceBreakWithContinue ReplaceContinueWithBreak RemoveDecorator ExceptionReplacer",
}
_THIRD_PARTY = ("torch", "torchvision", "transformers", "lpips", "pandas", "scipy.ndimage", "sklearn.metrics")
_THIRD_PARTY += ("matplotlib.pyplot", "hypothesis", "pytest", "pydantic", "safetensors.torch", "pyarrow.parquet", "cv2")
_LENGTHS = "equal lengths, by how they are made"
_TIES = "two areas are equal or differ by far more"
_AT_A_TIME_ONLY = "how many at a time, and no more"
# survivors that change nothing that could be seen, by the line as it becomes: why
EQUIVALENT = {
    'fine = F.interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)': "of four dimensions",
    'layers = [block[name]["vars"] for block, of in zip(blocks, names, strict=False) for name in of]': _LENGTHS,
    "named = zip(places, kernels, biases, strict=False)": _LENGTHS,
    'state = {f"features.{i}.{key}": x for i, *both in named for key, x in zip(("weight", "bias"), both, strict=False)}': _LENGTHS,  # noqa: E501
    "for heatmap, mask in zip(heatmaps, masks, strict=False):": "NumPy has refused other masks in the line before",
    'path = Path(torch.hub.get_dir()) / "checkpoints" / (HED_FILE if weights == "hed" else url.rsplit("/", 2)[-1])': "the last part is the same",  # noqa: E501
    "anomalous, normal = labels.sum(), (1 + labels).sum()": "all gains in proportion: no other choice among 15 of each class",  # noqa: E501
    "return self.batch.agreed(drawn - moved)": "the move has no sign",
    'return values.pin_memory().to(device, non_blocking=False) if device.type == "cuda" else values': "speed, on a GPU",
    "@dataclass(frozen=False)": "nothing writes to it",
    "return pd.concat(blocks, ignore_index=False)[order]": "the index is never looked at",
    'def train(self, mode: bool = False) -> "PerceptualLoss":  # noqa: ARG002': "it is ignored, and that is tested",
    "_TIE_DECIMALS = 11  # an area is a sum of floats: two that differ by less are equal": _TIES,
    "_TIE_DECIMALS = 13  # an area is a sum of floats: two that differ by less are equal": _TIES,
    "def encode_all(autoencoder: VQAutoencoder, images: Tensor, *, batch: int = 255) -> Tensor:": _AT_A_TIME_ONLY,
    "def encode_all(autoencoder: VQAutoencoder, images: Tensor, *, batch: int = 257) -> Tensor:": _AT_A_TIME_ONLY,
}


def rows(place: Path) -> pd.DataFrame:
    """A row for each change that was tried: module, line, change, before, after, outcome, why (of known survivors)."""
    line = [sys.executable, __file__, str(place)]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, cwd=REPOSITORY)
    found = pd.DataFrame([json.loads(text) for text in done.stdout.splitlines()])
    return found.assign(why=[EQUIVALENT.get(text, "") for text in found["after"]])


def changes() -> list[dict]:
    """All changes that there are, in a fixed order: path, operator, occurrence, and line (from 1)."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    names = [f"core/{kind}{name}" for kind, listed in _CHANGES.items() for name in listed.split()]
    found = []
    for start in MUTATED:
        place = REPOSITORY / start
        for path in [place] if place.is_file() else sorted(place.glob("*.py")):
            text = path.read_text(encoding="utf-8")
            tree, lines = get_ast(text), text.splitlines()
            for name in names:
                operator = get_operator(name)()
                places = [at for node in ast_nodes(tree) for at in operator.mutation_positions(node)]
                for occurrence, (begin, _end) in enumerate(places):
                    before = lines[begin[0] - 1][: begin[1]].rstrip()
                    if "_Mul_" in name and (not before or before.endswith((",", "(", "[", "{"))):
                        continue  # the * before arguments is no operator
                    change = {"path": path.relative_to(REPOSITORY).as_posix(), "operator": name}
                    found.append(change | {"occurrence": occurrence, "line": begin[0]})
    return found


def tests_of(path: str) -> list[str]:
    """The unit tests of a module: first those of its package by their names, then those that name the module."""
    parts = Path(path).with_suffix("").parts
    package, module = parts[1], ".".join(parts)
    known, others = [], []
    for test in sorted((REPOSITORY / "tests" / "unit").glob("test_*.py")):
        text = test.read_text(encoding="utf-8")
        named = module in text or f"from {'.'.join(parts[:-1])} import {parts[-1]}" in text
        if test.stem.startswith(f"test_{package}_") and (named or package != "models"):
            known.append((not named, test))
        elif named:
            others.append((True, test))
    return [test.relative_to(REPOSITORY).as_posix() for _, test in sorted(known) + others]


def _main(place: Path) -> None:
    for name in _THIRD_PARTY:
        importlib.import_module(name)
    copies = [_copied(place / str(number)) for number in range(_AT_A_TIME)]
    listed = changes()
    tried = random.Random(SEED).sample(listed, min(TRIED, len(listed)))  # noqa: S311
    print(f"mutants   {len(tried)} of {len(listed)} changes", file=sys.stderr, flush=True)
    plain = [{"path": path, "operator": ""} for path in sorted({change["path"] for change in tried})]
    left, running, started, done = plain + tried, {}, time.monotonic(), 0
    while left or running:
        while left and len(running) < _AT_A_TIME:
            copy = next(copy for copy in copies if copy not in [at for at, *_ in running.values()])
            change = left.pop(0)
            mutated = _mutated(change)
            (copy / change["path"]).write_text(mutated, encoding="utf-8")
            running[_start(copy, change["path"])] = copy, change, mutated, time.monotonic()
        for child, (copy, change, mutated, since) in list(running.items()):
            pid, status = os.waitpid(child, os.WNOHANG)
            late = time.monotonic() - since > _LIMIT_S
            if late and not pid:
                os.killpg(child, 9)
                os.waitpid(child, 0)
            if not (pid or late):
                continue
            del running[child]
            original = (REPOSITORY / change["path"]).read_text(encoding="utf-8")
            (copy / change["path"]).write_text(original, encoding="utf-8")
            code = os.waitstatus_to_exitcode(status) if pid else None
            if not change["operator"]:
                if code != 0:
                    sys.exit(f"tests of {change['path']} fail as it is: see {copy}/pytest.txt")
                continue
            done += 1
            print(json.dumps(_row(change, original, mutated, code)), flush=True)
            if done % 20 == 0:
                rate = (time.monotonic() - started) / done
                print(
                    f"mutants   {done} tried, {rate * (len(tried) - done) / 60:.0f} min left",
                    file=sys.stderr,
                    flush=True,
                )
        time.sleep(0.05)


def _row(change: dict, original: str, mutated: str, code: int | None) -> dict:
    pairs = zip(original.splitlines(), mutated.splitlines(), strict=False)
    before, after = next(((a, b) for a, b in pairs if a != b), ("", ""))
    outcome = {None: LATE, 0: SURVIVED, 99: BROKEN}.get(code, KILLED)
    kept = {"module": change["path"], "line": change["line"], "change": change["operator"].removeprefix("core/")}
    return kept | {"before": before.strip(), "after": after.strip(), "outcome": outcome}


def _mutated(change: dict) -> str:
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    code = (REPOSITORY / change["path"]).read_text(encoding="utf-8")
    if not change["operator"]:
        return code
    return mutate_code(code, get_operator(change["operator"])(), change["occurrence"])


def _start(copy: Path, path: str) -> int:
    """A child that runs the module's tests in a copy; its exit status is pytest's, or 99 if there is nothing to run."""
    tests = tests_of(path)
    if child := os.fork():
        return child
    code = 1
    try:
        os.setsid()
        os.chdir(copy)
        with open("pytest.txt", "w", encoding="utf-8") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.environ |= {"VQAD_ROOT": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(copy.parent)}
        sys.dont_write_bytecode = True
        sys.path[:] = [str(copy), *(entry for entry in sys.path if entry not in ("", str(REPOSITORY)))]
        code = 99
        with contextlib.suppress(Exception):
            importlib.import_module(".".join(Path(path).with_suffix("").parts))
            code = 1
        if code == 1:
            import pytest

            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *tests]))
    finally:
        os._exit(code)


def _copied(copy: Path) -> Path:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, copy / name)
    return copy


if __name__ == "__main__":
    _main(Path(sys.argv[1]).resolve())
