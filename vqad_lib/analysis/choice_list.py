"""What `make fidelity` measures, from choices.yaml in data/paper; quick to import, for the Makefile asks for the names.

`vqad_lib.analysis.choices` measures.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vqad_lib.config import Profile

LIST = Path(__file__).resolve().parents[2] / "data" / "paper" / "choices.yaml"
RESTORATION = "restoration"  # the one measurement that serves all choices about restorations


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One choice; everything else is equal on its two sides.

    Attributes:
        name: of files and rows.
        matter, paper, published: what is chosen, what the paper's text says, what its published code does.
        default, other: the two sides in words.
        changes: what the other side changes in the profile, key -> value.
        base: what both sides change, where the profile's own values would hide the effect.
        autoencoder, prior: the combination that is trained or scored.
    """

    name: str
    matter: str
    paper: str
    published: str
    default: str
    other: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    autoencoder: str = "vqgan"
    prior: str = "gpt2"

    @property
    def key(self) -> str:
        """The profile's key or keys, "" where there is none."""
        return ", ".join(self.changes)


def choices(profile: Profile, kind: str) -> dict[str, Choice]:
    """Choices that a profile allows, by name.

    Args:
        kind: "readings" of the same scores, "trained": they shape a network, so that one has to be trained for each,
            or "restorations": one set of restorations serves all of them.
    """
    listed = yaml.safe_load(LIST.read_text(encoding="utf-8"))[kind]
    found = {name: _choice(profile, name, **entry) for name, entry in listed.items()}
    return {name: choice for name, choice in found.items() if choice.default != choice.other}


def _choice(
    profile: Profile, name: str, *, change: dict | None = None, networks: tuple = ("vqgan", "gpt2"), **texts: Any
) -> Choice:
    own = {key: operator.attrgetter(key)(profile) for key in change or {}}
    changes = {key: _changed(own[key], value) for key, value in (change or {}).items()}
    sides = {"default": [*own.values()], "other": [*changes.values()]}
    texts = {side: _text(*values) for side, values in sides.items() if len(values) == 1} | texts
    texts = {key: text.format(**vars(profile)) if isinstance(text, str) else text for key, text in texts.items()}
    autoencoder, prior = networks
    return Choice(name=name, changes=changes, autoencoder=autoencoder, prior=prior, **texts)


def _changed(own: Any, value: Any) -> Any:
    if isinstance(value, list):
        return next(one for one in value if one != own)
    if isinstance(value, str) and value.startswith("times "):
        return type(own)(max(own * float(value.removeprefix("times ")), 1 if isinstance(own, int) else 0))
    return value


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def every_choice(profile: Profile) -> dict[str, Choice]:
    """All choices that a row of the table is about."""
    return {
        name: one for kind in ("readings", "trained", "restorations") for name, one in choices(profile, kind).items()
    }


def measurements(profile: Profile, schemes: tuple[str, ...]) -> list[tuple[str, str]]:
    """(choice, split) of each stage of `make fidelity`.

    What needs no autoencoder or one prior alone is measured on every split; the others, which are expensive, on the
    clip-disjoint one, "official", where the data set has it.
    """
    cheap = (RESTORATION, "random_second_half")
    disjoint = "official" if "official" in schemes else schemes[-1]
    pairs = [(name, scheme) for name in cheap for scheme in schemes]
    return pairs + [(name, disjoint) for name in choices(profile, "trained") if name not in cheap]
