"""The one graph: notebooks/notebooks.yaml, a stage for each combination of a notebook's parameters; make's rules."""

import dataclasses
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from vqad_lib.analysis.choice_list import measurements, variants
from vqad_lib.data.datasets import available_schemes
from vqad_lib.experiment.run import configured
from vqad_lib.files import read_yaml
from vqad_lib.models.registry import AUTOENCODERS, PRIORS


@dataclass(frozen=True)
class Stage:
    """One execution of one notebook.

    Attributes:
        notebook: its stem, for example "02_train_autoencoder".
        parameters: what distinguishes this execution, for example {"autoencoder": "vqvae", "scheme": "paper"};
            "replicate" is "0" for the first seed.
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
        first = [value for key, value in self.parameters.items() if key != "replicate"]
        return "_".join([self.notebook, *first, *([f"replicate{self.replicate}"] if self.replicate else [])])

    @property
    def replicate(self) -> int:
        """How many seeds after the first one; see `make SEEDS=`."""
        return int(self.parameters.get("replicate", 0))


def notebook_table(root: Path) -> dict[str, dict]:
    """notebooks/notebooks.yaml: what each notebook depends on and makes."""
    return read_yaml(root / "notebooks" / "notebooks.yaml")


def stages_by_target(root: Path, settings: dict[str, str]) -> dict[str, list[Stage]]:
    """All stages of a run, for make's targets "paper", "fidelity", "ablation" and "beyond".

    A notebook is left out if a section of the profile that it names is null there.

    Args:
        root: of the repository.
        settings: see `last_run`.
    """
    profile = configured(settings["profile"], seed=settings["seed"], perceptual=settings["perceptual"])
    schemes = available_schemes(settings["dataset"])
    sizes = profile.capacity.variants if profile.capacity else ()
    longest_first = sorted(sizes, key=math.prod, reverse=True)  # so that no core idles at the end
    values = {
        "autoencoder": AUTOENCODERS,
        "prior": PRIORS,
        "scheme": schemes,
        "replicate": map(str, range(int(settings.get("seeds", 1)))),
        "latent_dim/codebook_size": (f"{dim}/{size}" for dim, size in longest_first),
        "choice/scheme": map("/".join, measurements(profile, schemes)),
        "variant": variants(profile),
    }
    left_out = {field.name for field in dataclasses.fields(profile) if getattr(profile, field.name) is None}
    table = {name: of for name, of in notebook_table(root).items() if left_out.isdisjoint(of.get("profile", []))}
    return expand(table, {axis: list(each) for axis, each in values.items()})


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
            found += [Stage(notebook, combination).name for combination in agree]
        return tuple(found)

    stages: dict[str, list[Stage]] = {}
    for notebook, entry in table.items():
        target = entry.get("target", "paper")
        needs, after = entry.get("needs", {}), entry.get("after", {})
        if after == "all":
            after = {n: {} for n, e in table.items() if e.get("target", "paper") == target and n != notebook}
        for own in combinations[notebook]:
            stages.setdefault(target, []).append(Stage(notebook, own, names(needs, own), names(after, own)))
    # all of the first seed comes first
    return {target: sorted(found, key=lambda stage: stage.replicate) for target, found in stages.items()}


def _combinations(grid: list[str], values: dict[str, list[str]]) -> list[dict[str, str]]:
    """Parameters of each execution; the last name of a grid varies slowest."""
    names = [name for axis in grid for name in axis.split("/")]
    combinations = itertools.product(*(values[axis] for axis in reversed(grid)))
    return [dict(zip(names, "/".join(reversed(each)).split("/"), strict=bool(grid))) for each in combinations]


def make_rules(stages: dict[str, list[Stage]], table: dict[str, dict], settings: dict[str, str]) -> str:
    """What make includes: PROFILE, RESULTS, STARTED, the stages of each target, and a rule for each stage.

    make executes the stages that have no manifest, each after those before it; `forget_stale` has seen to that. $(M),
    $(STAGE) and $(EXTRAS_FOR_STAGES) are the Makefile's. A stage is executed again once packages come for it.
    """
    rules = "".join(f"override {key.upper()} := {settings[key]}\n" for key in ("profile", "results", "started"))
    for target, of_target in stages.items():
        rules += f"override STAGES_OF_{target.upper()} := {' '.join(stage.name for stage in of_target)}\n"
    for stage in itertools.chain(*stages.values()):
        extras = "$(EXTRAS_FOR_STAGES) " if table[stage.notebook].get("packages") else ""
        before = " ".join(f"$(M)/{name}.json" for name in (*stage.needs, *stage.after))
        rules += f"$(M)/{stage.name}.json: {extras}| {before}\n\t$(STAGE) {stage.name}\n"
    return rules
