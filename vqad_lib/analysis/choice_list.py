"""What `make fidelity` measures, from choices.yaml in data/paper, and what `make ablation` does.

It is quick to import, for the graph of stages asks for the names.

`vqad_lib.analysis.choices` and `vqad_lib.analysis.ablation` measure.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqad_lib.config import Profile
from vqad_lib.files import read_yaml

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
        networks: the autoencoder and the prior that are trained or scored.
    """

    name: str
    matter: str
    paper: str
    published: str
    default: str
    other: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    networks: tuple[str, str] = ("vqgan", "gpt2")


def choices(profile: Profile, *kinds: str) -> dict[str, Choice]:
    """Choices that a profile allows, by name.

    Args:
        kinds: "readings" of the same scores, "trained": they shape a network, so that one has to be trained for each,
            "restorations": one set of restorations serves all of them; all by default.
    """
    listed = read_yaml(LIST)
    entries = {name: entry for kind in kinds or listed for name, entry in listed[kind].items()}
    found = {name: _choice(profile, name, **entry) for name, entry in entries.items()}
    return {name: choice for name, choice in found.items() if choice.default != choice.other}


def _choice(profile: Profile, name: str, *, change: dict | None = None, **about: Any) -> Choice:
    changes, sides = {}, {}
    for key, value in (change or {}).items():
        own = operator.attrgetter(key)(profile)
        changes[key] = _changed(own, value)
        sides = {"default": _text(own), "other": _text(changes[key])}  # of several keys the list says it in words
    about = {key: text.format(**vars(profile)) if isinstance(text, str) else text for key, text in about.items()}
    return Choice(name=name, changes=changes, **sides | about)


def _changed(own: Any, value: Any) -> Any:
    if isinstance(value, list):
        return next(one for one in value if one != own)
    if isinstance(value, str) and value.startswith("times "):
        return type(own)(max(own * float(value.removeprefix("times ")), 1 if isinstance(own, int) else 0))
    return value


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def measurements(profile: Profile, schemes: tuple[str, ...]) -> list[tuple[str, str]]:
    """(choice, scheme) of each stage of `make fidelity`.

    What needs no autoencoder or one prior alone is measured under every scheme; the others, which are expensive, on the
    clip-disjoint one, "official", where the data set has it.
    """
    cheap = (RESTORATION, "random_second_half")
    disjoint = "official" if "official" in schemes else schemes[-1]
    pairs = [(name, scheme) for name in cheap for scheme in schemes]
    return pairs + [(name, disjoint) for name in choices(profile, "trained") if name not in cheap]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of `make ablation`: an autoencoder, and what is changed in the profile, key -> value."""

    title: str
    autoencoder: str = "vqgan"
    changes: Mapping[str, Any] = field(default_factory=dict)


def variants(profile: Profile) -> dict[str, Variant]:
    """The VQ-VAE, the VQ-GAN as the profile has it, and the VQ-GAN with one part changed, by name.

    What is as the profile has it anyway is left out, and so is what is not to be had for its perceptual network.
    """
    gan, last = profile.gan, profile.training.vqgan.max_epochs
    weights, game, start = (f"gan.{key}" for key in ("perceptual_weights", "adversarial", "discriminator_start_epoch"))
    other = "log" if gan.adversarial == "hinge" else "hinge"
    changed = {
        "no_perceptual": ("VQ-GAN without the perceptual loss", {weights: "none"}),
        "random_perceptual": ("VQ-GAN, perceptual network with random weights", {weights: "random"}),
        "hed_perceptual": ("VQ-GAN, perceptual network with weights from edges", {weights: "hed"}),
        other: (f"VQ-GAN, {other} adversarial loss", {game: other}),
        "early_game": ("VQ-GAN, adversarial loss from the first epoch", {start: 1}),
        "late_game": ("VQ-GAN, adversarial loss in the second half", {start: last // 2 + 1}),
        "no_game": ("VQ-GAN without the adversarial loss", {start: last + 1}),
    }
    if gan.perceptual_network != "vgg":  # there are none of another network
        del changed["hed_perceptual"]
    found = {"vqvae": Variant(title="VQ-VAE", autoencoder="vqvae"), "vqgan": Variant(title="VQ-GAN")}
    for name, (title, changes) in changed.items():
        if any(operator.attrgetter(key)(profile) != value for key, value in changes.items()):
            found[name] = Variant(title=title, changes=changes)
    return found
