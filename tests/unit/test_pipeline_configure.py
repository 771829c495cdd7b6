"""What `make paper` picks, what it says about it, and how long it thinks it will take."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from vqad_lib.errors import VqadError
from vqad_lib.experiment import run as run_module
from vqad_lib.files import read_json, write_json
from vqad_lib.pipeline import configure as module
from vqad_lib.pipeline import notebooks
from vqad_lib.pipeline.graph import Stage, notebook_table, stages_by_target
from vqad_lib.pipeline.notebooks import how_far

REPOSITORY = Path(__file__).resolve().parents[2]
NO_DRIVER = "Found no NVIDIA driver on your system"
NOTHING = dict.fromkeys(("profile", "dataset", "data_root", "seed", "perceptual", "jobs"), "")


def configure(root: Path, **asked: str) -> dict[str, str]:
    """What run.json says but for how the run is executed."""
    settings = module.configure(root, **asked)
    assert settings == read_json(root / "data" / "derived" / "run.json")
    assert settings == read_json(root / "data" / "derived" / settings["results"] / "run.json")  # make lab looks there
    return {key: value for key, value in settings.items() if key not in ("started", "jobs")}


def write_profiles(root: Path) -> None:
    """The names and preferences of the real profiles at the size of the smoke profile."""
    smoke = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text(encoding="utf-8"))
    smoke["data"] |= {
        "image_size_px": 32,
        "synthetic": {"train_clips": 2, "test_clips": 1, "frames_per_clip": 12, "seed": 0},
        "official_validation_clips": 1,
    }
    (root / "profiles").mkdir()
    for name, dataset in (("smoke", "synthetic"), ("demo", "auto"), ("paper", "auto")):
        content = smoke | {"name": name, "data": smoke["data"] | {"dataset": dataset}, "expected_minutes": 12.5}
        (root / "profiles" / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def write_ped2(folder: Path) -> Path:
    """The official layout with three clips of twelve small frames."""
    for part, count in (("Train", 2), ("Test", 1)):
        for clip in range(1, count + 1):
            place = folder / part / f"{part}{clip:03d}"
            place.mkdir(parents=True)
            for frame in range(1, 13):
                pixels = np.full((12, 18), 40 * clip + frame, dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{frame:03d}.tif")
    (folder / "Test" / "UCSDped2.m").write_text("TestVideoFile = {};\nTestVideoFile{end+1}.gt_frame = [2:9];\n")
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "repository"
    (root / "notebooks").mkdir(parents=True)
    shutil.copy(REPOSITORY / "notebooks" / "notebooks.yaml", root / "notebooks")
    for notebook in notebook_table(root):  # whose contents play no part here
        (root / "notebooks" / f"{notebook}.ipynb").write_text('{"cells": []}')
    write_profiles(root)
    monkeypatch.setenv("VQAD_ROOT", str(root))
    monkeypatch.setattr(module, "gpu_trouble", lambda: NO_DRIVER)
    return root


HIDDEN = "CUDA_VISIBLE_DEVICES= hides it"


@pytest.mark.parametrize(
    ("trouble", "ped2", "profile", "dataset", "said"),
    [
        ("", True, "paper", "ucsd_ped2", "a CUDA device and UCSD Ped2 are here; the small one: make paper PROFILE="),
        ("", False, "demo", "synthetic", "no UCSD Ped2 here, and the paper's sizes need both"),
        (NO_DRIVER, True, "demo", "ucsd_ped2", f"no usable CUDA device ({NO_DRIVER}) here, and the paper's sizes need"),
        (HIDDEN, False, "demo", "synthetic", f"no usable CUDA device ({HIDDEN}) and UCSD Ped2 here, and the paper's"),
    ],
)
def test_profile_follows_device_and_data(root, monkeypatch, capsys, trouble, ped2, profile, dataset, said):
    monkeypatch.setattr(module, "gpu_trouble", lambda: trouble)
    monkeypatch.setattr(module, "usable_cores", lambda: 3)
    if ped2:
        write_ped2(root / "data" / "raw" / "UCSDped2")
    settings = configure(root, **NOTHING)
    assert (settings["profile"], settings["dataset"]) == (profile, dataset)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"profile   {profile}: {said}")
    other = "PROFILE=demo" if profile == "paper" else "PROFILE=paper"
    assert lines[0].endswith(f"make paper {other}"), "how to get the other one"
    assert lines[1].startswith(f"data      {dataset}: ")
    jobs = 1 if trouble == "" else 3
    assert lines[2] == f"seed      0; {jobs} notebook(s) at a time"


def test_three_seeds_are_said(root, capsys):
    configure(root, **NOTHING | {"profile": "demo", "seeds": "3", "jobs": "2"})
    assert capsys.readouterr().out.splitlines()[2] == "seed      0 to 2; 2 notebook(s) at a time"


def test_profile_that_was_asked_for(root, monkeypatch, capsys):
    monkeypatch.setattr(module, "gpu_trouble", lambda: "")
    write_ped2(root / "data" / "raw" / "UCSDped2")
    assert configure(root, **NOTHING | {"profile": "smoke"})["profile"] == "smoke"
    assert "profile   smoke: as asked for by PROFILE=" in capsys.readouterr().out


def test_ped2_elsewhere_counts_for_the_choice(root, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "gpu_trouble", lambda: "")
    write_ped2(tmp_path / "elsewhere" / "UCSDped2")
    settings = configure(root, **NOTHING | {"data_root": "../elsewhere"})
    assert (settings["profile"], settings["dataset"]) == ("paper", "ucsd_ped2")
    assert settings["data_root"] == "../elsewhere/UCSDped2", (
        "relative, so that nothing depends on this machine's folders"
    )


def test_run_files(root):
    asked = {"profile": "smoke", "seed": "7", "seeds": "3", "perceptual": "none", "jobs": "3"}
    settings = configure(root, **NOTHING | asked)
    digest = settings.pop("data_digest")
    assert len(digest) == 64
    expected = {"profile": "smoke", "dataset": "synthetic", "data_root": "", "seed": "7", "perceptual": "none"}
    assert settings == expected | {"seeds": "3", "results": "smoke/synthetic"}
    lines = (root / "data" / "derived" / "run.mk").read_text().splitlines()
    assert lines[:2] == ["override PROFILE := smoke", "override RESULTS := smoke/synthetic"]
    assert lines[2] == f"override STARTED := {read_json(root / 'data' / 'derived' / 'run.json')['started']}"
    assert lines[3].startswith("override STAGES_OF_PAPER := 00_data 01_architecture 02_train_autoencoder_vqvae_paper ")
    assert lines[4].startswith("override STAGES_OF_FIDELITY := 13_fidelity_measure_restoration_paper ")
    rule = lines.index(
        "$(M)/03_train_prior_vqgan_gpt2_official_replicate2.json: "
        "| $(M)/02_train_autoencoder_vqgan_official_replicate2.json"
    )
    assert lines[rule + 1] == "\t$(STAGE) 03_train_prior_vqgan_gpt2_official_replicate2"
    trained = [line.split()[0] for line in lines if line.startswith("$(M)/10_capacity_train")]
    longest_first = [f"$(M)/10_capacity_train_{pair}.json:" for pair in ("32_64", "16_32", "8_32", "16_16")]
    assert trained == longest_first, "so that no core idles at the end"


def test_a_section_that_is_null_leaves_its_notebooks_out(root):
    path = root / "profiles" / "smoke.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"capacity": None}), encoding="utf-8")
    configure(root, **NOTHING | {"profile": "smoke"})
    rules = (root / "data" / "derived" / "run.mk").read_text()
    assert "10_capacity" not in rules
    assert "$(M)/08_seconds_per_image.json: | " in rules, "though it waits for all others"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"speed": None}), encoding="utf-8")
    with pytest.raises(VqadError, match=r"smoke\.yaml.*speed"):
        configure(root, **NOTHING | {"profile": "smoke"})


def test_devices_share_the_cores(root, monkeypatch, capsys):
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    assert module.configure(root, **NOTHING)["jobs"] == "4"
    assert "processes for each network" not in capsys.readouterr().out
    monkeypatch.setenv("VQAD_DEVICES", "2")
    assert module.configure(root, **NOTHING)["jobs"] == "2"
    expected = "devices   2 processes for each network and its scores, one per CPU core\n"
    assert expected in capsys.readouterr().out
    monkeypatch.setenv("VQAD_DEVICES", "²")
    with pytest.raises(VqadError, match=r"^DEVICES must be a whole number of at least 1, got '²'$"):
        configure(root, **NOTHING)
    monkeypatch.setenv("VQAD_DEVICES", "none")
    with pytest.raises(VqadError, match=r"^DEVICES must be a whole number of at least 1, got 'none'$"):
        configure(root, **NOTHING)


@pytest.mark.parametrize(("asked", "threads"), [(0, 2), (1, 1), (3, 3)])
def test_threads_are_those_of_the_profile_else_no_more_than_the_cores(root, monkeypatch, asked, threads):
    """A number in the profile stands, for results may hang on it; torch's own choice knows of no quota."""
    path = root / "profiles" / "smoke.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8")) | {"threads_per_stage": asked}
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")
    monkeypatch.setattr(run_module, "usable_cores", lambda: 2)
    torch.set_num_threads(4)
    run_module.open_run("smoke")
    assert torch.get_num_threads() == threads


def test_changed_frame_changes_the_data_digest(root):
    ped2 = write_ped2(root / "data" / "raw" / "UCSDped2")
    before = configure(root, **NOTHING)
    Image.new("L", (18, 12), 200).save(ped2 / "Train" / "Train001" / "001.tif")
    module.load_frames.cache_clear()  # each `make paper` is a process of its own
    after = configure(root, **NOTHING)
    assert before.pop("data_digest") != after.pop("data_digest")
    assert before == after


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"profile": "huge"}, r"cannot read profile .*huge\.yaml: .*profiles there: demo, paper, smoke$"),
        ({"seed": "one"}, r"^SEED must be a whole number of 1 to 18 digits, got 'one'$"),
        ({"seed": "-3"}, r"^SEED must be a whole number of 1 to 18 digits, got '-3'$"),
        ({"profile": "../smoke"}, r"^PROFILE must name a file in profiles/, .*, got '\.\./smoke'$"),
        ({"profile": "my profile"}, r"^PROFILE must name a file in profiles/, .*, got 'my profile'$"),
        ({"seed": "1.5"}, r"^SEED must be a whole number of 1 to 18 digits, got '1\.5'$"),
        ({"jobs": "many"}, r"^JOBS must be a whole number of at least 1, got 'many'$"),
        ({"jobs": "0"}, r"^JOBS must be a whole number of at least 1, got '0'$"),
        ({"jobs": "²"}, r"^JOBS must be a whole number of at least 1, got '²'$"),
        ({"seeds": "²"}, r"^SEEDS must be a whole number of at least 1, got '²'$"),
        ({"data_root": "x" * 300}, r"x{300}"),
        ({"perceptual": "x" * 300}, r"^gan\.perceptual_weights: no file at "),
        ({"jobs": "-2"}, r"^JOBS must be a whole number of at least 1, got '-2'$"),
        (
            {"dataset": "mnist"},
            r"data set 'mnist' is unknown; choose auto, ucsd_ped2, .*, folder or synthetic",
        ),
        ({"dataset": "folder"}, r"needs DATA_ROOT="),
        ({"dataset": "ucsd_ped2"}, r"UCSD Ped2 is not in .*make data"),
    ],
    ids=str,
)
def test_refused(root, given, message):
    with pytest.raises(VqadError, match=message) as caught:
        configure(root, **NOTHING | given)
    assert "\n" not in str(caught.value)
    assert not (root / "data" / "derived" / "run.json").exists()
    assert not (root / "data" / "derived" / "run.mk").exists()


def test_warns_before_results_on_other_data_are_replaced(root, capsys):
    path = root / "reports" / "demo" / "synthetic" / "provenance.json"
    write_json(path, {"data_digest": "0"})
    digest = configure(root, **NOTHING)["data_digest"]
    expected = "note      reports/demo/synthetic holds results on other images; they will be replaced\n"
    assert expected in capsys.readouterr().err
    write_json(path, {"data_digest": digest})
    configure(root, **NOTHING)
    assert "note" not in capsys.readouterr().err


def test_refuses_another_folder_of_the_same_name(root, tmp_path):
    for place, grey in (("a", 10), ("b", 20)):
        for kind in ("normal", "abnormal"):
            (tmp_path / place / "images" / kind).mkdir(parents=True)
            for i in range(5):
                Image.new("L", (16, 16), grey * i).save(tmp_path / place / "images" / kind / f"{i}.png")
    of = {place: NOTHING | {"data_root": str(tmp_path / place / "images")} for place in "ab"}
    results = configure(root, **of["a"])["results"]
    with pytest.raises(
        VqadError, match=r"holds results on another folder of this name, .*/a/images; rename .*/b/images"
    ):
        configure(root, **of["b"])
    assert read_json(root / "data" / "derived" / results / "run.json")["data_root"].endswith("/a/images")
    Image.new("L", (16, 16), 99).save(tmp_path / "a" / "images" / "normal" / "new.png")
    configure(root, **of["a"])


def test_data_sets_have_results_of_their_own(root, tmp_path):
    """The first command of the README, on the synthetic walkway, once replaced the results on Ped2 of a clone."""
    ped2 = str(write_ped2(tmp_path / "elsewhere" / "UCSDped2"))
    found = [configure(root, **NOTHING | {"data_root": place})["results"] for place in (ped2, "")]
    for name in ("tiles", "the tiles", "die Kacheln, groß", "a_b", "a/b"):
        for kind in ("normal", "abnormal"):
            (tmp_path / name / kind).mkdir(parents=True)
            for i in range(5):
                Image.new("L", (16, 16), 10 * i).save(tmp_path / name / kind / f"{i}.png")
        found.append(configure(root, **NOTHING | {"dataset": "folder", "data_root": str(tmp_path / name)})["results"])
    assert found[:3] == ["demo/ucsd_ped2", "demo/synthetic", "demo/folder_tiles"]
    assert re.fullmatch(r"demo/folder_the_tiles_[0-9a-f]{8}", found[3])
    assert found[5:] == ["demo/folder_a_b", "demo/folder_b"]
    assert len(set(found)) == len(found)


# -- one run at a time -----------------------------------------------------------------------------------------------


def line(profile: str, *command: str) -> list[str]:
    return [sys.executable, "-m", "vqad_lib", "configure", "--profile", profile, "--", *command]


def test_second_run_in_one_checkout_is_refused_until_all_of_the_first_has_ended(root, tmp_path):
    """The lock goes with the command that `configure` becomes, and with what that one started and left behind."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    left_behind = f"sleep 600 & echo $! {{jobs}} > '{pipe}'; exec sleep 600"
    with subprocess.Popen(line("smoke", "sh", "-c", left_behind), cwd=REPOSITORY, stdout=subprocess.DEVNULL) as first:
        child, jobs = map(int, pipe.read_text().split())  # waits for it
        assert jobs >= 1
        files = [root / "data" / "derived" / name for name in ("run.json", "run.mk", "run.lock")]
        before = [path.read_bytes() for path in files]
        second = subprocess.run(line("demo"), cwd=REPOSITORY, capture_output=True, text=True, check=False)
        refused = (
            f"error: another run (process {first.pid} on {socket.gethostname()}, profile=smoke) is going on in this "
            "checkout; "
            "wait for it, stop it, or use another checkout\n"
        )
        assert (second.returncode, second.stderr) == (1, refused)
        assert [path.read_bytes() for path in files] == before
        first.kill()
        first.wait()
        with pytest.raises(VqadError, match="another run"):
            module.start_run(root, [], **NOTHING)
        os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + 600
        while subprocess.run(line("demo"), cwd=REPOSITORY, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline
    assert read_json(root / "data" / "derived" / "run.json")["profile"] == "demo"


def test_manifests_that_do_not_hold_any_more_are_forgotten(root, capsys):
    """Make executes what has none: where other weights lie at the same path, autoencoders and all that needs them."""
    (root / "a.pth").write_bytes(b"first")
    asked = NOTHING | {"profile": "smoke", "perceptual": "a.pth"}
    settings = module.configure(root, **asked)
    stages = [stage for found in stages_by_target(root, settings).values() for stage in found]
    manifests, inputs = root / "data" / "derived" / "smoke" / "synthetic" / "manifests", {}
    digest_of = notebooks._inputs_digests(root, settings)
    for stage in sorted(stages, key=lambda stage: stage.notebook[:2]):
        inputs[stage.name] = digest_of(stage, inputs)
        for output in notebooks._outputs(stage, settings, notebook_table(root)[stage.notebook]):
            (root / output).parent.mkdir(parents=True, exist_ok=True)
            (root / output).touch()
        write_json(manifests / f"{stage.name}.json", {"inputs": inputs[stage.name], "seconds": 1})

    def forgotten() -> set[str]:
        configure(root, **asked)
        return inputs.keys() - {path.stem for path in manifests.iterdir()}

    assert forgotten() == set()
    assert "stages    38/38 " in capsys.readouterr().out
    (root / "reports" / "smoke" / "synthetic" / "tables" / "leak.csv").unlink()
    assert forgotten() == {"00_data"}
    (root / "a.pth").write_bytes(b"other")
    assert inputs.keys() == forgotten(), "every figure and table says which weights there were"


def test_profile_asked_for_says_that_the_gpu_is_not_used(root, monkeypatch, capsys):
    monkeypatch.setattr(module, "gpu_trouble", lambda: HIDDEN)
    configure(root, **NOTHING | {"profile": "smoke"})
    expected = f"as asked for by PROFILE=; no usable CUDA device ({HIDDEN})"
    assert capsys.readouterr().out.splitlines()[0] == f"profile   smoke: {expected}"


# -- the estimate ----------------------------------------------------------------------------------------------------


NOW = 1_000_000.0


@pytest.fixture
def state(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What is said of some stages of a run of profile demo, 12.5 minutes, that began 65 seconds ago."""

    def said(stages: str = "a b c d", *, jobs: int = 1) -> str:
        settings = {"profile": "demo", "results": "demo/mine", "started": str(int(NOW - 65)), "jobs": str(jobs)}
        return how_far(root, settings, [Stage(name, {}) for name in stages.split()])

    monkeypatch.setattr(time, "time", lambda: NOW)
    return said


def end_stages(root: Path, **seconds: float) -> None:
    for name, took in seconds.items():
        write_json(root / "data" / "derived" / "demo" / "mine" / "manifests" / f"{name}.json", {"seconds": took})


def record(root: Path, results: str, **seconds: float) -> None:
    stages = {name: {"seconds": value} for name, value in seconds.items()}
    write_json(root / "reports" / results / "provenance.json", {"stages": stages})


def test_estimate_begins_with_that_of_the_profile(root, state):
    assert state() == " 0/4 1:05, about 12:30 left"
    record(root, "demo/another", a=1, b=1, c=1, d=2)
    assert state() == state("a b c d", jobs=2) == " 0/4 1:05, about 12:30 left"


def test_estimate_goes_by_the_last_record_and_by_how_fast_this_machine_is(root, state):
    record(root, "demo/another", a=400, b=30, c=20, d=10)
    record(root, "demo/mine", a=100, b=200, c=300, d=400)
    end_stages(root, a=75)  # as the profile expects
    assert state() == " 1/4 1:05, about 11:15 left"
    end_stages(root, a=200)  # twice as long as recorded
    assert state() == " 1/4 1:05, about 23:45 left"
    end_stages(root, b=400, c=600)
    assert state() == " 3/4 1:05, about 12:41 left"
    assert state(jobs=2) == " 3/4 1:05, about 13:04 left", "nobody shares the last one"
    end_stages(root, d=800)
    assert state() == " 4/4 1:05, about 0:00 left"


def test_estimate_takes_what_is_not_recorded_for_the_average_and_a_replicate_for_its_first_seed(root, state):
    record(root, "demo/mine", b=20, c=40, b_replicate1=999)
    assert state("a b c b_replicate1") == " 0/4 1:05, about 22:55 left"  # 110 seconds of 60


def test_what_is_used_of_a_folder_is_said(root, capsys):
    for kind in ("normal", "abnormal"):
        (root / "mine" / kind).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (16, 16), 40 * i).save(root / "mine" / kind / f"{i}.png")
    (root / "mine" / "normal" / "note.txt").write_text("")
    asked = NOTHING | {"profile": "smoke", "dataset": "folder", "data_root": "mine"}
    for _ in range(2):  # also where frames are prepared already
        configure(root, **asked)
        said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("images ")]
        assert said == [
            "images    normal: 5 images; left out: 1 without an image's ending (note.txt)",
            "images    abnormal: 5 images",
        ]


ODD = ['it\'s $HOME `x` "q"', "~", "~nobody", "-v", "<b>&amp;", "a\nb", pytest.param("x" * 250, id="long"), "trailing "]


@pytest.mark.parametrize("name", ODD)
def test_a_data_folder_of_any_name(root, name, capsys):
    for kind in ("normal", "abnormal"):
        (root / name / kind).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (16, 16), 40 * i).save(root / name / kind / f"{i}.png")
    settings = configure(root, **NOTHING | {"profile": "smoke", "dataset": "folder", "data_root": f"{name}/"})
    assert settings["data_root"] == name
    assert re.fullmatch(r"smoke/folder_[A-Za-z0-9_-]{1,80}", settings["results"])
    assert len(capsys.readouterr().out.splitlines()) == 6
    # and the stages find it again
    again = {key: settings[key] for key in ("profile", "dataset", "data_root")}
    assert configure(root, **NOTHING | again) == settings


def test_a_data_folder_that_is_not_utf_8_is_refused_in_one_line(root):
    folder = os.fsdecode(os.fsencode(root) + b"/pr\xfcf")
    write_ped2(Path(folder))
    with pytest.raises(VqadError, match=r"pr\\udcfcf is not UTF-8; rename that folder$"):
        configure(root, **NOTHING | {"profile": "smoke", "dataset": "ucsd_ped2", "data_root": folder})
