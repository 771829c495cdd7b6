"""What a run is made of before any network is: the repository, the profile with its overrides, the frames.

Apart from `run`, so that the commands of the Makefile that only compare digests need not import torch.
"""

import functools
import os
import re
import zlib
from dataclasses import replace
from pathlib import Path

from vqad_lib.baselines.labels import SETTINGS as BACKBONE_SETTINGS
from vqad_lib.config import Profile, load_profile
from vqad_lib.config_values import check_name, check_together
from vqad_lib.data.frames import FrameSet, prepare_frames
from vqad_lib.data.sources import choose_dataset
from vqad_lib.errors import VqadError
from vqad_lib.files import read_json
from vqad_lib.losses.labels import SETTINGS
from vqad_lib.workflow.environment import repository_root


def configured(profile: str, *, seed: int | str = "", perceptual: str = "", replicate: int | str = 0) -> Profile:
    """Load `profiles/<profile>.yaml` and put in what the command line overrides ("" leaves the profile's value).

    A file for the perceptual network is made absolute, from the repository.

    Args:
        replicate: the same with another training seed, so many after the given one; see `make SEEDS=`.
    """
    check_name(profile)
    loaded = load_profile(repository_root() / "profiles" / f"{profile}.yaml")
    seed = loaded.seed if seed == "" else _as_seed(seed)
    loaded = replace(loaded, seed=seed + int(replicate))
    own = loaded.gan.perceptual_weights
    weights = perceptual or own
    if weights not in SETTINGS:
        weights = absolute(repository_root(), weights)
    loaded = replace(loaded, gan=replace(loaded.gan, perceptual_weights=weights))
    check_together(loaded, f"profile {profile} with PERCEPTUAL={perceptual}")
    return _with_backbone_weights(loaded, weights if weights != own else "")


def _with_backbone_weights(profile: Profile, instead: str) -> Profile:
    """What `make PERCEPTUAL=` asks for in place of the profile's, ImageNet or random, goes for DFKDE's backbone too.

    A file is one network's, LPIPS's; and a file that the profile names for the backbone stays.
    """
    dfkde = profile.baselines.dfkde
    weights = instead if {instead, dfkde.weights} <= set(BACKBONE_SETTINGS) else dfkde.weights
    if weights not in BACKBONE_SETTINGS:
        weights = absolute(repository_root(), weights)
    return replace(profile, baselines=replace(profile.baselines, dfkde=replace(dfkde, weights=weights)))


def locate(root: Path, profile: Profile, dataset: str, data_root: str) -> tuple[str, Path | None, str]:
    """Which data set, where, and why; see `choose_dataset`."""
    return choose_dataset(dataset or profile.data.dataset, absolute(root, data_root), root)


def absolute(root: Path, path: str) -> str:
    """A path that a person gave, made absolute: from the repository, ~ being the home; "" stays ""."""
    given = root / path
    # what is there may be named ~; os.path leaves a ~name that is nobody's home, where pathlib raises
    return str((given if given.exists() else root / os.path.expanduser(path)).resolve()) if path else ""


@functools.lru_cache(maxsize=2)
def load_frames(root: Path, profile: Profile, dataset: str, data_root: str) -> FrameSet:
    """The prepared frames of a run; decoded at first use, then mapped from data/derived/frames."""
    chosen, folder, _ = locate(root, profile, dataset, data_root)
    return prepare_frames(
        dataset=chosen,
        data_root=folder,
        size_px=profile.data.image_size_px,
        cache_dir=root / "data" / "derived" / "frames",
        synthetic=profile.data.synthetic,
    )


def last_run(root: Path) -> dict[str, str]:
    """What the last `make paper` chose: profile, dataset, data_root, seed, seeds, perceptual, data_digest, results.

    Raises:
        VqadError: there was none, or by an older version.
    """
    path = root / "data" / "derived" / "run.json"
    if not path.exists():
        raise VqadError(f"no {path}; run `make paper` first (`train` and `score` take --profile instead)")
    settings = read_json(path)
    if "results" not in settings:
        raise VqadError(f"{path} is of an older version; run `make paper` again")
    return settings


def results_name(profile: Profile, frames: FrameSet) -> str:
    """Where results of a profile on a data set lie, below reports/, figures/ and data/derived/.

    Returns:
        "<profile>/<data set>": "demo/ucsd_ped2", "demo/synthetic", "demo/folder_my_images". A folder's name keeps
        letters, digits, "_" and "-", 60 at most; what else it has becomes "_", and a check sum tells such names apart.
    """
    if frames.dataset != "folder":
        return f"{profile.name}/{frames.dataset}"
    name = frames.title.removeprefix("image folder ")
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60]
    if plain != name:
        plain += f"_{zlib.crc32(os.fsencode(name)):08x}"
    return f"{profile.name}/folder_{plain}"


def _as_seed(seed: int | str) -> int:
    if not re.fullmatch("[0-9]{1,18}", str(seed)):
        raise VqadError(f"SEED must be a whole number of 1 to 18 digits, got {seed!r}")
    return int(seed)
