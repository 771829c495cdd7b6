"""A run: one profile on one data set with one seed, what the command line overrides, and where everything of it lies.

torch is imported late, for the commands of the Makefile that only compare digests read this too.
"""

from __future__ import annotations

import functools
import os
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqad_lib.config import Profile, check_name, check_together, load_profile, section_digest_source
from vqad_lib.data.datasets import available_schemes, choose_dataset, folder_in_title, prepare_frames
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.motion import with_motion
from vqad_lib.data.splits import split_frames
from vqad_lib.distributed.process import process
from vqad_lib.errors import VqadError
from vqad_lib.experiment.digests import code_digest, digest
from vqad_lib.files import read_json, repository_root, usable_cores
from vqad_lib.losses.pretrained import DFKDE, HED_NETWORK, PERCEPTUAL, WORDS, weights_label

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class RunInfo:
    """What every table and figure carries about the run that made it.

    `perceptual` is as `weights_label` has it, for example "LPIPS alex, random weights (not ImageNet)".
    """

    profile: str
    dataset: str
    perceptual: str
    seed: int

    def line(self) -> str:
        """The labels as one line of text."""
        parts = [f"profile {self.profile}", f"data {self.dataset}", f"seed {self.seed}", self.perceptual]
        return " · ".join(part for part in parts if part)


@dataclass(frozen=True)
class Run:
    """What a notebook works with.

    Attributes:
        root: of the repository.
        profile: every number, with SEED and PERCEPTUAL already put in.
        frames: images, index and masks.
        device: where networks run.
        options: what `python -m vqad_lib train` and `score` need to open the same run; None where they cannot, for its
            profile was `changed`.
        replicate: 0, or how many seeds after the first one of `make SEEDS=` this is; its files lie in folders aside.
    """

    root: Path
    profile: Profile
    frames: FrameSet
    device: torch.device
    options: tuple[str, ...] | None = ()
    replicate: int = 0

    @property
    def labels(self) -> RunInfo:
        """What every table and figure of the run says of itself."""
        gan = self.profile.gan
        perceptual = weights_label(f"LPIPS {gan.perceptual_network}", gan.perceptual_weights)
        return RunInfo(self.profile.name, self.frames.title, perceptual, self.profile.seed)

    @property
    def results(self) -> str:
        """<profile>/<data set>, where results lie below reports/, figures/ and data/derived/.

        "demo/ucsd_ped2", "demo/synthetic", "demo/folder_my_images", "demo/mvtec_ad_bottle". A folder's name keeps
        letters, digits, "_" and "-", 60 at most; what else it has becomes "_", and a check sum tells such names apart.
        """
        name = folder_in_title(self.frames)
        if not name:
            return f"{self.profile.name}/{self.frames.dataset}"
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60]
        if plain != name:
            plain += f"_{zlib.crc32(os.fsencode(name)):08x}"
        return f"{self.profile.name}/{self.frames.dataset}_{plain}"

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
        return self.root / "figures" / self.results / self._aside

    @property
    def schemes(self) -> tuple[str, ...]:
        """How the data set can be split: "paper", and "official" where there are clips."""
        return available_schemes(self.frames.dataset)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the codes."""
        side = self.profile.data.image_size_px // 2 ** (len(self.profile.autoencoder.channels) - 1)
        return side, side

    def splits(self, scheme: str) -> np.ndarray:
        """(n,) str: "train", "validation", "test" or "unused" for each frame."""
        data = self.profile.data
        options = {"seed": data.split_seed, "validation_clips": data.official_validation_clips}
        return split_frames(self.frames.index, scheme=scheme, **options)

    def images(self, rows: np.ndarray) -> torch.Tensor:
        """Frames by row number or mask: (m, 3, H, W) uint8 on the device."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(self.frames.images[rows])).to(self.device)

    def scores_path(self, folder: str, *names: str) -> Path:
        """A tidy parquet: of a combination in the folder of its scheme, named by autoencoder and prior."""
        return self.reports / "scores" / self._aside / folder / f"{'_'.join(names)}.parquet"

    @property
    def _aside(self) -> str:
        """What sets a replicate's files apart, as a folder."""
        return f"seed_{self.profile.seed}" if self.replicate else ""

    def place(self, scheme: str, name: str, *shaping: str, sections: list[str], code: list[str], alone: str) -> Path:
        """Where something lies that is made once and found again: below data/derived, under a digest of what shapes it.

        Args:
            name: what it is called, before the digest.
            shaping: more of what shapes it than the data and those below.
            sections: of the profile.
            code, alone: see `code_digest`.
        """
        profile, modules = section_digest_source(self.profile, sections), code_digest(self.root, code, alone=[alone])
        key = digest(profile, modules, self.frames.digest, scheme, *shaping)
        derived = self.root / "data" / "derived" / self.results / f"seed_{self.profile.seed}"
        return derived / scheme / f"{name}_{key[:12]}"

    def replicates(self) -> list[Run]:
        """This run, and those with the further seeds that the last `make paper SEEDS=` of the same run asked for."""
        path = self.root / "data" / "derived" / "run.json"
        asked = read_json(path) if path.exists() and not self.replicate else {}
        own = {"profile": self.profile.name, "seed": str(self.profile.seed), "data_digest": self.frames.digest}
        further = range(1, int(asked.get("seeds", 1)) if own.items() <= asked.items() else 1)
        return [self] + [
            replace(self, profile=replace(self.profile, seed=self.profile.seed + n), replicate=n) for n in further
        ]

    def changed(self, changes: dict[str, Any]) -> Run:
        """The run with other values in its profile, for example {"autoencoder.latent_dim": 512}.

        Networks and scores of a changed run lie beside those of the run, named by what shaped them. A run on frames as
        they are can be changed to one on what `data.motion` makes of them.

        Raises:
            ValueError: `data` is changed of a run that is on such already.
        """
        profile = self.profile
        for key, value in changes.items():
            profile = _with(profile, key.split("."), value)
        frames = self.frames
        if profile.data != self.profile.data:
            if self.profile.data.input != "frame":
                raise ValueError("change data of a run whose data.input is frame")
            frames = with_motion(frames, profile.data, _kept(self.root))
        return replace(self, profile=profile, frames=frames, options=None if changes else self.options)


def _with(config: Any, path: list[str], value: Any) -> Any:
    name, *rest = path
    return replace(config, **{name: _with(getattr(config, name), rest, value) if rest else value})


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
        dataset: "auto", "synthetic" or a key of `DATASETS`; "" for the profile's.
        data_root: where the data set lies; relative to the repository.
        seed, perceptual, replicate: see `configured`.

    Raises:
        VqadError: profile or data are not usable; the message says which key or file.
    """
    import torch

    root = repository_root()
    loaded = configured(profile, seed=seed, perceptual=perceptual, replicate=replicate)
    # torch itself heeds OMP_NUM_THREADS and affinity, but no cgroup's quota
    torch.set_num_threads(loaded.threads_per_stage or min(torch.get_num_threads(), usable_cores()))
    given = {"profile": profile, "dataset": dataset, "data-root": data_root, "seed": seed, "perceptual": perceptual}
    options = tuple(f"--{key}={value}" for key, value in (given | {"replicate": replicate}).items() if value != "")
    frames = load_frames(root, loaded, dataset, data_root)
    return Run(root, loaded, frames, process().device, options, int(replicate))


def configured(profile: str, *, seed: int | str = "", perceptual: str = "", replicate: int | str = 0) -> Profile:
    """Load `profiles/<profile>.yaml` and put in what the command line overrides ("" leaves the profile's value).

    A file for the perceptual network is made absolute, from the repository; `hed` comes with its own network, a VGG16.

    Args:
        replicate: the same with another training seed, so many after the given one; see `make SEEDS=`.
    """
    check_name(profile)
    loaded = load_profile(repository_root() / "profiles" / f"{profile}.yaml")
    if not re.fullmatch("[0-9]{1,18}", str(seed) or "0"):
        raise VqadError(f"SEED must be a whole number of 1 to 18 digits, got {seed!r}")
    if not re.fullmatch("[0-9]{1,6}", str(replicate)):
        raise VqadError(f"replicate must be a whole number of 1 to 6 digits, got {replicate!r}")
    loaded = replace(loaded, seed=int(loaded.seed if seed == "" else seed) + int(replicate))
    own = loaded.gan.perceptual_weights
    weights = _found(perceptual or own, PERCEPTUAL)
    network = "vgg" if perceptual == "hed" else loaded.gan.perceptual_network
    loaded = replace(loaded, gan=replace(loaded.gan, perceptual_weights=weights, perceptual_network=network))
    check_together(loaded, f"profile {profile} with PERCEPTUAL={perceptual}")
    # what PERCEPTUAL= asks for, ImageNet or random, goes for DFKDE's backbone too; a file and `hed` are one network's,
    # and a file that the profile names for the backbone stays
    dfkde, instead = loaded.baselines.dfkde, weights if weights != own else ""
    follows = {instead, dfkde.weights} <= set(WORDS[DFKDE]) and (instead != "hed" or dfkde.backbone == HED_NETWORK)
    chosen = _found(instead if follows else dfkde.weights, DFKDE)
    return replace(loaded, baselines=replace(loaded.baselines, dfkde=replace(dfkde, weights=chosen)))


def _found(weights: str, setting: str) -> str:
    return weights if weights in WORDS[setting] else absolute(repository_root(), weights)


def locate(root: Path, profile: Profile, dataset: str, data_root: str) -> tuple[str, Path | None, str]:
    """Which data set, where, and why; see `choose_dataset`."""
    return choose_dataset(dataset or profile.data.dataset, absolute(root, data_root), root)


def absolute(root: Path, path: str) -> str:
    """A path that a person gave, made absolute: from the repository, ~ being the home; "" stays ""."""
    # what is there may be named ~; os.path leaves a ~name that is nobody's home, where pathlib raises, and says False
    # of names that no file system allows
    there = os.path.exists(root / path)
    return os.path.realpath(root / path if there else root / os.path.expanduser(path)) if path else ""


@functools.lru_cache(maxsize=2)
def load_frames(root: Path, profile: Profile, dataset: str, data_root: str) -> FrameSet:
    """The prepared frames of a run; decoded at first use, then mapped from data/derived/frames."""
    chosen, folder, _ = locate(root, profile, dataset, data_root)
    frames = prepare_frames(
        dataset=chosen,
        data_root=folder,
        size_px=profile.data.image_size_px,
        cache_dir=_kept(root),
        synthetic=profile.data.synthetic,
    )
    return with_motion(frames, profile.data, _kept(root))


def _kept(root: Path) -> Path:
    """Where prepared frames are kept."""
    return root / "data" / "derived" / "frames"


def last_run(root: Path) -> dict[str, str]:
    """What the last `make paper` chose, and when it began (seconds since the epoch), by `configure`.

    Raises:
        VqadError: there was none, or by an older version.
    """
    path = root / "data" / "derived" / "run.json"
    settings = read_json(path) if path.exists() else {}
    if "started" not in settings:
        raise VqadError(
            f"no {path}, or by an older version; run `make paper` (`train` and `score` take --profile instead)"
        )
    return settings
