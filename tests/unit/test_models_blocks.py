"""The blocks of the autoencoder against NumPy: attention (eq. 8), residual, sampling; and the discriminator."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vqad_lib.models.blocks import Downsample, NonLocal, Residual, Upsample, check_images
from vqad_lib.models.discriminator import PatchDiscriminator
from vqad_lib.models.pixelsnail import CausalAttention, CausalConv2d


def softmax(x: np.ndarray) -> np.ndarray:
    exponent = np.exp(x - x.max(-1, keepdims=True))
    return exponent / exponent.sum(-1, keepdims=True)


def attention_by_numpy(query: np.ndarray, key: np.ndarray, value: np.ndarray, *, causal: bool) -> np.ndarray:
    """softmax(Q K^T / sqrt(d_k)) V (eq. 8) of (positions, d_k) matrices; -inf on later positions where causal."""
    logits = query @ key.T / np.sqrt(key.shape[1])
    if causal:
        logits = np.where(np.tri(len(logits), dtype=bool), logits, -np.inf)
    return softmax(logits) @ value


def positions_by_channels(conv: nn.Conv2d, x: np.ndarray) -> np.ndarray:
    """A 1x1 convolution of one image (C, H, W) as a matrix product: (HW, out)."""
    weight, bias = conv.weight.detach().double().numpy()[:, :, 0, 0], conv.bias.detach().double().numpy()
    return x.reshape(len(x), -1).T @ weight.T + bias


def group_norm_by_numpy(x: np.ndarray, groups: int) -> np.ndarray:
    parts = x.reshape(groups, -1)
    normalised = (parts - parts.mean(1, keepdims=True)) / np.sqrt(parts.var(1, keepdims=True) + 1e-6)
    return normalised.reshape(x.shape)


def images_of(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_eq_08_non_local_block_by_numpy() -> None:
    torch.manual_seed(0)
    block, x = NonLocal(6, norm_groups=3), images_of(2, 6, 3, 4)
    with torch.no_grad():
        block.to_qkv.weight.mul_(4)  # attention far from uniform
        computed = block(x)
    for image, output in zip(x.double().numpy(), computed.numpy(), strict=True):
        query, key, value = np.split(positions_by_channels(block.to_qkv, group_norm_by_numpy(image, 3)), 3, axis=1)
        mixed = attention_by_numpy(query, key, value, causal=False)
        expected = image + positions_by_channels(block.to_out, mixed.T.reshape(6, 3, 4)).T.reshape(6, 3, 4)
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_eq_08_causal_attention_by_numpy() -> None:
    torch.manual_seed(0)
    heads, key_dim = 3, 2
    attention = CausalAttention(5, 4, heads=heads, key_dim=key_dim)
    query_input, key_input = 3 * images_of(2, 5, 2, 3), 3 * images_of(2, 4, 2, 3)
    with torch.no_grad():
        computed = attention(query_input, key_input)
    assert computed.shape == (2, heads * key_dim, 2, 3)
    for b in range(2):
        query = positions_by_channels(attention.to_query, query_input[b].double().numpy())
        key_value = positions_by_channels(attention.to_key_value, key_input[b].double().numpy())
        key, value = np.split(key_value, 2, axis=1)
        for head in range(heads):
            own = slice(head * key_dim, (head + 1) * key_dim)
            expected = attention_by_numpy(query[:, own], key[:, own], value[:, own], causal=True)
            np.testing.assert_allclose(
                computed[b, own].flatten(1).T.numpy(), expected, rtol=1e-4, atol=1e-5, err_msg=f"head {head}"
            )


@pytest.mark.parametrize(("sees_itself", "expected"), [(True, [1, 3, 6, 10, 15]), (False, [0, 1, 3, 6, 10])])
def test_causal_convolution_sums_what_came_before(sees_itself: bool, expected: list[int]) -> None:
    conv = CausalConv2d(1, 1, 9, sees_itself=sees_itself)
    with torch.no_grad():
        conv.weight.fill_(1)
        conv.bias.zero_()
        one_row = conv(torch.tensor([1.0, 2, 3, 4, 5]).reshape(1, 1, 1, 5)).flatten()
    assert one_row.tolist() == expected


def test_causal_convolution_sees_above_right_and_nothing_later() -> None:
    conv = CausalConv2d(1, 1, 3)
    with torch.no_grad():
        conv.weight.fill_(1)
        conv.bias.zero_()
        image = torch.arange(9.0).reshape(1, 1, 3, 3)
        assert conv(image)[0, 0, 1, 1].item() == 0 + 1 + 2 + 3 + 4


@pytest.mark.parametrize("width", [4, 6])
def test_residual_with_silent_second_convolution_is_its_shortcut(width: int) -> None:
    torch.manual_seed(0)
    block, x = Residual(4, width, norm_groups=2), images_of(2, 4, 3, 3)
    with torch.no_grad():
        assert not torch.allclose(block(x), block.shortcut(x), atol=1e-2)
        block.conv2.weight.zero_()
        block.conv2.bias.zero_()
        torch.testing.assert_close(block(x), block.shortcut(x), rtol=0, atol=0)
    assert isinstance(block.shortcut, nn.Identity) == (width == 4)


def test_residual_by_numpy_at_one_pixel() -> None:
    torch.manual_seed(0)
    block, x = Residual(4, 4, norm_groups=2), images_of(1, 4, 1, 1)

    def layer(hidden: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
        normalised = group_norm_by_numpy(hidden.reshape(4, 1, 1), 2).reshape(4)
        swish = normalised / (1 + np.exp(-normalised))
        centre = conv.weight.detach().double().numpy()[:, :, 1, 1]  # the rest of the kernel sees padding
        return centre @ swish + conv.bias.detach().double().numpy()

    start = x.double().numpy().reshape(4)
    expected = start + layer(layer(start, block.conv1), block.conv2)
    np.testing.assert_allclose(block(x).detach().numpy().reshape(4), expected, rtol=1e-4, atol=1e-5)


def test_downsample_keeps_the_grid_aligned_at_the_top_left() -> None:
    block = Downsample(1)
    with torch.no_grad():
        block.conv.weight.zero_()
        block.conv.bias.zero_()
        block.conv.weight[0, 0, 0, 0] = 1  # picks the top left pixel of each window
        halved = block(torch.arange(16.0).reshape(1, 1, 4, 4))
    assert halved.tolist() == [[[[0, 2], [8, 10]]]]


def test_upsample_repeats_pixels() -> None:
    block = Upsample(1)
    with torch.no_grad():
        block.conv.weight.zero_()
        block.conv.bias.zero_()
        block.conv.weight[0, 0, 1, 1] = 1
        doubled = block(torch.tensor([[1.0, 2.0]]).reshape(1, 1, 1, 2))
    assert doubled.tolist() == [[[[1, 1, 2, 2], [1, 1, 2, 2]]]]


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_images_of_another_kind_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\) floats"):
        check_images(images)


@pytest.mark.parametrize(("layers", "patch_px", "out_px"), [(1, 16, 62), (2, 34, 30), (3, 70, 14)])
def test_discriminator_judges_patches_of_the_stated_size(layers: int, patch_px: int, out_px: int) -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(channels=2, layers=layers).eval()
    images = images_of(1, 3, 128, 128).requires_grad_()
    logits = discriminator(images)
    assert logits.shape == (1, 1, out_px, out_px)
    logits[0, 0, out_px // 2, out_px // 2].backward()
    seen = images.grad[0].abs().sum(0) > 0
    assert (int(seen.any(1).sum()), int(seen.any(0).sum())) == (patch_px, patch_px)


def test_discriminator_widths_double_up_to_eight_times() -> None:
    discriminator = PatchDiscriminator(channels=4, layers=5)
    convolutions = [module for module in discriminator.network if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convolutions] == [4, 8, 16, 32, 32, 32, 1]
    assert [conv.stride[0] for conv in convolutions] == [2, 2, 2, 2, 2, 1, 1]
