"""学習のくり返しは、ここ一か所だけに書く。手法の違いは、損失の関数として渡す。

`fit` が受け持つのは、どの手法にも共通なことである。装置への移動、混合精度、記録、検証で最良の重みの保存、
途中で止まった学習の再開、損失が発散したときの停止。保存と再開の中身は `_checkpoint.py` にある。
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from tlkit._checkpoint import TrainingState
from tlkit._progress import Progress
from tlkit.device import pick_device

Loss = Callable[[nn.Module, Any], Tensor | Mapping[str, Tensor]]


class TrainingDivergedError(FloatingPointError):
    """損失が有限でなくなったために、学習を止めたことを知らせる。"""


@dataclass
class History:
    """学習の記録。

    Attributes:
        epochs: エポックごとの値。"epoch"、"step"、損失（"loss" など、エポック内の平均）、検証の値 "score"。
        best_epoch: 検証の値が最良だったエポック（1 始まり）。検証しなければ None。
        best_state: そのときの重みの写し（CPU 上）。検証しなければ None。
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    best_state: dict[str, Tensor] | None = None

    @property
    def best_score(self) -> float | None:
        """検証の最良の値。"""
        return None if self.best_epoch is None else self.epochs[self.best_epoch - 1]["score"]

    def add(
        self, row: dict[str, float], model: nn.Module, validate: Callable[[nn.Module], float] | None, mode: str
    ) -> None:
        """1 エポックの値を加える。検証の値がこれまでより良ければ、重みの写しを取る。"""
        self.epochs.append(row)
        if validate is None:
            return
        model.eval()
        with torch.inference_mode():
            row["score"] = float(validate(model))
        sign, best = (1 if mode == "max" else -1), self.best_score
        if not math.isnan(row["score"]) and (best is None or sign * row["score"] > sign * best):
            self.best_epoch = len(self.epochs)
            # state_dict() が返すのは参照である。写しを取らないと、学習とともに「最良の重み」も変わってしまう
            self.best_state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}

    def restore(self, model: nn.Module) -> None:
        """最良の重みがあれば、モデルに戻す。"""
        if self.best_state is not None:
            model.load_state_dict(self.best_state)


def fit(  # noqa: PLR0913 どれも名前で渡す。まとめると、かえって読みにくい
    model: nn.Module,
    loader: DataLoader[Any],
    loss: Loss,
    optimizer: Optimizer,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    scheduler: LRScheduler | None = None,
    on_epoch: Callable[[int], None] | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    mode: Literal["max", "min"] = "max",
    restore_best: bool = True,
    device: str = "auto",
    amp: torch.dtype | None = None,
    channels_last: bool = False,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> History:
    """モデルを学習する。終わると、検証で最良だったエポックの重みに戻す。

    Args:
        model: 学習するモデル。装置へ移し、エポックごとに `train()` を呼ぶ。
        loader: 学習データ。バッチの中のテンソル（入れ子でもよい）を装置へ移す。
        loss: （モデル, バッチ）→ 損失。辞書を返すときは "loss" を最小にし、ほかの値は記録だけする。
        optimizer: 更新するパラメータを持つ最適化手法。
        epochs: エポックの数。steps とどちらか一方だけを指定する。
        steps: 更新の回数。loader を使い切ったら、初めから引き直す。
        scheduler: 学習率の予定。更新のたびに 1 回進める。
        on_epoch: エポックの始まりに、その番号（0 始まり。再開したときは続きから）で呼ぶ関数。段階的解凍などに使う。
        validate: 検証の値を返す関数。評価モードで、勾配なしで、エポックの終わりに呼ぶ。テストのラベルを渡してはならない。
        mode: 検証の値が大きいほど良いなら "max"、小さいほど良いなら "min"。
        restore_best: 終わりに最良の重みへ戻すか。
        device: `tlkit.device.pick_device` に渡す名前。
        amp: 混合精度の dtype（torch.bfloat16 か torch.float16）。None なら使わない。使うと、機械の間で末尾の桁が変わる。
        channels_last: 画像の並びを NHWC にする（畳み込みが速くなることがある）。
        checkpoint: 途中経過を書くファイル。すでにあれば、続きから再開する。失うのは多くても 1 エポックである。
        progress: 経過を表示するか。表示は一行を書き換えるだけで、ノートブックに部品を残さない。

    Raises:
        ValueError: epochs と steps の指定、loader、損失の形が条件に合わないとき。
        TrainingDivergedError: 損失が NaN か無限大になったとき。それまでの最良の重みがあれば、戻してから知らせる。
    """
    total = _plan(loader, epochs, steps)
    run = _Run(model, loader, loss, optimizer, scheduler, on_epoch, pick_device(device), amp, channels_last)
    history = History()
    state = TrainingState(model, optimizer, scheduler, run.scaler, loader, history)
    done = state.load(checkpoint) if checkpoint else 0
    bar = Progress(total, enabled=progress)
    try:
        for row in run.epochs(done, total, bar):
            history.add(row, model, validate, mode)
            if checkpoint:
                state.save(checkpoint, int(row["step"]))
    finally:
        bar.close()
        if restore_best:
            history.restore(model)
    return history


@dataclass
class _Run:
    """学習の間ずっと変わらないもの。"""

    model: nn.Module
    loader: DataLoader[Any]
    loss: Loss
    optimizer: Optimizer
    scheduler: LRScheduler | None
    on_epoch: Callable[[int], None] | None
    device: torch.device
    amp: torch.dtype | None
    channels_last: bool

    def __post_init__(self) -> None:
        self.layout = torch.channels_last if self.channels_last else torch.preserve_format
        self.model.to(self.device)
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp == torch.float16)
        self.batches: Iterator[Any] | None = None

    def epochs(self, done: int, total: int, bar: Progress) -> Iterator[dict[str, float]]:
        """残りを 1 エポックずつ学習し、その値を返していく。"""
        while done < total:
            number = math.ceil(done / len(self.loader))  # 0 始まり
            if self.on_epoch is not None:
                self.on_epoch(number)
            count = min(len(self.loader), total - done)
            values = self._epoch(count, done, bar)
            done += count
            yield {"epoch": number + 1, "step": done, **values}

    def _epoch(self, count: int, done: int, bar: Progress) -> dict[str, float]:
        """Count 回だけ更新し、損失の平均を返す。"""
        self.model.train()
        sums: dict[str, Tensor] = {}
        for index in range(count):
            values = self._step(self._next_batch())
            for name, value in values.items():
                sums[name] = sums[name] + value if name in sums else value.clone()
            last = index + 1 == count
            if last or self.device.type == "cpu" or index % 20 == 19:  # GPU では、値を見るたびに待ちが生じる
                self._require_finite(sums["loss"], done + index + 1)
                bar.update(done + index + 1, float(values["loss"]))
        if count == len(self.loader) and self.batches is not None:
            next(self.batches, None)  # 使い切った後の乱数の消費まで済ませてから保存する（再開と一致させるため）
            self.batches = None
        return {name: float(value) / count for name, value in sums.items()}

    def _next_batch(self) -> Any:
        if self.batches is None:
            self.batches = iter(self.loader)
        return _to_device(next(self.batches), self.device, self.layout)

    def _step(self, batch: Any) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            result = self.loss(self.model, batch)
        values = dict(result) if isinstance(result, Mapping) else {"loss": result}
        if "loss" not in values or values["loss"].ndim != 0:
            raise ValueError('損失の関数は、0 次元のテンソルか、それを "loss" に持つ辞書を返してください。')
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(values["loss"]).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scheduler is not None:
            self.scheduler.step()
        return {name: value.detach() for name, value in values.items()}

    def _require_finite(self, total: Tensor, step: int) -> None:
        if not math.isfinite(float(total)):
            rates = "、".join(f"{group['lr']:.2g}" for group in self.optimizer.param_groups)
            raise TrainingDivergedError(
                f"{step} 回目の更新までに、損失が有限でなくなりました（学習率 {rates}）。"
                "学習率を下げるか、入力に NaN がないか、損失の中の log や割り算が 0 を受け取っていないかを確かめてください。"
            )


def _plan(loader: DataLoader[Any], epochs: int | None, steps: int | None) -> int:
    """更新の総数。"""
    if (epochs is None) == (steps is None):
        raise ValueError(f"epochs={epochs}、steps={steps} が渡されました。どちらか一方だけを指定してください。")
    per_epoch = len(loader) if isinstance(loader, Sized) else 0
    if per_epoch < 1:
        raise ValueError("loader が空です。データの件数と、batch_size、drop_last の指定を確かめてください。")
    total = steps if steps is not None else (epochs or 0) * per_epoch
    if total < 1:
        raise ValueError(f"epochs={epochs}、steps={steps} が渡されました。1 以上の整数を指定してください。")
    return total


def _to_device(batch: Any, device: torch.device, layout: torch.memory_format) -> Any:
    if isinstance(batch, Tensor):
        keep = layout if batch.ndim == 4 else torch.preserve_format
        return batch.to(device, non_blocking=True, memory_format=keep)
    if isinstance(batch, Mapping):
        return {key: _to_device(value, device, layout) for key, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        moved = [_to_device(value, device, layout) for value in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(itertools.chain(moved))  # type: ignore[call-arg]
    return batch
