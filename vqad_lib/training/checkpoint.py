"""The checkpoint format: a folder per epoch with weights (safetensors), optimiser and random state, and history.

A folder is written under a temporary name and renamed when it is whole; `latest.json` then points at it, and only then
does the previous one go. A killed run therefore always finds one complete checkpoint, or none.
"""

import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from vqad_lib.errors import VqadError
from vqad_lib.files import first_line, read_json, write_bytes, write_json


@dataclass
class TrainingState:
    """What a run needs to go on exactly where it stood."""

    networks: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    epoch: int = 0
    history: list[dict[str, float]] | None = None


def save_checkpoint(folder: Path, state: TrainingState) -> None:
    """Write `folder/epoch_NNNN/` and point `folder/latest.json` at it.

    Raises:
        VqadError: the folder cannot be written or the disk is full; the previous checkpoint stays.
    """
    name = f"epoch_{state.epoch:04d}"
    temporary = folder / f".{name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for network, module in state.networks.items():
            write_bytes(temporary / f"{network}.safetensors", weights_bytes(module))
        random_state = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random_state["cuda"] = torch.cuda.get_rng_state()
        buffer = io.BytesIO()
        optimisers = {key: optimiser.state_dict() for key, optimiser in state.optimisers.items()}
        torch.save({"optimisers": optimisers, "random_state": random_state}, buffer)
        write_bytes(temporary / "optimisers.pt", buffer.getvalue())
        write_json(temporary / "progress.json", {"epoch": state.epoch, "history": state.history or []})
        shutil.rmtree(folder / name, ignore_errors=True)
        os.replace(temporary, folder / name)
        write_json(folder / "latest.json", {"checkpoint": name})
    except OSError as error:
        raise VqadError(
            f"cannot write {folder / name}: {error.strerror}; free space or make the folder writable, then run again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for other in folder.glob("epoch_*"):
        if other.name != name:
            shutil.rmtree(other, ignore_errors=True)


def load_checkpoint(folder: Path, state: TrainingState, *, device: torch.device) -> bool:
    """Fill `state` from the newest complete checkpoint; False, and nothing changed, where there is none.

    Raises:
        VqadError: a file of the checkpoint is damaged or does not fit; the message names the folder to delete.
    """
    if not (folder / "latest.json").exists():
        return False
    newest = folder
    try:
        newest = folder / read_json(folder / "latest.json")["checkpoint"]
        for network, module in state.networks.items():
            module.load_state_dict(load_file(newest / f"{network}.safetensors", device=str(device)))
        saved = torch.load(newest / "optimisers.pt", map_location="cpu", weights_only=True)
        for key, optimiser in state.optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][key])
        torch.set_rng_state(saved["random_state"]["cpu"])
        if torch.cuda.is_available() and "cuda" in saved["random_state"]:
            torch.cuda.set_rng_state(saved["random_state"]["cuda"])
        progress: dict[str, Any] = read_json(newest / "progress.json")
        state.epoch, state.history = progress["epoch"], progress["history"]
    except Exception as error:  # unpickling fails in many ways; each means the same to the user
        raise VqadError(
            f"the checkpoint in {newest} is damaged ({first_line(error)}); delete {folder} to train anew"
        ) from error
    return True


def remove_checkpoints(folder: Path) -> None:
    """Delete what a finished run no longer needs; the pointer first, so that no half-deleted checkpoint is loaded."""
    (folder / "latest.json").unlink(missing_ok=True)
    for checkpoint in folder.glob("epoch_*"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def weights_bytes(module: nn.Module) -> bytes:
    """A module's state as the bytes of a safetensors file."""
    return save({key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()})


def load_weights(path: Path, module: nn.Module) -> None:
    """Fill a module from a safetensors file.

    Raises:
        VqadError: the file is absent, damaged, or of another architecture.
    """
    try:
        module.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise VqadError(
            f"cannot load weights from {path}: {first_line(error)}; delete its folder to train anew"
        ) from error
