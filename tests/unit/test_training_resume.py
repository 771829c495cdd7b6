"""A run that was cut off and resumed gives the same bytes as an unbroken one; damaged checkpoints are named."""

import copy
import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from vqad_lib.config import AutoencoderConfig, GanConfig, Gpt2Config, PixelSnailConfig, TrainingConfig
from vqad_lib.errors import VqadError
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.discriminator import PatchDiscriminator
from vqad_lib.models.gpt2 import Gpt2
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.training import loop
from vqad_lib.training.checkpoint import TrainingState, load_checkpoint, load_weights, save_checkpoint, weights_bytes
from vqad_lib.training.loop import Batches, Losses, Objective, fit
from vqad_lib.training.objectives import GanTraining, prior_objectives, vqvae_objectives

KINDS = ["vqvae", "vqvae_running_average", "vqgan", "pixelsnail", "gpt2"]


class Cut(Exception):
    """Stands for the power going off."""


@pytest.fixture
def training(profile_mapping: dict) -> TrainingConfig:
    """Four epochs, a validation in every other one, and a learning rate that changes."""
    return TrainingConfig(**profile_mapping["training"]["gpt2"])


@pytest.fixture
def new_objectives(
    autoencoder_config: AutoencoderConfig, gan_config: GanConfig, profile_mapping: dict
) -> Callable[[str, int], list[Objective]]:
    """(kind, seed) -> fresh networks from that seed, and what trains them."""

    def make(kind: str, seed: int) -> list[Objective]:
        torch.manual_seed(seed)
        if kind == "gpt2":
            return prior_objectives(kind, Gpt2(Gpt2Config(**profile_mapping["gpt2"]), codebook_size=7, grid=(4, 5)))
        if kind == "pixelsnail":
            config = PixelSnailConfig(**profile_mapping["pixelsnail"])
            return prior_objectives(kind, PixelSnail(config, codebook_size=7, grid=(4, 5)))
        if kind == "vqgan":
            discriminator = PatchDiscriminator(channels=4, layers=1)
            model = VQAutoencoder(autoencoder_config)
            return GanTraining(model, discriminator, None, autoencoder=autoencoder_config, gan=gan_config).objectives()
        config = autoencoder_config
        if kind == "vqvae_running_average":  # draws random vectors while it trains
            changes = {
                "codebook_update": "running_average",
                "codebook_init_from_data": True,
                "restart_dead_codes": True,
            }
            config = dataclasses.replace(config, **changes)
        return vqvae_objectives(VQAutoencoder(config), config)

    return make


def batches_of(kind: str, n: int, *, shuffle: bool) -> Batches:
    generator = torch.Generator().manual_seed(n)
    if kind in ("pixelsnail", "gpt2"):
        items = torch.randint(7, (n, 4, 5), generator=generator)
    else:
        items = torch.randint(256, (n, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return Batches(items, batch_size=5, seed=0, shuffle=shuffle)


def train(kind: str, objectives: list[Objective], training: TrainingConfig, folder: Path) -> pd.DataFrame:
    return fit(
        objectives,
        train=batches_of(kind, 12, shuffle=True),
        validation=batches_of(kind, 6, shuffle=False),
        config=training,
        folder=folder,
        device=torch.device("cpu"),
    )


def cut_in(objectives: list[Objective], epoch: int, calls: int) -> list[Objective]:
    """The same objectives, whose last one fails at its given call in an epoch."""
    last, seen = objectives[-1], []

    def failing(batch: Tensor, now: int) -> Losses:
        seen.append(now)
        if seen.count(epoch) == calls:
            raise Cut
        return last.loss(batch, now)

    return [*objectives[:-1], dataclasses.replace(last, loss=failing)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_gives_the_bytes_of_an_unbroken_one(
    kind: str,
    new_objectives: Callable[[str, int], list[Objective]],
    training: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole_history = train(kind, new_objectives(kind, 1), training, tmp_path / "whole")
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1)
    broken = tmp_path / "broken"
    with pytest.raises(Cut):
        train(kind, cut_in(new_objectives(kind, 1), epoch=3, calls=2), training, broken)
    assert torch.load(broken / "checkpoint.pt", weights_only=True)["epoch"] == 2
    assert not (broken / "done.json").exists()
    history = train(kind, new_objectives(kind, 2), training, broken)  # another process, other first weights
    names = sorted(path.name for path in broken.glob("*.safetensors"))
    assert names == sorted(path.name for path in (tmp_path / "whole").glob("*.safetensors"))
    assert len(names) == (2 if kind == "vqgan" else 1)
    for name in names:
        assert (broken / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    pd.testing.assert_frame_equal(
        history.drop(columns="seconds"), whole_history.drop(columns="seconds"), check_exact=True
    )
    other = train(kind, new_objectives(kind, 2), training, tmp_path / "other")
    column = f"train_{Path(names[-1]).stem}_loss"
    assert not other[column].equals(history[column])  # the first weights do matter


def test_a_run_that_stopped_early_does_not_go_on_when_resumed(
    new_objectives: Callable[[str, int], list[Objective]],
    training: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut(*_args: object) -> None:
        raise Cut

    training = dataclasses.replace(training, patience=2, validate_every_epochs=1, max_epochs=30, learning_rate=0.02)
    history = train("gpt2", new_objectives("gpt2", 1), training, tmp_path / "whole")
    assert 3 <= len(history) < 30  # 12 random grids are learnt by heart
    with monkeypatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_EVERY_S", -1)
        patch.setattr(loop, "write_text", cut)  # between the weights and the end
        with pytest.raises(Cut):
            train("gpt2", new_objectives("gpt2", 1), training, tmp_path / "broken")
    again = train("gpt2", new_objectives("gpt2", 2), training, tmp_path / "broken")
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), history.drop(columns="seconds"), check_exact=True)
    weights = [(tmp_path / name / "gpt2.safetensors").read_bytes() for name in ("whole", "broken")]
    assert weights[0] == weights[1]


def test_a_finished_run_keeps_no_checkpoints(
    new_objectives: Callable[[str, int], list[Objective]],
    training: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1)
    (tmp_path / ".checkpoint.12.part.pt").write_text("left by a killed run")
    train("gpt2", new_objectives("gpt2", 1), training, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["curves.csv", "done.json", "gpt2.safetensors"]


# --- the checkpoint itself


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


def new_state(seed: int) -> TrainingState:
    torch.manual_seed(seed)
    network = Tiny()
    optimiser = torch.optim.Adam(network.parameters())
    network.layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return TrainingState({"tiny": network}, {"tiny": optimiser}, epoch=3, history=[{"epoch": 1.0, "loss": 0.1}])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "run", new_state(0))
    return tmp_path / "run"


def test_checkpoint_brings_back_weights_optimiser_random_state_and_history(tmp_path: Path) -> None:
    state = new_state(0)
    save_checkpoint(tmp_path, state)
    expected, draws = copy.deepcopy(state), torch.rand(5)
    other = new_state(1)
    other.epoch, other.history = 0, []
    assert load_checkpoint(tmp_path, other)
    assert torch.equal(torch.rand(5), draws)
    assert (other.epoch, other.history) == (3, [{"epoch": 1.0, "loss": 0.1}])
    for network in (other.networks["tiny"], expected.networks["tiny"]):
        network.zero_grad()
        network.layer(torch.ones(1, 2)).square().sum().backward()
    other.optimisers["tiny"].step()
    expected.optimisers["tiny"].step()
    assert weights_bytes(other.networks["tiny"]) == weights_bytes(expected.networks["tiny"])


def test_no_checkpoint_changes_nothing(tmp_path: Path) -> None:
    state = new_state(0)
    before = weights_bytes(state.networks["tiny"])
    assert not load_checkpoint(tmp_path / "nowhere", state)
    assert weights_bytes(state.networks["tiny"]) == before
    assert state.epoch == 3


@pytest.mark.parametrize("damage", ["empty", "half", "noise", "a bit"])
def test_damaged_checkpoint_names_the_folder_to_delete(saved: Path, damage: str) -> None:
    path = saved / "checkpoint.pt"
    content = path.read_bytes()
    # a bit of a weight, which torch.load takes as it comes
    at = content.index(new_state(0).networks["tiny"].layer.weight.detach().numpy().tobytes())
    flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    spoilt = {"empty": b"", "half": content[: len(content) // 2], "noise": b"\x93noise" * 50, "a bit": flipped}
    path.write_bytes(spoilt[damage])
    with pytest.raises(VqadError, match="is damaged") as caught:
        load_checkpoint(saved, new_state(1))
    assert f"delete {saved} to train anew" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_checkpoint_of_another_network_is_refused(saved: Path) -> None:
    state = new_state(1)
    state.networks["tiny"] = nn.Linear(3, 3)
    with pytest.raises(VqadError, match="is damaged"):
        load_checkpoint(saved, state)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_the_previous_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    previous, later = (saved / "checkpoint.pt").read_bytes(), new_state(5)
    later.epoch = 4
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(VqadError, match="No space left on device") as caught:
            save_checkpoint(saved, later)
        assert str(saved) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert [path.name for path in saved.iterdir()] == ["checkpoint.pt"]
    assert (saved / "checkpoint.pt").read_bytes() == previous
    save_checkpoint(saved, later)  # with space again
    resumed = new_state(6)
    assert load_checkpoint(saved, resumed)
    assert resumed.epoch == 4


def test_load_weights_refuses_absent_damaged_and_other_networks(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    with pytest.raises(VqadError, match=r"cannot load weights from .*tiny\.safetensors"):
        load_weights(path, Tiny())
    path.write_bytes(b"")
    with pytest.raises(VqadError, match="cannot load weights"):
        load_weights(path, Tiny())
    path.write_bytes(weights_bytes(nn.Linear(2, 2)))
    with pytest.raises(VqadError, match="delete its folder") as caught:
        load_weights(path, Tiny())
    assert "\n" not in str(caught.value)
    source, target = Tiny(), Tiny()
    written = weights_bytes(source)
    path.write_bytes(written[:-1] + bytes([written[-1] ^ 1]))
    with pytest.raises(VqadError, match="it is not as it was written; delete its folder"):
        load_weights(path, target)
    path.write_bytes(written)
    load_weights(path, target)
    assert torch.equal(source.layer.weight, target.layer.weight)
