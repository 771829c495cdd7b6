"""The loop on problems that a hand can follow: stopping, learning rates, averages, what is written and when."""

import dataclasses
import errno
import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vqad_lib.config import TrainingConfig
from vqad_lib.errors import VqadError
from vqad_lib.training import loop
from vqad_lib.training.checkpoint import TrainingState, load_checkpoint
from vqad_lib.training.loop import Batches, Losses, Objective, finished, fit, should_stop

CONFIG = TrainingConfig(
    learning_rate=0.01,
    batch_size=2,
    max_epochs=3,
    validate_every_epochs=1,
    patience=5,
    precision="float32",
    compile=False,
    adam_betas=(0.9, 0.999),
    final_learning_rate_factor=1.0,
)


class Point(nn.Module):
    """One parameter, at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.zeros(()))


def batches(values: list[float]) -> Batches:
    return Batches(torch.tensor(values, dtype=torch.float32), batch_size=2, seed=0, shuffle=False)


def run(folder: Path, loss: Any, *, train: list[float], validation: list[float], **changes: Any) -> pd.DataFrame:
    """Fit one point with a loss of (point, batch, epoch)."""
    point = Point()
    return fit(
        [Objective("point", point, lambda batch, epoch: loss(point, batch, epoch))],
        train=batches(train),
        validation=batches(validation),
        config=dataclasses.replace(CONFIG, **changes),
        folder=folder,
        device=torch.device("cpu"),
    )


def mean_of_batch(point: Point, batch: Tensor, _epoch: int) -> Losses:
    """Does not depend on the point, so that every epoch has the same losses."""
    return {"loss": batch.mean() + 0 * point.at}


def test_early_stopping_rule_by_hand() -> None:
    pairs = [(1.0, 1.5), (1.0, 0.5), (1.0, 1.0), (1.0, 1.1), (1.0, 0.1), (1.0, 9.0)]
    rows = [{"train_point_monitored": t, "validation_point_monitored": v} for t, v in pairs]
    rows.insert(1, {"train_point_monitored": 1.0})  # an epoch without validation
    stops = [should_stop(rows[:n], network="point", patience=2) for n in range(len(rows) + 1)]
    # larger for the first, second and third time; equal does not count, and a smaller one does not start anew
    assert stops == [False] * 7 + [True]


def test_patience_of_the_paper_ends_at_the_sixth_time() -> None:
    rows = [{"train_point_monitored": 0.0, "validation_point_monitored": 1.0}] * 6
    assert [should_stop(rows[:n], network="point", patience=5) for n in range(7)] == [False] * 6 + [True]


def test_fit_stops_early_at_the_validation_that_exceeds_patience(tmp_path: Path) -> None:
    options = {"validate_every_epochs": 2, "patience": 1, "max_epochs": 9}
    history = run(tmp_path, mean_of_batch, train=[0, 0, 0], validation=[1, 1], **options)
    assert history["epoch"].tolist() == [1, 2, 3, 4]  # exceeded in epochs 2 and 4
    assert history["validation_point_monitored"].isna().tolist() == [True, False, True, False]
    summary = finished(tmp_path)
    assert (summary["epochs"], summary["stopped_by"]) == (4, "early stopping")


def test_fit_ends_at_the_cap_with_a_validation_of_the_last_epoch(tmp_path: Path) -> None:
    history = run(tmp_path, mean_of_batch, train=[1, 1], validation=[0, 0], validate_every_epochs=2, patience=0)
    assert history["validation_point_loss"].isna().tolist() == [True, False, False]
    summary = finished(tmp_path)
    assert (summary["epochs"], summary["stopped_by"]) == (3, "cap on epochs")
    assert summary["seconds"] == pytest.approx(history["seconds"].sum())


def test_losses_are_averaged_over_items_not_batches(tmp_path: Path) -> None:
    history = run(tmp_path, mean_of_batch, train=[1, 2, 9], validation=[5, 5, 5, 5, 2], max_epochs=1)
    assert history["train_point_loss"].item() == pytest.approx(4.0)  # batches of two and of one
    assert history["validation_point_loss"].item() == pytest.approx(22 / 5)


def test_early_stopping_compares_the_monitored_loss(tmp_path: Path) -> None:
    def loss(point: Point, batch: Tensor, _epoch: int) -> Losses:
        return {"loss": -batch.mean() + point.at, "monitored": batch.mean()}  # only the monitored one exceeds

    run(tmp_path, loss, train=[0, 0], validation=[1, 1], patience=0)
    assert finished(tmp_path)["epochs"] == 1


@pytest.mark.parametrize(
    ("epochs", "factor", "moves"), [(3, 0.1, [1.0, 0.55, 0.1]), (3, 1.0, [1.0, 1.0, 1.0]), (1, 0.1, [1.0])]
)
def test_learning_rate_falls_linearly_to_its_final_factor(
    tmp_path: Path, epochs: int, factor: float, moves: list[float]
) -> None:
    places: list[float] = []

    def slope_one(point: Point, batch: Tensor, epoch: int) -> Losses:  # noqa: ARG001
        if point.training:
            places.append(point.at.item())
        return {"loss": point.at}

    options = {"max_epochs": epochs, "final_learning_rate_factor": factor, "learning_rate": 0.2}
    run(tmp_path, slope_one, train=[0], validation=[0], **options)
    places.append(load_file(tmp_path / "point.safetensors")["at"].item())
    # with a constant gradient Adam moves by exactly the learning rate
    steps = [before - after for before, after in itertools.pairwise(places)]
    assert steps == pytest.approx([0.2 * move for move in moves], rel=1e-4)


def test_each_objective_has_its_learning_rate_factor_and_its_turn(tmp_path: Path) -> None:
    first, second, turns = Point(), Point(), []

    def loss_of(point: Point, name: str) -> Any:
        def loss(_batch: Tensor, epoch: int) -> Losses:
            turns.append((name, epoch, point.training))
            return {"loss": point.at}

        return loss

    fit(
        [
            Objective("first", first, loss_of(first, "first")),
            Objective("second", second, loss_of(second, "second"), 0.25),
        ],
        train=batches([0, 0, 0]),
        validation=batches([0]),
        config=dataclasses.replace(CONFIG, max_epochs=1),
        folder=tmp_path,
        device=torch.device("cpu"),
    )
    assert turns == [("first", 1, True), ("second", 1, True)] * 2 + [("first", 1, False)]
    assert first.at.item() == pytest.approx(-0.02, rel=1e-4)
    assert second.at.item() == pytest.approx(-0.005, rel=1e-4)


def test_adam_gets_the_betas_of_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []

    class Recording(torch.optim.Adam):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            seen.append(self.defaults["betas"])

    monkeypatch.setattr(torch.optim, "Adam", Recording)
    run(tmp_path, mean_of_batch, train=[0], validation=[0], adam_betas=(0.5, 0.7))
    assert seen == [(0.5, 0.7)]


def test_curves_have_one_row_an_epoch_and_these_columns(tmp_path: Path) -> None:
    def loss(point: Point, batch: Tensor, _epoch: int) -> Losses:
        return {"loss": batch.mean() + 0 * point.at, "detail": batch.sum()}

    history = run(tmp_path, loss, train=[1, 3], validation=[2, 2], validate_every_epochs=2)
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert set(curves.columns) == {
        "epoch",
        "train_point_monitored",
        "train_point_loss",
        "train_point_detail",
        "validation_point_monitored",
        "validation_point_loss",
        "validation_point_detail",
        "seconds",
    }
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert curves["train_point_detail"].tolist() == [4, 4, 4]
    pd.testing.assert_frame_equal(curves, history)
    assert b"\r" not in (tmp_path / "curves.csv").read_bytes()


def test_done_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    replace = os.replace

    def record(source: Any, target: Any) -> None:
        written.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", record)
    assert finished(tmp_path) is None
    run(tmp_path, mean_of_batch, train=[0], validation=[0])
    assert written == ["point.safetensors", "curves.csv", "done.json"]
    assert set(json.loads((tmp_path / "done.json").read_text())) == {"epochs", "stopped_by", "seconds", "processes"}


def test_a_run_that_cannot_write_its_curves_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _content: str) -> None:
        raise VqadError(f"cannot write {path}")

    monkeypatch.setattr(loop, "write_text", refuse)
    with pytest.raises(VqadError, match=r"curves\.csv"):
        run(tmp_path, mean_of_batch, train=[0], validation=[0])
    assert finished(tmp_path) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", ["train", "validation"])
def test_diverged_loss_names_the_setting_to_lower(tmp_path: Path, part: str, value: float) -> None:
    def diverge(point: Point, batch: Tensor, epoch: int) -> Losses:  # noqa: ARG001
        return {"loss": point.at + (value if epoch == 2 and point.training == (part == "train") else 0.0)}

    said = "point: loss or gradient is .* in epoch 2, at 0: " if part == "train" else r"validation_point_\w+ is .*"
    with pytest.raises(VqadError, match=rf"^{said}.*lower training\.point\.learning_rate") as caught:
        run(tmp_path, diverge, train=[0], validation=[0])
    assert "\n" not in str(caught.value)
    assert finished(tmp_path) is None


@pytest.mark.parametrize("of", ["loss", "gradient"])
def test_what_is_not_finite_stops_within_the_step_and_names_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1)  # a checkpoint after every epoch
    point, places = Point(), []

    def loss(batch: Tensor, epoch: int) -> Losses:
        places.append(point.at.item())
        broken = epoch == 2 and point.training and 7 in batch
        if of == "gradient":  # the value is 0, the slope infinite
            return {"loss": point.at + ((point.at - point.at.detach()).abs().sqrt() if broken else 0.0)}
        return {"loss": point.at * (math.inf if broken else 1.0)}

    items = torch.arange(10.0)
    train = Batches(items, batch_size=3, seed=1, shuffle=True, ids=[f"clip/{i}" for i in range(10)])
    objective = Objective("point", point, loss)
    with pytest.raises(VqadError, match=r"point: loss or gradient is .* in epoch 2, at clip/") as caught:
        fit(
            [objective],
            train=train,
            validation=batches([0]),
            config=CONFIG,
            folder=tmp_path,
            device=torch.device("cpu"),
        )
    named = str(caught.value).split(" at ")[1].split(":")[0].split(", ")
    shown = [[f"clip/{int(item)}" for item in batch] for batch, _ in train.shards(2)]
    number = next(i for i, ids in enumerate(shown) if "clip/7" in ids)
    assert named == shown[number]
    assert point.at.item() == places[-1]  # the step was not made
    again = TrainingState({"point": Point()}, {"point": torch.optim.Adam([Point().at])})
    assert load_checkpoint(tmp_path, again)
    assert again.epoch == 1


def test_of_a_large_batch_some_images_are_named(tmp_path: Path) -> None:
    def loss(point: Point, batch: Tensor, _epoch: int) -> Losses:
        return {"loss": point.at + batch.sum() * math.nan}

    with pytest.raises(VqadError, match=r"in epoch 1, at 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 \.\.\.: training diverged"):
        fit(
            [Objective("point", point := Point(), lambda batch, epoch: loss(point, batch, epoch))],
            train=Batches(torch.zeros(30), batch_size=20, seed=0, shuffle=False),
            validation=batches([0]),
            config=CONFIG,
            folder=tmp_path,
            device=torch.device("cpu"),
        )


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VqadError, match=r"cannot write .*file") as caught:
        run(tmp_path / "file" / "run", mean_of_batch, train=[0], validation=[0])
    assert "\n" not in str(caught.value)


def test_full_disk_at_a_checkpoint_names_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1)

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(VqadError, match="No space left on device") as caught:
        run(tmp_path, mean_of_batch, train=[0], validation=[0])
    assert str(tmp_path) in str(caught.value)


def test_bfloat16_runs_the_forward_pass_in_half_precision(tmp_path: Path) -> None:
    kinds: list[torch.dtype] = []
    for precision in ("float32", "bfloat16"):
        layer = nn.Linear(1, 1)

        def loss(batch: Tensor, _epoch: int, layer: nn.Linear = layer) -> Losses:
            output = layer(batch[:, None])
            kinds.append(output.dtype)
            return {"loss": output.float().square().mean()}

        fit(
            [Objective("layer", layer, loss)],
            train=batches([1.0]),
            validation=batches([1.0]),
            config=dataclasses.replace(CONFIG, max_epochs=1, precision=precision),
            folder=tmp_path / precision,
            device=torch.device("cpu"),
        )
        assert layer.weight.dtype == torch.float32
    assert kinds == [torch.float32] * 2 + [torch.bfloat16] * 2


def test_extremes_and_codebook_usage_of_an_epoch(tmp_path: Path) -> None:
    """Batches of two, two and one: their shares of codes are weighed by size, their extremes are of single steps."""

    def loss(point: Point, batch: Tensor, _epoch: int) -> Losses:
        shares = nn.functional.one_hot(batch.long(), 4).double().mean(0)
        return {"loss": point.at * 0, "adaptive_weight": batch.sum(), "code_share": shares}

    row = run(tmp_path, loss, train=[0, 0, 1, 2, 2], validation=[3, 3], max_epochs=1).iloc[0]
    assert row["train_point_adaptive_weight_lowest"] == 0
    assert row["train_point_adaptive_weight_highest"] == 3
    assert row["train_point_codes_used"] == 0.75
    entropy = -2 * 0.4 * math.log(0.4) - 0.2 * math.log(0.2)
    assert row["train_point_perplexity"] == pytest.approx(math.exp(entropy), rel=1e-12)
    assert row[["validation_point_codes_used", "validation_point_perplexity"]].tolist() == [0.25, 1.0]
    assert not row.index.str.contains("code_share").any()
