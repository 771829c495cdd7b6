"""The same start for every test; small shared fixtures: a profile mapping, tiny networks with weights that matter."""

import copy
import gc
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from matplotlib import pyplot as plt
from torch import Tensor, nn

from vqad_lib.config import AutoencoderConfig, GanConfig, profile_from_mapping
from vqad_lib.models.prior import Prior
from vqad_lib.models.registry import PRIORS

REPOSITORY = Path(__file__).resolve().parents[1]
TESTS_OWN = ("VQAD_TEST_", "VQAD_PAPER_")
# what make, torchrun, SLURM, git's hooks and a proxy leave in a shell; the commands that tests start would read it too
OTHERS = ("VQAD_", "MAKE", "MFLAGS", "GNUMAKE", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "TORCHELASTIC_")
OTHERS += ("GIT_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "COLUMNS", "PYTHONWARNINGS")
# settings of the Makefile, which make hands on to `make test PYTEST_ARGS=...`
SETTINGS = re.search(r"foreach s,([A-Z_ ]+),", (REPOSITORY / "Makefile").read_text(encoding="utf-8"))[1].split()
for variable in list(os.environ):
    if (variable.upper().startswith(OTHERS) or variable in SETTINGS) and not variable.startswith(TESTS_OWN):
        del os.environ[variable]
os.environ["VQAD_ROOT"] = str(REPOSITORY)  # wherever pytest was started
mpl.rcdefaults()  # nobody's matplotlibrc
mpl.use("Agg")
torch.set_num_threads(1)
# the same examples each time, however slow the machine
settings.register_profile(
    "vqad", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("vqad")

GRID = (4, 5)  # not square, so that height and width cannot be taken for each other
CODEBOOK_SIZE = 7
ALL_PRIORS = [*PRIORS, "logits_alone"]

TINY_TRAINING: dict[str, Any] = {
    "learning_rate": 0.01,
    "batch_size": 5,
    "max_epochs": 4,
    "validate_every_epochs": 2,
    "patience": 5,
    "precision": "float32",
    "compile": False,
    "adam_betas": [0.5, 0.9],
    "final_learning_rate_factor": 0.5,
}

PROFILE: dict[str, Any] = {
    "name": "tiny",
    "about": "for the tests",
    "seed": 0,
    "expected_minutes": 1,
    "threads_per_stage": 1,
    "data": {
        "dataset": "synthetic",
        "image_size_px": 16,
        "input": "frame",
        "stack_step": 3,
        "flow_step": 1,
        "flow_window_share": 0.0,
        "flow_limit_px": 8.0,
        "split_seed": 0,
        "official_validation_clips": 1,
        "synthetic": {"train_clips": 2, "test_clips": 2, "frames_per_clip": 4, "seed": 0},
    },
    "autoencoder": {
        "channels": [4, 8],
        "residual_blocks": 1,
        "norm_groups": 2,
        "latent_dim": 4,
        "codebook_size": 8,
        "codebook_update": "gradient",
        "codebook_decay": 0.9,
        "codebook_init_from_data": False,
        "restart_dead_codes": False,
        "beta": 1.5,
        "beta_scales": "commitment",
        "reconstruction": "squared",
        "loss_reduction": "mean",
        "coverage": "none",
    },
    "gan": {
        "discriminator_channels": 4,
        "discriminator_layers": 1,
        "discriminator_start_epoch": 2,
        "discriminator_learning_rate_factor": 0.5,
        "adversarial": "log",
        "perceptual_network": "alex",
        "perceptual_weights": "none",
        "perceptual_weight": 0.5,
        "perceptual_crop_px": 0,
        "adaptive_delta": 1e-6,
        "adaptive_scale": 1.0,
        "adaptive_max": 1e4,
    },
    "pixelsnail": {
        "channels": 8,
        "blocks": 2,
        "residual_blocks": 2,
        "kernel_px": 3,
        "heads": 2,
        "key_dim": 4,
        "dropout": 0.1,
        "attention_grid": "whole",
    },
    "gpt2": {"layers": 2, "heads": 2, "width": 16, "dropout": 0.1, "random_second_half": False},
    "training": dict.fromkeys(("vqvae", "vqgan", "pixelsnail", "gpt2"), TINY_TRAINING),
    "detectors": {
        "threshold_percentiles": [20, 50, 90],
        "n_restorations": 2,
        "weights_over": "restorations",
        "weight_denominator": "mean",
        "weight_temperature": 1.0,
        "smooth_over": "pixels",
        "min_pool_px": 3,
        "average_pool_px": 7,
        "map_limit": float("inf"),
        "restoration_algorithm": "fast",
        "chunk_images": 4,
        "memory_budget_mb": 1,
    },
    "evaluation": {
        "bootstrap_resamples": 10,
        "bootstrap_seed": 0,
        "normal_quantile": 0.95,
        "unsupervised_percentile": 90,
    },
    "capacity": {
        "latent_dims": [2, 4],
        "codebook_sizes": [4, 8],
        "latent_dim": 4,
        "codebook_size": 8,
        "large_latent_dim": 8,
        "large_codebook_size": 16,
        "max_epochs": 1,
    },
    "speed": {"images": 4, "repeats": 2, "plain_seconds": 0.5},
    "baselines": {
        "ganomaly": {"epochs": 1, "learning_rate": 2e-4, "batch_size": 4, "features": 4, "latent_dim": 4},
        "dfkde": {"backbone": "resnet18", "weights": "random", "pca_components": 4, "max_training_points": 100},
        "pixel_variance_floor": 1.0,
    },
    "benchmarks": {
        "threads": 1,
        "images": 2,
        "n_restorations": [1, 2],
        "repeats": 1,
        "once_above_s": 10.0,
        "training_steps": 1,
        "curve_steps": 2,
        "curve_seeds": 2,
        "compile": False,
        "memory_images": [2, 4],
        "scaling_images": [1, 2],
        "scaling_grids": [2, 4],
    },
}


def pytest_collection_finish() -> None:
    """Leave what was imported out of the garbage collections to come, each of which would go through all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _on_disk_before_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No code of ours gives a file its final name before it is on the disk: a power cut would leave an empty one."""
    synced, fsync, replace = set(), os.fsync, os.replace

    def version(path: str | int) -> tuple:
        found = os.stat(path)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(version(descriptor))

    def watched_replace(source: Path, target: Path, **options: Any) -> None:
        ours = sys._getframe(1).f_globals["__name__"].partition(".")[0] in ("vqad_lib", "vqad", "beyond")
        aside = {Path(target).name, Path(target).suffix, Path(target).parent.name} & {"before", ".rejected", "failed"}
        if ours and not aside:  # what is moved out of the way may be half a file
            files = [path for path in [Path(source), *Path(source).rglob("*")] if path.is_file()]
            assert [path for path in files if version(path) not in synced] == []
        replace(source, target, **options)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """The same random numbers before each test, and nothing of it left behind: no test knows which ones ran before."""
    environment, folder = dict(os.environ), Path.cwd()
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    with mpl.rc_context():
        yield
    plt.close("all")
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    os.chdir(folder)
    if dict(os.environ) != environment:
        os.environ.clear()
        os.environ.update(environment)


@pytest.fixture
def profile_mapping() -> dict[str, Any]:
    """A mapping with every field of a profile, valid, and free to be changed by the test."""
    return json.loads(json.dumps(copy.deepcopy(PROFILE)))


@pytest.fixture
def autoencoder_config() -> AutoencoderConfig:
    """16x16 images, an 8x8 grid of 8 codes."""
    return AutoencoderConfig(**PROFILE["autoencoder"] | {"channels": (4, 8)})


@pytest.fixture
def gan_config() -> GanConfig:
    return GanConfig(**PROFILE["gan"])


class LogitsAlone(Prior):
    """All that a prior must have: the codes before a position, weighed by how far away they are."""

    def __init__(self) -> None:
        super().__init__()
        self.codebook_size, self.grid = CODEBOOK_SIZE, GRID
        n = GRID[0] * GRID[1]
        self.positions, self.codes = nn.Parameter(torch.randn(n, 7)), nn.Parameter(torch.randn(7, 7))
        ages = torch.arange(n)[:, None] - torch.arange(n)
        self.register_buffer("weights", (0.8**ages).tril(-1))

    def logits(self, codes: Tensor) -> Tensor:
        self.check(codes)
        return (self.positions + self.weights @ self.codes[codes.flatten(1)]).reshape(*codes.shape, CODEBOOK_SIZE)


def _tiny_prior(name: str) -> Prior:
    torch.manual_seed(5)
    if name == "logits_alone":
        return LogitsAlone().eval().requires_grad_(False)
    mapping = json.loads(json.dumps(PROFILE))
    mapping["autoencoder"]["codebook_size"] = CODEBOOK_SIZE
    prior = PRIORS[name].make(profile_from_mapping(mapping, source="conftest.py"), GRID)
    gain = 8.0 if name == "gpt2" else 1.6
    with torch.no_grad():  # fresh weights give nearly uniform codes, which would hide what depends on what
        for parameter in prior.parameters():
            if parameter.ndim > 1:
                parameter.mul_(gain)
    return prior.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_priors() -> dict[str, Prior]:
    """All priors over 4x5 grids of 7 codes, in evaluation mode; not to be changed by a test."""
    return {name: _tiny_prior(name) for name in ALL_PRIORS}


@pytest.fixture(params=ALL_PRIORS)
def tiny_prior(request: pytest.FixtureRequest, tiny_priors: dict[str, Prior]) -> Prior:
    """Each of them, in turn."""
    return tiny_priors[request.param]
