"""Checkpoints of a training that may be cut off, and the weights that a finished one leaves behind.

A checkpoint is one file, which takes the place of the previous one when it is whole: a killed run always finds a
complete checkpoint, or none.
"""

import io
import zipfile
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from vqad_lib.errors import VqadError
from vqad_lib.files import first_line, write_bytes

_NAME = "checkpoint.pt"
_DIGEST = "sha256"  # in the header of weights: of a file that holds them and nothing else


@dataclass
class TrainingState:
    """What a run needs to resume exactly where it stood."""

    networks: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(folder: Path, state: TrainingState) -> None:
    """Write `folder/checkpoint.pt`: networks, optimisers, random state, epoch and history.

    Raises:
        VqadError: the folder cannot be written or the disk is full; the previous checkpoint stays.
    """
    random_state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random_state["cuda"] = torch.cuda.get_rng_state()
    content = {
        "networks": {name: network.state_dict() for name, network in state.networks.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in state.optimisers.items()},
        "random_state": random_state,
        "epoch": state.epoch,
        "history": state.history,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(folder / _NAME, buffer.getvalue())


def load_checkpoint(folder: Path, state: TrainingState) -> bool:
    """Fill `state` from the checkpoint; False, and nothing changed, where there is none.

    Raises:
        VqadError: the checkpoint is damaged or does not fit; the message names the folder to delete.
    """
    path = folder / _NAME
    if not path.exists():
        return False
    try:
        with zipfile.ZipFile(path) as whole:  # torch.load does not look at the checksums in it
            if changed := whole.testzip():
                raise ValueError(f"{changed} is not as it was written")
        content = torch.load(path, map_location="cpu", weights_only=True)
        for name, network in state.networks.items():
            network.load_state_dict(content["networks"][name])
        for name, optimiser in state.optimisers.items():
            optimiser.load_state_dict(content["optimisers"][name])
        torch.set_rng_state(content["random_state"]["cpu"])
        if torch.cuda.is_available() and "cuda" in content["random_state"]:
            torch.cuda.set_rng_state(content["random_state"]["cuda"])
        state.epoch, state.history = content["epoch"], content["history"]
    except Exception as error:  # unpickling fails in many ways; each means the same to the user
        raise VqadError(
            f"the checkpoint {path} is damaged ({first_line(error)}); delete {folder} to train anew"
        ) from error
    return True


def remove_checkpoint(folder: Path) -> None:
    """Delete what a finished run no longer needs, and what kills left half-written."""
    for path in folder.glob("*checkpoint*.pt"):
        path.unlink()


def weights_bytes(module: nn.Module) -> bytes:
    """A module's state as the bytes of a safetensors file, which holds a digest of it."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    return save(tensors, metadata={_DIGEST: sha256(save(tensors)).hexdigest()})


def load_weights(path: Path, module: nn.Module) -> None:
    """Fill a module from a file of `weights_bytes`.

    Raises:
        VqadError: the file is absent, damaged, or of another architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no mapping
            if (file.metadata() or {}).get(_DIGEST) != sha256(save(tensors)).hexdigest():
                raise ValueError("it is not as it was written")
        module.load_state_dict(tensors)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise VqadError(
            f"cannot load weights from {path}: {first_line(error)}; delete its folder to train anew"
        ) from error
