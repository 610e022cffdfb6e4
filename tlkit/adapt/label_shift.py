"""ラベルシフト（P(Y) だけが変わる）の重みと、事後確率の補正。共変量シフトの重みは `importance.py`。"""

from collections.abc import Sequence

import torch
from torch import Tensor


def label_shift_weights(source_predictions: object, source_labels: object, target_predictions: object) -> Tensor:
    r"""クラスごとの比 w_y = p_T(y) / p_S(y) を、分類器の混同行列から求める（BBSE の硬い予測の版）。

        C_ij = P_S(予測 = i, ラベル = j),  μ_i = P_T(予測 = i),  w = C^{-1} μ

    ターゲットのラベルは使わない。分類器は正確でなくても、較正されていなくてもよい。要るのは次の三つである。
    P(X | Y) が変わらないこと、ターゲットに現れるクラスがソースにもあること、C が正則であること。
    ソースの予測は、分類器の学習に使わなかった標本のものにする（学習に使った標本では C が対角に寄る）。

    標本が少ないと、w に負の値が出ることがある。切り上げずに返す。重みとして使うときは `w.clamp(min=0)` とする。

    Args:
        source_predictions: ソースで予測したクラスの番号 (N,)。0 から C − 1。
        source_labels: ソースのラベル (N,)。C は、ここに現れる最大の番号 + 1。
        target_predictions: ターゲットで予測したクラスの番号 (M,)。

    Returns:
        (C,) の float64 テンソル。p_T(y) の見積もりは、これに p_S(y) を掛けたものである。

    Raises:
        ValueError: 形や番号が合わないか、C が正則でないとき。

    出典: Lipton, Wang, Smola, "Detecting and Correcting for Label Shift with Black Box Predictors", ICML 2018, 3 節。
    """
    labels = _classes(source_labels, "source_labels")
    source, target = (
        _classes(values, name)
        for values, name in ((source_predictions, "source_predictions"), (target_predictions, "target_predictions"))
    )
    if len(source) != len(labels):
        raise ValueError(
            f"source_predictions は {len(source)} 件、source_labels は {len(labels)} 件です。同じ件数が必要です。"
        )
    count = int(labels.max()) + 1
    if max(int(source.max()), int(target.max())) >= count:
        raise ValueError(
            f"予測に、source_labels にない番号があります（ラベルは 0 から {count - 1} まで）。"
            "ソースに一件もないクラスの重みは決まりません。番号の付け方を確かめてください。"
        )
    joint = torch.bincount(source * count + labels, minlength=count * count).reshape(count, count).double() / len(
        labels
    )
    if int(torch.linalg.matrix_rank(joint)) < count:
        raise ValueError(_singular(joint))
    frequency = torch.bincount(target, minlength=count).double() / len(target)
    weights: Tensor = torch.linalg.solve(joint, frequency)
    return weights


def correct_prior(
    probs: Tensor, source_prior: Sequence[float] | Tensor, target_prior: Sequence[float] | Tensor
) -> Tensor:
    r"""ソースの事後確率を、ターゲットの事前確率に合わせて補正する。

        p_T(y | x) = p_S(y | x) · π_T(y) / π_S(y) ÷ Σ_k p_S(k | x) · π_T(k) / π_S(k)

    P(X | Y) が両ドメインで同じ（ラベルシフト）で、probs が較正された確率であることを仮定する。
    二つのクラスで p_S(1 | x) = 0.5、事前確率が 0.5 から 0.1 に変わるなら、p_T(1 | x) = 0.1 である。

    Args:
        probs: 確率 (..., C) の浮動小数点テンソル。最後の次元の和は 1。勾配が流れる。
        source_prior: ソースの事前確率 (C,)。すべて正で、和は 1。
        target_prior: ターゲットの事前確率 (C,)。0 以上で、和は 1。

    Returns:
        probs と同じ形、dtype、device の確率。

    Raises:
        ValueError: 形が合わないか、確率として正しくないか、補正した確率がすべて 0 になる行があるとき。

    出典: Saerens, Latinne, Decaestecker, Neural Computation 14 (2002), 2 節。Elkan, IJCAI 2001, 定理 2。
    """
    if not isinstance(probs, Tensor) or not probs.is_floating_point() or probs.ndim < 1:
        raise ValueError(
            f"probs に {type(probs).__name__} が渡されました。(..., C) の浮動小数点テンソルにしてください。"
        )
    before, after = (
        _prior(prior, name, probs) for prior, name in ((source_prior, "source_prior"), (target_prior, "target_prior"))
    )
    if not bool((before > 0).all()):
        raise ValueError("source_prior に 0 があります。ソースに一件もないクラスの確率は、補正できません。")
    _check_distribution(probs, "probs")
    scaled = probs * (after / before)
    total = scaled.sum(dim=-1, keepdim=True)
    if not bool((total > 0).all()):
        raise ValueError(
            "target_prior が 0 のクラスにしか確率のない行があります。確率を 0 にしすぎていないか確かめてください。"
        )
    return scaled / total


def _classes(values: object, name: str) -> Tensor:
    """クラスの番号を (N,) の int64 にする。"""
    tensor = torch.as_tensor(values).detach().cpu()
    if tensor.ndim != 1 or len(tensor) == 0 or tensor.is_floating_point() or tensor.is_complex():
        raise ValueError(
            f"{name} に、形 {tuple(tensor.shape)}、{tensor.dtype} の値が渡されました。クラスの番号（整数）を 1 列に並べてください。"
        )
    if int(tensor.min()) < 0:
        raise ValueError(f"{name} に負の番号 {int(tensor.min())} があります。クラスは 0 から数えてください。")
    return tensor.long()


def _prior(prior: Sequence[float] | Tensor, name: str, probs: Tensor) -> Tensor:
    """事前確率を probs と同じ dtype と device の (C,) にする。"""
    tensor = torch.as_tensor(prior, dtype=probs.dtype, device=probs.device)
    if tensor.shape != probs.shape[-1:]:
        raise ValueError(
            f"{name} の形は {tuple(tensor.shape)} です。probs と同じクラスの数の {tuple(probs.shape[-1:])} が必要です。"
        )
    _check_distribution(tensor, name)
    return tensor


def _check_distribution(values: Tensor, name: str) -> None:
    low = bool((values >= 0).all())  # NaN はここで落ちる
    if not low or not bool(((values.sum(dim=-1) - 1).abs() < 1e-2).all()):
        raise ValueError(f"{name} が確率になっていません。0 以上で、クラスについての和が 1 の値を渡してください。")


def _singular(joint: Tensor) -> str:
    """混同行列が正則でない理由。"""
    missing = [index for index, mass in enumerate(joint.sum(dim=0)) if mass == 0]
    unused = [index for index, mass in enumerate(joint.sum(dim=1)) if mass == 0]
    if missing:
        return f"source_labels にクラス {missing} が一件もありません。ソースにないクラスの重みは決まりません。"
    if unused:
        return f"分類器がソースでクラス {unused} を一度も予測していないので、混同行列が正則でなく、重みが決まりません。分類器を学習し直してください。"
    return "混同行列が正則でなく、重みが決まりません。予測がラベルと無関係になっていないか、分類器を確かめてください。"
