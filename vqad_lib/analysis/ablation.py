"""What each part contributes: the VQ-VAE, and the VQ-GAN with one of its parts changed at a time.

Each variant has an autoencoder and a GPT-2 of its own. Beside how well they detect stands what the codebook is like:
how many codes are in use, and how far reconstructions of normal images are from them, in squared error and in LPIPS.
"""

import numpy as np
import pandas as pd
import torch

from vqad_lib.analysis.choice_list import Variant, variants
from vqad_lib.analysis.claims import verdict
from vqad_lib.analysis.detection import paired_row
from vqad_lib.detectors.scoring import encode_all
from vqad_lib.errors import VqadError
from vqad_lib.evaluation.metrics import held_out_metrics
from vqad_lib.experiment.networks import load_autoencoder, train_combination
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import variant_scores, variant_test_rows, write_scores
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.quantiser import codebook_usage

PRIOR = "gpt2"
REFERENCE = "vqvae"  # what the others are compared with
DETECTED_BY = ("sample_wise", "pixel_wise", "regenerative")
CODEBOOK = ("codes_used", "perplexity", "squared_error", "lpips")
COLUMNS = ("scheme", "variant", "title", "detector", "auroc", "difference", "difference_low", "difference_high")
COLUMNS += ("p_value", "seeds", "seeds_agreeing", "verdict")
FOLDER = "ablation"  # of the scores, where those of a run have the scheme


def measure_variant(run: Run, *, variant: str, scheme: str) -> pd.DataFrame:
    """Train the two networks of a variant, score images, and write the parquet of it.

    Args:
        variant: a name in `variants`.
        scheme: how frames are split.

    Returns:
        Tidy scores (see `score_frames`), and the same in every row: codes_used in (0, 1] and perplexity in [1, K], on
        training images; squared_error (images in [-1, 1]) and lpips, on normal validation images, by the run's own
        perceptual network, whatever the variant's; NaN where its weights are random, for then each training draws
        others, and where the run has none.

    Raises:
        VqadError: there is no such variant, or see `train_combination`.
    """
    known = variants(run.profile)
    if variant not in known:
        raise VqadError(f"no variant {variant!r} to train; there are {', '.join(known)}")
    changed, names = run.changed(known[variant].changes), _names(known[variant], scheme)
    train_combination(changed, **names)
    detectors = {"validation": ("sample_wise",), "test": DETECTED_BY}
    scores = variant_scores(changed, detectors, **names).assign(**codebook_quality(run, changed, **names))
    write_scores(run.scores_path(FOLDER, variant, scheme), scores)
    return scores


def _names(variant: Variant, scheme: str) -> dict[str, str]:
    return {"autoencoder": variant.autoencoder, "prior": PRIOR, "scheme": scheme}


@torch.no_grad()
def codebook_quality(run: Run, changed: Run, *, autoencoder: str, scheme: str, **_: str) -> dict[str, float]:
    """The four columns of `CODEBOOK`, see `measure_variant`."""
    network, gan = load_autoencoder(changed, autoencoder=autoencoder, scheme=scheme).network, run.profile.gan
    splits, normal = run.splits(scheme), run.frames.index["label"].to_numpy() == 0
    codes = encode_all(network, run.images(splits == "train"))
    used, perplexity = codebook_usage(codes, codebook_size=run.profile.autoencoder.codebook_size)
    distance = None
    if gan.perceptual_weights not in ("none", "random"):
        from vqad_lib.losses.perceptual import PerceptualLoss  # lpips and torchvision take seconds to import

        distance = PerceptualLoss(network=gan.perceptual_network, weights=gan.perceptual_weights).to(run.device)
    errors = []
    for batch in run.images(normal & (splits == "validation")).split(run.profile.detectors.chunk_images):
        images = to_unit_range(batch)
        decoded = network.decode(network.encode(images))
        lpips = distance(images, decoded).item() if distance else np.nan
        errors.append([len(images), (images - decoded).square().mean().item(), lpips])
    n, squared, lpips = np.array(errors).T
    averages = np.average([squared, lpips], axis=1, weights=n).tolist()
    return dict(zip(CODEBOOK, (used, perplexity, *averages), strict=True))


def ablation_rows(run: Run) -> pd.DataFrame:
    """One row per scheme, variant and detector, on test images. What was not measured yet has none.

    Returns:
        scheme, variant, title, detector, auroc (the mean over training seeds), difference from the VQ-VAE's with its
        95% bounds (paired; over whole clips on scheme official, and over seeds), p_value, seeds, seeds_agreeing, and
        the verdict that the bounds allow, see `claims.verdict`; of the VQ-VAE itself these are empty.
    """
    rows = []
    for scheme, found in _measured(run).items():
        for variant in found:
            rows += [_row(run, found, scheme, variant, detector) for detector in DETECTED_BY]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(run: Run, found: dict[str, list[pd.DataFrame]], scheme: str, variant: str, detector: str) -> dict:
    what = f"{variant}, {detector}, {scheme}"
    tidies = (found.get(name, []) for name in (variant, REFERENCE))
    tests, theirs = ([variant_test_rows(run, tidy, detector) for tidy in of_seeds] for of_seeds in tidies)
    aurocs = [held_out_metrics(t["label"], t["score"], threshold=np.inf, what=what)["auroc"] for t in tests]
    row = {"scheme": scheme, "variant": variant, "title": variants(run.profile)[variant].title, "detector": detector}
    row["auroc"] = float(np.mean(aurocs))
    if variant == REFERENCE or not theirs:
        return row | {"seeds": len(tests)}
    n = min(len(tests), len(theirs))
    sides = [np.stack([test["score"].to_numpy() for test in side[:n]]) for side in (tests, theirs)]
    compared = paired_row(run, tests[0], *sides, scheme=scheme, what=what)
    return row | compared | {"verdict": verdict(compared["difference_low"], compared["difference_high"])}


def codebook_rows(run: Run) -> pd.DataFrame:
    """One row per scheme and variant: scheme, variant, title, `CODEBOOK` (means over seeds), seeds."""
    titles, rows = variants(run.profile), []
    for scheme, found in _measured(run).items():
        for variant, of_seeds in found.items():
            means = np.mean([tidy[list(CODEBOOK)].iloc[0] for tidy in of_seeds], axis=0)
            row = {"scheme": scheme, "variant": variant, "title": titles[variant].title}
            rows.append(row | dict(zip(CODEBOOK, means.tolist(), strict=True)) | {"seeds": len(of_seeds)})
    return pd.DataFrame(rows, columns=["scheme", "variant", "title", *CODEBOOK, "seeds"])


def _measured(run: Run) -> dict[str, dict[str, list[pd.DataFrame]]]:
    """Scheme -> variant -> the scores of each seed, as far as there are any."""
    found: dict[str, dict[str, list[pd.DataFrame]]] = {}
    for scheme in run.schemes:
        for variant in variants(run.profile):
            paths = [one.scores_path(FOLDER, variant, scheme) for one in run.replicates()]
            if tables := [pd.read_parquet(path) for path in paths if path.exists()]:
                found.setdefault(scheme, {})[variant] = tables
    return found
