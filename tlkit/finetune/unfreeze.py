"""段階的解凍（gradual unfreezing）: 分類の層から始めて、エポックとともに、入力側の段へ学習を広げる。

一度にどこまで凍結するかを決めるのは `freeze.py`。
"""

from dataclasses import dataclass, field

from torch import nn

from tlkit.finetune.freeze import set_freeze, stage_names


@dataclass
class GradualUnfreezing:
    """エポック e（0 始まり）では、出力側から min(1 + ⌊e / every⌋, 段の数) 段を学習し、残りを凍結する。

    凍結のしかたは `set_freeze` と同じで、バッチ正規化の移動統計も動かない。使い方は次のとおり。

        set_freeze(model, "none")
        optimizer = AdamW(param_groups(model, 1e-3))
        fit(model, loader, loss, optimizer, epochs=8, on_epoch=GradualUnfreezing(model))

    optimizer は、初めて呼ぶ前に作る。後から作ると、そのとき凍結されている段のパラメータが入らず、
    凍結が解けても動かない。凍結中のパラメータは、勾配が None なので、最適化手法が飛ばす。
    運動量や荷重減衰（weight decay）でも動かない。

    状態はエポックの番号だけで決まる。学習を途中から再開しても、続けたときと同じになる。

    Args:
        model: 線形層（か畳み込み）で終わる分類のモデル。呼ぶたびに、その場で変える。
        every: 何エポックごとに一段広げるか。

    Attributes:
        stages: 段の名前。入力側から出力側の順。

    Raises:
        ValueError: every が 1 以上の整数でないか、モデルに分類の層が見つからないとき。

    出典: Howard & Ruder, ACL 2018, arXiv:1801.06146 の 3.3 節。
    """

    model: nn.Module
    every: int = field(default=1, kw_only=True)
    stages: list[str] = field(init=False)

    def __post_init__(self) -> None:
        if not _is_integer(self.every, 1):
            raise ValueError(f"every に {self.every!r} が渡されました。1 以上の整数にしてください。")
        self.stages = stage_names(self.model)

    def __call__(self, epoch: int) -> None:
        """エポック epoch（0 始まり）の状態にする。

        Raises:
            ValueError: epoch が 0 以上の整数でないとき。
        """
        if not _is_integer(epoch, 0):
            raise ValueError(f"epoch に {epoch!r} が渡されました。0 以上の整数にしてください。")
        frozen = self.stages[: -(1 + epoch // self.every)]
        set_freeze(self.model, frozen or "none")


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
