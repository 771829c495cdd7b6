"""Tables 3 and 4: does VQ-GAN + Transformer suffer from a larger latent space or codebook? (section 3.9)

As in the paper, on the validation images of its own split, sample-wise. A variant is the run with two sizes changed.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from vqad_lib.errors import VqadError
from vqad_lib.evaluation.metrics import sound_metrics
from vqad_lib.evaluation.results import paper_row, result_row
from vqad_lib.reporting.paper_numbers import reported
from vqad_lib.workflow.run import Run
from vqad_lib.workflow.scores import chosen_percentiles
from vqad_lib.workflow.variants import Combination, changed, save_scores, variant_scores

GT = Combination("vqgan", "gpt2", "paper")


def variant(run: Run, *, latent_dim: int, codebook_size: int) -> Run:
    """The run with another latent dimension D and codebook size K, and the epochs of `capacity.max_epochs`."""
    changes = {"autoencoder.latent_dim": latent_dim, "autoencoder.codebook_size": codebook_size}
    cap = run.profile.capacity.max_epochs
    for kind in (GT.autoencoder, GT.prior) if cap else ():
        epochs = getattr(run.profile.training, kind).max_epochs
        changes[f"training.{kind}.max_epochs"] = min(cap, epochs)
    return changed(run, changes)


def scores_path(run: Run, *, latent_dim: int, codebook_size: int) -> Path:
    """Where the scores of a variant lie: scores/capacity/d<D>_k<K>.parquet of the reports."""
    return run.reports / "scores" / "capacity" / f"d{latent_dim}_k{codebook_size}.parquet"


def score_variant(run: Run, *, latent_dim: int, codebook_size: int) -> pd.DataFrame:
    """Train a variant, score the validation images sample-wise, and write its parquet; see `score_frames`."""
    sizes = {"latent_dim": latent_dim, "codebook_size": codebook_size}
    scores = variant_scores(variant(run, **sizes), GT, {"validation": ("sample_wise", "regenerative")})
    save_scores(scores_path(run, **sizes), scores)
    return scores


def load_variant(run: Run, *, latent_dim: int, codebook_size: int) -> pd.DataFrame:
    """The parquet of a variant.

    Raises:
        VqadError: it has not been scored yet.
    """
    path = scores_path(run, latent_dim=latent_dim, codebook_size=codebook_size)
    if not path.exists():
        raise VqadError(f"no scores at {path}; run `make paper PROFILE={run.profile.name}` first")
    return pd.read_parquet(path)


def capacity_rows(run: Run, *, table: int) -> pd.DataFrame:
    """Table 3 (one row per latent dimension) or 4 (per codebook size), then the paper's rows that were not trained.

    Lambda is the best percentile on validation, for each protocol and variant anew. The decision threshold comes from
    the same images, so these rows compare sizes and do not say how well a size would do elsewhere.

    Returns:
        latent_dim and codebook_size (int), threshold_percentile, threshold_nats, f1_paper_protocol,
        auc_paper_protocol, sound_percentile, f1, auroc, auprc with bounds, regenerative_auroc: of the reconstruction
        error alone. NaN in rows that the profile does not train; the first column is the table's own.
    """
    config = run.profile.capacity
    if table == 3:
        key, sizes = "latent_dim", [(dim, config.codebook_size) for dim in config.latent_dims]
    else:
        key, sizes = "codebook_size", [(config.latent_dim, size) for size in config.codebook_sizes]
    rows = []
    for latent_dim, codebook_size in sizes:
        names = {"latent_dim": latent_dim, "codebook_size": codebook_size}
        rows.append(names | capacity_row(run, load_variant(run, **names), what=f"{key} {names[key]}, validation"))
    frame = pd.DataFrame(rows)
    untrained = [row for row in reported(table).index if row not in set(frame[key])]
    frame = pd.concat([frame, pd.DataFrame({key: untrained})], ignore_index=True).astype({key: int})
    return frame[[key, *frame.columns.drop(key)]]


def capacity_row(run: Run, validation: pd.DataFrame, *, what: str) -> dict[str, float]:
    """The numbers of one variant; see `capacity_rows`."""
    fallback = run.profile.evaluation.unsupervised_percentile
    chosen = chosen_percentiles(validation, "sample_wise", fallback)
    sample_wise = validation[validation["detector"] == "sample_wise"]
    at = {use: sample_wise[sample_wise["threshold_percentile"] == p] for use, p in chosen.items()}
    rebuilt = validation[validation["detector"] == "regenerative"]
    return {
        "threshold_percentile": chosen["paper"],
        "threshold_nats": at["paper"]["threshold_nats"].iloc[0],
        **paper_row(at["paper"], what),
        "sound_percentile": chosen["sound"],
        **result_row(at["sound"], at["sound"], config=run.profile.evaluation, by_clip=False, what=what),
        "regenerative_auroc": sound_metrics(rebuilt["label"], rebuilt["score"], threshold=np.inf, what=what)["auroc"],
    }


def rebuilt_errors(scores: pd.DataFrame) -> dict[str, float]:
    """Mean absolute reconstruction error of a variant's validation images by class, in [0, 1]."""
    rows = scores[scores["detector"] == "regenerative"]
    names = {0: "normal", 1: "anomalous"}
    return {names[label]: float(np.mean(values)) for label, values in rows.groupby("label")["score"]}
