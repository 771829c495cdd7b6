"""Baselines: pixel statistics against NumPy, the backbone's weights, Anomalib's two where it is installed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision

from vqad_lib.baselines.anomalib_models import anomalib_version, dfkde_scores, ganomaly_scores, pca_components
from vqad_lib.baselines.pixel_statistics import pixel_statistics_scores
from vqad_lib.config import profile_from_mapping
from vqad_lib.errors import VqadError
from vqad_lib.losses.pretrained import DFKDE, pretrained

CPU = torch.device("cpu")
needs_anomalib = pytest.mark.skipif(not anomalib_version(), reason="anomalib is not installed")


def frames(n: int, *, size: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, size, size), dtype=np.uint8)


# -- per-pixel mean and variance -------------------------------------------------------------------------------------


def test_pixel_statistics_against_numpy():
    training, queries = frames(300), frames(5, seed=1)
    training[:, :, 0, 0] = 7  # never changes: the floor counts
    found = pixel_statistics_scores(training, queries, variance_floor=2.0)
    variance = np.maximum(training.var(axis=0, dtype=np.float64), 2.0)
    expected = [np.mean((query - training.mean(axis=0, dtype=np.float64)) ** 2 / variance) for query in queries]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_pixel_statistics_by_hand():
    training = np.array([10, 14], dtype=np.uint8).reshape(2, 1, 1, 1).repeat(3, 1)  # mean 12, variance 4
    query = np.array([12, 18], dtype=np.uint8).reshape(2, 1, 1, 1).repeat(3, 1)
    assert pixel_statistics_scores(training, query, variance_floor=1.0).tolist() == [0.0, 9.0]
    assert pixel_statistics_scores(training, query, variance_floor=9.0).tolist() == [0.0, 4.0]


def test_pixel_statistics_refuse():
    assert pixel_statistics_scores(frames(2), frames(0), variance_floor=1.0).shape == (0,)
    for training, wrong in ((2, frames(2, size=5)), (2, frames(2).astype(float)), (0, frames(2))):
        with pytest.raises(ValueError, match="uint8"):
            pixel_statistics_scores(frames(training), wrong, variance_floor=1.0)


# -- the backbone of DFKDE -------------------------------------------------------------------------------------------


def test_random_weights_follow_the_seed():
    def first() -> torch.Tensor:
        torch.manual_seed(3)
        return pretrained("resnet18", "random", setting=DFKDE).conv1.weight

    assert torch.equal(first(), first())


def test_weights_of_a_file(tmp_path):
    network = torchvision.models.resnet18()
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    loaded = pretrained("resnet18", str(tmp_path / "resnet18.pth"), setting=DFKDE)
    assert torch.equal(loaded.fc.weight, network.fc.weight)


@pytest.mark.parametrize("content", [None, b"no weights", {"wrong": torch.zeros(1)}])
def test_unusable_weights_are_one_line_that_names_the_setting(tmp_path, content):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(VqadError, match=r"^baselines\.dfkde\.weights: .*weights\.pth") as caught:
        pretrained("resnet18", str(path), setting=DFKDE)
    assert "\n" not in str(caught.value)


def test_failed_download_is_one_line_that_names_the_setting(tmp_path, monkeypatch):
    def offline(*_arguments, **_options):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(VqadError, match=r"cannot download .* resnet50.* no route to host; set baselines\.dfkde"):
        pretrained("resnet50", "imagenet", setting=DFKDE)


def test_cached_weights_that_are_broken_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url.split("/")[-1]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(VqadError, match=r"^baselines\.dfkde\.weights: .*delete it and run again") as caught:
        pretrained("resnet18", "imagenet", setting=DFKDE)
    assert str(file) in str(caught.value)


# -- Anomalib's two --------------------------------------------------------------------------------------------------


def bright_ones(n: int, *, level: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-20, 21, (n, 1, 32, 32))
    return np.clip(level + noise, 0, 255).astype(np.uint8).repeat(3, 1)


@needs_anomalib
def test_ganomaly_scores_are_finite_and_repeatable(profile_mapping):
    config = profile_from_mapping(profile_mapping, source="test").baselines.ganomaly
    training, queries = bright_ones(9, level=100, seed=0), bright_ones(5, level=100, seed=1)
    options = {"config": config, "device": CPU}
    state = torch.random.get_rng_state()
    first, again = (ganomaly_scores(training, queries, seed=1, **options) for _ in range(2))
    other = ganomaly_scores(training, queries, seed=2, **options)
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's random state is left alone"
    assert first.shape == (5,)
    assert first.dtype == np.float64
    assert np.isfinite(first).all()
    assert (first >= 0).all()
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    with pytest.raises(VqadError, match="at least two training frames"):
        ganomaly_scores(training[:1], queries, seed=1, **options)


@needs_anomalib
@pytest.mark.parametrize("layer", ["layer4", "features"])
def test_dfkde_is_minus_the_log_of_anomalibs_density(profile_mapping, monkeypatch, layer):
    """Where Anomalib's density does not vanish its logarithm is ours; far off ours still tells frames apart."""
    from anomalib.models.components.classification import KDEClassifier

    config = replace(profile_from_mapping(profile_mapping, source="test").baselines.dfkde, pca_components=2)
    if layer == "features":
        config = replace(config, backbone="vgg16")
    training, near = bright_ones(20, level=100, seed=0), bright_ones(6, level=100, seed=1)
    far = np.concatenate([bright_ones(1, level=level, seed=2) for level in (0, 255)])
    fitted = []
    fit = KDEClassifier.fit
    monkeypatch.setattr(KDEClassifier, "fit", lambda self, features: fitted.append(self) or fit(self, features))
    scores = dfkde_scores(training, np.concatenate([near, far]), config=config, seed=1, device=CPU)
    assert scores.shape == (8,)
    assert scores[6:].min() > scores[:6].max(), "what was never seen is stranger"

    torch.manual_seed(1)
    backbone = pretrained(config.backbone, config.weights, setting=DFKDE).eval().requires_grad_(False)
    mean, sd = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    features = {}
    getattr(backbone, layer).register_forward_hook(lambda _m, _i, out: features.update(out=out.mean((2, 3))))
    backbone((torch.from_numpy(near).float() / 255 - mean) / sd)
    theirs = fitted[0].compute_kde_scores(features["out"], as_log_likelihood=True)
    np.testing.assert_allclose(scores[:6], -theirs.numpy(), rtol=1e-3, atol=1e-3)


@needs_anomalib
@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_images_are_enough(profile_mapping, n):
    """README promises that five images of each class will do; of five, three or four are trained on."""
    config = profile_from_mapping(profile_mapping, source="test").baselines
    training, queries = bright_ones(n, level=100, seed=0), bright_ones(3, level=200, seed=1)
    deep = replace(config.dfkde, pca_components=64)
    for scores in (
        dfkde_scores(training, queries, config=deep, seed=0, device=CPU),
        ganomaly_scores(training, queries, config=config.ganomaly, seed=0, device=CPU),
    ):
        assert scores.shape == (3,)
        assert np.isfinite(scores).all()


def test_as_many_components_as_images_allow():
    assert [pca_components(8, n) for n in (2, 8, 9, 100)] == [1, 7, 8, 8]


@needs_anomalib
def test_dfkde_refuses_a_single_frame(profile_mapping):
    config = profile_from_mapping(profile_mapping, source="test").baselines.dfkde
    with pytest.raises(VqadError, match="Dfkde needs at least two training frames, got 1"):
        dfkde_scores(frames(1), frames(2), config=config, seed=0, device=CPU)
