"""重みの量子化: PyTorch の値との一致、誤差の上限、0 の扱い、モデルの写し。"""

import warnings

import pytest
import torch
from distill_kit import DEVICES, snapshot, tiny, unchanged
from torch import Tensor, nn

from tlkit.distill.quantization import Quantized, dequantize, fake_quantize, quantize, quantize_weights

MODES = [(symmetric, per_channel) for symmetric in (False, True) for per_channel in (False, True)]


def weight(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    size = 10.0 ** torch.linspace(-3, 1, shape[0])
    return (torch.randn(shape, generator=g) * size.view(-1, *[1] * (len(shape) - 1)) + 0.01).to(dtype)


def by_torch(w: Tensor, found: Quantized, bits: int) -> Tensor:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if found.scale.ndim == 0:
        return torch.fake_quantize_per_tensor_affine(w, float(found.scale), int(found.zero_point), least, most)
    zero = found.zero_point.flatten().int()
    return torch.fake_quantize_per_channel_affine(w, found.scale.flatten(), zero, 0, least, most)


@pytest.mark.parametrize(("symmetric", "per_channel"), MODES)
@pytest.mark.parametrize("bits", [8, 5, 2])
def test_values_are_those_of_torch_for_the_same_scale_and_zero_point(bits: int, symmetric: bool, per_channel: bool):
    for shape in ((5, 7), (4, 3, 3, 3)):
        w = weight(*shape)
        found = quantize(w, bits, symmetric=symmetric, per_channel=per_channel)
        gap = (dequantize(found) - by_torch(w, found, bits)).abs() / found.scale
        assert (gap < 1e-3).float().mean() > 0.99 and gap.max() < 1.001  # ちょうど半分の所だけ、1 段違ってよい


def test_integers_are_those_of_the_quantized_tensors_of_torch() -> None:
    w = weight(6, 5)
    whole, each = quantize(w), quantize(w, symmetric=True, per_channel=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 量子化テンソルは廃止の予定で、警告が出る
        if not hasattr(torch, "quantize_per_tensor"):
            pytest.skip("この版の PyTorch には、量子化テンソルがない")
        a = torch.quantize_per_tensor(w, float(whole.scale), int(whole.zero_point), torch.qint8).int_repr()
        scales, zeros = each.scale.flatten().double(), torch.zeros(6, dtype=torch.long)
        b = torch.quantize_per_channel(w, scales, zeros, 0, torch.qint8).int_repr()
    assert torch.equal(a, whole.values) and torch.equal(b, each.values)


@pytest.mark.parametrize(("symmetric", "per_channel"), MODES)
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_error_is_at_most_half_a_step_and_zero_is_exact(bits: int, symmetric: bool, per_channel: bool) -> None:
    for w in (weight(6, 9, dtype=torch.float64), weight(6, 9).abs() + 2, -weight(6, 9).abs() - 2):
        w[:, 0] = 0
        found = quantize(w, bits, symmetric=symmetric, per_channel=per_channel)
        restored = dequantize(found)
        assert bool(((restored - w).abs() <= found.scale * 0.5001).all())
        assert bool((restored[:, 0] == 0).all())
        assert restored.dtype == w.dtype and found.values.dtype == found.zero_point.dtype == torch.int8


def test_the_ends_of_the_range_use_every_level() -> None:
    w = weight(3, 50)
    found = quantize(w)
    assert (int(found.values.min()), int(found.values.max())) == (-128, 127)
    found = quantize(w, 4, symmetric=True, per_channel=True)
    assert found.values.abs().amax(1).tolist() == [7, 7, 7]
    assert int(quantize(torch.tensor([[-1.0, 3.0]])).zero_point) + 128 == 64  # uint8 なら z = 64


@pytest.mark.parametrize(("symmetric", "per_channel"), MODES)
def test_constant_tensors_come_back_without_division_by_zero(symmetric: bool, per_channel: bool) -> None:
    for value in (0.0, 0.7, -2.5):
        w = torch.full((3, 4), value)
        assert torch.allclose(fake_quantize(w, symmetric=symmetric, per_channel=per_channel), w, rtol=1e-6)


def test_rounding_past_the_end_is_clipped_and_the_difference_does_not_overflow() -> None:
    w = torch.tensor([[-101.5, 153.5]])  # s = 1。最大値は 127.5 に当たり、丸めると 128 になる
    found = quantize(w)
    assert found.values.tolist() == [[-128, 127]]
    assert dequantize(found).tolist() == [[-102.0, 153.0]]


def test_each_channel_has_its_own_scale() -> None:
    w = weight(4, 3, 3, 3)
    before = quantize(w, symmetric=True, per_channel=True)
    w[2] *= 100
    after = quantize(w, symmetric=True, per_channel=True)
    assert before.scale.shape == (4, 1, 1, 1) and torch.equal(before.values, after.values)
    changed = (after.scale / before.scale).flatten()
    assert changed.tolist() == pytest.approx([1, 1, 100, 1])


@pytest.mark.parametrize("device", DEVICES)
def test_weights_of_a_copy_are_rounded_and_the_rest_stays(device: str) -> None:
    model = tiny().to(device)
    before = snapshot(model)
    rounded = quantize_weights(model, 3)
    assert unchanged(model, before)
    for name, value in rounded.state_dict().items():
        if name in ("0.weight", "4.weight"):
            assert torch.equal(value, fake_quantize(before[name], 3))
            assert all(len(row.unique()) <= 7 for row in value)
        else:
            assert torch.equal(value, before[name])


def test_fewer_bits_mean_larger_errors() -> None:
    w = weight(8, 40)
    errors = [float((fake_quantize(w, bits) - w).norm()) for bits in range(8, 1, -1)]
    assert errors == sorted(errors) and errors[-1] > 10 * errors[0]


@pytest.mark.parametrize("bits", [1, 9, 0, True, 3.5])
def test_unusable_bits_are_refused(bits: object) -> None:
    with pytest.raises(ValueError, match="bits に"):
        quantize(weight(2, 2), bits)  # type: ignore[arg-type]


@pytest.mark.parametrize("w", [torch.zeros(3), torch.zeros(0, 2), torch.ones(2, 2, dtype=torch.int64)])
def test_unusable_weights_are_refused(w: Tensor) -> None:
    with pytest.raises(ValueError, match="2 次元以上の実数"):
        quantize(w)


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN か無限大"):
        quantize(torch.tensor([[1.0, float("nan")]]))


def test_a_model_without_weights_to_round_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nn\.Linear もありません"):
        quantize_weights(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)))
