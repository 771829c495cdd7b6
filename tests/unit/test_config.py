"""Profiles: a valid mapping loads, and each mistake is refused in one line that names it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from vqad_lib.config import Profile, load_profile, profile_from_mapping, section_digest_source
from vqad_lib.errors import VqadError

PROFILES = Path(__file__).parents[2] / "profiles"


def changed(mapping: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """`mapping` with the dotted `key` set to `value`."""
    *outer, last = key.split(".")
    inner = mapping
    for part in outer:
        inner = inner[part]
    inner[last] = value
    return mapping


def refused(content: Any) -> str:
    """The message with which a mapping is refused."""
    with pytest.raises(VqadError) as caught:
        profile_from_mapping(content, source="my.yaml")
    message = str(caught.value)
    assert message.startswith("my.yaml: ")
    assert "\n" not in message
    return message


def test_valid_mapping_becomes_a_profile(profile_mapping: dict[str, Any]) -> None:
    profile = profile_from_mapping(profile_mapping, source="my.yaml")
    assert profile.autoencoder.channels == (4, 8)
    assert profile.autoencoder.beta == 1.5
    assert profile.expected_minutes == 1.0
    assert isinstance(profile.expected_minutes, float)
    assert profile.training.gpt2.adam_betas == (0.5, 0.9)
    assert profile.detectors.threshold_percentiles == (20, 50, 90)


def test_mapping_covers_every_field(profile_mapping: dict[str, Any]) -> None:
    def fields(part: Any) -> Any:
        if not dataclasses.is_dataclass(part):
            return None
        return {field.name: fields(getattr(part, field.name)) for field in dataclasses.fields(part)}

    def keys(part: Any) -> Any:
        return {key: keys(value) for key, value in part.items()} if isinstance(part, dict) else None

    assert fields(profile_from_mapping(profile_mapping, source="my.yaml")) == keys(profile_mapping)


def test_profile_is_frozen(profile_mapping: dict[str, Any]) -> None:
    profile = profile_from_mapping(profile_mapping, source="my.yaml")
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.gpt2.width = 3


def test_a_file_loads_as_its_mapping(profile_mapping: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(profile_mapping))
    assert load_profile(path) == profile_from_mapping(profile_mapping, source="my.yaml")


@pytest.mark.parametrize("name", ["smoke", "demo", "demo_hed", "rehearsal", "workstation", "paper"])
def test_profiles_of_the_project_load(name: str) -> None:
    profile = load_profile(PROFILES / f"{name}.yaml")
    assert isinstance(profile, Profile)
    assert profile.name == name


def test_the_rehearsal_trains_as_the_paper_does() -> None:
    paper, rehearsal = (load_profile(PROFILES / f"{name}.yaml") for name in ("paper", "rehearsal"))
    for part in ("vqvae", "vqgan", "pixelsnail", "gpt2"):
        theirs, ours = (getattr(profile.training, part) for profile in (paper, rehearsal))
        assert dataclasses.replace(ours, compile=theirs.compile, precision=theirs.precision) == theirs
    narrower = {"discriminator_channels": paper.gan.discriminator_channels, "perceptual_weights": "imagenet"}
    assert dataclasses.replace(rehearsal.gan, **narrower) == paper.gan
    wide = {"channels": paper.autoencoder.channels, "norm_groups": paper.autoencoder.norm_groups}
    assert dataclasses.replace(rehearsal.autoencoder, **wide) == paper.autoencoder


@pytest.mark.parametrize("key", ["haste", "gan.speed", "data.synthetic.speed", "training.vqgan.speed"])
def test_unknown_key_is_named(profile_mapping: dict[str, Any], key: str) -> None:
    assert refused(changed(profile_mapping, key, 1)).startswith(f"my.yaml: {key}: unknown key")


@pytest.mark.parametrize("key", ["seed", "gan", "autoencoder.beta", "data.synthetic.seed", "training.gpt2.patience"])
def test_missing_key_is_named(profile_mapping: dict[str, Any], key: str) -> None:
    *outer, last = key.split(".")
    inner = profile_mapping
    for part in outer:
        inner = inner[part]
    del inner[last]
    assert refused(profile_mapping).startswith(f"my.yaml: {key}: missing key")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "0"),
        ("seed", 1.5),
        ("seed", True),
        ("name", 3),
        ("autoencoder.beta", "large"),
        ("autoencoder.beta", None),
        ("autoencoder.restart_dead_codes", "yes"),
        ("autoencoder.reconstruction", "cubed"),
        ("gan", [1, 2]),
        ("training.vqvae.precision", "float16"),
    ],
)
def test_wrong_type_is_named_with_the_value(profile_mapping: dict[str, Any], key: str, value: Any) -> None:
    message = refused(changed(profile_mapping, key, value))
    assert message.startswith(f"my.yaml: {key}: ")
    assert f"got {value!r}" in message


def test_wrong_type_inside_a_list_is_named_by_its_place(profile_mapping: dict[str, Any]) -> None:
    message = refused(changed(profile_mapping, "autoencoder.channels", [4, "8"]))
    assert message.startswith("my.yaml: autoencoder.channels.1: ")


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("data.image_size_px", 15, "data.image_size_px"),
        ("data.image_size_px", 4, "data.image_size_px"),
        ("autoencoder.channels", [4, 9], "autoencoder.channels"),
        ("autoencoder.channels", [], "autoencoder.channels"),
        ("autoencoder.norm_groups", 0, "autoencoder.norm_groups"),
        ("autoencoder.codebook_size", 0, "autoencoder.codebook_size"),
        ("autoencoder.latent_dim", -1, "autoencoder.latent_dim"),
        ("gan.discriminator_channels", 0, "gan.discriminator_channels"),
        ("gpt2.width", 15, "gpt2.width"),
        ("gpt2.heads", 0, "gpt2.heads"),
        ("gpt2.dropout", 1.5, "gpt2.dropout"),
        ("pixelsnail.kernel_px", 4, "pixelsnail.kernel_px"),
        ("pixelsnail.kernel_px", 1, "pixelsnail.kernel_px"),
        ("pixelsnail.heads", 0, "pixelsnail.heads"),
        ("pixelsnail.dropout", -0.1, "pixelsnail.dropout"),
        ("training.vqvae.batch_size", 0, "training.vqvae.batch_size"),
        ("training.gpt2.max_epochs", 0, "training.gpt2.max_epochs"),
        ("training.vqgan.validate_every_epochs", 0, "training.vqgan.validate_every_epochs"),
        ("detectors.threshold_percentiles", [20, 101], "detectors.threshold_percentiles.1"),
        ("detectors.threshold_percentiles", [], "detectors.threshold_percentiles"),
        ("detectors.threshold_percentiles", [20, 90, 90], "detectors.threshold_percentiles"),
        ("detectors.n_restorations", 0, "detectors.n_restorations"),
        ("detectors.min_pool_px", 2, "detectors.min_pool_px"),
        ("detectors.average_pool_px", 0, "detectors.average_pool_px"),
        ("detectors.chunk_images", 0, "detectors.chunk_images"),
        ("detectors.memory_budget_mb", 0, "detectors.memory_budget_mb"),
        ("evaluation.unsupervised_percentile", 33, "evaluation.unsupervised_percentile"),
        ("evaluation.normal_quantile", 1.5, "evaluation.normal_quantile"),
        ("evaluation.bootstrap_resamples", 0, "evaluation.bootstrap_resamples"),
        ("baselines.ganomaly.epochs", 0, "baselines.ganomaly.epochs"),
        ("baselines.ganomaly.batch_size", 1, "baselines.ganomaly.batch_size"),
        ("baselines.ganomaly.learning_rate", 0, "baselines.ganomaly.learning_rate"),
        ("baselines.dfkde.pca_components", 1, "baselines.dfkde.pca_components"),
        ("baselines.pixel_variance_floor", 0, "baselines.pixel_variance_floor"),
        ("benchmarks.repeats", 0, "benchmarks.repeats"),
        ("benchmarks.scaling_grids", [], "benchmarks.scaling_grids"),
        ("benchmarks.memory_images", [100, 0], "benchmarks.memory_images.1"),
        ("seed", -1, "seed"),
        ("seed", 2**63, "seed"),
        ("name", "my profile", "name"),
        ("name", "../tiny", "name"),
        ("name", "", "name"),
        ("threads_per_stage", -1, "threads_per_stage"),
        ("autoencoder.channels", [8], "autoencoder.channels"),
        ("autoencoder.codebook_decay", 1.0, "autoencoder.codebook_decay"),
        ("autoencoder.beta", -1.0, "autoencoder.beta"),
        ("autoencoder.latent_dim", 10**30, "autoencoder.latent_dim"),
        ("gan.discriminator_layers", 3, "gan.discriminator_layers"),
        ("gan.adaptive_delta", 0, "gan.adaptive_delta"),
        ("gan.adaptive_max", float("nan"), "gan.adaptive_max"),
        ("gan.perceptual_weights", "random", "gan.perceptual_network"),
        ("gan.perceptual_weights", "hed", "gan.perceptual_network"),
        ("gan.perceptual_crop_px", 17, "gan.perceptual_crop_px"),
        ("gan.perceptual_crop_px", -1, "gan.perceptual_crop_px"),
        ("baselines.dfkde.weights", "hed", "baselines.dfkde.backbone"),
        ("pixelsnail.blocks", 0, "pixelsnail.blocks"),
        ("training.vqgan.learning_rate", -1e-4, "training.vqgan.learning_rate"),
        ("training.vqgan.learning_rate", float("nan"), "training.vqgan.learning_rate"),
        ("training.vqgan.learning_rate", float("inf"), "training.vqgan.learning_rate"),
        ("training.vqvae.patience", -1, "training.vqvae.patience"),
        ("training.gpt2.adam_betas", [0.9, 1.0], "training.gpt2.adam_betas.1"),
        ("training.gpt2.final_learning_rate_factor", -0.1, "training.gpt2.final_learning_rate_factor"),
        ("detectors.map_limit", float("nan"), "detectors.map_limit"),
        ("detectors.memory_budget_mb", float("inf"), "detectors.memory_budget_mb"),
        ("capacity.max_epochs", 0, "capacity.max_epochs"),
        ("capacity.latent_dims", [], "capacity.latent_dims"),
        ("speed.plain_seconds", 0, "speed.plain_seconds"),
    ],
)
def test_value_that_nothing_can_be_built_from_is_named(
    profile_mapping: dict[str, Any], key: str, value: Any, named: str
) -> None:
    assert refused(changed(profile_mapping, key, value)).startswith(f"my.yaml: {named}: must")


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_anything_but_a_mapping_is_refused(content: Any) -> None:
    assert "(top level)" in refused(content)


def test_missing_file_names_the_profiles_that_are_there(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.yaml").write_text("")
    with pytest.raises(VqadError, match=r"cannot read profile .*absent\.yaml: No such file.*; profiles there: a, b$"):
        load_profile(tmp_path / "absent.yaml")


def with_line(mapping: dict[str, Any], old: str, new: str) -> str:
    """The mapping as YAML, one of its lines replaced."""
    text = yaml.safe_dump(mapping, sort_keys=False)
    assert text.count(old) == 1, old
    return text.replace(old, new)


def refused_file(folder: Path, content: str | bytes) -> str:
    """The message, without the path, with which `tiny.yaml` is refused."""
    path = folder / "tiny.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(VqadError) as caught:
        load_profile(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a: [1", " is not valid YAML: line 1: "),
        (b"a: b: c", " is not valid YAML: line 1: mapping values are not allowed here"),
        (b"caf\xe9: 1", " is not valid YAML: "),
        (b"\x00", " is not valid YAML: "),
        (b"a:\n\tb: 1", " is not valid YAML: line 2: found character '\\t' that cannot start any token"),
        (b"seed: 1\nabout: x\nseed: 2", ' is not valid YAML: line 3: found duplicate key "seed"'),
        (b"gan:\n  x: 1\n  'x': 1", ' is not valid YAML: line 3: found duplicate key "x"'),
        (b"seed: " + 5000 * b"9", " is not valid YAML: Exceeds the limit"),
        (5000 * b"[", " is not valid YAML: "),
        (b"seed: 1\n---\nseed: 2", " is not valid YAML: line 2: but found another document"),
        (b"seed: !!python/object:os.system 1", " is not valid YAML: line 1: could not determine a constructor"),
        (b"a: &a [*a]", ": Circular reference detected"),
        (
            b"a0: &a0 [1]" + b"".join(b"\na%d: &a%d [*a%d, *a%d]" % (i, i, i - 1, i - 1) for i in range(1, 40)),
            " is not valid YAML: more than 20 aliases",
        ),
        (b"2026-01-01: 1", ": keys must be str"),
        (b"", ": (top level): must be an object, got None"),
        (b"# nothing\n", ": (top level): must be an object, got None"),
        (b"- name: tiny", ": (top level): must be an object, got [{'name': 'tiny'}]"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_in_one_line(tmp_path: Path, content: bytes, problem: str) -> None:
    assert refused_file(tmp_path, content).startswith(problem)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("seed: 0\nexpected", "seed: '0'\nexpected", "seed: must be a valid integer, got '0'; compare with"),
        ("seed: 0\nexpected", "seed: 1:30\nexpected", "seed: must be a valid integer, got '1:30'"),
        ("name: tiny", "name: 7", "name: must be a valid string, got 7"),
        ("name: tiny", "name: no", 'name: is "no", but results lie under the name of the file; write name: "tiny"'),
        ("beta: 1.5", "beta: 1,5", "autoencoder.beta: must be a valid number, got '1,5'"),
        ("beta: 1.5", "beta:", "autoencoder.beta: must be a valid number, got None;"),
        ("beta: 1.5", "beta: .nan", "autoencoder.beta: must be a finite number, got nan"),
        ("beta: 1.5", "beta: -.inf", "autoencoder.beta: must be a finite number, got -inf"),
        ("restart_dead_codes: false", "restart_dead_codes: yes", "must be a valid boolean, got 'yes'"),
    ],
)
def test_slips_of_yaml_are_named(
    profile_mapping: dict[str, Any], tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert problem in refused_file(tmp_path, with_line(profile_mapping, old, new))


def test_numbers_are_read_as_people_mean_them(profile_mapping: dict[str, Any], tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-4 as text and 010 as eight."""
    text = with_line(profile_mapping, "beta: 1.5", "beta: 1e-4").replace("seed: 0\nexpected", "seed: 010\nexpected")
    (tmp_path / "tiny.yaml").write_text(text)
    loaded = load_profile(tmp_path / "tiny.yaml")
    assert (loaded.autoencoder.beta, loaded.seed) == (1e-4, 10)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_line_ends_of_other_systems_load(
    profile_mapping: dict[str, Any], tmp_path: Path, encoding: str, end: str
) -> None:
    text = with_line(profile_mapping, "about: for the tests", "about: für die Prüfung")
    (tmp_path / "tiny.yaml").write_bytes(text.replace("\n", end).encode(encoding))
    assert load_profile(tmp_path / "tiny.yaml").about == "für die Prüfung"


def test_anchors_and_merges_of_yaml_load(profile_mapping: dict[str, Any], tmp_path: Path) -> None:
    training = profile_mapping.pop("training")["vqvae"]
    text = yaml.safe_dump(profile_mapping) + "training:\n  vqvae: &one " + json.dumps(training)
    text += "\n  vqgan: *one\n  pixelsnail: {<<: *one, patience: 7}\n  gpt2: {<<: *one, compile: true}\n"
    (tmp_path / "tiny.yaml").write_text(text)
    loaded = load_profile(tmp_path / "tiny.yaml").training
    assert loaded.vqgan == loaded.vqvae
    assert (loaded.pixelsnail.patience, loaded.vqvae.patience) == (7, 5)
    assert (loaded.gpt2.compile, loaded.vqvae.compile) == (True, False)


def test_a_profile_is_named_as_its_file(profile_mapping: dict[str, Any], tmp_path: Path) -> None:
    """A copy whose `name` was left would put its results over those of the original."""
    path = tmp_path / "copy.yaml"
    path.write_text(yaml.safe_dump(profile_mapping))
    with pytest.raises(VqadError, match=r'copy\.yaml: name: is "tiny", but results lie under .*; write name: "copy"$'):
        load_profile(path)


def test_a_folder_in_place_of_a_profile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").mkdir()
    with pytest.raises(VqadError, match=r"^cannot read profile .*tiny\.yaml: Is a directory; profiles there: none$"):
        load_profile(tmp_path / "tiny.yaml")


def test_digest_source_holds_the_named_sections_only(profile_mapping: dict[str, Any]) -> None:
    sections = ["training.vqvae", "seed"]
    source = section_digest_source(profile_from_mapping(profile_mapping, source="my.yaml"), sections)
    expected = {"seed": 0, "training.vqvae": profile_mapping["training"]["vqvae"]}
    assert json.loads(source) == expected
    elsewhere = changed(profile_mapping, "gpt2.layers", 5)
    assert section_digest_source(profile_from_mapping(elsewhere, source="my.yaml"), sections) == source
    within = changed(profile_mapping, "seed", 1)
    assert section_digest_source(profile_from_mapping(within, source="my.yaml"), sections) != source


def test_a_zero_byte_in_a_path_is_refused_by_name(profile_mapping):
    profile_mapping["gan"]["perceptual_weights"] = "weights\0.pth"
    with pytest.raises(VqadError, match=r"tiny\.yaml: gan\.perceptual_weights: must match"):
        profile_from_mapping(profile_mapping, source="tiny.yaml")
