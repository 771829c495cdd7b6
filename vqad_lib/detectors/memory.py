"""Batches cut to a memory budget, and cut again where memory runs out all the same."""

from collections.abc import Callable

import torch
from torch import Tensor

from vqad_lib.errors import VqadError


def in_pieces(function: Callable[[slice], Tensor], n: int, *, size: int, what: str) -> Tensor:
    """Run a function on pieces of a batch; a piece that does not fit into memory is halved and tried again.

    Args:
        function: called on slices that cover 0 ... n - 1 in order.
        n: how many items, at least 1.
        size: items per piece.
        what: what an error message calls the items, for example "images to decode".

    Returns:
        What the function returned, put together in order.

    Raises:
        VqadError: not even one item fits.
    """
    results, start = [], 0
    while start < n:
        size = min(size, n - start)
        try:
            results.append(function(slice(start, start + size)))
            start += size
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise VqadError(
                    f"out of memory with a single one of the {what}: use smaller networks, fewer "
                    "detectors.n_restorations, or a device with more memory"
                ) from error
            size //= 2
    return torch.cat(results)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it means that memory ran out: on a GPU, in PyTorch's CPU allocator, or in Python."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)
