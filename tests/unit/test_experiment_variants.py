"""Variants of a run: which values change, what is trained and scored; the run's own files stay as they were."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from vqad_lib.analysis import capacity
from vqad_lib.config import profile_from_mapping
from vqad_lib.data.datasets import prepare_frames
from vqad_lib.errors import VqadError
from vqad_lib.experiment import networks
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import parts_folder, variant_scores
from vqad_lib.paper import reported

REPOSITORY = Path(__file__).resolve().parents[2]
VP = {"autoencoder": "vqvae", "prior": "pixelsnail", "scheme": "official"}


@pytest.fixture
def run(tmp_path, profile_mapping) -> Run:
    """The tiny profile on a tiny walkway, in a root of its own."""
    (tmp_path / "vqad_lib").symlink_to(REPOSITORY / "vqad_lib")
    profile_mapping["training"] = {
        name: config | {"max_epochs": 2, "validate_every_epochs": 1}
        for name, config in profile_mapping["training"].items()
    }
    profile_mapping["data"]["synthetic"] |= {"test_clips": 4, "frames_per_clip": 8}
    profile = profile_from_mapping(profile_mapping, source="test")
    frames = prepare_frames(
        dataset="synthetic",
        data_root=None,
        size_px=profile.data.image_size_px,
        cache_dir=tmp_path / "frames",
        synthetic=profile.data.synthetic,
    )
    return Run(tmp_path, profile, frames, torch.device("cpu"))


def test_changed_values(run):
    other = run.changed({"autoencoder.latent_dim": 2, "training.gpt2.max_epochs": 1, "seed": 7})
    assert (other.profile.autoencoder.latent_dim, other.profile.training.gpt2.max_epochs, other.profile.seed) == (
        2,
        1,
        7,
    )
    assert run.profile.autoencoder.latent_dim == 4
    back = {"autoencoder.latent_dim": 4, "training.gpt2.max_epochs": 2, "seed": 0}
    assert other.changed(back).profile == run.profile


def test_a_changed_run_is_trained_in_this_process(run, monkeypatch):
    """Processes that are started read the profile's file, which has no changes."""
    monkeypatch.setenv("VQAD_DEVICES", "2")
    started = []
    monkeypatch.setattr(networks, "run_distributed", started.append)
    monkeypatch.setattr(networks, "_fit", lambda *_: started.append("here"))
    monkeypatch.setattr(networks, "load_autoencoder", lambda *_, **__: None)
    for one in (replace(run, options=("--profile=tiny",)), run.changed({}), run.changed({"autoencoder.beta": 2.0})):
        networks.train_autoencoder(one, autoencoder="vqvae", scheme="paper")
    command = ["train", "--autoencoder=vqvae", "--scheme=paper"]
    assert started == [[command[0], "--profile=tiny", *command[1:]], command, "here"]


def test_nothing_is_trained_by_loading(run):
    """What is not there is named, with the notebook that makes it."""
    with pytest.raises(VqadError, match=r"VQ-VAE, scheme official .* run notebook 02_train_autoencoder first"):
        networks.load_detectors(run, **VP)
    networks.train_autoencoder(run, autoencoder="vqvae", scheme="official")
    with pytest.raises(VqadError, match=r"PixelSNAIL on codes of VQ-VAE, .* run notebook 03_train_prior first"):
        networks.load_detectors(run, **VP)
    with pytest.raises(VqadError, match=r"VQ-GAN, scheme official .* run notebook 02_train_autoencoder first"):
        networks.train_prior(run, **VP | {"autoencoder": "vqgan"})


def test_variant_is_trained_apart_and_scored(run):
    """Another codebook gives another network in another folder; the chunks of the run itself are not touched."""
    other = run.changed({"autoencoder.codebook_size": 16})
    splits = {"validation": ("sample_wise",), "test": ("sample_wise", "regenerative")}
    networks.train_combination(other, **VP)
    scores = variant_scores(other, splits, **VP)
    rows = scores.groupby(["split", "detector"])["image_id"].nunique()
    assert rows.to_dict() == {
        ("validation", "sample_wise"): (run.splits("official") == "validation").sum(),
        ("test", "sample_wise"): (run.splits("official") == "test").sum(),
        ("test", "regenerative"): (run.splits("official") == "test").sum(),
    }
    # validation of scheme official is normal, so there is one percentile
    assert scores.groupby("detector")["threshold_percentile"].unique().map(list).to_dict() == {
        "sample_wise": [90],
        "regenerative": [-1],
    }
    assert networks.load_autoencoder(
        other, autoencoder="vqvae", scheme="official"
    ).network.quantiser.codebook.shape == (16, 4)
    assert not parts_folder(other, **VP).exists()
    pd.testing.assert_frame_equal(variant_scores(other, splits, **VP), scores)


def test_capacity_sizes_and_epochs(run):
    other = capacity.variant(run, latent_dim=8, codebook_size=16)
    assert (other.profile.autoencoder.latent_dim, other.profile.autoencoder.codebook_size) == (8, 16)
    assert [getattr(other.profile.training, kind).max_epochs for kind in ("vqgan", "gpt2", "vqvae")] == [1, 1, 2]
    uncapped = replace(run, profile=replace(run.profile, capacity=replace(run.profile.capacity, max_epochs=None)))
    assert capacity.variant(uncapped, latent_dim=4, codebook_size=8).profile.training == run.profile.training
    higher = replace(run, profile=replace(run.profile, capacity=replace(run.profile.capacity, max_epochs=9)))
    assert capacity.variant(higher, latent_dim=4, codebook_size=8).profile.training == run.profile.training


def validation(sample_wise: dict[int, list[float]], regenerative: list[float]) -> pd.DataFrame:
    """Scores of four images, the last two anomalous."""
    blocks = [("sample_wise", percentile, scores) for percentile, scores in sample_wise.items()]
    return pd.concat(
        pd.DataFrame(
            {
                "image_id": list("abcd"),
                "label": [0, 0, 1, 1],
                "split": "validation",
                "detector": detector,
                "threshold_percentile": percentile,
                "threshold_nats": percentile / 10,
                "score": scores,
            }
        )
        for detector, percentile, scores in [*blocks, ("regenerative", -1, regenerative)]
    )


def test_capacity_rows(run, monkeypatch):
    """The better percentile is taken; the paper's sizes that were not trained stand there without numbers."""
    bad, good = [1.0, 2.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0]
    tidy = validation({20: bad, 50: good, 90: bad}, regenerative=[1.0, 3.0, 2.0, 4.0])
    monkeypatch.setattr(capacity, "load_variant", lambda _run, **_sizes: tidy)
    rows = capacity.capacity_rows(run, table=3)
    assert rows.columns[0] == "latent_dim"
    assert rows["latent_dim"].tolist() == [2, 4, *reported(3).index]
    assert rows["codebook_size"].tolist()[:2] == [8, 8]
    first = rows.iloc[0]
    assert (first["threshold_percentile"], first["held_out_percentile"], first["threshold_nats"]) == (50, 50, 5.0)
    assert (first["auroc"], first["auc_paper_metrics"], first["f1"], first["regenerative_auroc"]) == (1, 1, 1, 0.75)
    assert rows.iloc[2:][["auroc", "f1", "auc_paper_metrics"]].isna().all(axis=None)
    assert capacity.capacity_rows(run, table=4)["codebook_size"].tolist() == [4, 8, *reported(4).index]


def test_missing_variant_names_the_remedy(run):
    with pytest.raises(VqadError, match=r"d8_k16\.parquet; run notebook 10_capacity_train first"):
        capacity.load_variant(run, latent_dim=8, codebook_size=16)
