"""What `make paper` picks, what it says about it, and how long it thinks it will take."""

import fcntl
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
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
from vqad_lib.pipeline import lock
from vqad_lib.pipeline.configure import configure
from vqad_lib.pipeline.notebooks import announce

REPOSITORY = Path(__file__).resolve().parents[2]
NOTHING = dict.fromkeys(("profile", "dataset", "data_root", "seed", "perceptual", "jobs"), "")


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
    write_profiles(root)
    monkeypatch.setenv("VQAD_ROOT", str(root))
    monkeypatch.setattr(module, "_gpu_trouble", lambda: None)
    return root


HIDDEN = "CUDA_VISIBLE_DEVICES= hides it"


@pytest.mark.parametrize(
    ("trouble", "ped2", "profile", "dataset", "said"),
    [
        ("", True, "paper", "ucsd_ped2", "a CUDA device and UCSD Ped2 are here; the small one: make paper PROFILE="),
        ("", False, "demo", "synthetic", "no UCSD Ped2 here, and both are needed"),
        (None, True, "demo", "ucsd_ped2", "no CUDA device here, and both are needed"),
        (None, False, "demo", "synthetic", "no CUDA device and UCSD Ped2 here, and both are needed"),
        (
            HIDDEN,
            True,
            "demo",
            "ucsd_ped2",
            f"no usable CUDA device (nvidia-smi lists one, but {HIDDEN}) here, and both are needed",
        ),
    ],
)
def test_profile_follows_device_and_data(root, monkeypatch, capsys, trouble, ped2, profile, dataset, said):
    monkeypatch.setattr(module, "_gpu_trouble", lambda: trouble)
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
    assert lines[2] == f"seed      0; {jobs} notebook(s) at a time; about 12.5 min"
    assert settings == read_json(root / "data" / "derived" / "run.json")
    assert settings == read_json(root / "data" / "derived" / settings["results"] / "run.json")  # make lab looks there


def test_three_seeds_take_about_twice_as_long(root, capsys):
    configure(root, **NOTHING | {"profile": "demo", "seeds": "3", "jobs": "2"})
    assert capsys.readouterr().out.splitlines()[2] == "seed      0 to 2; 2 notebook(s) at a time; about 26.2 min"


def test_profile_that_was_asked_for(root, monkeypatch, capsys):
    monkeypatch.setattr(module, "_gpu_trouble", lambda: "")
    write_ped2(root / "data" / "raw" / "UCSDped2")
    assert configure(root, **NOTHING | {"profile": "smoke"})["profile"] == "smoke"
    assert "profile   smoke: as asked for by PROFILE=" in capsys.readouterr().out


def test_ped2_elsewhere_counts_for_the_choice(root, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_gpu_trouble", lambda: "")
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
    assert settings == expected | {"seeds": "3", "results": "smoke/synthetic", "weights": "none random", "formats": ""}
    lines = (root / "data" / "derived" / "run.mk").read_text().splitlines()
    assert lines[:3] == ["override PROFILE := smoke", "override RESULTS := smoke/synthetic", "override JOBS := 3"]
    assert lines[3].startswith("override STAGES_OF_PAPER := 00_data 01_architecture 02_train_autoencoder_vqvae_paper ")
    assert lines[4].startswith("override STAGES_OF_FIDELITY := 13_fidelity_measure_restoration_paper ")
    rule = lines.index(
        "$(M)/03_train_prior_vqgan_gpt2_official_replicate2.json: notebooks/03_train_prior.ipynb "
        "$(M)/02_train_autoencoder_vqgan_official_replicate2.json |"
    )
    assert lines[rule + 1] == (
        "\t$(STAGE) 03_train_prior -p autoencoder=vqgan -p prior=gpt2 -p protocol=official -p replicate=2 "
        "--needs 02_train_autoencoder_vqgan_official_replicate2"
    )
    trained = [line.split()[0] for line in lines if line.startswith("$(M)/10_capacity_train")]
    longest_first = [f"$(M)/10_capacity_train_{pair}.json:" for pair in ("32_64", "16_32", "8_32", "16_16")]
    assert trained == longest_first, "so that no core idles at the end"


def test_devices_share_the_cores_and_change_no_file_that_stages_depend_on(root, monkeypatch, capsys):
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    alone = configure(root, **NOTHING)
    assert "override JOBS := 4\n" in (root / "data" / "derived" / "run.mk").read_text()
    assert "processes for each network" not in capsys.readouterr().out
    monkeypatch.setenv("VQAD_DEVICES", "2")
    assert configure(root, **NOTHING) == alone
    assert "override JOBS := 2\n" in (root / "data" / "derived" / "run.mk").read_text()
    expected = "devices   2 processes for each network and its scores, one per CPU core\n"
    assert expected in capsys.readouterr().out
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


def test_run_json_is_rewritten_only_if_it_changes(root):
    path = root / "data" / "derived" / "run.json"
    configure(root, **NOTHING | {"profile": "smoke"})
    os.utime(path, (1, 1))
    configure(root, **NOTHING | {"profile": "smoke"})
    configure(root, **NOTHING | {"profile": "smoke", "seed": "0"})  # the profile's own
    configure(root, **NOTHING | {"profile": "smoke", "jobs": "2"})
    assert path.stat().st_mtime == 1, "every stage would be asked again"
    assert "override JOBS := 2\n" in (root / "data" / "derived" / "run.mk").read_text()
    configure(root, **NOTHING | {"profile": "smoke", "seed": "1"})
    assert path.stat().st_mtime > 1
    assert read_json(path)["seed"] == "1"


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
        ({"profile": "../smoke"}, r"^PROFILE must be the name of a file in profiles/ .*, got '\.\./smoke'$"),
        ({"profile": "my profile"}, r"^PROFILE must be the name of a file in profiles/ .*, got 'my profile'$"),
        ({"seed": "1.5"}, r"^SEED must be a whole number of 1 to 18 digits, got '1\.5'$"),
        ({"jobs": "many"}, r"^JOBS must be a whole number of at least 1, got 'many'$"),
        ({"jobs": "0"}, r"^JOBS must be a whole number of at least 1, got '0'$"),
        ({"jobs": "-2"}, r"^JOBS must be a whole number of at least 1, got '-2'$"),
        ({"dataset": "mnist"}, r"data set 'mnist' is unknown; choose auto, ucsd_ped2, folder or synthetic"),
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


def start(profile: str) -> subprocess.CompletedProcess:
    """`configure`, called by a shell of its own, as make does."""
    command = f'"{sys.executable}" -m vqad_lib configure --profile {profile}; exit $?'
    return subprocess.run(["sh", "-c", command], cwd=REPOSITORY, env=os.environ, capture_output=True, text=True)


def test_second_run_in_one_checkout_is_refused(root, monkeypatch):
    monkeypatch.setattr(os, "getppid", os.getpid)  # a container's first process has no parent
    configure(root, **NOTHING | {"profile": "smoke"})
    files = [root / "data" / "derived" / name for name in ("run.json", "run.mk", "run.lock")]
    before = [path.read_bytes() for path in files]
    second = start("demo")
    assert second.returncode == 1
    assert second.stderr == (
        f"error: another run (smoke) is going on in this checkout, process {os.getppid()} on {socket.gethostname()}; "
        "wait for it, stop it, or use another checkout\n"
    )
    assert [path.read_bytes() for path in files] == before
    configure(root, **NOTHING | {"profile": "demo"})


def test_run_that_has_ended_blocks_nobody(root):
    assert start("smoke").returncode == 0
    assert start("demo").returncode == 0
    assert read_json(root / "data" / "derived" / "run.json")["profile"] == "demo"


@pytest.mark.parametrize(("seconds_ago", "status"), [(5, 1), (2 * lock.STALE_S, 0)])
def test_run_on_another_machine_holds_as_long_as_something_goes_on(root, seconds_ago, status):
    path = root / "data" / "derived" / "run.lock"
    write_json(path, {"host": "elsewhere", "process": 1, "started": "1", "what": "demo"})
    os.utime(path, (time.time() - seconds_ago,) * 2)
    assert start("smoke").returncode == status


def test_nobody_looks_at_the_lock_while_another_takes_it(root, monkeypatch):
    """Two runs that start in one moment would both find it free."""
    refused, holder = [], lock._holder

    def looks(path: Path) -> dict:
        guard = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            refused.append(path.name)
        finally:
            os.close(guard)
        return holder(path)

    monkeypatch.setattr(lock, "_holder", looks)
    for _ in range(2):  # the first one lets go again
        lock.take(root, "smoke")
    assert refused == ["run.lock"] * 2


def test_lock_is_kept_while_a_command_runs(root, monkeypatch):
    path = root / "data" / "derived" / "run.lock"
    monkeypatch.setattr(lock, "_KEEP_EVERY_S", 0.01)
    lock.keep_until_exit(root)
    assert not path.exists()
    lock.take(root, "smoke")
    os.utime(path, (1, 1))
    deadline = time.monotonic() + 600
    while path.stat().st_mtime == 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_manifests_without_their_outputs_are_forgotten(root):
    manifests = root / "data" / "derived" / "smoke" / "synthetic" / "manifests"
    (root / "there.csv").touch()
    write_json(manifests / "00_whole.json", {"outputs": ["there.csv"]})
    write_json(manifests / "01_deleted.json", {"outputs": ["there.csv", "gone.csv"]})
    configure(root, **NOTHING | {"profile": "smoke"})
    assert [path.name for path in manifests.iterdir()] == ["00_whole.json"]


def test_profile_asked_for_says_that_the_gpu_is_not_used(root, monkeypatch, capsys):
    monkeypatch.setattr(module, "_gpu_trouble", lambda: HIDDEN)
    configure(root, **NOTHING | {"profile": "smoke"})
    expected = f"as asked for by PROFILE=; no usable CUDA device (nvidia-smi lists one, but {HIDDEN})"
    assert capsys.readouterr().out.splitlines()[0] == f"profile   smoke: {expected}"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'", HIDDEN),
        ("echo 'No devices found'", None),
        ("echo 'GPU access blocked by the operating system'; exit 9", None),
        (None, None),
    ],
    ids=["device", "no device", "driver fails", "no driver"],
)
def test_asks_torch_only_of_a_gpu_that_the_driver_lists(tmp_path, monkeypatch, script, expected):
    asked = []
    monkeypatch.setattr(module, "gpu_trouble", lambda: asked.append(1) or HIDDEN)
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module._gpu_trouble() == expected
    assert bool(asked) is (expected is not None)


# -- the estimate ----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of four stages that began 65 seconds ago."""
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setenv("VQAD_STAGES", "a b c d")
    monkeypatch.setenv("VQAD_STARTED", str(now - 65))
    monkeypatch.setenv("VQAD_JOBS", "1")
    write_json(tmp_path / "data" / "derived" / "run.json", {"results": "smoke"})
    return tmp_path


def end_stage(root: Path, name: str, *, seconds_ago: float) -> None:
    path = root / "data" / "derived" / "smoke" / "manifests" / f"{name}.json"
    write_json(path, {})
    os.utime(path, (time.time() - seconds_ago,) * 2)


def record(root: Path, **seconds: float) -> None:
    stages = {name: {"seconds": value} for name, value in seconds.items()}
    write_json(root / "reports" / "smoke" / "provenance.json", {"stages": stages})


def test_announce_without_anything_to_go_by(clock):
    assert announce(clock, "a", ended=False) == "[ 0/4 1:05, no estimate yet] start a"


def test_announce_from_this_run(clock):
    end_stage(clock, "a", seconds_ago=5)
    assert announce(clock, "a", ended=True) == "[ 1/4 1:05, about 3:15 left] done  a"


def test_announce_from_an_earlier_run(clock, monkeypatch):
    record(clock, a=10, b=20, c=30, d=400)
    end_stage(clock, "a", seconds_ago=5)
    assert announce(clock, "b", ended=False) == "[ 1/4 1:05, about 7:30 left] start b"
    monkeypatch.setenv("VQAD_JOBS", "2")
    assert announce(clock, "b", ended=False) == "[ 1/4 1:05, about 3:45 left] start b"


def test_announce_fills_gaps_with_the_average(clock):
    record(clock, b=20, c=40)
    end_stage(clock, "a", seconds_ago=5)
    assert announce(clock, "b", ended=False) == "[ 1/4 1:05, about 1:30 left] start b"


def test_announce_does_not_count_stages_of_an_earlier_run(clock):
    end_stage(clock, "a", seconds_ago=5)
    end_stage(clock, "b", seconds_ago=500)
    assert announce(clock, "a", ended=True).startswith("[ 1/4 ")


def test_announce_at_the_end(clock):
    for name in "abcd":
        end_stage(clock, name, seconds_ago=5)
    assert announce(clock, "d", ended=True) == "[ 4/4 1:05, last stage] done  d"


def test_announce_outside_make(clock, monkeypatch):
    for name in ("VQAD_STAGES", "VQAD_STARTED", "VQAD_JOBS"):
        monkeypatch.delenv(name)
    assert announce(clock, "a", ended=False) == "[ 0/1 0:00, no estimate yet] start a"


def test_weights_of_a_file_are_known_by_their_content(root):
    """Make looks at time stamps alone: that of run.json must tell of another file at the same path."""
    file, path = root / "a.pth", root / "data" / "derived" / "run.json"
    for content in (b"first", b"first", b"other"):
        file.write_bytes(content)
        before = path.stat().st_mtime if path.exists() else None
        configure(root, **NOTHING | {"profile": "smoke", "perceptual": "a.pth"})
        assert read_json(path)["weights"] == f"{hashlib.sha256(content).hexdigest()} random"
        if before is None:
            os.utime(path, (1, 1))
        elif content == b"first":
            assert path.stat().st_mtime == 1
    assert path.stat().st_mtime > 1


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
    assert len(capsys.readouterr().out.splitlines()) == 5
    # and the stages find it again
    again = {key: settings[key] for key in ("profile", "dataset", "data_root")}
    assert configure(root, **NOTHING | again) == settings


def test_a_data_folder_that_is_not_utf_8_is_refused_in_one_line(root):
    folder = os.fsdecode(os.fsencode(root) + b"/pr\xfcf")
    write_ped2(Path(folder))
    with pytest.raises(VqadError, match=r"pr\\udcfcf is not UTF-8; rename that folder$"):
        configure(root, **NOTHING | {"profile": "smoke", "dataset": "ucsd_ped2", "data_root": folder})
