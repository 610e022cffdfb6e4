"""生徒モデルの学習。損失（`methods.py`）を変えても、最適化、学習率の予定、検証による選び方は変わらない。"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from tlkit.device import pick_device
from tlkit.distill.methods import Augment, Batch, FromTeacher, unpack
from tlkit.losses.distillation import DistillationLoss, DistillationTerms
from tlkit.training import History, fit

PASSED_ON = ("progress", "checkpoint", "channels_last", "on_epoch", "amp", "restore_best")  # fit にそのまま渡す引数


def fit_distillation(
    student: nn.Module,
    teacher: nn.Module | None,
    train: DataLoader[Any],
    validation: DataLoader[Any] | None,
    *,
    loss: Callable[[Tensor, Tensor, Tensor], DistillationTerms] | None = None,
    augment: Augment | None = None,
    **options: Any,
) -> History:
    """教師モデルの柔らかい確率と、正解ラベルで、生徒モデルを学習する。

    教師モデルは評価モードで、勾配なしで動かす。重みも移動統計も変わらない。
    augment は 1 回だけ掛け、教師モデルと生徒モデルに同じ画像を見せる。

    Args:
        student: 生徒モデル。入力 → ロジット (N, C)。その場で学習する。
        teacher: 教師モデル。None なら、train が `WithTeacherLogits` の（入力, ラベル, ロジット）を返すこと。
        train: （入力, ラベル）を返すローダー。
        validation: （入力, ラベル）を返すローダー。正解率が最良のエポックの重みに戻す。None なら選ばない。
        loss: （生徒のロジット, 教師のロジット, 正解）→ (total, soft, hard)。省くと `DistillationLoss()`。
        augment: 入力を変形する関数。再開しても同じ結果にするには、乱数を train.generator か torch の既定の生成器から引く。
        **options: `fit_student` の引数（epochs か steps、lr、weight_decay、device など）。

    Returns:
        エポックごとの損失の平均（"loss"、"soft"、"hard"）と、検証の正解率（"score"）。

    Raises:
        ValueError: 教師のロジットの出どころが決まらないか、`fit_student` の条件に合わないとき。
        TrainingDivergedError: 損失が有限でなくなったとき。

    出典: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531。
    """
    method = FromTeacher(teacher, DistillationLoss() if loss is None else loss, augment)
    if teacher is not None:
        teacher.to(pick_device(options.get("device", "auto")))
    return fit_student(student, method, train, validation, **options)


def fit_student(  # noqa: PLR0913 どれも名前で渡す
    student: nn.Module,
    method: Callable[[nn.Module, Batch], dict[str, Tensor]],
    train: DataLoader[Any],
    validation: DataLoader[Any] | None = None,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    lr: float = 3e-3,
    weight_decay: float = 1e-2,
    device: str = "auto",
    **options: Any,
) -> History:
    """どの損失でも同じ手順で、生徒モデルを学習する。蒸留と、正解ラベルだけの学習を、同じ条件で比べるためにある。

    最適化は AdamW。学習率は、進み具合 p（0 から 1、更新ごと）について μ_p = lr·(1 + cos πp)/2。

    Args:
        student: 学習するモデル。入力 → ロジット (N, C)。
        method: （モデル, バッチ）→ 損失の辞書。`HardLabels`、`FromTeacher` など。
        train: 学習のローダー。
        validation: 検証の（入力, ラベル）を返すローダー。正解率が最良のエポックの重みに戻す。None なら最後の重みが残る。
        epochs: エポックの数。steps とどちらか一方だけを指定する。
        steps: 更新の回数。
        lr: 初めの学習率 μ_0。
        weight_decay: 重み減衰。
        device: 使う装置（`tlkit.device.pick_device` の名前）。
        **options: `tlkit.training.fit` に渡す引数（progress、checkpoint、channels_last、on_epoch、amp、restore_best）。

    Returns:
        エポックごとの損失の平均と、検証の正解率（"score"）。

    Raises:
        ValueError: epochs と steps の指定、ローダー、options の名前が条件に合わないとき。
        TrainingDivergedError: 損失が有限でなくなったとき。
    """
    if unknown := sorted(options.keys() - set(PASSED_ON)):
        raise ValueError(
            f"引数 {'、'.join(unknown)} は使えません。使えるのは epochs、steps、lr、weight_decay、device、"
            f"{'、'.join(PASSED_ON)} です。"
        )
    total = max(1, steps if steps is not None else (epochs or 0) * len(train))  # 不正な指定は、fit が断る
    student.to(pick_device(device))  # 最適化手法が重みを覚える前に移す
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / total)) / 2)
    validate = None if validation is None else _accuracy_on(validation)
    return fit(
        student,
        train,
        method,
        optimizer,
        epochs=epochs,
        steps=steps,
        scheduler=schedule,
        validate=validate,
        device=device,
        **options,
    )


def _accuracy_on(loader: DataLoader[Any]) -> Callable[[nn.Module], float]:
    """（モデル）→ loader の全データでの正解率。評価モードと勾配なしは、fit が受け持つ。"""

    def accuracy(model: nn.Module) -> float:
        place = next(model.parameters()).device
        hits, count = 0, 0
        for batch in loader:
            x, y, _ = unpack(batch)
            hits += int((model(x.to(place)).argmax(1) == y.to(place)).sum())
            count += len(y)
        if count == 0:
            raise ValueError("validation が空です。データの件数と、batch_size、drop_last の指定を確かめてください。")
        return hits / count

    return accuracy
