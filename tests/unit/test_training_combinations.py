"""Every combination of the keys that shape a training step takes one; autocast rounds its losses and no more."""

import dataclasses
import itertools
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vqad_lib.config import Profile, TrainingConfig, profile_from_mapping
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.discriminator import PatchDiscriminator
from vqad_lib.models.registry import PRIORS
from vqad_lib.training.loop import Batches, Objective, fit
from vqad_lib.training.objectives import GanTraining, prior_objectives, vqvae_objectives

AUTOENCODER = {
    "codebook_update": ["gradient", "running_average"],
    "codebook_init_from_data": [False, True],
    "restart_dead_codes": [False, True],
    "reconstruction": ["squared", "absolute"],
    "loss_reduction": ["mean", "sum"],
}


@pytest.fixture
def profile(profile_mapping: dict) -> Profile:
    return profile_from_mapping(profile_mapping, source="test")


@pytest.fixture
def images() -> Tensor:
    return torch.randint(256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def gan_objectives(profile: Profile, adversarial: str) -> list[Objective]:
    """A VQ-GAN that plays from the first epoch; its loss contains that of a VQ-VAE."""
    torch.manual_seed(0)
    model, judge = VQAutoencoder(profile.autoencoder), PatchDiscriminator(channels=4, layers=1)
    gan = dataclasses.replace(profile.gan, adversarial=adversarial, discriminator_start_epoch=1)
    return GanTraining(model, judge, None, autoencoder=profile.autoencoder, gan=gan).objectives()


def losses_of_one_step(objectives: list[Objective], items: Tensor, config: TrainingConfig) -> dict[str, float]:
    """Losses of the first step and of the validation after it; each network must have moved."""
    networks = {objective.name: objective.network for objective in objectives}
    before = {name: [p.detach().clone() for p in network.parameters()] for name, network in networks.items()}
    batches = Batches(items, batch_size=len(items), seed=0, shuffle=False)
    options = {"config": dataclasses.replace(config, max_epochs=1), "device": torch.device("cpu")}
    with tempfile.TemporaryDirectory() as folder:
        row = fit(objectives, train=batches, validation=batches, folder=Path(folder), **options).iloc[0].to_dict()
    for name, network in networks.items():
        moved = [not torch.equal(old, new) for old, new in zip(before[name], network.parameters(), strict=True)]
        assert sum(moved) > 0.8 * len(moved), name  # hinge leaves the last bias alone at first
        assert all(p.isfinite().all() for p in network.parameters()), name
    return {key: value for key, value in row.items() if key.startswith(("train_", "validation_"))}


def check_both_precisions(objectives: list[list[Objective]], items: Tensor, config: TrainingConfig) -> None:
    exact, rounded = (
        losses_of_one_step(one, items, dataclasses.replace(config, precision=precision))
        for one, precision in zip(objectives, ("float32", "bfloat16"), strict=True)
    )
    assert exact.keys() == rounded.keys()
    assert exact != rounded, "autocast did nothing"
    name = objectives[0][0].name
    key = {"vqgan": "train_vqgan_reconstruction"}.get(name, f"train_{name}_loss")
    assert rounded[key] == pytest.approx(exact[key], rel=0.05)


@pytest.mark.parametrize("adversarial", ["log", "hinge"])
@pytest.mark.parametrize("update", AUTOENCODER["codebook_update"])
def test_every_combination_of_autoencoder_keys_takes_a_step(
    profile: Profile, images: Tensor, update: str, adversarial: str
) -> None:
    for values in itertools.product([update], *list(AUTOENCODER.values())[1:]):
        config = dataclasses.replace(profile.autoencoder, **dict(zip(AUTOENCODER, values, strict=True)))
        changed = dataclasses.replace(profile, autoencoder=config)
        check_both_precisions([gan_objectives(changed, adversarial) for _ in range(2)], images, profile.training.vqgan)


@pytest.mark.parametrize("changes", [{}, {"attention_grid": "half"}, {"random_second_half": True}])
def test_priors_take_a_step(profile: Profile, changes: dict[str, object]) -> None:
    codes = torch.randint(8, (4, 4, 4), generator=torch.Generator().manual_seed(0))
    for kind in PRIORS:
        config = getattr(profile, kind)
        if not changes.keys() <= {field.name for field in dataclasses.fields(config)}:
            continue
        changed = dataclasses.replace(profile, **{kind: dataclasses.replace(config, **changes, dropout=0.0)})
        objectives = []
        for _ in range(2):
            torch.manual_seed(0)
            objectives.append(prior_objectives(kind, PRIORS[kind].make(changed, (4, 4))))
        check_both_precisions(objectives, codes, getattr(profile.training, kind))


@pytest.mark.parametrize("adversarial", [None, "log"])
def test_traced_networks_take_the_same_step_under_autocast(
    profile: Profile, images: Tensor, adversarial: str | None
) -> None:
    codebook = {"codebook_update": "running_average", "restart_dead_codes": True}
    changed = dataclasses.replace(profile, autoencoder=dataclasses.replace(profile.autoencoder, **codebook))
    bfloat16 = dataclasses.replace(profile.training.vqvae, precision="bfloat16")
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        vqvae = vqvae_objectives(VQAutoencoder(changed.autoencoder), changed.autoencoder)
        objectives = gan_objectives(changed, adversarial) if adversarial else vqvae
        for objective in objectives if compiled else ():
            # the code that a compiler would then be given, which itself would take minutes
            objective.network.compile(backend="aot_eager")
        row = losses_of_one_step(objectives, images, bfloat16)
        # a vector midway between two codes may change sides by a rounding: the usage of four images tells nothing
        losses.append({key: value for key, value in row.items() if not key.endswith(("codes_used", "perplexity"))})
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
