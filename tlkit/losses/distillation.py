"""知識蒸留の損失: 教師モデルの柔らかい確率（ソフトターゲット）に、生徒モデルの確率を近づける。

`kd_loss` は柔らかい確率の項だけ、`DistillationLoss` は正解ラベルの項との重みつきの和である。
中間層を使う蒸留は `hint.py` と `attention_transfer.py`、学習のくり返しは `tlkit/distill/` にある。
"""

import math
from numbers import Real
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from tlkit.losses._precision import require_floating, returned, to_work


class DistillationTerms(NamedTuple):
    """蒸留の損失と、その内訳。どれも 0 次元。

    Attributes:
        total: α·soft + (1 − α)·hard。最小にする値。
        soft: T²·KL(教師 ‖ 生徒)。T² を含む。
        hard: 正解ラベルの交差エントロピー（温度 1）。
    """

    total: Tensor
    soft: Tensor
    hard: Tensor


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    r"""温度 T の柔らかい確率の間の KL ダイバージェンスに T² を掛け、標本で平均する。

        p_i = softmax(t_i / T)（教師モデル）、q_i = softmax(s_i / T)（生徒モデル）
        L = (T²/N) Σ_i KL(p_i ‖ q_i) = (T²/N) Σ_i Σ_c p_ic (log p_ic − log q_ic)
        ∂L/∂s_ic = (T/N) (q_ic − p_ic)

    KL の勾配は、T が大きいと約 1/T² に縮む。T² を掛けると、T が十分に大きいところでは、
    勾配の大きさが T によらなくなる。低い T では T とともに大きくなるので、α は T と一緒に選ぶ。
    T → ∞ では ∂L/∂s_ic → ((s_ic − s̄_i) − (t_ic − t̄_i)) / (N C) となり、中心化したロジットの差を合わせることに等しい。
    s̄_i と t̄_i は、クラスについての平均である。

    Args:
        student_logits: 生徒モデルのロジット s (N, C)。softmax の前の値で、有限であること。
        teacher_logits: 教師モデルのロジット t (N, C)。勾配を求めるテンソルなら、教師モデルにも勾配が流れる。
        temperature: 温度 T > 0（単位なし。ロジットを割る）。

    Returns:
        0 次元のテンソル。単位は nat·T²。dtype は student_logits と同じ（autocast の中では float32）。
        何階でも微分でき、`torch.func.grad` と `torch.func.vmap` の中でも使える。NaN を含む入力には NaN を返す。

    Raises:
        ValueError: 形が (N, C)（N ≥ 1、C ≥ 2）でそろっていないか、dtype、device、temperature が条件に合わないとき。

    出典: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, 2 節の式 (1)〜(4)。
        論文は p を正解とする交差エントロピーを使う。KL との差 T²·H(p) は s によらないので、生徒モデルの勾配は同じである。
    """
    _check_logits(student_logits, teacher_logits)
    _check_temperature(temperature)
    value = _soft_term(to_work(student_logits), to_work(teacher_logits), float(temperature))
    return returned(value, student_logits)


class DistillationLoss(nn.Module):
    r"""蒸留の損失 L = α·T²·KL(教師_T ‖ 生徒_T) + (1 − α)·CE(生徒, 正解)。

    α は**柔らかい確率（ソフト）の項**の重みである。α = 0 なら正解ラベルだけ、α = 1 なら教師モデルだけを見る。
    実装によっては、α が正解ラベルの項の重みを表す。式を確かめてから値を写すこと。

    Args:
        temperature: 温度 T > 0。ソフトの項だけに使う。
        alpha: ソフトの項の重み α。0 以上 1 以下。

    Raises:
        ValueError: temperature か alpha が範囲の外のとき。

    出典: Hinton, Vinyals, Dean, arXiv:1503.02531, 2 節。二つの項の重みの決め方も、そこにある。
    """

    def __init__(self, temperature: float = 3.0, alpha: float = 0.7) -> None:
        super().__init__()
        _check_temperature(temperature)
        if not _is_number(alpha) or not 0 <= alpha <= 1:
            raise ValueError(
                f"alpha に {alpha!r} が渡されました。ソフトの項の重みを、0 以上 1 以下で指定してください。"
            )
        self.temperature = float(temperature)
        self.alpha = float(alpha)

    def extra_repr(self) -> str:
        """表示に使う設定。"""
        return f"temperature={self.temperature:g}, alpha={self.alpha:g}"

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> DistillationTerms:
        """損失と内訳を求める。

        Args:
            student_logits: (N, C)。
            teacher_logits: (N, C)。
            targets: 正解のクラス番号 (N,)。0 から C − 1 までの整数。

        Raises:
            ValueError: ロジットが `kd_loss` の条件に合わないか、targets の形、dtype、範囲、device が合わないとき。
        """
        _check_logits(student_logits, teacher_logits)
        _check_targets(targets, student_logits)
        student = to_work(student_logits)
        soft = _soft_term(student, to_work(teacher_logits), self.temperature)
        hard = F.cross_entropy(student, targets.long())
        total = self.alpha * soft + (1 - self.alpha) * hard
        return DistillationTerms(*(returned(value, student_logits) for value in (total, soft, hard)))


class _SoftenedKL(Function):
    """(T²/N) Σ_i KL(softmax(t_i/T) ‖ softmax(s_i/T)) と、逆伝播に使う確率の差 q − p (N, C)。

    自動微分に任せると、対数の確率とその勾配の中間結果が残る。ここでは確率の差だけを残し、勾配は式から求める。
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(s: Tensor, t: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """log p_c = u_c + log max p（u = t/T から最大値を引いたもの）を使い、対数の確率を作らずに値を求める。"""
        u, v = _scaled(t, temperature), _scaled(s, temperature)
        p, q = u.softmax(1), v.softmax(1)
        kl = (u - v).mul_(p).sum() + (p.amax(1) / q.amax(1)).log().sum()
        return kl * (temperature**2 / s.shape[0]), q - p

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: tuple[Tensor, Tensor]) -> None:
        """逆伝播に要るものを残す。"""
        s, t, ctx.temperature = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(s, t, output[1])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, _: Any) -> tuple[Tensor | None, Tensor | None, None]:
        """∂L/∂s = (T/N)(q − p)、∂L/∂t = (T/N) p (d − Σ_c p_c d_c)。d は対数の確率の差（行ごとの定数は消える）。

        残した q − p で足りるのは、生徒モデルの 1 階の勾配だけのとき。ほかは、微分できる形で計算し直す。
        """
        s, t, difference = ctx.saved_tensors
        scale = grad_output * (ctx.temperature / s.shape[0])
        if not torch.is_grad_enabled() and not ctx.needs_input_grad[1]:
            return difference * scale, None, None
        u, v = _scaled(t, ctx.temperature), _scaled(s, ctx.temperature)
        p, d = u.softmax(1), u - v
        return (v.softmax(1) - p) * scale, p * (d - (p * d).sum(1, keepdim=True)) * scale, None


def _soft_term(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    value: Tensor = _SoftenedKL.apply(student, teacher, temperature)[0]
    return value


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    """行ごとに最大値を引いて T で割ったロジット (N, C)。確率は変わらず、大きなロジットでもあふれない。"""
    shift = logits.amax(1, keepdim=True).detach() / -temperature
    return torch.add(shift, logits, alpha=1 / temperature)  # 引き算と割り算を 1 回の走査で済ませる


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _check_temperature(temperature: float) -> None:
    if not _is_number(temperature) or temperature <= 0:
        raise ValueError(f"temperature に {temperature!r} が渡されました。温度は正の有限な数にしてください。")


def _check_logits(student: Tensor, teacher: Tensor) -> None:
    shape = tuple(student.shape)
    if shape != tuple(teacher.shape) or len(shape) != 2 or shape[0] < 1 or shape[1] < 2:
        raise ValueError(
            f"student_logits {shape}、teacher_logits {tuple(teacher.shape)} が渡されました。"
            "どちらも同じ形 (N, C) で、N は 1 以上、クラス数 C は 2 以上である必要があります。"
        )
    require_floating(("student_logits", "teacher_logits"), student, teacher)


def _check_targets(targets: Tensor, logits: Tensor) -> None:
    n, classes = logits.shape
    integers = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    if tuple(targets.shape) != (n,) or not integers or targets.device != logits.device:
        raise ValueError(
            f"targets の形は {tuple(targets.shape)}、dtype は {targets.dtype}（{targets.device}）です。"
            f"クラス番号の整数 ({n},) を、ロジットと同じ {logits.device} に置いてください。"
            "確率の形 (N, C) の正解は受け取りません。"
        )
    low, high = (int(value) for value in targets.aminmax())
    if low < 0 or high >= classes:  # 確かめずに GPU の交差エントロピーへ渡すと、プロセスごと使えなくなる
        raise ValueError(
            f"targets の値が {low} から {high} です。0 から {classes - 1} までの番号にしてください（クラス数 {classes}）。"
        )
