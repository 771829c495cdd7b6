"""Growth of cost: the fitted exponent against NumPy and by hand, and what is too dear for the plain algorithm."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.bench_page import left_out
from benchmarks.scaling import exponent_rows, fitted_exponent, scaling_rows
from vqad_lib.config import profile_from_mapping


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_exponent_of_a_power_law(power) -> None:
    values = np.array([4, 8, 16, 64])
    assert fitted_exponent(values, 0.3 * values**power) == pytest.approx(power, abs=1e-12)


def test_exponent_against_numpy() -> None:
    generator = np.random.default_rng(0)
    values, seconds = np.array([1, 5, 15, 40]), generator.uniform(0.1, 9.0, 4)
    assert fitted_exponent(values, seconds) == pytest.approx(np.polyfit(np.log(values), np.log(seconds), 1)[0])


def test_exponent_rows_by_hand() -> None:
    line = {"prior": "gpt2", "axis": "images"}
    scaling = pd.DataFrame(
        [
            line | {"algorithm": "plain", "value": 2, "seconds": 1.0},
            line | {"algorithm": "fast", "value": 2, "seconds": 0.5},
            line | {"algorithm": "plain", "value": 4, "seconds": 4.0},
            line | {"algorithm": "fast", "value": 4, "seconds": 0.5},
            line | {"algorithm": "plain", "value": 9, "seconds": 9.0, "axis": "n_restorations"},
        ]
    )
    rows = exponent_rows(scaling).set_index("algorithm")
    assert rows["exponent"].to_dict() == pytest.approx({"plain": 2.0, "fast": 0.0})
    assert rows[["points", "from_value", "to_value"]].to_numpy().tolist() == [[2, 2, 4], [2, 2, 4]]


def test_all_points_where_there_is_time(profile_mapping) -> None:
    profile_mapping["benchmarks"]["once_above_s"] = 1e9  # nothing takes too long, however loaded the machine
    rows = scaling_rows(profile_from_mapping(profile_mapping, source="tiny"), torch.device("cpu"))
    assert rows.groupby(["algorithm", "axis"])["value"].unique().map(list).to_dict() == {
        (algorithm, axis): values
        for algorithm in ("fast", "plain")
        for axis, values in {"images": [1, 2], "n_restorations": [1, 2], "codes_per_grid": [4, 16]}.items()
    }
    assert left_out_of_growth(rows) == []


def test_plain_is_left_out_where_it_takes_too_long_and_the_page_says_so(profile_mapping) -> None:
    profile = profile_from_mapping(profile_mapping, source="tiny")
    hurried = replace(profile, benchmarks=replace(profile.benchmarks, once_above_s=1e-9))
    rows = scaling_rows(hurried, torch.device("cpu"))
    assert rows[rows["algorithm"] == "fast"].groupby("axis")["value"].nunique().to_dict() == {
        "codes_per_grid": 2,
        "images": 2,
        "n_restorations": 2,
    }
    plain = rows[rows["algorithm"] == "plain"]
    assert plain.groupby("axis")["value"].unique().map(list).to_dict() == {
        "codes_per_grid": [4],
        "images": [1],
        "n_restorations": [1],
    }
    assert len(left_out_of_growth(rows)) == 6
    assert left_out_of_growth(rows)[2].startswith("Plain PixelSNAIL at codes_per_grid 16 is left out")


def left_out_of_growth(rows: pd.DataFrame) -> list[str]:
    return [reason for reason in left_out(rows, pd.DataFrame()) if reason.startswith("Plain")]
