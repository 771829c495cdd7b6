"""What `make fidelity` measures: choices where the paper is silent or its published code differs, each both ways.

Plain data, and quick to import: the Makefile asks for the names. `vqad_lib.workflow.fidelity` measures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vqad_lib.config import Profile

RESTORATION = "restoration"  # the one measurement that serves all choices about restorations
NULL = "nearly_null"  # a change too small to matter: it shows how much two trainings differ all the same


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One choice; everything else is equal on its two sides.

    Attributes:
        name: of files and rows.
        matter, paper, published: what is chosen, what the paper's text says, what its published code does.
        key: the profile's key, "" where there is none.
        default, other: the two sides in words.
        changes: what the other side changes in the profile, key -> value.
        base: what both sides change, where the profile's own values would hide the effect.
        autoencoder, prior: the combination that is trained or scored.
    """

    name: str
    matter: str
    paper: str
    published: str
    key: str
    default: str
    other: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    autoencoder: str = "vqgan"
    prior: str = "gpt2"


def trained_choices(profile: Profile) -> list[Choice]:
    """Choices that shape a network, so that one has to be trained for each."""
    heads, gan = profile.gpt2.heads, profile.gan
    blocks = profile.pixelsnail.residual_blocks
    other_blocks = 4 if blocks < 4 else 2  # the paper's number, or the code's where the profile has the paper's
    gradient = {"autoencoder.codebook_update": "gradient", "autoencoder.beta": 2.0}
    vp, gp = {"autoencoder": "vqvae", "prior": "pixelsnail"}, {"prior": "pixelsnail"}
    head_texts = {"matter": "transformer heads", "paper": "16 (gpt2-medium)", "published": "8", "key": "gpt2.heads"}
    return [
        Choice(
            name="random_second_half",
            matter="transformer input in training and scoring",
            paper="the codes",
            published="the second half replaced by random codes",
            key="gpt2.random_second_half",
            default="false",
            other="true",
            changes={"gpt2.random_second_half": True},
        ),
        Choice(
            name="half_the_heads",
            default=f"{heads}",
            other=f"{max(heads // 2, 1)}",
            changes={"gpt2.heads": max(heads // 2, 1)},
            **head_texts,
        ),
        Choice(
            name="twice_the_heads",
            default=f"{heads}",
            other=f"{2 * heads}",
            changes={"gpt2.heads": 2 * heads},
            **head_texts,
        ),
        Choice(
            name="absolute_reconstruction",
            matter="reconstruction loss",
            paper="squared error (eq. 6)",
            published="mean absolute error",
            key="autoencoder.reconstruction",
            default="squared",
            other="absolute",
            changes={"autoencoder.reconstruction": "absolute"},
            **vp,
        ),
        Choice(
            name="beta_on_codebook",
            matter="what β scales (both sides: β = 2, codebook moved by gradient)",
            paper="the commitment loss (eq. 5, 7)",
            published="the codebook loss",
            key="autoencoder.beta_scales",
            default="commitment",
            other="codebook",
            changes={"autoencoder.beta_scales": "codebook"},
            base=gradient,
            **vp,
        ),
        Choice(
            name="hinge",
            matter="adversarial loss",
            paper="log (eq. 13)",
            published="hinge",
            key="gan.adversarial",
            default="log",
            other="hinge",
            changes={"gan.adversarial": "hinge"},
            **gp,
        ),
        Choice(
            name="adaptive_delta",
            matter="adaptive weight, δ",
            paper="1e-6 (eq. 16)",
            published="1e-4",
            key="gan.adaptive_delta",
            default=f"{gan.adaptive_delta:g}",
            other="0.0001",
            changes={"gan.adaptive_delta": 1e-4},
            **gp,
        ),
        Choice(
            name=NULL,
            matter="adaptive weight, δ doubled: next to nothing, for the noise of training",
            paper="1e-6 (eq. 16)",
            published="1e-4",
            key="gan.adaptive_delta",
            default=f"{gan.adaptive_delta:g}",
            other=f"{2 * gan.adaptive_delta:g}",
            changes={"gan.adaptive_delta": 2 * gan.adaptive_delta},
            **gp,
        ),
        Choice(
            name="adaptive_scale",
            matter="adaptive weight, factor",
            paper="1",
            published="0.8",
            key="gan.adaptive_scale",
            default=f"{gan.adaptive_scale:g}",
            other="0.8",
            changes={"gan.adaptive_scale": 0.8},
            **gp,
        ),
        Choice(
            name="half_size_attention",
            matter="PixelSNAIL attention",
            paper="over the whole grid",
            published="over a half-size grid",
            key="pixelsnail.attention_grid",
            default="whole",
            other="half",
            changes={"pixelsnail.attention_grid": "half"},
            **vp,
        ),
        Choice(
            name="residual_blocks",
            matter="residual blocks per PixelSNAIL block",
            paper="4",
            published="2 unless set",
            key="pixelsnail.residual_blocks",
            default=f"{blocks}",
            other=f"{other_blocks}",
            changes={"pixelsnail.residual_blocks": other_blocks},
            **vp,
        ),
    ]


def restoration_choices(profile: Profile) -> list[Choice]:
    """Choices about what is made of restorations: one set of restorations serves all of them."""
    detectors = profile.detectors
    windows = f"{detectors.min_pool_px}x{detectors.min_pool_px} minimum, {detectors.average_pool_px}x"
    windows += f"{detectors.average_pool_px} average"
    counts = [n for n in (1, 5, 15) if n != detectors.n_restorations]
    published_rule = {
        "detectors.weights_over": "colour_channels",
        "detectors.weight_denominator": "mean",
        "detectors.smooth_over": "pixels_and_restorations",
        "detectors.map_limit": 1.0,
    }
    denominator = detectors.weight_denominator
    other_denominator = "sum" if denominator == "mean" else "mean"
    return [
        Choice(
            name="weights_over_colours",
            matter=f"what the weights of eq. 11 are a softmax over (both sides: k over the {denominator})",
            paper="restorations",
            published="colour channels",
            key="detectors.weights_over",
            default="restorations",
            other="colour_channels",
            changes={"detectors.weights_over": "colour_channels"},
        ),
        Choice(
            name="other_denominator",
            matter="what divides k in eq. 11",
            paper="the sum of absolute differences, with k not stated",
            published="their mean, with k = 3",
            key="detectors.weight_denominator",
            default=denominator,
            other=other_denominator,
            changes={"detectors.weight_denominator": other_denominator},
        ),
        Choice(
            name="pool_over_restorations",
            matter="smoothing of residuals",
            paper="3x3 minimum, 7x7 average",
            published="3-D pooling, which also mixes three neighbouring restorations and pads with zeros",
            key="detectors.smooth_over",
            default="pixels",
            other="pixels_and_restorations",
            changes={"detectors.smooth_over": "pixels_and_restorations"},
        ),
        Choice(
            name="no_smoothing",
            matter="smoothing of residuals",
            paper="3x3 minimum, 7x7 average",
            published="3-D pooling, which also mixes three neighbouring restorations and pads with zeros",
            key="detectors.min_pool_px, detectors.average_pool_px",
            default=windows,
            other="none",
            changes={"detectors.min_pool_px": 1, "detectors.average_pool_px": 1},
        ),
        *(
            Choice(
                name=f"restorations_{n}",
                matter="number of restorations N",
                paper="5, though 15 were recommended (section 4.3)",
                published="5",
                key="detectors.n_restorations",
                default=f"{detectors.n_restorations}",
                other=f"{n}",
                changes={"detectors.n_restorations": n},
            )
            for n in counts
        ),
        Choice(
            name="published_rule",
            matter="the published rule as a whole, from restorations to a score",
            paper="eq. 11 and 12",
            published="softmax over colour channels, 3-D pooling, mean of the map, clamped at 1",
            key=", ".join(published_rule),
            default="by the profile",
            other="as published",
            changes=published_rule,
        ),
        Choice(
            name="largest_residual",
            matter="from the map of eq. 12 to one number per image",
            paper="not stated",
            published="mean of the map, clamped at 1",
            key="",
            default="mean",
            other="maximum",
        ),
    ]


AUC_FROM_PREDICTIONS = Choice(
    name="auc_from_predictions",
    matter='what "AUC" is; the other is the best balanced accuracy over all thresholds',
    paper="area under the ROC curve (section 4.2)",
    published="area under the ROC curve of 0/1 predictions, at the best threshold of the reported images",
    key="",
    default="from scores",
    other="from predictions",
)
TEST_SET_THRESHOLD = Choice(
    name="test_set_threshold",
    matter="where the decision threshold comes from",
    paper="not stated",
    published="the images that are reported",
    key="",
    default="validation images",
    other="the reported images themselves",
)


def every_choice(profile: Profile) -> list[Choice]:
    """All choices that a row of the table is about."""
    return [AUC_FROM_PREDICTIONS, TEST_SET_THRESHOLD, *trained_choices(profile), *restoration_choices(profile)]


def measurements(profile: Profile, protocols: tuple[str, ...]) -> list[tuple[str, str]]:
    """(choice, split) of each stage of `make fidelity`.

    What needs no autoencoder or one prior alone is measured on every split; the others, which are dear, on the
    honest one, "official", where the data set has it.
    """
    pairs = [(name, split) for name in (RESTORATION, "random_second_half") for split in protocols]
    honest = "official" if "official" in protocols else protocols[-1]
    return pairs + [(c.name, honest) for c in trained_choices(profile) if c.name != "random_second_half"]
