"""生徒モデルの損失。違うのは損失だけなので、一つの学習ループ（`fitting.py`）に部品として渡す。

どちらも（モデル, バッチ）→ 損失の辞書、という `tlkit.training.fit` の形をしている。"loss" を最小にし、ほかは記録する。
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit._modes import evaluating
from tlkit.losses.distillation import DistillationLoss, DistillationTerms

Batch = Sequence[Tensor]
Augment = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class HardLabels:
    r"""教師モデルなしの学習。L = CE(生徒, 正解)。蒸留の効果を測るための基準である。

    label_smoothing = ε なら、正解を (1 − ε)·(one-hot) + ε/C に替える。教師モデルの代わりに、一様分布から学ぶ蒸留とみなせる。

    Attributes:
        label_smoothing: ラベル平滑化の ε。0 以上 1 未満。
        augment: 入力 (N, …) を変形する関数。蒸留と比べるときは、蒸留と同じものを渡す。

    Raises:
        ValueError: label_smoothing が範囲の外のとき。

    出典: ラベル平滑化は Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, 7 節。
    """

    label_smoothing: float = 0.0
    augment: Augment | None = None

    def __post_init__(self) -> None:
        if isinstance(self.label_smoothing, bool) or not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"label_smoothing に {self.label_smoothing!r} が渡されました。0 以上 1 未満にしてください。"
            )

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """正解ラベルの交差エントロピー。"""
        x, y, _ = unpack(batch)
        logits = model(x if self.augment is None else self.augment(x))
        return {"loss": F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)}


@dataclass(frozen=True)
class FromTeacher:
    r"""教師モデルの柔らかい確率からの学習。L = α·T²·KL(教師_T ‖ 生徒_T) + (1 − α)·CE(生徒, 正解)。

    教師モデルは評価モードで、勾配なしで動かす。教師モデルの重みも移動統計も変わらない。
    augment は 1 回だけ掛け、教師モデルと生徒モデルに**同じ画像**を見せる。別々に変形すると、教師モデルは
    生徒モデルが見ていない画像の答えを教えることになる。
    teacher が None なら、バッチの 3 番目にある、前もって求めたロジット（`WithTeacherLogits`）を使う。

    Attributes:
        teacher: 教師モデル。入力 → ロジット (N, C)。
        loss: （生徒のロジット, 教師のロジット, 正解）→ (total, soft, hard)。
        augment: 入力 (N, …) を変形する関数。

    Raises:
        ValueError: teacher が None なのに augment があるとき（前計算のロジットは、変形する前の画像のものである）。

    出典: Hinton, Vinyals, Dean, arXiv:1503.02531。同じ画像を見せることの効果は Beyer et al., "Knowledge distillation:
        A good teacher is patient and consistent", CVPR 2022, arXiv:2106.05237, 3 節。
    """

    teacher: nn.Module | None
    loss: Callable[[Tensor, Tensor, Tensor], DistillationTerms] = field(default_factory=DistillationLoss)
    augment: Augment | None = None

    def __post_init__(self) -> None:
        if self.teacher is None and self.augment is not None:
            raise ValueError(
                "teacher=None と augment が、一緒に渡されました。前もって求めたロジットは、変形する前の画像のものです。"
                "変形を使うなら教師モデルを渡し、そのつど計算してください。"
            )

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """二つの項の重みつきの和と、その内訳。"""
        x, y, stored = unpack(batch)
        if self.augment is not None:
            x = self.augment(x)
        terms = self.loss(model(x), self._targets(model, x, stored), y)
        return {"loss": terms.total, "soft": terms.soft, "hard": terms.hard}

    def _targets(self, student: nn.Module, x: Tensor, stored: Tensor | None) -> Tensor:
        if self.teacher is None and stored is not None:
            return stored
        if self.teacher is None or stored is not None or self.teacher is student:
            raise ValueError(
                "教師のロジットの出どころが決まりません。教師モデルと（入力, ラベル）のバッチか、"
                "teacher=None と（入力, ラベル, ロジット）のバッチの、どちらかにしてください。"
                "自分自身から学ぶときは、copy.deepcopy で写した教師モデルを渡します。"
            )
        with evaluating(self.teacher), torch.no_grad():  # 推論モードのテンソルは、損失の逆伝播に使えない
            targets: Tensor = self.teacher(x)
        return targets


def unpack(batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
    """バッチを（入力, ラベル, 前計算のロジットか None）に分ける。

    Raises:
        ValueError: 2 個か 3 個のテンソルの組でないとき。
    """
    parts = tuple(batch) if isinstance(batch, tuple | list) else ()
    if len(parts) not in (2, 3) or not all(isinstance(part, Tensor) for part in parts):
        raise ValueError(
            f"ローダーが {type(batch).__name__}（{len(parts)} 個）を返しました。（入力, ラベル）か、"
            "（入力, ラベル, 教師のロジット）という、テンソルの組が必要です。"
        )
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None
