"""One step of each network at the paper's size, compiled and in bfloat16 as profile `paper` has it, without a GPU.

Minutes and some 8 GB each: `make stress`.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vqad_lib.config import load_profile
from vqad_lib.models.registry import AUTOENCODERS, PRIORS
from vqad_lib.training.loop import Batches, fit
from vqad_lib.training.objectives import AUTOENCODER_OBJECTIVES, prior_objectives

PROFILE = Path(__file__).resolve().parents[2] / "profiles" / "paper.yaml"
IMAGES = 2

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(3600),
]


@pytest.mark.parametrize("kind", [*AUTOENCODERS, *PRIORS])
def test_one_step(kind: str, tmp_path: Path) -> None:
    profile = load_profile(PROFILE)
    profile = replace(profile, gan=replace(profile.gan, perceptual_weights="random"))  # the same network, no download
    config = replace(getattr(profile.training, kind), max_epochs=1)
    assert config.compile
    assert config.precision == "bfloat16"
    torch.manual_seed(0)
    side = profile.data.image_size_px
    grid = (side // 2 ** (len(profile.autoencoder.channels) - 1),) * 2
    if kind in AUTOENCODERS:
        model = AUTOENCODERS[kind].make(profile).to(memory_format=torch.channels_last)
        objectives = AUTOENCODER_OBJECTIVES[kind](model, profile)
        items = torch.randint(256, (IMAGES, 3, side, side), dtype=torch.uint8)
    else:
        objectives = prior_objectives(kind, PRIORS[kind].make(profile, grid))
        items = torch.randint(profile.autoencoder.codebook_size, (IMAGES, *grid))
    before = [p.detach().clone() for objective in objectives for p in list(objective.network.parameters())[:4]]
    for objective in objectives:
        objective.network.compile()
    batches = Batches(items, batch_size=IMAGES, seed=0, shuffle=False)
    options = {"config": config, "folder": tmp_path, "device": torch.device("cpu")}
    row = fit(objectives, train=batches, validation=batches, **options).iloc[0]
    after = [p for objective in objectives for p in list(objective.network.parameters())[:4]]
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert row[f"train_{objectives[0].name}_loss"] > 0
