"""The autoencoder: the pipeline of eq. 3, codes of eq. 17 and 18, and Tables 1 and 2 line by line."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from vqad_lib.config import AutoencoderConfig
from vqad_lib.models.autoencoder import Decoder, Encoder, VQAutoencoder, shape_rows
from vqad_lib.models.blocks import Downsample, NonLocal, Residual, Upsample

PAPER = {"channels": (64, 64, 128, 128, 256), "residual_blocks": 2, "norm_groups": 32, "latent_dim": 256}

TABLE_1 = [
    ("input", 128, 128, 3),
    ("Conv2D", 128, 128, 64),
    ("Residual × 2 + Downsample", 64, 64, 64),
    ("Residual × 2 + Downsample", 32, 32, 64),
    ("Residual × 2 + Downsample", 16, 16, 128),
    ("(Residual + NonLocal) × 2 + Downsample", 8, 8, 128),
    ("Residual × 2", 8, 8, 256),
    ("Residual + NonLocal + Residual", 8, 8, 256),
    ("GroupNorm, Swish, Conv2D", 8, 8, 256),
]
TABLE_2 = [
    ("input", 8, 8, 256),
    ("Conv2D", 8, 8, 256),
    ("Residual + NonLocal + Residual", 8, 8, 256),
    ("(Residual + NonLocal) × 3", 8, 8, 256),
    ("(Residual + NonLocal) × 3 + Upsample", 16, 16, 128),
    ("Residual × 3 + Upsample", 32, 32, 128),
    ("Residual × 3 + Upsample", 64, 64, 64),
    ("Residual × 3 + Upsample", 128, 128, 64),
    ("GroupNorm, Swish, Conv2D", 128, 128, 3),
]


def as_tuples(rows: list[dict[str, str | int]]) -> list[tuple[str | int, ...]]:
    return [(row["component"], row["height"], row["width"], row["channels"]) for row in rows]


def block_names(line: nn.Module) -> str:
    """R for residual, N for non-local, D and U for down and up, in the order they run."""
    letters = {Residual: "R", NonLocal: "N", Downsample: "D", Upsample: "U"}
    return "".join(letters[type(block)] for block in line)


@pytest.fixture
def autoencoder(autoencoder_config: AutoencoderConfig) -> VQAutoencoder:
    torch.manual_seed(0)
    model = VQAutoencoder(autoencoder_config).eval()
    with torch.no_grad():
        model.quantiser.codebook.mul_(10)  # codes that lie where the encoder's output does
    return model


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_table_01_encoder_line_by_line(autoencoder_config: AutoencoderConfig) -> None:
    encoder = Encoder(dataclasses.replace(autoencoder_config, **PAPER))
    assert as_tuples(shape_rows(encoder, torch.zeros(1, 3, 128, 128))) == TABLE_1
    middle_lines = list(encoder.children())[1:-1]
    assert [block_names(line) for line in middle_lines] == ["RRD", "RRD", "RRD", "RNRND", "RR", "RNR"]


def test_table_02_decoder_line_by_line(autoencoder_config: AutoencoderConfig) -> None:
    decoder = Decoder(dataclasses.replace(autoencoder_config, **PAPER))
    assert as_tuples(shape_rows(decoder, torch.zeros(1, 256, 8, 8))) == TABLE_2
    middle_lines = list(decoder.children())[1:-1]
    assert [block_names(line) for line in middle_lines] == ["RNR", "RNRNRN", "RNRNRNU", "RRRU", "RRRU", "RRRU"]


def test_a_smaller_network_keeps_the_order_of_blocks(autoencoder_config: AutoencoderConfig) -> None:
    sizes = {"channels": (4, 6, 8), "residual_blocks": 1, "norm_groups": 2, "latent_dim": 5}
    config = dataclasses.replace(autoencoder_config, **sizes)
    encoder, decoder = Encoder(config), Decoder(config)
    assert as_tuples(shape_rows(encoder, torch.zeros(1, 3, 24, 16))) == [
        ("input", 24, 16, 3),
        ("Conv2D", 24, 16, 4),
        ("Residual × 1 + Downsample", 12, 8, 4),
        ("(Residual + NonLocal) × 1 + Downsample", 6, 4, 6),
        ("Residual × 1", 6, 4, 8),
        ("Residual + NonLocal + Residual", 6, 4, 8),
        ("GroupNorm, Swish, Conv2D", 6, 4, 5),
    ]
    assert as_tuples(shape_rows(decoder, torch.zeros(1, 5, 6, 4))) == [
        ("input", 6, 4, 5),
        ("Conv2D", 6, 4, 8),
        ("Residual + NonLocal + Residual", 6, 4, 8),
        ("(Residual + NonLocal) × 2", 6, 4, 8),
        ("(Residual + NonLocal) × 2 + Upsample", 12, 8, 6),
        ("Residual × 2 + Upsample", 24, 16, 4),
        ("GroupNorm, Swish, Conv2D", 24, 16, 3),
    ]


def test_shape_rows_measure_the_live_model(autoencoder_config: AutoencoderConfig) -> None:
    encoder = Encoder(autoencoder_config)
    encoder.first = nn.Conv2d(3, 4, 3, padding=1, stride=2)
    assert as_tuples(shape_rows(encoder, torch.zeros(1, 3, 16, 16)))[1] == ("Conv2D", 8, 8, 4)


def test_eq_03_reconstruction_is_decoder_of_codebook_of_encoder(autoencoder: VQAutoencoder, images: Tensor) -> None:
    with torch.no_grad():
        z_e = autoencoder.encoder(images)
        distance = (z_e.movedim(1, -1)[..., None, :] - autoencoder.quantiser.codebook).norm(dim=-1)  # B h w K
        codes = distance.argmin(-1)
        z_q = autoencoder.quantiser.codebook[codes].movedim(-1, 1)
        expected = autoencoder.decoder(z_q)
        reconstruction, out_z_e, out_z_q, out_codes = autoencoder(images)
    assert codes.unique().numel() > 1
    assert torch.equal(out_codes, codes)
    assert torch.equal(out_z_e, z_e)
    assert torch.equal(out_z_q, z_q)
    torch.testing.assert_close(reconstruction, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(autoencoder.decoder(z_e), expected, atol=1e-3)  # the codebook makes a difference


def test_eq_17_and_18_codes_index_the_quantised_encoding(autoencoder: VQAutoencoder, images: Tensor) -> None:
    with torch.no_grad():
        _, _, z_q, _ = autoencoder(images)
    s = autoencoder.encode(images)
    assert s.shape == (3, 8, 8)
    assert s.dtype == torch.int64
    assert 0 <= s.min() < s.max() < 8
    for b in range(3):
        for i in range(8):
            for j in range(8):
                assert torch.equal(z_q[b, :, i, j], autoencoder.quantiser.codebook[s[b, i, j]])


def test_decode_is_the_clamped_decoder(autoencoder: VQAutoencoder, images: Tensor) -> None:
    codes = autoencoder.encode(images)
    with torch.no_grad():
        autoencoder.decoder.last_weight.mul_(20)
        raw = autoencoder.decoder(autoencoder.quantiser.embed(codes))
    assert raw.abs().max() > 1
    assert torch.equal(autoencoder.decode(codes), raw.clamp(-1, 1))


def test_codes_of_an_image_do_not_depend_on_its_batch(autoencoder: VQAutoencoder, images: Tensor) -> None:
    together = autoencoder.encode(images)
    assert torch.equal(together[1:2], autoencoder.encode(images[1:2]))
    assert torch.equal(together.flip(0), autoencoder.encode(images.flip(0)))


def test_gradient_passes_the_codebook_straight_through(autoencoder: VQAutoencoder, images: Tensor) -> None:
    reconstruction, z_e, z_q, _ = autoencoder.train()(images)
    leaf = z_q.detach().requires_grad_()
    loss = reconstruction.square().sum()
    at_encoder = torch.autograd.grad(loss, z_e, retain_graph=True)[0]
    at_decoder_input = torch.autograd.grad(autoencoder.decoder(leaf).square().sum(), leaf)[0]
    torch.testing.assert_close(at_encoder, at_decoder_input, rtol=1e-3, atol=1e-4)
    assert at_encoder.abs().max() > 1e-2
    assert torch.autograd.grad(loss, autoencoder.quantiser.codebook, allow_unused=True) == (None,)


def test_last_weight_is_the_last_layer_of_the_decoder(autoencoder: VQAutoencoder) -> None:
    weight = autoencoder.decoder.last_weight
    assert weight.shape == (3, 4, 3, 3)
    assert weight is [p for p in autoencoder.decoder.parameters() if p.ndim == 4][-1]


def test_config_reaches_the_quantiser(autoencoder_config: AutoencoderConfig) -> None:
    changed = dataclasses.replace(
        autoencoder_config,
        codebook_size=11,
        latent_dim=3,
        codebook_update="running_average",
        codebook_decay=0.75,
        codebook_init_from_data=True,
        restart_dead_codes=True,
    )
    quantiser = VQAutoencoder(changed).quantiser
    assert quantiser.codebook.shape == (11, 3)
    assert not quantiser.codebook.requires_grad
    assert (quantiser.decay, quantiser.init_from_data, quantiser.restart_dead) == (0.75, True, True)


@pytest.mark.parametrize("entry", ["forward", "encode"])
def test_grey_or_integer_images_are_refused(autoencoder: VQAutoencoder, entry: str) -> None:
    for images in (torch.zeros(1, 1, 16, 16), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="images must be"):
            getattr(autoencoder, entry)(images)
