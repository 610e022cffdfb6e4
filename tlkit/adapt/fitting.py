"""ドメイン適応の学習ループ。手法（`methods.py`）を変えても、最適化、学習率の予定、バッチの組み方は変わらない。"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from tlkit.adapt.methods import Method
from tlkit.adapt.pairs import Pair, PairLoader
from tlkit.training import History, fit

PASSED_ON = ("device", "progress", "checkpoint", "channels_last", "on_epoch", "amp")  # fit にそのまま渡す引数


def fit_adaptation(  # noqa: PLR0913 どれも名前で渡す
    model: nn.Module,
    method: Method,
    source: DataLoader[Any],
    target: DataLoader[Any],
    *,
    steps: int,
    lr: float = 0.03,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    **options: Any,
) -> History:
    """ソースのラベルと、ターゲットのラベルなしの入力で学習する。モデルは最後の更新のまま残る。

    最適化はモーメンタムつきの SGD。学習率は、進み具合 p（0 から 1、更新ごと）について μ_p = lr / (1 + 10 p)^0.75。
    検証も、途中の選択もしない。ターゲットのラベルで最良のエポックを選ぶと、教師なし適応の測定ではなくなるからである。
    バッチ正規化のあるモデルをターゲットで使うときは、学習の後で `adapt_batchnorm` を呼ぶ。

    Args:
        model: `activations(x)` を持つモデル（`tlkit.models.DANN` など）。
        method: 損失の部品（`SourceOnly`、`DANNLoss`、`MMDLoss`、`CORALLoss` など）。
        source: （入力, ラベル）を返すローダー。
        target: 入力を返すローダー。ラベルは、あっても使わない。
        steps: 更新の回数。
        lr: 初めの学習率 μ_0。
        momentum: モーメンタム。
        weight_decay: 重み減衰。
        **options: `tlkit.training.fit` に渡す引数（device、progress、checkpoint、channels_last、on_epoch、amp）。

    Returns:
        エポックごとの損失の平均（"class"、"domain"、"discrepancy" など）。

    Raises:
        ValueError: steps が 1 に満たないか、options に使えない名前があるか、ローダーが空のとき。
        TrainingDivergedError: 損失が有限でなくなったとき。

    出典: 学習率の予定は Ganin et al., JMLR 17 (2016), 5.2.2 節。
    """
    _check(steps, options)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    schedule = LambdaLR(optimizer, lambda step: (1 + 10 * step / steps) ** -0.75)
    pairs: Any = PairLoader(source, target)

    def loss(network: nn.Module, pair: Pair) -> dict[str, Tensor]:
        # 済んだ更新の数は予定が数えている。再開しても、λ は続きの値になる
        return method(network, pair, schedule.last_epoch / steps)

    return fit(model, pairs, loss, optimizer, steps=steps, scheduler=schedule, restore_best=False, **options)


def _check(steps: int, options: dict[str, Any]) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps に {steps!r} が渡されました。更新の回数を、1 以上の整数で指定してください。")
    if unknown := sorted(options.keys() - set(PASSED_ON)):
        raise ValueError(f"引数 {'、'.join(unknown)} は使えません。fit に渡せるのは {'、'.join(PASSED_ON)} です。")
