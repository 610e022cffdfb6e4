"""ラベルシフトの重みと事後確率の補正: 母集団での厳密な復元、手計算、誤りの文。"""

import numpy as np
import pytest
import torch

from tlkit.adapt.label_shift import correct_prior, label_shift_weights

# 予測 i（行）、ラベル j（列）の件数。P(予測 | ラベル) は列ごとの割合
CONFUSION = np.array([[60, 10, 5], [25, 70, 15], [15, 20, 80]])


def expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """件数の表を、（予測、ラベル）の列にする。"""
    rows, columns = np.indices(counts.shape)
    return np.repeat(rows.ravel(), counts.ravel()), np.repeat(columns.ravel(), counts.ravel())


@pytest.mark.parametrize("scale", [[1, 1, 1], [3, 1, 2], [0, 4, 1]])
def test_population_confusion_gives_the_exact_weights(scale: list[int]) -> None:
    """ターゲットが、クラスごとの件数だけを scale 倍したものなら、w_y = p_T(y)/p_S(y) がちょうど出る。"""
    source_predictions, source_labels = expand(CONFUSION)
    target_predictions, target_labels = expand(CONFUSION * np.array(scale))
    want = (
        np.bincount(target_labels, minlength=3) / len(target_labels) / (np.bincount(source_labels) / len(source_labels))
    )
    found = label_shift_weights(source_predictions, source_labels, target_predictions)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), want, atol=1e-12)


def test_two_classes_by_hand() -> None:
    # C = [[.4, .1], [.1, .4]]、μ = (.32, .68) → w = (.4, 1.6)、つまり p_T = (.2, .8)
    source_predictions, source_labels = expand(np.array([[4, 1], [1, 4]]))
    found = label_shift_weights(source_predictions, source_labels, torch.tensor([0] * 32 + [1] * 68))
    np.testing.assert_allclose(found.numpy(), [0.4, 1.6], atol=1e-12)


def test_transposed_confusion_would_be_another_answer() -> None:
    source_predictions, source_labels = expand(CONFUSION)
    target_predictions, _ = expand(CONFUSION * [3, 1, 2])
    swapped = label_shift_weights(source_labels, source_predictions, target_predictions)
    right = label_shift_weights(source_predictions, source_labels, target_predictions)
    assert (swapped - right).abs().max() > 0.3


def test_negative_estimates_are_returned_as_they_are() -> None:
    source_predictions, source_labels = expand(np.array([[4, 1], [1, 4]]))
    assert label_shift_weights(source_predictions, source_labels, [1] * 10)[0] < 0


def test_sampled_weights_come_close() -> None:
    g = np.random.default_rng(0)
    priors = np.array([[1 / 3, 1 / 3, 1 / 3], [0.1, 0.2, 0.7]])
    labels = [g.choice(3, size=20000, p=p) for p in priors]
    given = CONFUSION / CONFUSION.sum(0)
    predictions = [np.array([g.choice(3, p=given[:, y]) for y in part]) for part in labels]
    found = label_shift_weights(predictions[0], labels[0], predictions[1])
    np.testing.assert_allclose(found.numpy(), priors[1] * 3, atol=0.12)


@pytest.mark.parametrize(
    ("predictions", "labels", "target", "message"),
    [
        ([0, 0, 0, 0], [0, 1, 0, 1], [0, 0], r"\[1\] を一度も予測していない"),
        ([0, 1, 0, 1], [0, 0, 1, 1], [0, 1], "無関係"),
        ([0, 2, 0, 2], [0, 0, 2, 2], [0, 1], r"\[1\] が一件もありません"),
        ([0, 1], [0, 1], [2], "source_labels にない番号"),
        ([0, 1, 1], [0, 1], [1], "3 件"),
        ([0.0, 1.0], [0, 1], [1], "整数"),
        ([0, 1], [0, -1], [1], "負の番号"),
        ([0, 1], [0, 1], [], "target_predictions"),
    ],
)
def test_what_cannot_be_solved_is_refused(predictions: list, labels: list, target: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_shift_weights(predictions, labels, target)


@pytest.mark.parametrize(
    ("p", "before", "after", "want"),
    [(0.5, 0.5, 0.1, 0.1), (0.9, 0.5, 0.1, 0.5), (0.5, 0.1, 0.5, 0.9), (0.3, 0.2, 0.2, 0.3), (1.0, 0.5, 0.1, 1.0)],
)
def test_prior_correction_by_hand(p: float, before: float, after: float, want: float) -> None:
    probs = torch.tensor([[1 - p, p]], dtype=torch.float64)
    found = correct_prior(probs, [1 - before, before], [1 - after, after])
    want_probs = torch.tensor([[1 - want, want]], dtype=torch.float64)
    torch.testing.assert_close(found, want_probs, rtol=0, atol=1e-15)  # 事前確率が float32 に丸められないこと


def test_bayes_rule_of_two_gaussians() -> None:
    """N(±1, 1) の混合なら、事後確率は閉じた形で分かる。事前確率を変えて求め直したものと一致する。"""
    x = torch.linspace(-3, 3, 25, dtype=torch.float64)

    def posterior(prior: float) -> torch.Tensor:
        odds = prior / (1 - prior) * torch.exp(2 * x)
        return torch.stack([1 / (1 + odds), odds / (1 + odds)], dim=-1)

    corrected = correct_prior(posterior(0.3), [0.7, 0.3], [0.2, 0.8])
    torch.testing.assert_close(corrected, posterior(0.8))
    torch.testing.assert_close(correct_prior(corrected, [0.2, 0.8], [0.7, 0.3]), posterior(0.3))


def test_shape_dtype_and_gradient_follow_probs() -> None:
    raw = torch.randn(2, 5, 3, requires_grad=True)
    found = correct_prior(raw.softmax(-1), torch.tensor([0.2, 0.3, 0.5]), [0.5, 0.25, 0.25])
    assert found.shape == raw.shape and found.dtype == torch.float32
    found[..., 0].sum().backward()
    assert raw.grad is not None and raw.grad.abs().sum() > 0
    double = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: correct_prior(z.softmax(-1), [0.2, 0.3, 0.5], [0.5, 0.25, 0.25]), double)


HALF = torch.tensor([[0.5, 0.5]])


@pytest.mark.parametrize(
    ("probs", "before", "after", "message"),
    [
        (HALF, [1.0, 0.0], [0.5, 0.5], "source_prior に 0"),
        (HALF, [0.5, 0.5], [0.5, 0.4], "target_prior が確率"),
        (HALF, [0.5, 0.5], [1.5, -0.5], "target_prior が確率"),
        (HALF, [0.3, 0.3, 0.4], [0.5, 0.5], "同じクラスの数"),
        (HALF * 4, [0.5, 0.5], [0.5, 0.5], "probs が確率"),
        (HALF * float("nan"), [0.5, 0.5], [0.5, 0.5], "probs が確率"),
        (torch.tensor([[1.0, 0.0]]), [0.5, 0.5], [0.0, 1.0], "0 のクラスにしか"),
        (torch.tensor([[1, 0]]), [0.5, 0.5], [0.5, 0.5], "浮動小数点"),
        ([[0.5, 0.5]], [0.5, 0.5], [0.5, 0.5], "list"),
    ],
)
def test_what_is_not_a_probability_is_refused(probs: object, before: list, after: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        correct_prior(probs, before, after)
