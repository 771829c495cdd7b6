"""Two processes on a CPU, by gloo: the weights of one process, equal codebooks, resuming after a kill, error lines."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from vqad_lib.distributed.launch import run_distributed
from vqad_lib.errors import VqadError
from vqad_lib.files import read_json

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = str(Path(__file__).with_name("train_in_processes.py"))
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
NETWORKS = ["vqvae", "vqgan", "gpt2", "pixelsnail"]
# float64 rounds at 1e-16. Where a gradient is nothing else, Adam multiplies it by up to lr / epsilon = 1e5 at each of
# 16 steps. A row, a share or a gradient left out shows at 1e-4 and more.
TOLERANCE = 1e-9


def environment(**changes: str) -> dict[str, str]:
    """No device, nobody's process group, and the package of this repository."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("VQAD_", "SLURM_", "MASTER_"))}
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        kept.pop(key, None)
    kept |= {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return kept | changes


def start(command: list[str], cwd: Path, **changes: str) -> subprocess.Popen:
    return subprocess.Popen(
        command, cwd=cwd, env=environment(**changes), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def free_job() -> str:
    """A job's number whose port is free; below those that systems give out by themselves."""
    for number in range(os.getpid() % 9000, 10000):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("", 20000 + number))
            return str(number)
    raise AssertionError("no free port")


def start_as_srun_does(folder: Path, *networks: str, **changes: str) -> list[subprocess.Popen]:
    """Two tasks of one step, which find each other by the job's number."""
    job = {"SLURM_JOB_ID": free_job(), "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2"} | changes
    command = [sys.executable, SCRIPT, str(folder), *networks]
    return [start(command, folder, **job, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)) for rank in range(2)]


def ended_well(*processes: subprocess.Popen) -> list[str]:
    """What each printed on stdout."""
    said = [process.communicate(timeout=600) for process in processes]
    for process, (_, stderr) in zip(processes, said, strict=True):
        assert process.returncode == 0, stderr
    return [stdout for stdout, _ in said]


@pytest.fixture(scope="module")
def alone_and_together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders in which one process, and two that torchrun started, trained the same networks."""
    folders = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    ended_well(
        start([sys.executable, SCRIPT, str(folders[0]), *NETWORKS], folders[0]),
        start([*TORCHRUN, SCRIPT, str(folders[1]), *NETWORKS, "pixelsnail_dropout"], folders[1]),
    )
    return folders


@pytest.mark.parametrize("network", NETWORKS)
def test_two_processes_train_the_weights_of_one(alone_and_together, network):
    alone, together = (folder / network for folder in alone_and_together)
    files = sorted(path.name for path in alone.glob("*.safetensors") if not path.name.startswith("rank"))
    names = ["discriminator", "vqgan"] if network == "vqgan" else [network]
    assert files == [f"{name}.safetensors" for name in names]
    for file in files:
        expected, found = load_file(alone / file), load_file(together / file)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=TOLERANCE, atol=TOLERANCE, msg=f"{file}: {key}")
    expected, found = (pd.read_csv(folder / "curves.csv").drop(columns="seconds") for folder in (alone, together))
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("network", [*NETWORKS, "pixelsnail_dropout"])
def test_all_processes_end_with_the_same_bits(alone_and_together, network):
    folder = alone_and_together[1] / network
    first = sorted(folder.glob("rank_0_*.safetensors"))
    assert first
    for path in first:
        name = path.name.removeprefix("rank_0_")
        assert path.read_bytes() == (folder / f"rank_1_{name}").read_bytes(), "the processes differ"
        assert path.read_bytes() == (folder / name).read_bytes(), "the file is not what the processes hold"
    assert not list(folder.glob("*checkpoint*"))


def test_dead_codes_did_restart(alone_and_together):
    """Or else the comparisons above say nothing about restarts."""
    counts = {
        read_json(folder / "vqvae" / f"rank_{rank}.json")["restarted"]
        for folder, ranks in zip(alone_and_together, ((0,), (0, 1)), strict=True)
        for rank in ranks
    }
    assert len(counts) == 1
    assert counts.pop() > 5


def test_random_draws_differ_between_processes(alone_and_together):
    first, second = (
        read_json(alone_and_together[1] / "pixelsnail_dropout" / f"rank_{rank}.json")["random"] for rank in range(2)
    )
    assert not set(first) & set(second)


@pytest.mark.stress
def test_killed_processes_go_on_to_the_same_bits(alone_and_together, tmp_path):
    """Every process is killed once there is a checkpoint; dropout's draws must go on too, in both."""
    folder = tmp_path / "pixelsnail_dropout"
    processes = start_as_srun_does(tmp_path, "pixelsnail_dropout", VQAD_WAIT_AT="2")
    try:
        while not (folder / "waits").exists():
            assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
        said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2, said
    assert not (folder / "done.json").exists()
    first, second = ended_well(*start_as_srun_does(tmp_path, "pixelsnail_dropout"))
    assert first == "resuming after epoch 2 of at most 4\n"
    assert second == ""
    name = "pixelsnail_dropout.safetensors"
    assert (folder / name).read_bytes() == (alone_and_together[1] / "pixelsnail_dropout" / name).read_bytes()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own, with the profile smoke made smaller still."""
    root = tmp_path_factory.mktemp("repository")
    (root / "profiles").mkdir()
    (root / "notebooks").mkdir()
    shutil.copytree(REPOSITORY / "vqad_lib", root / "vqad_lib", ignore=shutil.ignore_patterns("__pycache__"))
    profile = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text(encoding="utf-8")) | {"name": "tiny"}
    profile["data"]["synthetic"] |= {"train_clips": 3, "test_clips": 1, "frames_per_clip": 8}
    profile["data"]["official_validation_clips"] = 1
    profile["detectors"]["chunk_images"] = 4
    (root / "profiles" / "tiny.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    return root


def run_command(root: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess:
    changes = {"VQAD_ROOT": str(root), "PYTHONPATH": str(root)} | changes
    command = [sys.executable, "-m", "vqad_lib", *arguments]
    return subprocess.run(
        command, cwd=root, env=environment(**changes), text=True, capture_output=True, timeout=600, check=False
    )


def test_train_starts_processes_and_leaves_a_finished_network(root):
    done = run_command(
        root, "train", "--profile=tiny", "--autoencoder=vqvae", "--scheme=paper", "--seed=4", VQAD_DEVICES="2"
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (root / "data" / "derived" / "tiny" / "synthetic" / "seed_4" / "paper").iterdir()
    assert done.stdout == f"done      {folder.relative_to(root)}\n"
    summary = read_json(folder / "done.json")
    assert (summary["epochs"], summary["processes"]) == (2, 2)
    assert {path.name for path in folder.iterdir()} == {"vqvae.safetensors", "curves.csv", "done.json"}


@pytest.mark.stress
def test_scores_of_two_processes_are_those_of_one(root):
    """The networks come from two processes too; one process then finds them, and scores every chunk by itself."""
    options = ["--profile=tiny", "--seed=3", "--autoencoder=vqvae", "--prior=pixelsnail", "--scheme=paper"]
    without_prior = [option for option in options if "prior" not in option]
    for command in (["train", *without_prior], ["train", *options], ["score-split", *options]):
        ended_well(start([*TORCHRUN, "-m", "vqad_lib", *command], root, VQAD_ROOT=str(root), PYTHONPATH=str(root)))
    path = root / "reports" / "tiny" / "synthetic" / "scores" / "paper" / "vqvae_pixelsnail.parquet"
    together = path.read_bytes()
    path.unlink()
    (parts,) = (root / "data" / "derived" / "tiny" / "synthetic" / "seed_3" / "paper").glob("scores_*")
    shutil.rmtree(parts)
    done = run_command(root, "score-split", *options)
    assert (done.returncode, done.stdout) == (0, f"done      {path.relative_to(root)}\n"), done.stderr
    assert path.read_bytes() == together
    assert len(list(parts.glob("*.parquet"))) > 2, "too few chunks for two processes to share"


def test_what_fails_in_the_processes_is_one_line(root, monkeypatch):
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("VQAD_ROOT", str(root))
    monkeypatch.setenv("VQAD_DEVICES", "2")
    with pytest.raises(VqadError) as caught:
        run_distributed(["train", "--profile=huge", "--autoencoder=vqvae", "--scheme=paper"])
    assert str(caught.value).endswith("profiles there: tiny")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "changes", "status", "said"),
    [
        (
            [],
            {},
            1,
            "error: no {root}/data/derived/run.json, or by an older version; run `make paper` "
            "(`train` and `score` take --profile instead)\n",
        ),
        (["--profile=huge"], {}, 1, "profiles there: tiny"),
        (
            ["--profile=tiny"],
            {"VQAD_DEVICES": "two"},
            1,
            "error: DEVICES must be a whole number of at least 1, got 'two'",
        ),
        (["--profile=tiny"], {"RANK": "2", "WORLD_SIZE": "2"}, 1, "error: RANK is 2, WORLD_SIZE is 2; it must be 0 "),
        (["--profile=tiny", "--prior=lstm"], {}, 2, "invalid choice: 'lstm'"),
    ],
)
def test_bad_arguments_are_one_line(root, arguments, changes, status, said):
    done = run_command(root, "train", "--autoencoder=vqvae", "--scheme=paper", *arguments, **changes)
    assert done.returncode == status
    assert said.format(root=root) in done.stderr
    if status == 1:
        assert len(done.stderr.splitlines()) == 1


def test_processes_end_with_the_one_that_started_them(tmp_path):
    """It holds the other end of their standard input, which is closed whatever way it ends."""
    line = (
        "import time; from vqad_lib.distributed.launch import end_with_starter; print(end_with_starter(), flush=True); "
    )
    started = subprocess.Popen(
        [sys.executable, "-c", line + "time.sleep(100)"],
        env=environment(VQAD_ENDS_WITH_STARTER="1"),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout.readline() == "True\n"
    assert started.poll() is None
    started.stdin.close()
    assert started.wait(timeout=600) == 1
