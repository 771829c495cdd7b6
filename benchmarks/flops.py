"""Floating-point operations of a call, counted by torch, and how many the device can do in large matrix products."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.timing import measure

SIDES = {"cpu": 1024, "cuda": 8192}  # of the square matrices: large enough that only arithmetic counts


def _attention(query: tuple, key: tuple, value: tuple, *_args: object, **_options: object) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(gradient: tuple, query: tuple, key: tuple, value: tuple, *_args: object, **_options) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


# what attention is on a CPU, which torch's counter passes over
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}

_PRODUCTS = {f"aten::{name}" for name in ("addmm", "mm", "bmm", "baddbmm", "mkldnn_convolution", "cudnn_convolution")}
_PRODUCTS |= {"aten::convolution_backward", "aten::_convolution", "aten::miopen_convolution"}


def count_gflop(call: Callable[[], Any]) -> float:
    """Billions of floating-point operations of matrix products, convolutions and attention in one call.

    Torch counts a multiplication and an addition as two. Operations element by element do not count.
    """
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        call()
    return counter.get_total_flops() / 1e9


def products_share(call: Callable[[], Any], device: torch.device) -> float:
    """The share of a call's time that convolutions and matrix products take, by torch's profiler, in [0, 1]."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    with torch.profiler.profile(activities=kinds) as profiler:
        call()
    time_of = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    times = {event.key: getattr(event, time_of) for event in profiler.key_averages()}
    products = sum(time for key, time in times.items() if key in _PRODUCTS)
    return products / max(sum(times.values()), 1e-9)


def matmul_gflop_per_s(device: torch.device, dtype: torch.dtype, *, repeats: int, side: int | None = None) -> float:
    """The measured roofline: billions of operations per second of the quickest of `repeats` large matrix products.

    Args:
        side: rows and columns of each matrix; `SIDES` of the device where not given.
    """
    n = side or SIDES[device.type]
    left, right = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    timing = measure(
        {"matmul": lambda: torch.matmul(left, right)}, repeats=repeats, once_above_s=float("inf"), device=device
    )["matmul"]
    return 2 * n**3 / timing.low_s / 1e9
