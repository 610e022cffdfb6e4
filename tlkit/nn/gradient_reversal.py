"""勾配反転層（gradient reversal layer, GRL）: 順伝播では何もせず、逆伝播で勾配に −λ を掛ける。

係数 λ の予定は `dann_schedule.py`、これを使うモデルは `tlkit/models/dann.py` にある。
"""

import math
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function


class _Reverse(Function):
    """順伝播は恒等写像、逆伝播は −λ 倍。"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lambda_: float) -> Tensor:
        """任意の形 → 同じ形。写しは作らない。"""
        ctx.lambda_ = lambda_
        return x.view_as(x)  # 値は同じで、計算の記録だけが新しいテンソル

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        """勾配に −λ を掛ける。λ は数なので、勾配を持たない。"""
        return -ctx.lambda_ * grad_output, None


def gradient_reversal(x: Tensor, lambda_: float) -> Tensor:
    r"""勾配反転。値は x のまま、逆伝播で勾配に −λ を掛ける。

        順伝播  R_λ(x) = x          逆伝播  ∂L/∂x = −λ ∂L/∂R_λ

    ドメイン識別器の手前に置くと、識別器は損失を小さくし、特徴抽出器は同じ損失を大きくする。
    二つの向きの更新が、1 回の逆伝播で済む。R_λ は、どの関数の微分でもない。だから数値微分とは一致しない。

    Args:
        x: 任意の形の浮動小数点テンソル。
        lambda_: 係数 λ。0 以上の有限な数。0 なら勾配を止める。

    Returns:
        x と同じ形、同じ値のテンソル。

    Raises:
        ValueError: λ が負か、有限でないとき。

    出典: Ganin & Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015, 3.2 節。
        Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 17 (2016), 4.2 節の式 (16) と (17)（こちらは λ を外へ出し、−1 を掛ける）。
    """
    reversed_: Tensor = _Reverse.apply(x, _checked(lambda_))
    return reversed_


class GradientReversal(nn.Module):
    """`gradient_reversal` を層にしたもの。学習するパラメータはない。

    Args:
        lambda_: 係数 λ。学習の途中で `layer.lambda_ = 0.5` のように変えてよい。

    Raises:
        ValueError: λ が負か、有限でないとき。
    """

    def __init__(self, lambda_: float = 1.0) -> None:
        super().__init__()
        self.lambda_ = _checked(lambda_)

    def forward(self, x: Tensor) -> Tensor:
        """任意の形 → 同じ形、同じ値。"""
        return gradient_reversal(x, self.lambda_)

    def extra_repr(self) -> str:
        """表示に λ を添える。"""
        return f"lambda_={self.lambda_}"


def _checked(lambda_: float) -> float:
    if not (isinstance(lambda_, int | float) and math.isfinite(lambda_) and lambda_ >= 0):
        raise ValueError(
            f"lambda_ に {lambda_!r} が渡されました。0 以上の有限な数にしてください（符号は勾配反転層が変えます）。"
        )
    return float(lambda_)
