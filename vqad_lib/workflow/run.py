"""A run: one profile on one data set with one seed, and where everything of it lies."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vqad_lib.config import Profile
from vqad_lib.cores import usable_cores
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.splits import available_protocols, split_frames
from vqad_lib.distributed import process
from vqad_lib.files import read_json
from vqad_lib.losses.labels import perceptual_label
from vqad_lib.reporting.tables import Labels
from vqad_lib.workflow.settings import configured, load_frames, repository_root, results_name


@dataclass(frozen=True)
class Run:
    """What a notebook works with.

    Attributes:
        root: of the repository.
        profile: every number, with SEED and PERCEPTUAL already put in.
        frames: images, index and masks.
        device: where networks run.
        options: what `python -m vqad_lib train` and `score` need to open the same run.
        replicate: 0, or how many seeds after the first one of `make SEEDS=` this is; its files lie in folders aside.
    """

    root: Path
    profile: Profile
    frames: FrameSet
    device: torch.device
    options: tuple[str, ...] = ()
    replicate: int = 0

    @property
    def labels(self) -> Labels:
        """What every table and figure of the run says of itself."""
        gan = self.profile.gan
        return Labels(
            profile=self.profile.name,
            dataset=self.frames.title,
            perceptual=perceptual_label(network=gan.perceptual_network, weights=gan.perceptual_weights),
            seed=self.profile.seed,
        )

    @property
    def results(self) -> str:
        """<profile>/<data set>, see `results_name`."""
        return results_name(self.profile, self.frames)

    @property
    def reports(self) -> Path:
        """reports/<profile>/<data set>."""
        return self.root / "reports" / self.results

    @property
    def tables(self) -> Path:
        """reports/<profile>/<data set>/tables."""
        return self.reports / "tables"

    @property
    def figures(self) -> Path:
        """figures/<profile>/<data set>, and for a replicate seed_<n> therein."""
        folder = self.root / "figures" / self.results
        return folder / replicate_folder(self.replicate, self.profile.seed)

    @property
    def derived(self) -> Path:
        """data/derived/<profile>/<data set>/seed_<n>: networks and what else is made once and found again."""
        return self.root / "data" / "derived" / self.results / f"seed_{self.profile.seed}"

    @property
    def protocols(self) -> tuple[str, ...]:
        """The splits that the data set allows: "paper", and "official" where there are clips."""
        return available_protocols(self.frames.dataset)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the codes."""
        side = self.profile.data.image_size_px // 2 ** (len(self.profile.autoencoder.channels) - 1)
        return side, side

    def subsets(self, protocol: str) -> np.ndarray:
        """(n,) str: "train", "validation", "test" or "unused" for each frame."""
        return split_frames(
            self.frames.index,
            protocol=protocol,
            seed=self.profile.data.split_seed,
            validation_clips=self.profile.data.official_validation_clips,
        )

    def images(self, rows: np.ndarray) -> torch.Tensor:
        """Frames by row number or mask: (m, 3, H, W) uint8 on the device."""
        return torch.from_numpy(np.ascontiguousarray(self.frames.images[rows])).to(self.device)

    def scores_path(self, protocol: str, autoencoder: str, prior: str) -> Path:
        """The tidy parquet of one combination."""
        scores = self.reports / "scores" / replicate_folder(self.replicate, self.profile.seed)
        return scores / protocol / f"{autoencoder}_{prior}.parquet"

    def replicates(self) -> list["Run"]:
        """This run, and those with the further seeds that the last `make paper SEEDS=` of the same run asked for."""
        settings, path = {}, self.root / "data" / "derived" / "run.json"
        if not self.replicate and path.exists():
            settings = read_json(path)
        same = (settings.get("profile"), settings.get("seed"), settings.get("data_digest")) == (
            self.profile.name,
            str(self.profile.seed),
            self.frames.digest,
        )
        further = range(1, int(settings.get("seeds", 1)) if same else 1)
        return [self] + [
            replace(self, profile=replace(self.profile, seed=self.profile.seed + n), replicate=n) for n in further
        ]


def replicate_folder(replicate: int, seed: int) -> str:
    """What sets a replicate's files apart, as a folder: "" for the first seed, else "seed_<n>"."""
    return f"seed_{seed}" if replicate else ""


def open_run(
    profile: str,
    *,
    dataset: str = "",
    data_root: str = "",
    seed: int | str = "",
    perceptual: str = "",
    replicate: int | str = 0,
) -> Run:
    """Load the profile and the frames (decoded at first use), and set the number of threads.

    Args:
        profile: "smoke", "demo", "paper", or any other file in profiles/.
        dataset: "auto", "ucsd_ped2", "synthetic" or "folder"; "" for the profile's.
        data_root: where the data set lies; relative to the repository.
        seed, perceptual, replicate: see `configured`.

    Raises:
        VqadError: profile or data are not usable; the message says which key or file.
    """
    root = repository_root()
    loaded = configured(profile, seed=seed, perceptual=perceptual, replicate=replicate)
    # torch itself heeds OMP_NUM_THREADS and affinity, but no cgroup's quota
    torch.set_num_threads(loaded.threads_per_stage or min(torch.get_num_threads(), usable_cores()))
    given = {"profile": profile, "dataset": dataset, "data-root": data_root, "seed": seed, "perceptual": perceptual}
    options = tuple(f"--{key}={value}" for key, value in (given | {"replicate": replicate}).items() if value != "")
    frames = load_frames(root, loaded, dataset, data_root)
    return Run(root, loaded, frames, process().device, options, int(replicate))
