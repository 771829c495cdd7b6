"""What brings what: variants that change something, differences by hand, what was not measured left out."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from vqad_lib.analysis import ablation
from vqad_lib.analysis.ablation import CODEBOOK, DETECTED_BY, ablation_rows, codebook_rows
from vqad_lib.analysis.choice_list import variants
from vqad_lib.config import Profile, load_profile, profile_from_mapping
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import Run, repository_root
from vqad_lib.experiment.scores import write_scores


@pytest.fixture
def run(tmp_path, profile_mapping) -> Run:
    frames = SimpleNamespace(dataset="folder", title="image folder x", digest="d")
    return Run(tmp_path, profile_from_mapping(profile_mapping, source="test"), frames, torch.device("cpu"))


def write(run: Run, variant: str, scores: list[float], quality: tuple[float, ...] = (1.0, 8.0, 0.5, 0.1)) -> None:
    """The same scores of four test images by every detector; the last two images are anomalous."""
    table = pd.DataFrame({"image_id": list("dcba"), "clip": "", "label": [0, 0, 1, 1], "split": "test"})
    table = table.assign(threshold_percentile=90, threshold_nats=1.0, score=scores)
    both = [table.assign(detector=detector, split=part) for detector in DETECTED_BY for part in ("test", "validation")]
    write_scores(
        run.scores_path(ablation.FOLDER, variant, "paper"),
        pd.concat(both).assign(**dict(zip(CODEBOOK, quality, strict=True))),
    )


@pytest.mark.parametrize("name", ["smoke", "demo", "workstation", "paper"])
def test_variants_change_something_that_the_profile_has_otherwise(name):
    profile: Profile = load_profile(repository_root() / "profiles" / f"{name}.yaml")
    run = Run(repository_root(), profile, SimpleNamespace(), torch.device("cpu"))
    found = variants(profile)
    assert list(found)[:2] == ["vqvae", "vqgan"]
    assert {variant.autoencoder for variant in found.values()} == {"vqvae", "vqgan"}
    changed = [run.changed(variant.changes).profile for variant in found.values()]
    assert changed[0] == changed[1] == profile
    assert len({repr(one) for one in changed}) == len(changed) - 1
    assert ("random_perceptual" in found) == (profile.gan.perceptual_weights != "random")
    assert ("early_game" in found) == (profile.gan.discriminator_start_epoch > 1)


def test_difference_from_the_vqvae_by_hand(run):
    """AUROC 0.75 against 0.5."""
    write(run, "vqvae", [1.0, 4.0, 3.0, 2.0])
    write(run, "hinge", [1.0, 3.0, 2.0, 4.0], quality=(0.5, 4.0, 0.25, 0.2))
    rows = ablation_rows(run).set_index(["variant", "detector"])
    assert set(rows.index) == {(variant, detector) for variant in ("vqvae", "hinge") for detector in DETECTED_BY}
    for detector in DETECTED_BY:
        row = rows.loc["hinge", detector]
        assert (row["auroc"], row["difference"], rows.loc["vqvae", detector]["auroc"]) == (0.75, 0.25, 0.5)
        assert row["difference_low"] <= 0.25 <= row["difference_high"]
        assert row["verdict"] in ("better", "undecided")
        assert np.isnan(rows.loc["vqvae", detector]["difference"])
    codebook = codebook_rows(run).set_index("variant")
    assert codebook.loc["hinge", [*CODEBOOK]].tolist() == [0.5, 4.0, 0.25, 0.2]


def test_seeds_are_averaged(run, monkeypatch):
    second = replace(run, replicate=1, profile=replace(run.profile, seed=1))
    monkeypatch.setattr(Run, "replicates", lambda _self: [run, second])
    for one, scores in ((run, [1.0, 2.0, 3.0, 4.0]), (second, [1.0, 3.0, 2.0, 4.0])):
        write(one, "vqvae", [2.0, 2.0, 2.0, 2.0])
        write(one, "vqgan", scores, quality=(1.0, 8.0, 0.5, 0.1 if one is run else 0.3))
    row = ablation_rows(run).set_index(["variant", "detector"]).loc["vqgan", "regenerative"]
    assert (row["auroc"], row["difference"], row["seeds"]) == (0.875, 0.375, 2)
    assert codebook_rows(run).set_index("variant").loc["vqgan", "lpips"] == pytest.approx(0.2)


def test_without_the_vqvae_there_is_nothing_to_compare_with(run):
    assert list(ablation_rows(run).columns) == list(ablation.COLUMNS)
    write(run, "vqgan", [1.0, 2.0, 3.0, 4.0])
    assert ablation_rows(run)["difference"].isna().all()


def test_unknown_variant_is_named(run):
    with pytest.raises(VqadError, match=r"no variant 'x' to train; there are vqvae, vqgan"):
        ablation.measure_variant(run, variant="x", scheme="paper")
