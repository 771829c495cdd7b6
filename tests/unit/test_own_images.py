"""A detector for a person's own images: fitted to normal ones alone, kept in a folder, asked from the command line."""

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import types
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

import vqad.__main__
from benchmarks import streaming_memory
from vqad import commands, estimator, own_images
from vqad.estimator import VQAnomalyDetector
from vqad.labelled import labelled_images
from vqad.model import facts_of, load_model, save_model
from vqad.prepare import fingerprints, normalised, squeezed
from vqad.settings import settings_for
from vqad.show import overlay, regions
from vqad.stream import count_of, items_of
from vqad_lib.data.defects import FAMILIES, pseudo_defects
from vqad_lib.distributed.process import Process
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import RunInfo
from vqad_lib.files import usable_cores
from vqad_lib.reporting.tables import save_table

SMALL = {"image_size_px": 16, "channels": (8, 16), "codebook_size": 16, "epochs": 12}

EIGHT = settings_for(VQAnomalyDetector(image_size_px=16, channels=(8, 16)))


def pictures(n: int, *, seed: int, spot: bool = False) -> np.ndarray:
    """(n, 20, 24) uint8: a shaded pattern with noise; with `spot` a bright square in it."""
    draw = np.random.default_rng(seed)
    base = 120 + 40 * np.sin(np.arange(24) / 3) + 2 * np.arange(20)[:, None]
    images = base + draw.normal(0, 4, (n, 20, 24))
    if spot:
        images[:, 5:11, 6:12] = 250
    return images.clip(0, 255).astype(np.uint8)


def save_all(images: np.ndarray, folder: Path, *, name: str = "i") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}{number:03}.png" for number in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture(scope="module")
def detector() -> VQAnomalyDetector:
    return VQAnomalyDetector(**SMALL).fit(pictures(60, seed=0))


@pytest.fixture(scope="module")
def model(detector, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "model"
    save_model(detector, folder, data="pictures", images=60)
    return folder


def test_abnormal_images_score_below_normal_ones(detector):
    normal, abnormal = pictures(12, seed=1), pictures(12, seed=2, spot=True)
    assert detector.score_samples(abnormal).max() < detector.score_samples(normal).min()
    assert (detector.predict(abnormal) == -1).all()
    assert (detector.predict(normal) == 1).mean() > 0.5
    np.testing.assert_array_equal(detector.decision_function(normal), detector.score_samples(normal) - detector.offset_)


def test_heatmaps_are_hot_where_the_image_is_abnormal(detector):
    heatmaps = detector.anomaly_map(pictures(6, seed=3, spot=True))
    inside = np.zeros((16, 16), bool)
    inside[4:9, 4:8] = True  # rows 5 to 10 of 20 and columns 6 to 11 of 24, squeezed to 16
    assert heatmaps[:, inside].mean() > 5 * np.abs(heatmaps[:, ~inside]).mean()


def test_files_of_twelve_bits_are_read_as_such(tmp_path):
    images = pictures(24, seed=0)
    deep = [tmp_path / f"{i:02}.png" for i in range(24)]
    for image, path in zip(images, deep, strict=True):
        Image.fromarray(image.astype(np.uint16) * 16).save(path)
    fitted = VQAnomalyDetector(**SMALL | {"epochs": 1}).fit(deep)
    assert fitted.settings_.white == 4095
    assert "12-bit values" in fitted.notes_[0]
    assert (squeezed(deep, 16, white=4095).int() - squeezed(images, 16).int()).abs().max() <= 1


def test_settings_are_scikit_learns(detector):
    again = clone(detector)
    assert again.get_params() == detector.get_params()
    assert not hasattr(again, "settings_")
    assert again.set_params(codebook_size=8).codebook_size == 8


# scikit-learn's own checks, of those that fit no table of numbers; all others of `check_estimator` do
CHECKS = (
    "estimator_cloneable",
    "estimator_tags_renamed",
    "valid_tag_types",
    "estimator_repr",
    "mixin_order",
    "no_attributes_set_in_init",
    "parameters_default_constructible",
    "get_params_invariance",
    "set_params",
)


@pytest.mark.parametrize("name", CHECKS)
def test_checks_of_scikit_learn(name):
    getattr(estimator_checks, f"check_{name}")("VQAnomalyDetector", VQAnomalyDetector())


def test_works_in_cross_validation(detector):
    images = np.concatenate([pictures(45, seed=0), pictures(3, seed=1, spot=True)])
    abnormal = np.array([1] * 45 + [-1] * 3)
    few = clone(detector).set_params(epochs=1)
    halves = [(np.arange(24), np.arange(24, 48)), (np.arange(20, 45), np.r_[:20, 45:48])]
    found = cross_val_score(
        few, images, abnormal, cv=halves, scoring=lambda fitted, X, y: (fitted.predict(X) == y).mean()
    )
    assert found.shape == (2,)
    assert (found > 0.5).all()


def test_works_in_a_pipeline(detector):
    darker = FunctionTransformer(lambda images: images // 2)
    fitted = make_pipeline(darker, clone(detector).set_params(epochs=1)).fit(pictures(24, seed=0))
    assert fitted.predict(pictures(3, seed=1)).shape == (3,)


def test_the_same_seed_and_epochs_give_the_same_scores():
    few = {**SMALL, "epochs": 2}
    one, two = (VQAnomalyDetector(**few).fit(pictures(24, seed=0)) for _ in range(2))
    images = pictures(4, seed=5)
    np.testing.assert_array_equal(one.score_samples(images), two.score_samples(images))
    other = VQAnomalyDetector(**few, seed=1).fit(pictures(24, seed=0))
    assert (one.score_samples(images) != other.score_samples(images)).all()


def test_training_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    images = pictures(24, seed=0)
    whole = VQAnomalyDetector(**SMALL).fit(images)
    monkeypatch.setattr("vqad.estimator.PixelSnail", None)  # the autoencoder ends, the prior cannot begin
    with pytest.raises(TypeError):
        VQAnomalyDetector(**SMALL, folder=tmp_path).fit(images)
    monkeypatch.undo()
    monkeypatch.setattr("vqad.estimator._without_defects", lambda *_: pytest.fail("the autoencoder is trained again"))
    resumed = VQAnomalyDetector(**SMALL, folder=tmp_path).fit(images)
    np.testing.assert_array_equal(whole.score_samples(images), resumed.score_samples(images))


def test_a_time_too_short_for_all_images_is_kept_with_some_of_them(tmp_path, monkeypatch):
    """Going on sees as many of them."""
    monkeypatch.setattr("vqad.estimator.time.monotonic", iter(np.arange(0, 1e6, 10.0)).__next__)  # each look takes 10 s
    planned = []
    for _ in range(2):
        small = {**SMALL, "epochs": None, "minutes": 1.0}
        VQAnomalyDetector(**small, flips=True, folder=tmp_path).fit(pictures(60, seed=0))
        planned.append({path: path.read_text() for path in sorted(tmp_path.glob("*/planned.json"))})
    assert planned[0] == planned[1]
    assert len(planned[0]) == 3
    for text in planned[0].values():
        assert json.loads(text)["epochs"] == 1
        assert json.loads(text)["images"] < 3 * 40


def test_too_few_images_are_told_how_many_are_missing():
    with pytest.raises(VqadError, match="17 images are too few to learn what is normal; add 3"):
        VQAnomalyDetector(**SMALL).fit(pictures(17, seed=0))


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"image_size_px": 18}, "image_size_px must be a multiple of 4, got 18"),
        ({"false_alarms": 0.9}, "false_alarms: must be less than or equal to 0.5, got 0.9"),
        ({"codebook_size": 0}, "autoencoder.codebook_size: must be greater than or equal to 1, got 0"),
    ],
)
def test_wrong_parameters_are_named(parameters, problem):
    with pytest.raises(VqadError, match=problem):
        VQAnomalyDetector(**(SMALL | parameters)).fit(pictures(24, seed=0))


@pytest.mark.parametrize(
    "images", [np.zeros((3, 4)), np.full((3, 4, 4), 7.0), np.zeros((3, 4, 4, 2)), np.full((2, 4, 4), np.nan)]
)
def test_what_is_no_image_is_refused(images):
    with pytest.raises(ValueError, match=r"images must|values of images"):
        squeezed(images, 16)


def test_float_and_integer_images_are_the_same():
    images = pictures(3, seed=0)
    assert torch.equal(squeezed(images, 16), squeezed(images / 255, 16))
    assert torch.equal(squeezed(images, 16), squeezed(np.stack([images] * 3, -1), 16))


def test_normalised_images_do_not_know_how_bright_they_were():
    images = squeezed(pictures(4, seed=0), 16)
    dimmed = (images.float() * 0.5 + 30).round().to(torch.uint8)
    assert (normalised(images).int() - normalised(dimmed).int()).abs().max() <= 4


@pytest.mark.parametrize("family", FAMILIES)
def test_pseudo_anomalies_change_what_they_say_and_nothing_else(family):
    images = torch.rand(40, 3, 32, 32) * 2 - 1
    painted, where = pseudo_defects(images, family=family, generator=torch.Generator().manual_seed(1))
    changed = (painted != images).any(1)
    assert (where.flatten(1).any(1)).float().mean() > 0.7
    soft = torch.nn.functional.max_pool2d(where[:, None].float(), 3, 1, 1)[:, 0] > 0
    assert not (changed & ~soft).any(), "the edge fades out over a pixel"
    assert (changed & where).sum() > 0.95 * where.sum()
    again = pseudo_defects(images, family=family, generator=torch.Generator().manual_seed(1))
    assert torch.equal(painted, again[0])
    assert painted.abs().max() <= 1


def test_families_have_no_kind_in_common():
    assert not {*FAMILIES["taught"]} & {*FAMILIES["judged"]}


# -- the model folder -----------------------------------------------------------------------------------------------


def test_a_model_scores_as_the_detector_it_was_saved_from(detector, model):
    images = pictures(5, seed=4, spot=True)
    loaded = load_model(model)
    np.testing.assert_array_equal(loaded.score_samples(images), detector.score_samples(images))
    np.testing.assert_array_equal(loaded.predict(images), detector.predict(images))
    assert sorted(path.name for path in model.iterdir()) == [
        "MODEL_CARD.md",
        "examples",
        "model.safetensors",
        "settings.json",
    ]
    assert len(list((model / "examples").glob("*.png"))) == 4


def test_a_collapsed_codebook_stands_in_the_card(tmp_path, monkeypatch):
    monkeypatch.setattr(estimator, "codebook_usage", lambda codes, codebook_size: (1 / codebook_size, 1.0))  # noqa: ARG005
    fitted = VQAnomalyDetector(**SMALL | {"epochs": 1}).fit(pictures(24, seed=0))
    save_model(fitted, tmp_path / "model", data="pictures", images=24)
    said = "codebook collapsed: 16 codes, a perplexity of 1.0; results mean little"
    assert fitted.notes_ == load_model(tmp_path / "model").notes_ == [said]
    assert f"**Note:** {said}\n" in (tmp_path / "model" / "MODEL_CARD.md").read_text()


def test_a_pretrained_network_is_kept_with_the_model(tmp_path):
    settings = SMALL | {"epochs": 1, "perceptual": "random"}
    fitted = VQAnomalyDetector(**settings).fit(pictures(24, seed=0))
    save_model(fitted, tmp_path / "model", data="pictures", images=24)
    shown = pictures(5, seed=3, spot=True)
    assert fitted.signals(squeezed(shown, 16)).shape == (5, 5, 16, 16)
    assert fitted.choices_["signals"].str.contains("features").any()
    np.testing.assert_array_equal(load_model(tmp_path / "model").score_samples(shown), fitted.score_samples(shown))
    assert "weights: random" in (tmp_path / "model" / "MODEL_CARD.md").read_text()


def test_the_card_says_what_was_measured(detector, model):
    card = (model / "MODEL_CARD.md").read_text()
    assert "fitted to 60 normal images: pictures" in card
    assert f"{detector.threshold_:.4g}" in card
    best = detector.choices_.loc[(detector.choices_["image_auroc"] + detector.choices_["pixel_auroc"]).idxmax()]
    assert f"| {best['signals']} | {best['share']} | {best['image_auroc']:.3f} |" in card
    assert (detector.mixture_, detector.share_) == (best["signals"], best["share"])
    assert "so few held-out images cannot tell such a share" in card


def test_the_threshold_lets_no_more_normal_images_through_than_allowed():
    fitted = VQAnomalyDetector(**{**SMALL, "epochs": 1, "false_alarms": 0.25}).fit(pictures(60, seed=0))
    assert (fitted.held_out_scores_ >= fitted.threshold_).mean() <= 0.25
    assert (fitted.held_out_scores_ >= fitted.threshold_).sum() >= 0.25 * len(fitted.held_out_scores_) - 1


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "missing, cut off, or another model's"),
        (lambda folder: (folder / "model.safetensors").unlink(), "missing, cut off, or another model's"),
        (lambda folder: (folder / "settings.json").write_text("{"), "is not valid JSON"),
        (lambda folder: (folder / "settings.json").unlink(), "holds no model"),
        (lambda folder: (folder / "settings.json").write_text("[]"), "has format None, this version reads 4"),
        (lambda folder: change(folder, format=99), "has format 99, this version reads 4"),
        (lambda folder: change(folder, threshold=1.0), "settings.json is not as it was written"),
    ],
)
def test_a_damaged_model_is_one_line(model, tmp_path, damage, problem):
    copy = tmp_path / "model"
    subprocess.run(["cp", "-r", model, copy], check=True)
    damage(copy)
    with pytest.raises(VqadError, match=problem) as found:
        load_model(copy)
    assert str(copy) in str(found.value)


def change(folder: Path, **values: object) -> None:
    facts = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps(facts | values))


def test_a_model_takes_the_place_of_a_model_and_of_nothing_else(detector, tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    save_model(detector, folder, data="one", images=1)
    save_model(detector, folder, data="two", images=2)
    assert facts_of(folder)["data"] == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["there"], "nothing is left beside it"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(VqadError, match="is there and is no model"):
        save_model(detector, tmp_path / "mine", data="three", images=3)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


# -- the command line -----------------------------------------------------------------------------------------------


def rows_of(path: Path) -> list[dict]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def test_score_writes_a_row_for_each_image_in_order(model, detector, tmp_path):
    images = pictures(3, seed=7)
    paths = [*save_all(images, tmp_path / "in" / "b"), *save_all(pictures(2, seed=8, spot=True), tmp_path / "in" / "a")]
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    assert (
        commands.score(str(model), [str(tmp_path / "in")], str(tmp_path / "s.csv"), heatmaps=str(tmp_path / "h")) == 0
    )
    rows = rows_of(tmp_path / "s.csv")
    assert [row["path"] for row in rows] == [str(path) for path in [*paths[3:], *paths[:3]]]
    np.testing.assert_allclose([float(row["score"]) for row in rows][2:], -detector.score_samples(images), rtol=1e-5)
    assert [row["decision"] for row in rows[:2]] == ["abnormal"] * 2
    left, top, right, bottom, area, _ = json.loads(rows[0]["regions"])[0]
    assert (left <= 8, top <= 7, right >= 10, bottom >= 9, area > 0) == (True,) * 5
    overlays = sorted((tmp_path / "h").rglob("*.png"))
    assert overlays == sorted(tmp_path / "h" / f"{str(path)[1:]}.png" for path in paths)
    assert {Image.open(path).size for path in overlays} == {(24, 20)}


def test_unreadable_images_are_named_skipped_and_counted(model, tmp_path, capsys):
    save_all(pictures(2, seed=7), tmp_path)
    (tmp_path / "i000.png").write_bytes(b"no image")
    out = str(tmp_path / "s.csv")
    assert commands.score(str(model), [str(tmp_path)], out) == 1
    said = capsys.readouterr()
    assert "1 unreadable" in said.out
    assert f"cannot decode {tmp_path / 'i000.png'}" in said.err
    assert [row["decision"] for row in rows_of(Path(out))] == ["unreadable", "normal"]
    assert commands.score(str(model), [str(tmp_path)], out, skip_bad=True) == 0


def test_names_of_any_bytes_are_written(model, tmp_path):
    (path,) = save_all(pictures(1, seed=7), tmp_path / "in")
    odd = os.fsencode(path.parent) + b'/\xfc\n,"' + b"x" * 240 + b".png"
    os.rename(path, odd)
    assert commands.score(str(model), [str(path.parent)], str(tmp_path / "s.csv"), heatmaps=str(tmp_path / "h")) == 0
    (row,) = rows_of(tmp_path / "s.csv")
    assert row["path"] == f'{path.parent}/\\udcfc\\n,"{"x" * 240}.png'
    assert len(list((tmp_path / "h").rglob("*.png"))) == 1


def test_no_image_at_all_is_an_error_and_leaves_no_table(model, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(VqadError, match="no images in"):
        commands.score(str(model), [str(tmp_path / "in")], str(tmp_path / "s.csv"))
    assert not (tmp_path / "s.csv").exists()


def test_a_listed_image_that_is_not_there_is_skipped(model, tmp_path, monkeypatch, capsys):
    (path,) = save_all(pictures(1, seed=7), tmp_path)
    monkeypatch.setattr(sys, "stdin", [f"{path}\n", f"{tmp_path}/gone.png\n"])
    assert commands.score(str(model), ["-"], str(tmp_path / "s.csv")) == 1
    assert "gone.png" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "s.csv")) == 2


def test_sources_are_files_patterns_folders_and_lists(tmp_path, monkeypatch):
    paths = [str(path) for path in save_all(pictures(3, seed=0), tmp_path)]
    names = [item.name for item in items_of([paths[2], str(tmp_path / "i00[01].png")], settings=EIGHT)]
    assert names == [paths[2], paths[0], paths[1]]
    monkeypatch.setattr(sys, "stdin", [f"{paths[1]}\n", "\n", f"{paths[0]}\n"])
    assert [item.name for item in items_of(["-"], settings=EIGHT)] == [paths[1], paths[0]]
    with pytest.raises(VqadError, match="neither a file, nor a folder, nor a pattern"):
        list(items_of([str(tmp_path / "none.png")], settings=EIGHT))


def test_how_many_there_will_be_is_known_where_names_tell(tmp_path):
    paths = [str(path) for path in save_all(pictures(5, seed=0), tmp_path)]
    sources = [str(tmp_path), paths[0]]
    assert [count_of(sources, rank=rank, of=2) for rank in range(2)] == [3, 3]
    assert count_of([str(tmp_path / "*.png")]) == 5
    assert count_of(["-", paths[0]]) is None
    (tmp_path / "clip.mp4").write_bytes(b"")
    assert count_of([str(tmp_path)]) is None
    assert count_of([paths[0], str(tmp_path / "clip.mp4")]) is None


def test_counting_keeps_nothing_of_an_image(monkeypatch):
    class Name(str):  # which, unlike str, can be referred to weakly
        pass

    alive, most = weakref.WeakSet(), 0

    def many():
        nonlocal most
        for number in range(2_000):
            name = Name(number)
            alive.add(name)
            most = max(most, len(alive))
            yield name, Path(f"{number}.png")

    monkeypatch.setattr("vqad.stream._places", lambda *_of: many())
    assert count_of(["a folder"]) == 2_000
    assert most < 10


def test_images_are_decoded_a_little_ahead_and_no_more(tmp_path, monkeypatch):
    """However many there are: what waits is bounded by the cores, and nothing of a batch stays with the next one."""
    (path,) = save_all(pictures(1, seed=0), tmp_path)
    asked = []
    monkeypatch.setattr(sys, "stdin", (asked.append(number) or f"{path}\n" for number in range(100_000)))
    items = items_of(["-"], settings=EIGHT)
    for _ in range(500):
        next(items)
    assert len(asked) <= 500 + 2 * usable_cores() + 1
    items.close()


def test_processes_share_the_images(tmp_path):
    paths = [str(path) for path in save_all(pictures(5, seed=0), tmp_path)]
    shares = [[item.name for item in items_of([str(tmp_path)], settings=EIGHT, rank=rank, of=2)] for rank in range(2)]
    assert shares == [paths[::2], paths[1::2]]


def test_parts_of_processes_become_one_table_in_order(tmp_path):
    parts = [tmp_path / f"s.csv.{rank}.csv" for rank in range(2)]
    parts[0].write_text("path\na\nc\ne\n")
    parts[1].write_text("path\nb\nd\n")
    commands._merge(parts, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == "path\na\nb\nc\nd\ne\n"
    assert not any(part.exists() for part in parts)


@pytest.mark.parametrize("layout", ["own", "mvtec"])
def test_evaluate_tells_kinds_apart_and_reads_masks(model, tmp_path, layout, capsys):
    own = layout == "own"
    save_all(pictures(6, seed=1), tmp_path / ("normal" if own else "test/good"))
    mask = np.zeros((20, 24), np.uint8)
    mask[5:11, 6:12] = 255
    for kind in ("dent", "hole"):
        save_all(pictures(3, seed=2, spot=True), tmp_path / ("abnormal" if own else f"test/{kind}"), name=f"{kind}_")
        place = tmp_path / ("masks" if own else f"ground_truth/{kind}")
        for path in save_all(np.stack([mask] * 3), place, name=f"{kind}_"):
            path.rename(path.with_name(f"{path.stem}_mask.png"))
    commands.evaluate(str(model), str(tmp_path), out=str(tmp_path / "e.csv"))
    rows = rows_of(tmp_path / "e.csv")
    assert [(row["kind"], row["images"]) for row in rows] == [("all", "6"), ("dent", "3"), ("hole", "3")]
    assert all(float(row["auroc"]) == 1 and float(row["pixel_auroc"]) > 0.9 for row in rows)
    said = capsys.readouterr().out
    assert "dent" in said
    assert "mark" not in said
    (empty,) = save_all(np.stack([0 * mask]), place, name="hole_")
    empty.replace(path.with_name(f"{path.stem}_mask.png"))
    commands.evaluate(str(model), str(tmp_path))
    assert f"note      {path.stem}_mask.png marks no pixel: anomalous" in capsys.readouterr().out


def test_evaluate_leaves_out_what_the_model_was_trained_on(model, detector, tmp_path, capsys, monkeypatch):
    fitted_to, fresh = pictures(60, seed=0), pictures(5, seed=1)  # the first are the model's own
    save_all(fitted_to, tmp_path / "normal")
    save_all(pictures(4, seed=2, spot=True), tmp_path / "abnormal")
    commands.evaluate(str(model), str(tmp_path))
    n = len(detector.held_out_)
    said = capsys.readouterr().out
    assert f"left out  {60 - n} images that the model was trained on" in said
    assert f"{n} images were held out in training" in said
    for path, print_ in zip(
        sorted((tmp_path / "normal").iterdir()), fingerprints(squeezed(fitted_to, 16)), strict=True
    ):
        if print_ in detector.held_out_:
            path.unlink()
    with pytest.raises(VqadError, match="trained on all normal images; add some"):
        commands.evaluate(str(model), str(tmp_path))
    save_all(fresh, tmp_path / "normal", name="fresh")
    measured, table = [], commands.evaluation_table
    monkeypatch.setattr(
        commands, "evaluation_table", lambda *of, **options: measured.append(of) or table(*of, **options)
    )
    commands.evaluate(str(model), str(tmp_path))
    assert "held out in training" not in capsys.readouterr().out
    scores, _, _, kinds = measured[0]
    assert (kinds.count(""), len(kinds)) == (5, 9)
    np.testing.assert_allclose(scores[:5], -detector.score_samples(fresh), rtol=1e-5)


def test_parquet_holds_what_the_csv_holds(model, tmp_path):
    paths = [str(path) for path in save_all(pictures(3, seed=7), tmp_path / "in")]
    Path(paths[1]).write_bytes(b"no image")
    for name in ("s.csv", "s.parquet"):
        commands.score(str(model), [str(tmp_path / "in")], str(tmp_path / name))
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "s.parquet"),
        pd.read_csv(tmp_path / "s.csv"),
        check_dtype=False,
        check_exact=False,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "s.csv", "s.parquet"]


@pytest.mark.parametrize(
    "wrong", [{"minutes": -1}, {"minutes": float("nan")}, {"epochs": 0}, {"minutes": float("inf")}]
)
def test_no_time_is_refused(wrong):
    with pytest.raises(VqadError, match=f"{next(iter(wrong))} must be a number above 0, got"):
        VQAnomalyDetector(**SMALL | wrong).fit(pictures(24, seed=0))


def test_evaluate_wants_both_classes(tmp_path):
    save_all(pictures(3, seed=1), tmp_path / "test" / "good")
    with pytest.raises(VqadError, match="normal and abnormal images, and one of these is missing"):
        labelled_images(tmp_path)
    with pytest.raises(VqadError, match="neither normal/ and abnormal/"):
        labelled_images(tmp_path / "test" / "good")


@pytest.mark.parametrize("inner", ["", "normal", "good", "train/good"])
def test_fit_finds_the_normal_images(tmp_path, inner):
    save_all(pictures(24, seed=0), tmp_path / "set" / inner)
    if inner:
        save_all(pictures(2, seed=0), tmp_path / "set" / "abnormal")
    commands.fit([str(tmp_path / "set")], str(tmp_path / "model"), **SMALL | {"epochs": 1})
    assert facts_of(tmp_path / "model")["images"] == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "set"], "no checkpoints are left"


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("abnormal", "by the name of abnormal it holds abnormal images"),
        ("few", "19 images are too few to learn what is normal; add 1"),
    ],
)
def test_fit_refuses_what_is_not_normal_or_too_little(tmp_path, place, problem):
    save_all(pictures(24 if place == "abnormal" else 19, seed=0), tmp_path / place)
    with pytest.raises(VqadError, match=problem):
        commands.fit([str(tmp_path / place)], str(tmp_path / "model"), **SMALL)
    assert not (tmp_path / "model").exists()


def test_fit_refuses_a_folder_with_abnormal_images_beside_others(tmp_path):
    save_all(pictures(24, seed=0), tmp_path / "set" / "defect")
    with pytest.raises(VqadError, match="by the name of defect"):
        commands.fit([str(tmp_path / "set")], str(tmp_path / "model"), **SMALL)


def test_boxes_are_in_pixels_of_the_image():
    heatmap = np.zeros((10, 10))
    heatmap[2:4, 5:8], heatmap[9, 0] = 3.0, 7.0
    assert regions(heatmap, 1.0, (100, 50)) == [[0, 45, 10, 50, 50, 7.0], [50, 10, 80, 20, 300, 3.0]]
    assert regions(heatmap, 8.0, (100, 50)) == []


def test_overlays_leave_usual_pixels_as_they_are():
    pixels = np.full((3, 8, 8), 100, np.uint8)
    heatmap = np.zeros((8, 8))
    heatmap[:4] = 9.0
    shown = np.asarray(overlay(pixels, heatmap, 1.0, (8, 8)))
    assert (shown[6] == 100).all()
    assert (shown[1] != 100).any()


def test_help_and_errors_of_the_commands(tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "vqad_lib", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)

    assert {"fit", "score", "evaluate", "info"} <= {*run("--help").stdout.split()}
    failed = run("info", str(tmp_path))
    assert (failed.returncode, failed.stderr) == (
        1,
        f"error: {tmp_path} holds no model; make one: python -m vqad_lib fit FOLDER --out {tmp_path.name}\n",
    )


def test_memory_of_scoring_a_stream_is_measured_in_a_process_of_its_own():
    (row,) = streaming_memory.memory_rows((7,)).to_dict("records")
    assert row["images"] == 7
    assert row["peak_mib"] > 100, "torch alone takes more"
    assert row["seconds"] > 0


def test_own_images_have_results_of_their_own(tmp_path, monkeypatch):
    executed, labels = [], RunInfo("own images", "image folder *tiles*", "", 0)

    def execute(*given: object) -> None:
        executed.append(given[1:])
        for name in ("by_kind", "methods"):
            rows = pd.DataFrame({name: ["crack"], "auroc": [0.75], "auroc_low": [0.5], "auroc_high": [0.875]})
            save_table(rows, name, labels=labels, folder=given[3].parents[1], notes="Two minutes.")

    monkeypatch.setattr(own_images, "execute_notebook", execute)
    frames = SimpleNamespace(dataset="folder", title="image folder tiles", digest="d" * 64)
    monkeypatch.setattr(own_images, "load_frames", lambda *_: frames)
    given = {"profile": "smoke", "dataset": "auto", "data_root": "tiles", "seed": "", "perceptual": ""}
    place = own_images.own_images(tmp_path, given, minutes=2.0, flips=True)
    assert place == tmp_path / "reports" / "own_images" / "folder_tiles"
    ((notebook, parameters, file),) = executed
    assert (notebook, file) == ("40_own_images", place / "notebooks" / "40_own_images.ipynb")
    assert parameters == given | {"results": "own_images/folder_tiles", "minutes": 2.0, "flips": True}
    page = (place / "README.md").read_text()
    assert "image folder \\*tiles\\*\n\nTwo minutes." in page
    assert "| crack | 0.750 [0.500, 0.875] |" in page
    assert "](../../../figures/own_images/folder_tiles/own_images.png)" in page
    assert json.loads((place / "provenance.json").read_text())["dataset"] == "folder"
    for perceptual, name in (
        ("none", "folder_tiles"),
        ("hed", "folder_tiles_hed"),
        ("/a/b/vgg.pth", "folder_tiles_vgg"),
    ):
        judged = own_images.own_images(tmp_path, given | {"perceptual": perceptual}, minutes=2.0, flips=True)
        assert judged.name == name


def test_what_below_a_folder_cannot_be_scored_is_a_row(model, tmp_path, monkeypatch, capsys):
    """A folder that cannot be listed or is a link, a video without PyAV or damaged: told, counted, and nothing lost."""
    save_all(pictures(2, seed=7), tmp_path / "in")
    save_all(pictures(2, seed=8), tmp_path / "elsewhere")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "v.mp4").write_bytes(b"no video")
    (tmp_path / "in" / "closed").mkdir()
    listed = os.scandir

    def scandir(place):
        if str(place).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(place))
        return listed(place)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setitem(sys.modules, "av", None)
    assert commands.score(str(model), [str(tmp_path / "in")], str(tmp_path / "s.csv")) == 1
    rows = {Path(row["path"]).name: row for row in rows_of(tmp_path / "s.csv")}
    assert sorted(rows) == ["closed", "i000.png", "i001.png", "link", "v.mp4"]
    assert "takes PyAV: pip install av" in rows["v.mp4"]["trouble"]
    assert "link to a folder, and not followed; give that folder too" in rows["link"]["trouble"]
    assert "cannot list" in rows["closed"]["trouble"]
    assert ", 3 unreadable" in capsys.readouterr().out

    class Damaged(types.ModuleType):
        FFmpegError = OSError

        @staticmethod
        def open(_path):
            raise OSError("moov atom not found")

    monkeypatch.setitem(sys.modules, "av", Damaged("av"))
    assert commands.score(str(model), [str(tmp_path / "in" / "v.mp4")], str(tmp_path / "s.csv"), skip_bad=True) == 0
    assert "v.mp4: moov atom not found; replace" in rows_of(tmp_path / "s.csv")[0]["trouble"]


def test_overlays_are_not_scored_and_long_names_have_room(model, tmp_path):
    long = "x" * 241
    save_all(pictures(1, seed=7), tmp_path, name=long[4:])
    for _ in range(2):
        commands.score(str(model), [str(tmp_path)], str(tmp_path / "s.csv"), heatmaps=str(tmp_path / "heatmaps"))
        assert len(rows_of(tmp_path / "s.csv")) == 1
    assert len(list((tmp_path / "heatmaps").rglob("*.png"))) == 1
    with pytest.raises(VqadError, match="holds the images themselves; give a folder of its own"):
        commands.score(str(model), [str(tmp_path)], str(tmp_path / "s.csv"), heatmaps=str(tmp_path))


def test_images_of_one_name_keep_their_own_scores(model, tmp_path):
    r"""A line feed in a name is shown as \n, which another name may hold."""
    first, second = save_all(pictures(1, seed=7), tmp_path) + save_all(
        pictures(1, seed=2, spot=True), tmp_path, name="j"
    )
    first, second = first.rename(tmp_path / "x\n.png"), second.rename(tmp_path / r"x\n.png")
    commands.score(str(model), [str(first), str(second)], str(tmp_path / "s.csv"))
    rows = rows_of(tmp_path / "s.csv")
    assert rows[0]["path"] == rows[1]["path"]
    assert rows[0]["score"] != rows[1]["score"]


@pytest.mark.parametrize("out", [".", "", "folder"])
def test_where_no_table_can_go_is_told_at_once(model, tmp_path, monkeypatch, out):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "load_model", lambda _path: pytest.fail("it went on"))
    with pytest.raises(VqadError, match="--out must be the name of a file, got"):
        commands.score(str(model), ["."], out)
    if out:
        with pytest.raises(VqadError, match="--out must be the name of a file, got"):
            commands.evaluate(str(model), ".", out=out)


def test_several_processes_share_no_standard_input(model, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "joined", lambda: contextlib.nullcontext(Process(rank=1, size=2)))
    with pytest.raises(VqadError, match="several processes cannot share a list on standard input; name files"):
        commands.score(str(model), ["-"], str(tmp_path / "s.csv"))


def test_patterns_meet_each_image_once(tmp_path, monkeypatch):
    save_all(pictures(2, seed=0), tmp_path / "a")
    save_all(pictures(2, seed=0), tmp_path / "a" / "b" / "c")
    every = sorted(str(path) for path in tmp_path.rglob("*.png"))
    for pattern in ("**", "**/*", "**/*.png", "*"):
        names = [item.name for item in items_of([str(tmp_path / pattern)], settings=EIGHT)]
        assert sorted(names) == every, pattern
    monkeypatch.setattr(sys, "stdin", [f"{tmp_path}/**/*.png\n"])
    assert sorted(item.name for item in items_of(["-"], settings=EIGHT)) == every


def test_names_on_standard_input_need_not_be_utf_8(tmp_path, monkeypatch):
    (path,) = save_all(pictures(1, seed=0), tmp_path)
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    os.rename(path, odd)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(odd + b"\n"), encoding="utf-8", errors="strict"))
    (item,) = items_of(["-"], settings=EIGHT)
    assert (item.trouble, item.name) == ("", f"{tmp_path}/\\udcff.png")


def test_a_file_called_na_has_its_name_in_parquet(model, tmp_path):
    (path,) = save_all(pictures(1, seed=7), tmp_path)
    path.rename(tmp_path / "NA")
    commands.score(str(model), [str(tmp_path / "NA")], str(tmp_path / "s.parquet"))
    assert pd.read_parquet(tmp_path / "s.parquet")["path"].tolist() == [str(tmp_path / "NA")]


def test_a_model_among_its_images_is_refused(tmp_path):
    save_all(pictures(24, seed=0), tmp_path / "images")
    with pytest.raises(VqadError, match="lies among the images of"):
        commands.fit([str(tmp_path / "images")], str(tmp_path / "images" / "model"), **SMALL)
    with pytest.raises(VqadError, match=r"--out must be the name of a folder, got \."):
        commands.fit([str(tmp_path / "images")], ".", **SMALL)


def test_a_loaded_model_is_the_estimator_that_was_saved(detector, model, tmp_path):
    loaded, given = load_model(model), detector.get_params()
    kept = {key: value for key, value in loaded.get_params().items() if key not in ("minutes", "epochs", "folder")}
    assert {key: given[key] for key in kept} | {"device": None} == kept | {"channels": given["channels"]}
    assert tuple(kept["channels"]) == tuple(given["channels"])
    save_model(loaded, tmp_path / "again", data="", images=1)
    shown = pictures(3, seed=5)
    np.testing.assert_array_equal(load_model(tmp_path / "again").score_samples(shown), loaded.score_samples(shown))


def test_a_series_is_a_sequence_and_nothing_is_refused(detector, tmp_path):
    paths = [str(path) for path in save_all(pictures(2, seed=7), tmp_path)]
    np.testing.assert_array_equal(detector.predict(pd.Series(paths, index=[5, 9])), detector.predict(paths))
    with pytest.raises(ValueError, match="X is empty"):
        detector.predict(np.zeros((0, 8, 8), np.uint8))


def test_kinds_of_folders_stand_for_themselves(tmp_path):
    save_all(pictures(2, seed=1), tmp_path / "normal")
    save_all(pictures(3, seed=2), tmp_path / "abnormal" / "scratch")
    save_all(pictures(1, seed=3), tmp_path / "abnormal" / "hole")
    save_all(pictures(1, seed=4), tmp_path / "abnormal", name="dent_")
    kinds = [image.kind for image in labelled_images(tmp_path)]
    assert kinds == ["", "", "abnormal", "hole", "scratch", "scratch", "scratch"]


def test_masks_of_mvtec_lie_where_their_images_do(tmp_path):
    save_all(pictures(2, seed=1), tmp_path / "test" / "good")
    for camera in ("one", "two"):
        save_all(pictures(2, seed=2), tmp_path / "test" / "dent" / camera)
    save_all(pictures(2, seed=3), tmp_path / "ground_truth" / "dent")
    with pytest.raises(VqadError, match="has no mask in"):
        labelled_images(tmp_path)
    for camera in ("one", "two"):
        save_all(pictures(2, seed=3), tmp_path / "ground_truth" / "dent" / camera)
    found = {image.path.parent.name: image.mask.parent.name for image in labelled_images(tmp_path) if image.kind}
    assert found == {"one": "one", "two": "two"}


@pytest.mark.parametrize("verb", ["score", "fit"])
def test_what_is_stopped_says_what_is_left(monkeypatch, capsys, verb):
    def stopped(*_of, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, verb, stopped)
    monkeypatch.setattr(sys, "argv", ["vqad", verb, "a", "b", "--out", "c"])
    assert vqad.__main__.main() == 130
    goes_on = "the same command goes on from here" in capsys.readouterr().err
    assert goes_on == (verb == "fit")


def test_a_folder_without_access_is_one_line(monkeypatch, capsys):
    def closed(*_of, **_options):
        raise PermissionError(13, "Permission denied", "my\nfolder")

    monkeypatch.setattr(commands, "fit", closed)
    monkeypatch.setattr(sys, "argv", ["vqad", "fit", "a", "--out", "c"])
    assert vqad.__main__.main() == 1
    assert capsys.readouterr().err == "error: my\\nfolder: Permission denied; give yourself access, or leave it out\n"
