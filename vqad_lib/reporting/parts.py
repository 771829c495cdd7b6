"""The parts of a live network, found by sending one grid of codes through it: names, shapes, parameters, words."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from vqad_lib.models.pixelsnail import CausalConv2d
from vqad_lib.models.prior import Prior


@dataclass(frozen=True)
class Part:
    """A module that ran.

    Attributes:
        module: the module itself.
        shape: of its output, without the batch.
        parameters: numbers in it and below it, as stored: a masked weight counts.
    """

    module: nn.Module
    shape: tuple[int, ...]
    parameters: int

    @property
    def size(self) -> str:
        """Shape and parameters in words."""
        shape = " × ".join(map(str, self.shape))
        return f"{shape} · {self.parameters:,} parameters" if self.parameters else shape


def measure(prior: Prior) -> dict[str, Part]:
    """Send one grid of codes through a prior.

    Returns:
        Name in the network ("" is the network) -> part, in the order in which the modules ended.
    """
    found: dict[str, Part] = {}

    def hook(name: str):
        def note(module: nn.Module, _inputs: object, output: Tensor | tuple) -> None:
            first = output if isinstance(output, Tensor) else output[0]
            found[name] = Part(module, tuple(first.shape[1:]), count(module))

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in prior.named_modules()]
    was_training = prior.training
    try:
        with torch.no_grad():
            device = next(prior.parameters()).device
            prior.eval()(torch.zeros((1, *prior.grid), dtype=torch.int64, device=device))
    finally:
        prior.train(was_training)
        for handle in handles:
            handle.remove()
    return found


def count(module: nn.Module) -> int:
    """Parameters in a module and below it."""
    return sum(p.numel() for p in module.parameters())


def words(module: nn.Module) -> str:
    """What a layer is, with its sizes: "causal conv 3×3, 48 → 96"."""
    if isinstance(module, nn.Conv2d):
        name = "causal conv" if isinstance(module, CausalConv2d) and module.kernel_size[0] > 1 else "conv"
        return f"{name} {module.kernel_size[0]}×{module.kernel_size[1]}, {module.in_channels} → {module.out_channels}"
    if isinstance(module, nn.Embedding):
        return f"embedding, {module.num_embeddings} → {module.embedding_dim}"
    if isinstance(module, (nn.Linear, Conv1D)):  # transformers keeps the weight of its Conv1D as (in, out)
        sizes = module.weight.shape if isinstance(module, Conv1D) else module.weight.shape[::-1]
        return f"linear, {sizes[0]} → {sizes[1]}"
    if isinstance(module, nn.Dropout):
        return f"dropout {module.p:g}"
    return {"LayerNorm": "layer norm", "NewGELUActivation": "GELU"}.get(type(module).__name__, type(module).__name__)
