"""kd_loss と DistillationLoss を、定義どおりのループ、閉じた式、極限、中心差分、PyTorch の kl_div と比べる。"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vmap

from tlkit.losses import DistillationLoss, kd_loss

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def logits(n: int = 6, c: int = 5, *, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(n, c, generator=g, dtype=torch.float64) for _ in range(2))


def naive_kd(s: Tensor, t: Tensor, temperature: float) -> float:
    """定義の式を、添字のままのループで計算する。"""

    def soft(row: list[float]) -> list[float]:
        total = math.fsum(math.exp(z / temperature) for z in row)
        return [math.exp(z / temperature) / total for z in row]

    rows = zip(s.tolist(), t.tolist(), strict=True)
    kl = [math.fsum(p * math.log(p / q) for p, q in zip(soft(b), soft(a), strict=True)) for a, b in rows]
    return temperature**2 * math.fsum(kl) / len(kl)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("temperature", [0.5, 1, 4.0, 20.0])
@pytest.mark.parametrize("sizes", [(6, 5), (1, 2), (3, 40)])
def test_equals_the_definition_by_loops(sizes: tuple[int, int], temperature: float, device: str) -> None:
    s, t = logits(*sizes)
    value = kd_loss(s.to(device), t.to(device), temperature=temperature)
    assert value.shape == () and value.dtype == torch.float64 and value.device.type == device
    assert value.item() == pytest.approx(naive_kd(s, t, temperature), rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_equals_kl_div_with_log_probabilities_first_and_the_teacher_second(temperature: float) -> None:
    s, t = logits()
    log_q, p = (s / temperature).log_softmax(1), (t / temperature).softmax(1)
    want = temperature**2 * F.kl_div(log_q, p, reduction="batchmean")
    assert kd_loss(s, t, temperature=temperature).item() == pytest.approx(want.item(), rel=1e-12)
    swapped = kd_loss(t, s, temperature=temperature).item()
    assert abs(swapped / want.item() - 1) > 0.05  # KL は対称でない


def test_two_classes_by_hand() -> None:
    """確率 .75 と .5 の KL は .75 log 1.5 + .25 log .5。ロジット T·log 3 と 0 が、その確率になる。"""
    temperature = 3.0
    t = torch.tensor([[temperature * math.log(3), 0.0]], dtype=torch.float64)
    value = kd_loss(torch.zeros_like(t), t, temperature=temperature).item()
    assert value == pytest.approx(9 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_is_the_difference_of_probabilities(temperature: float) -> None:
    s, t = logits(8)
    s.requires_grad_()
    kd_loss(s, t, temperature=temperature).backward()
    want = temperature / 8 * ((s / temperature).softmax(1) - (t / temperature).softmax(1)).detach()
    torch.testing.assert_close(s.grad, want, rtol=1e-12, atol=1e-16)


def test_gradient_equals_that_of_the_soft_cross_entropy_of_the_paper() -> None:
    s, t = (z.requires_grad_() for z in logits())
    ours = torch.autograd.grad(kd_loss(s, t, temperature=2.0), s)[0]
    paper = 4 * F.cross_entropy(s / 2, (t.detach() / 2).softmax(1))
    torch.testing.assert_close(ours, torch.autograd.grad(paper, s)[0], rtol=1e-12, atol=1e-16)


def test_high_temperature_matches_centred_logits() -> None:
    """T → ∞ で、勾配は中心化したロジットの差 ÷ (N C)、値はその二乗和の半分 ÷ (N C)。誤差は 1/T で減る。"""
    s, t = (z.requires_grad_() for z in logits(4, 7))
    gap = ((s - s.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))).detach()

    def errors(temperature: float) -> tuple[float, float]:
        value = kd_loss(s, t, temperature=temperature)
        found = torch.autograd.grad(value, s)[0]
        return float((found - gap / 28).norm() / (gap / 28).norm()), float(
            value.detach() / (gap.square().sum() / 56) - 1
        )

    coarse, fine = errors(1e2), errors(1e4)
    assert fine[0] < 1e-3 and abs(fine[1]) < 1e-3
    assert fine[0] == pytest.approx(coarse[0] / 100, rel=0.1)


def test_factor_t_squared_keeps_the_gradient_from_vanishing() -> None:
    s, t = (z.requires_grad_() for z in logits(64, 10))

    def norm(temperature: float) -> float:
        return float(torch.autograd.grad(kd_loss(s, t, temperature=temperature), s)[0].norm())

    with_factor = [norm(T) for T in (4.0, 20.0)]
    assert with_factor[1] > 0.8 * with_factor[0]
    without = [with_factor[0] / 16, with_factor[1] / 400]
    assert without[1] < 0.05 * without[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("temperature", [0.7, 3.0])
def test_first_and_second_derivatives_agree_with_central_differences(temperature: float, device: str) -> None:
    s, t = (z.to(device).requires_grad_() for z in logits(3, 4))

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return kd_loss(a, b, temperature=temperature)

    assert torch.autograd.gradcheck(loss, (s, t))
    assert torch.autograd.gradgradcheck(loss, (s, t))
    for one_side, leaf in ((lambda a: loss(a, t.detach()), s), (lambda b: loss(s.detach(), b), t)):
        assert torch.autograd.gradcheck(one_side, (leaf,))
        assert torch.autograd.gradgradcheck(one_side, (leaf,))


def test_third_derivative_agrees_with_plain_autograd() -> None:
    def third(loss: object) -> Tensor:
        s, t = (z.requires_grad_() for z in logits(2, 3))
        value = loss(s, t)
        for _ in range(2):
            value = torch.autograd.grad(value, s, create_graph=True)[0].pow(2).sum()
        return torch.autograd.grad(value, (s, t))

    def plain(s: Tensor, t: Tensor) -> Tensor:
        return 4 * F.kl_div((s / 2).log_softmax(1), (t / 2).log_softmax(1), reduction="batchmean", log_target=True)

    for ours, theirs in zip(third(lambda s, t: kd_loss(s, t, temperature=2.0)), third(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-14)


def test_gradient_reaches_the_teacher_through_an_inner_step() -> None:
    """メタ蒸留の形: 生徒モデルの 1 回の更新をまたいで、教師モデルのロジットと初期値に勾配が流れる。"""
    g = torch.Generator().manual_seed(1)
    x, query = torch.randn(6, 3, generator=g).double(), torch.randn(5, 3, generator=g).double()
    y = torch.tensor([0, 1, 2, 3, 0])
    weight = torch.randn(3, 4, generator=g).double().requires_grad_()
    teacher = torch.randn(6, 4, generator=g).double().requires_grad_()

    def outer(w: Tensor, t: Tensor) -> Tensor:
        inner = kd_loss(x @ w, t, temperature=2.0)
        adapted = w - 0.5 * torch.autograd.grad(inner, w, create_graph=True)[0]
        return F.cross_entropy(query @ adapted, y)

    assert torch.autograd.grad(outer(weight, teacher), teacher)[0].norm() > 1e-3
    assert torch.autograd.gradcheck(outer, (weight, teacher), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0)])
def test_torch_func_transforms_agree_with_a_loop(in_dims: tuple[int | None, ...], order: int) -> None:
    def loss(a: Tensor, b: Tensor) -> Tensor:
        return kd_loss(a, b, temperature=2.0)

    def once(a: Tensor, b: Tensor) -> Tensor:
        return grad(loss)(a, b)

    def twice(a: Tensor, b: Tensor) -> Tensor:
        return grad(lambda p, q: once(p, q).square().sum(), argnums=1)(a, b)

    function = {1: once, 2: twice}[order]
    batches = [
        torch.stack(logits(4, 5, seed=seed)) if dim == 0 else logits()[0][:4] for seed, dim in enumerate(in_dims)
    ]
    found = vmap(function, in_dims)(*batches)
    pick = [lambda k, b=b, d=d: b[k] if d == 0 else b for b, d in zip(batches, in_dims, strict=True)]
    want = torch.stack([function(pick[0](k), pick[1](k)) for k in range(2)])
    torch.testing.assert_close(found, want, rtol=1e-10, atol=1e-15)
    leaves = [pick[k](0).clone().requires_grad_() for k in range(2)]
    if order == 1:
        torch.testing.assert_close(found[0], torch.autograd.grad(loss(*leaves), leaves[0])[0])


def test_zero_exactly_where_both_agree_and_positive_elsewhere() -> None:
    s, t = logits()
    assert kd_loss(s, s.clone(), temperature=3.0).item() == 0
    assert kd_loss(s, t, temperature=3.0).item() > 0
    shifted = s + torch.arange(6.0)[:, None]  # 行ごとの定数は、確率を変えない
    assert kd_loss(shifted, s, temperature=3.0).item() == pytest.approx(0, abs=1e-13)


def test_a_confident_teacher_at_temperature_one_gives_the_cross_entropy() -> None:
    s, _ = logits()
    y = torch.tensor([0, 4, 2, 1, 3, 0])
    value = kd_loss(s, 200 * F.one_hot(y, 5).double(), temperature=1.0)
    assert value.item() == pytest.approx(F.cross_entropy(s, y).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("scale", "offset", "temperature"), [(3.0, 0.0, 4.0), (3.0, 0.0, 50.0), (3.0, 1e3, 4.0), (300.0, 0.0, 1.0)]
)
def test_float32_keeps_its_digits(scale: float, offset: float, temperature: float) -> None:
    """高い温度、大きな定数、大きなロジットでも、同じ（丸めた後の）入力の倍精度の値に合う。"""
    s, t = logits(64, 100, scale=scale)
    s, t = (s + offset).float().requires_grad_(), (t - offset).float().requires_grad_()
    exact_s, exact_t = (z.detach().double().requires_grad_() for z in (s, t))
    value, exact = kd_loss(s, t, temperature=temperature), kd_loss(exact_s, exact_t, temperature=temperature)
    assert value.item() == pytest.approx(exact.item(), rel=2e-5)
    found, wanted = torch.autograd.grad(value, (s, t)), torch.autograd.grad(exact, (exact_s, exact_t))
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.isfinite(ours).all() and (ours - theirs).norm() <= 3e-4 * theirs.norm()


def test_extreme_logits_do_not_overflow() -> None:
    s = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    value = kd_loss(s, torch.tensor([[-1e4, 1e4, 0.0]]), temperature=1.0)
    value.backward()
    assert value.item() == pytest.approx(2e4) and s.grad.tolist() == [[1.0, -1.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_follows_the_student_and_halves_are_summed_in_single_precision(dtype: torch.dtype) -> None:
    s, t = (z.to(dtype) for z in logits(32, 10))
    targets = torch.arange(32) % 10
    exact = DistillationLoss()(s.double(), t.double(), targets)
    found = DistillationLoss()(s, t.float(), targets)  # 教師モデルのロジットは、前もって float32 で求めておくことがある
    for value, want in zip(found, exact, strict=True):
        assert value.dtype == dtype
        assert value.item() == pytest.approx(want.item(), rel=torch.finfo(dtype).eps + 1e-6)
    alone = kd_loss(s, t, temperature=3.0)
    assert alone.dtype == dtype and alone.item() == pytest.approx(exact.soft.item(), rel=torch.finfo(dtype).eps + 1e-6)


def test_under_autocast_the_losses_stay_in_float32() -> None:
    s, t = (z.bfloat16() for z in logits())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = DistillationLoss()(s, t, torch.zeros(6, dtype=torch.int64))
    assert {value.dtype for value in values} == {torch.float32}


def test_nan_is_passed_on_and_arguments_are_not_changed() -> None:
    s, t = logits()
    before = s.clone(), t.clone()
    kd_loss(s.requires_grad_(), t, temperature=2.0).backward()
    assert torch.equal(s, before[0]) and torch.equal(t, before[1]) and t.grad is None
    t[0, 0] = math.nan
    assert math.isnan(kd_loss(s, t, temperature=2.0).item())


def test_only_the_teacher_may_need_a_gradient() -> None:
    s, t = logits()
    kd_loss(s, t.requires_grad_(), temperature=2.0).backward()
    assert s.grad is None and t.grad.abs().sum() > 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("alpha", [0, 0.3, 0.7, 1.0])
def test_alpha_weights_the_soft_term(alpha: float, device: str) -> None:
    s, t = (z.to(device) for z in logits())
    y = torch.tensor([0, 4, 2, 1, 3, 0], device=device)
    terms = DistillationLoss(temperature=4, alpha=alpha)(s, t, y)
    soft, hard = naive_kd(s, t, 4.0), F.cross_entropy(s, y).item()
    assert terms._fields == ("total", "soft", "hard")
    assert terms.soft.item() == pytest.approx(soft, rel=1e-12) and terms.hard.item() == pytest.approx(hard, rel=1e-12)
    assert terms.total.item() == pytest.approx(alpha * soft + (1 - alpha) * hard, rel=1e-12)


def test_every_term_can_be_differentiated() -> None:
    s, t = (z.requires_grad_() for z in logits(3, 4))
    y = torch.tensor([3, 0, 1])
    loss = DistillationLoss(2.0, 0.6)
    assert torch.autograd.gradcheck(lambda a, b: tuple(loss(a, b, y)), (s, t))
    assert torch.autograd.gradgradcheck(lambda a, b: loss(a, b, y).total, (s, t))


def test_defaults_and_representation() -> None:
    loss = DistillationLoss()
    assert isinstance(loss, nn.Module) and (loss.temperature, loss.alpha) == (3.0, 0.7)
    assert repr(loss) == "DistillationLoss(temperature=3, alpha=0.7)" and not list(loss.parameters())


GOOD = {"s": torch.zeros(3, 4), "t": torch.ones(3, 4), "y": torch.tensor([0, 1, 3])}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"s": torch.zeros(4)}, ["(4,)", "(N, C)"]),
        ({"s": torch.zeros(3, 5)}, ["(3, 5)", "(3, 4)", "同じ形"]),
        ({"s": torch.zeros(0, 4), "t": torch.zeros(0, 4)}, ["(0, 4)", "1 以上"]),
        ({"s": torch.zeros(3, 1), "t": torch.zeros(3, 1)}, ["(3, 1)", "2 以上"]),
        ({"s": torch.zeros(3, 4, dtype=torch.int64)}, ["torch.int64", "浮動小数点"]),
        ({"t": torch.ones(3, 4, device="meta")}, ["meta", "同じ device"]),
    ],
)
def test_bad_logits_are_refused_by_both(change: dict, words: list[str]) -> None:
    given = GOOD | change
    calls = [
        lambda: kd_loss(given["s"], given["t"], temperature=2.0),
        lambda: DistillationLoss()(given["s"], given["t"], given["y"]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="。") as caught:
            call()
        for word in words:
            assert word in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (torch.tensor([0, 1]), ["(2,)", "(3,)"]),
        (torch.tensor([[0], [1], [2]]), ["(3, 1)"]),
        (torch.zeros(3, 4), ["(3, 4)", "確率"]),
        (torch.tensor([0.0, 1.0, 2.0]), ["torch.float32", "整数"]),
        (torch.tensor([True, False, True]), ["torch.bool"]),
        (torch.tensor([0, 1, 4]), ["0 から 4", "0 から 3"]),
        (torch.tensor([-100, 1, 2]), ["-100", "0 から 3"]),
        (torch.zeros(3, dtype=torch.int64, device="meta"), ["meta", "cpu"]),
    ],
)
def test_bad_targets_are_refused(targets: Tensor, words: list[str]) -> None:
    with pytest.raises(ValueError, match="targets") as caught:
        DistillationLoss()(GOOD["s"], GOOD["t"], targets)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_other_integer_targets_are_accepted(dtype: torch.dtype) -> None:
    wide = DistillationLoss()(GOOD["s"], GOOD["t"], GOOD["y"])
    assert DistillationLoss()(GOOD["s"], GOOD["t"], GOOD["y"].to(dtype)) == wide


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf, True, "3", None])
def test_bad_temperatures_are_refused(temperature: object) -> None:
    for call in (lambda: kd_loss(GOOD["s"], GOOD["t"], temperature=temperature), lambda: DistillationLoss(temperature)):
        with pytest.raises(ValueError, match=r"temperature に .*正の有限な数"):
            call()


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, True, "0.5"])
def test_bad_alphas_are_refused(alpha: object) -> None:
    with pytest.raises(ValueError, match=r"alpha に .*0 以上 1 以下"):
        DistillationLoss(alpha=alpha)
