"""Every combination of documented settings of an autoencoder's training takes a step and leaves finite weights."""

import dataclasses
import itertools

import pytest
import torch

from vqad_lib.config import AutoencoderConfig, GanConfig, TrainingConfig
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.discriminator import PatchDiscriminator
from vqad_lib.training.autoencoders import GanTraining, vqvae_objectives
from vqad_lib.training.batches import Batches
from vqad_lib.training.loop import Objective, fit

CODEBOOK = list(itertools.product(("gradient", "running_average"), (False, True), (False, True)))
LOSSES = list(itertools.product(("log", "hinge"), ("squared", "absolute"), ("mean", "sum"), ("commitment", "codebook")))


def step(folder, config: AutoencoderConfig, gan: GanConfig | None, *, precision: str, compiled: bool = False) -> None:
    torch.manual_seed(0)
    model = VQAutoencoder(config)
    objectives: list[Objective]
    if gan is None:
        objectives = vqvae_objectives(model, config)
    else:
        judge = PatchDiscriminator(channels=gan.discriminator_channels, layers=gan.discriminator_layers)
        objectives = GanTraining(model, judge, None, autoencoder=config, gan=gan).objectives()
    if compiled:
        for objective in objectives:
            objective.network.compile(backend="aot_eager")  # captured as on a GPU, without minutes of code generation
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = Batches(torch.randint(0, 256, (4, 3, 16, 16)).byte(), batch_size=4, seed=0, shuffle=False)
    training = TrainingConfig(
        learning_rate=1e-3,
        batch_size=4,
        max_epochs=1,
        validate_every_epochs=1,
        patience=5,
        precision=precision,
        compile=compiled,
        adam_betas=(0.5, 0.9),
        final_learning_rate_factor=1.0,
    )
    fit(objectives, train=images, validation=images, config=training, folder=folder, device=torch.device("cpu"))
    after = model.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    assert all(value.dtype == before[key].dtype for key, value in after.items())
    assert not torch.equal(after["quantiser.codebook"], before["quantiser.codebook"])


def changed(config: AutoencoderConfig, update: str, restart: bool, from_data: bool) -> AutoencoderConfig:
    choice = {"codebook_update": update, "restart_dead_codes": restart, "codebook_init_from_data": from_data}
    return dataclasses.replace(config, **choice)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("update", "restart", "from_data"), CODEBOOK)
def test_codebook_under_every_precision(
    tmp_path, autoencoder_config, gan_config, update, restart, from_data, precision
) -> None:
    config = changed(autoencoder_config, update, restart, from_data)
    step(tmp_path / "vqvae", config, None, precision=precision)
    step(tmp_path / "vqgan", config, dataclasses.replace(gan_config, discriminator_start_epoch=1), precision=precision)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("adversarial", "reconstruction", "reduction", "beta_scales"), LOSSES)
def test_losses_under_every_precision(
    tmp_path, autoencoder_config, gan_config, adversarial, reconstruction, reduction, beta_scales, precision
) -> None:
    choice = {"reconstruction": reconstruction, "loss_reduction": reduction, "beta_scales": beta_scales}
    gan = dataclasses.replace(gan_config, discriminator_start_epoch=1, adversarial=adversarial)
    step(tmp_path, dataclasses.replace(autoencoder_config, **choice), gan, precision=precision)


def test_compiled_with_all_that_moves_the_codebook(tmp_path, autoencoder_config) -> None:
    config = changed(autoencoder_config, "running_average", True, True)
    step(tmp_path, config, None, precision="bfloat16", compiled=True)
