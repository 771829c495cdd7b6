"""The one graph: notebooks/notebooks.yaml, a stage for each combination of a notebook's parameters; make's rules."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import yaml

from vqad_lib.analysis.choice_list import measurements
from vqad_lib.data.datasets import available_schemes
from vqad_lib.experiment.run import configured
from vqad_lib.models.registry import AUTOENCODERS, PRIORS


@dataclass(frozen=True)
class Stage:
    """One execution of one notebook.

    Attributes:
        notebook: its stem, for example "02_train_autoencoder".
        parameters: what distinguishes this execution, for example {"autoencoder": "vqvae", "protocol": "paper"};
            "replicate" only where it is not 0.
        needs: names of the stages that it depends on.
        after: names of stages that come before it for the order's sake alone.
    """

    notebook: str
    parameters: dict[str, str]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Notebook and parameter values, for example "02_train_autoencoder_vqvae_paper", then "replicate1"."""
        values = (f"replicate{value}" if key == "replicate" else value for key, value in self.parameters.items())
        return "_".join([self.notebook, *values])

    @property
    def replicate(self) -> int:
        """How many seeds after the first one; see `make SEEDS=`."""
        return int(self.parameters.get("replicate", 0))


def notebook_table(root: Path) -> dict[str, dict]:
    """notebooks/notebooks.yaml: what each notebook depends on and makes."""
    return yaml.safe_load((root / "notebooks" / "notebooks.yaml").read_text(encoding="utf-8"))


def stages_by_target(root: Path, settings: dict[str, str]) -> dict[str, list[Stage]]:
    """All stages of a run, for make's targets "paper" and "fidelity".

    Args:
        root: of the repository.
        settings: see `last_run`.
    """
    profile = configured(settings["profile"], seed=settings["seed"], perceptual=settings["perceptual"])
    protocols = available_schemes(settings["dataset"])
    longest_first = sorted(profile.capacity.variants, key=math.prod, reverse=True)  # so that no core idles at the end
    values = {
        "autoencoder": AUTOENCODERS,
        "prior": PRIORS,
        "protocol": protocols,
        "replicate": map(str, range(int(settings.get("seeds", 1)))),
        "latent_dim/codebook_size": (f"{dim}/{size}" for dim, size in longest_first),
        "choice/protocol": map("/".join, measurements(profile, protocols)),
    }
    return expand(notebook_table(root), {axis: list(each) for axis, each in values.items()})


def expand(table: dict[str, dict], values: dict[str, list[str]]) -> dict[str, list[Stage]]:
    """The stages that a table of notebooks gives, by target.

    Args:
        table: of `notebook_table`.
        values: of each name in a `grid`; "16/32" for a name "a/b".
    """
    combinations = {notebook: _combinations(entry.get("grid", []), values) for notebook, entry in table.items()}

    def names(wanted: dict[str, dict], own: dict[str, str]) -> tuple[str, ...]:
        """Of the stages of some notebooks whose parameters agree with a stage's own, or with those that are given."""
        found = []
        for notebook, given in wanted.items():
            same = own | {key: str(value) for key, value in given.items()}
            agree = (c for c in combinations[notebook] if all(same.get(key, c[key]) == c[key] for key in c))
            found += [Stage(notebook, _told(combination)).name for combination in agree]
        return tuple(found)

    stages: dict[str, list[Stage]] = {}
    for notebook, entry in table.items():
        target = entry.get("target", "paper")
        needs, after = entry.get("needs", {}), entry.get("after", {})
        if after == "all":
            after = {n: {} for n, e in table.items() if e.get("target", "paper") == target and n != notebook}
        for own in combinations[notebook]:
            stages.setdefault(target, []).append(Stage(notebook, _told(own), names(needs, own), names(after, own)))
    # all of the first seed comes first
    return {target: sorted(found, key=lambda stage: stage.replicate) for target, found in stages.items()}


def _combinations(grid: list[str], values: dict[str, list[str]]) -> list[dict[str, str]]:
    """Parameters of each execution; the last name of a grid varies slowest."""
    names = [name for axis in grid for name in axis.split("/")]
    combinations = itertools.product(*(values[axis] for axis in reversed(grid)))
    return [dict(zip(names, "/".join(reversed(each)).split("/"), strict=bool(grid))) for each in combinations]


def _told(combination: dict[str, str]) -> dict[str, str]:
    """Parameters as names of stages have them: the first seed's are without a replicate."""
    return {key: value for key, value in combination.items() if (key, value) != ("replicate", "0")}


def make_rules(stages: Iterable[Stage], table: dict[str, dict]) -> str:
    """Rules for make: each stage's manifest, after its notebook and the manifests of those before it.

    $(M), $(STAGE) and $(EXTRAS_FOR_STAGES) are the Makefile's. A stage is looked at again
    once a package is there that it can do without.
    """
    rules = ""
    for stage in stages:
        packages = table[stage.notebook].get("packages", [])
        before = [f"notebooks/{stage.notebook}.ipynb", *(f"$(M)/{name}.json" for name in stage.needs)]
        before += ["$(EXTRAS_FOR_STAGES)"] if packages else []
        found = [spec.origin for spec in map(find_spec, packages) if spec and spec.origin]
        before += [origin.replace("$", "$$").replace(" ", "\\ ") for origin in found]
        before += ["|", *(f"$(M)/{name}.json" for name in stage.after)]
        options = [*(f"-p {key}={value}" for key, value in stage.parameters.items()), "--needs", *stage.needs]
        rules += f"$(M)/{stage.name}.json: {' '.join(before)}\n\t$(STAGE) {stage.notebook} {' '.join(options)}\n"
    return rules
