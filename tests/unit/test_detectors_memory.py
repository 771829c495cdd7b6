"""Batches cut to a budget, halved where memory runs out, with nothing lost or done twice."""

import pytest
import torch

from vqad_lib.detectors.memory import in_pieces, is_out_of_memory
from vqad_lib.errors import VqadError


def in_order(n: int, size: int, fits: int, error: Exception) -> tuple[list[int], list[int]]:
    """What came out, and the sizes that were tried, where no more than `fits` items fit."""
    tried = []

    def work(piece: slice) -> torch.Tensor:
        tried.append(piece.stop - piece.start)
        if tried[-1] > fits:
            raise error
        return torch.arange(n)[piece]

    return in_pieces(work, n, size=size, what="rows").tolist(), tried


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_a_piece_that_does_not_fit_is_halved_and_what_was_done_stays(error: Exception) -> None:
    found, tried = in_order(20, 8, 3, error)
    assert found == list(range(20))
    assert tried == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]


def test_the_last_piece_is_halved_from_what_it_is() -> None:
    found, tried = in_order(7, 4, 2, MemoryError())
    assert (found, tried) == (list(range(7)), [4, 2, 2, 2, 1])
    found, tried = in_order(3, 8, 1, MemoryError())
    assert (found, tried) == (list(range(3)), [3, 1, 1, 1])
    found, tried = in_order(2, 2, 1, MemoryError())
    assert (found, tried) == ([0, 1], [2, 1, 1]), "two that do not fit are tried one by one"


def test_one_item_that_does_not_fit_is_one_clear_line() -> None:
    with pytest.raises(VqadError, match=r"^out of memory with a single one of the rows: .*n_restorations.*memory$"):
        in_order(4, 4, 0, MemoryError())


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        in_order(4, 4, 0, RuntimeError("shapes do not fit"))


def test_an_allocation_that_cannot_be_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
