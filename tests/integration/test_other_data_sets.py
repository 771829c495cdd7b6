"""A notebook runs on every data set there is a reader for: generated frames, in the layouts of the real ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
from PIL import Image

from vqad_lib.config import SyntheticConfig
from vqad_lib.data.datasets import DATASETS
from vqad_lib.data.synthetic import generate

REPOSITORY = Path(__file__).resolve().parents[2]
GENERATED = SyntheticConfig(train_clips=4, test_clips=3, frames_per_clip=16, seed=0)
SCRIPT = """
import json
import sys

for place in sys.argv[2:]:
    space = {"__name__": "notebook", "display": lambda *_: None}
    for cell in json.loads(open(sys.argv[1]).read())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), space)
        if "parameters" in cell["metadata"].get("tags", []):
            space |= {"dataset": "auto", "data_root": place}
    run = space["run"]
    print("SAID", json.dumps([run.frames.dataset, run.frames.title, run.results, run.schemes, len(run.frames.index)]))
"""


def save(frame: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.moveaxis(frame, 0, -1)).save(path)


def tree(root: Path, dataset: str) -> Path:
    """A root with the layout of a data set."""
    images, index, masks = generate(GENERATED, 48)
    if dataset == "mvtec_ad":
        for row, frame in enumerate(images):
            part, label, kind = index.loc[row, ["part", "label", "kind"]]
            place = "train/good" if part == "train" else f"test/{kind if label else 'good'}"
            save(frame, root / place / f"{row:03d}.png")
            if label:
                truth = root / "ground_truth" / kind / f"{row:03d}_mask.png"
                truth.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(255 * masks[row]).save(truth)
        return root
    names = {"ucsd_ped1": ("Train/Train{:03d}", "Test/Test{:03d}"), "cuhk_avenue": ("{:02d}", "{:02d}")}
    names = names.get(dataset, ("01_{:03d}", "01_{:04d}"))
    lines, cells = [], []
    for part, name, folder in zip(("train", "test"), names, ("training/frames", "testing/frames"), strict=True):
        for number, (_, clip) in enumerate(index[index["part"] == part].groupby("clip"), start=1):
            place = root / name.format(number) if dataset == "ucsd_ped1" else root / folder / name.format(number)
            for frame, row in enumerate(clip.index, start=int(dataset == "ucsd_ped1")):
                save(images[row], place / f"{frame:03d}.{'tif' if dataset == 'ucsd_ped1' else 'jpg'}")
            if part == "test":
                label = clip["label"].to_numpy()
                edges = np.flatnonzero(np.diff(np.r_[0, label, 0]))
                intervals = np.stack([edges[::2] + 1, edges[1::2]])
                cells.append(intervals)
                ranges = ", ".join(f"{first}:{last}" for first, last in intervals.T)
                lines.append(f"TestVideoFile{{end+1}}.gt_frame = [{ranges}];\n")
                if dataset == "shanghaitech":
                    (root / "testing" / "test_frame_mask").mkdir(exist_ok=True)
                    np.save(root / "testing" / "test_frame_mask" / f"{place.name}.npy", label)
    if dataset == "ucsd_ped1":
        (root / "Test" / "UCSDped1.m").write_text("".join(lines))
    if dataset == "cuhk_avenue":
        gt = np.empty((1, len(cells)), dtype=object)
        gt[0, :] = cells
        scipy.io.savemat(root / "avenue.mat", {"gt": gt})
    return root


def test_the_data_notebook_runs_on_all(tmp_path):
    for name in ("profiles", "data/paper", "vqad_lib", "notebooks"):
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(REPOSITORY / name)
    others = [name for name in DATASETS if name not in ("ucsd_ped2", "folder")]
    assert others == ["ucsd_ped1", "cuhk_avenue", "shanghaitech", "mvtec_ad"]
    places = [str(tree(tmp_path / f"my_{name}", name)) for name in others]
    environment = os.environ | {"VQAD_ROOT": str(tmp_path), "MPLBACKEND": "Agg", "VQAD_PROGRESS_FILE": os.devnull}
    command = [sys.executable, "-c", SCRIPT, str(REPOSITORY / "notebooks" / "00_data.ipynb"), *places]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("SAID ")]
    assert [name for name, *_ in said] == others
    assert [title for _, title, *_ in said] == ["UCSD Ped1", "CUHK Avenue", "ShanghaiTech", "MVTec AD my_mvtec_ad"]
    assert [results for *_, results, _, _ in said][-1] == "smoke/mvtec_ad_my_mvtec_ad"
    assert [len(schemes) for *_, schemes, _ in said] == [2, 2, 2, 1]
    assert {frames for *_, frames in said} == {7 * 16}
    _, index, _ = generate(GENERATED, 48)
    for _, _, results, schemes, _ in said:
        card = pd.read_csv(tmp_path / "reports" / results / "tables" / "data_card.csv")
        assert set(card["scheme"]) == set(schemes)
        of_paper = card[card["scheme"] == "paper"]
        assert of_paper["anomalous"].sum() == index["label"].sum()


@pytest.mark.parametrize("dataset", ["cuhk_avenue", "shanghaitech"])
def test_labels_are_those_of_the_frames(tmp_path, dataset):
    from vqad_lib.data.clips import read_clips

    _, index, _ = generate(GENERATED, 48)
    records = read_clips(tree(tmp_path / dataset, dataset)).records
    assert [record.label for record in records] == index["label"].tolist()
