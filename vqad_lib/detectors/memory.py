"""Batches cut to a memory budget, and cut again where memory runs out all the same."""

import gc
from collections.abc import Callable

import torch
from torch import Tensor

from vqad_lib.errors import VqadError


class Pieces:
    """Run a function on pieces of a batch; a piece that does not fit into memory is halved and tried again.

    Args:
        budget_bytes: what a piece may take.
        bytes_each: what one item takes, about.
        what: what an error message calls the items, for example "images to decode".

    Attributes:
        size: items per piece now; it only ever gets smaller.
    """

    def __init__(self, *, budget_bytes: float, bytes_each: float, what: str) -> None:
        self.size, self.what = max(int(budget_bytes // bytes_each), 1), what

    def run(self, function: Callable[[slice], Tensor], n: int) -> Tensor:
        """Call `function` on slices that cover 0 ... n - 1 in order.

        Returns:
            What it returned, put together in order.

        Raises:
            VqadError: not even one item fits.
        """
        results, start = [], 0
        while start < n:
            piece = slice(start, min(start + self.size, n))
            try:
                results.append(function(piece))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                full = error
            else:
                start = piece.stop
                continue
            self._halve(piece.stop - piece.start, full)  # outside the handler, which holds on to the tensors
            full = None
        return torch.cat(results)

    def _halve(self, tried: int, error: Exception) -> None:
        if tried == 1:
            raise VqadError(
                f"out of memory with a single one of the {self.what}: use smaller networks, fewer "
                "detectors.n_restorations, or a device with more memory"
            ) from error
        self.size = tried // 2
        error.__traceback__ = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"out of memory with {tried} {self.what} at once; continuing with {self.size}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it means that memory ran out: on a GPU, in PyTorch's CPU allocator, or in Python."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)
