"""Tables 3 and 4: does VQ-GAN + Transformer suffer from a larger latent space or codebook? (section 3.9)

As in the paper, on the validation images of its own split, sample-wise. A variant is the run with two sizes changed.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from vqad_lib.analysis.detection import selected_row
from vqad_lib.evaluation.metrics import held_out_metrics
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import at_selected_threshold, read_scores, variant_scores, write_scores
from vqad_lib.paper import reported

GT = {"autoencoder": "vqgan", "prior": "gpt2", "scheme": "paper"}


def variant(run: Run, *, latent_dim: int, codebook_size: int) -> Run:
    """The run with another latent dimension D and codebook size K, and the epochs of `capacity.max_epochs`."""
    changes = {"autoencoder.latent_dim": latent_dim, "autoencoder.codebook_size": codebook_size}
    cap = run.profile.capacity.max_epochs
    for kind in (GT["autoencoder"], GT["prior"]) if cap else ():
        epochs = getattr(run.profile.training, kind).max_epochs
        changes[f"training.{kind}.max_epochs"] = min(cap, epochs)
    return run.changed(changes)


def scores_path(run: Run, *, latent_dim: int, codebook_size: int) -> Path:
    """Where the scores of a variant lie: scores/capacity/d<D>_k<K>.parquet of the reports."""
    return run.reports / "scores" / "capacity" / f"d{latent_dim}_k{codebook_size}.parquet"


def score_variant(run: Run, *, latent_dim: int, codebook_size: int) -> pd.DataFrame:
    """Score the validation images sample-wise by the trained networks of a variant, and write its parquet.

    Raises:
        VqadError: they have not been trained yet; see `train_combination`.
    """
    sizes = {"latent_dim": latent_dim, "codebook_size": codebook_size}
    scores = variant_scores(variant(run, **sizes), {"validation": ("sample_wise", "regenerative")}, **GT)
    write_scores(scores_path(run, **sizes), scores)
    return scores


def load_variant(run: Run, *, latent_dim: int, codebook_size: int) -> pd.DataFrame:
    """The parquet of a variant.

    Raises:
        VqadError: it has not been scored yet.
    """
    path = scores_path(run, latent_dim=latent_dim, codebook_size=codebook_size)
    return read_scores(path, "10_capacity_train")


def capacity_rows(run: Run, *, table: int) -> pd.DataFrame:
    """Table 3 (one row per latent dimension) or 4 (per codebook size), then the paper's rows that were not trained.

    Lambda is the best percentile on validation, for each variant and by each metrics. The decision threshold comes from
    the same images, so these rows compare sizes and do not say how well a size would do elsewhere.

    Returns:
        latent_dim and codebook_size (int), threshold_percentile, threshold_nats, f1_paper_metrics,
        auc_paper_metrics, held_out_percentile, f1, auroc, auprc with bounds, regenerative_auroc: of the reconstruction
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
        tidy, what = load_variant(run, **names), f"{key} {names[key]}, validation"
        row = selected_row(run, tidy, "sample_wise", scheme="paper", what=what, reported="validation")
        rebuilt = at_selected_threshold(run, tidy, "regenerative").validation
        areas = held_out_metrics(rebuilt["label"], rebuilt["score"], threshold=np.inf, what=what)
        rows.append(names | row | {"regenerative_auroc": areas["auroc"]})
    frame = pd.DataFrame(rows)
    untrained = [row for row in reported(table).index if row not in set(frame[key])]
    frame = pd.concat([frame, pd.DataFrame({key: untrained})], ignore_index=True).astype({key: int})
    return frame[[key, *frame.columns.drop(key)]]
