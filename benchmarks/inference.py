"""Which settings of inference pay, and what they do to the results: bfloat16, torch.compile, CUDA graphs."""

from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from benchmarks.cases import Case, share_equal
from benchmarks.timing import measure
from vqad_lib.config import BenchmarkConfig
from vqad_lib.models.prior import Prior, code_nll
from vqad_lib.models.registry import PRIORS
from vqad_lib.progress import progress

Call = Callable[[], Tensor]


@torch.no_grad()
def inference_rows(cases: list[Case], config: BenchmarkConfig) -> pd.DataFrame:
    """Encoding, decoding and one pass of each prior, by float32 as it is in use and by other settings, in turns.

    Args:
        cases: one per prior.
        config: `compile` says whether torch.compile is tried, which takes minutes.

    Returns:
        phase, network, settings ("float32", "bfloat16", "compiled", and on CUDA "compiled, CUDA graph"), seconds with
        _low and _high, ratio (float32's over these), equal_codes (share of the codes that float32 gives; encoding
        alone), largest_difference from float32 (of an image in [-1, 1], or of a code's NLL in nats), calls.
    """
    first = cases[0]
    coder, images, codes = first.detectors.autoencoder, first.images, first.codes
    phases: list[tuple[str, str, Callable[..., Tensor], Tensor]] = [
        ("encode", "autoencoder", coder.encode, images),
        ("decode", "autoencoder", coder.decode, codes),
        *(("prior pass", PRIORS[s.prior_kind].title, partial(_nll, s.detectors.prior), s.codes) for s in cases),
    ]
    rows = []
    for phase, network, call, given in progress(phases, what="settings of inference", unit="phase"):
        calls = _settings(call, given, compiled=config.compile)
        for made in calls.values():  # compiling is no part of a measurement
            made()
        timings = measure(calls, repeats=config.repeats, once_above_s=config.once_above_s, device=images.device)
        reference = timings["float32"]
        for settings, timing in timings.items():
            row = {"phase": phase, "network": network, "settings": settings, **timing.seconds("seconds")}
            row["ratio"] = reference.median_s / timing.median_s
            if phase == "encode":
                row["equal_codes"] = share_equal(reference.result, timing.result)
            else:
                row["largest_difference"] = (reference.result - timing.result).abs().max().item()
            rows.append(row | {"calls": len(timing.samples_s)})
    return pd.DataFrame(rows)


def _nll(prior: Prior, codes: Tensor) -> Tensor:
    return code_nll(prior.logits(codes), codes)


def _settings(call: Callable[[Tensor], Tensor], given: Tensor, *, compiled: bool) -> dict[str, Call]:
    device = given.device.type

    def low_precision() -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return call(given).float()

    calls: dict[str, Call] = {"float32": lambda: call(given), "bfloat16": low_precision}
    if compiled:
        modes = {"compiled": "default"} | ({"compiled, CUDA graph": "reduce-overhead"} if device == "cuda" else {})
        for name, mode in modes.items():
            quick = torch.compile(call, mode=mode)
            calls[name] = lambda quick=quick: quick(given).clone()  # a graph's output is overwritten by its next call
    return calls
