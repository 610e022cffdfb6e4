"""層の凍結: どの段を学習しないかを決める。

段の分け方は `tlkit/_stages.py` にある。エポックとともに凍結を解いていくのは `unfreeze.py`。
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import nn

from tlkit._stages import Stage, split_stages

Freeze = Literal["all", "partial", "none"]


def stage_names(model: nn.Module) -> list[str]:
    """段の名前。入力側から順に並び、最後は分類の層である。

    段は、凍結と層別学習率の単位である。モデルの部品の名前からできている（GlyphCNN なら stem、stages.0、stages.1、head、classifier）。

    Raises:
        ValueError: モデルに分類の層が見つからないとき。
    """
    return [stage.name for stage in split_stages(model)]


def set_freeze(model: nn.Module, mode: Freeze | Sequence[str]) -> nn.Module:
    """モデルのどこまでを学習しないかを決める。何度呼んでもよく、最後に呼んだものが効く。

    - "all": 分類の層だけを学習する（特徴抽出器はすべて凍結）。
    - "partial": 最後の段と分類の層を学習する。
    - "none": すべてを学習する。
    - 段の名前の並び（["stem", "stages.0"] など）: その段だけを凍結する。

    凍結した段では、パラメータの requires_grad が False になり、残っていた勾配は消える。
    また `model.train()` を呼んでも評価モードのままになる。バッチ正規化の移動平均は勾配によらず動くので、
    requires_grad だけでは止まらないからである。ドロップアウトも働かず、特徴は入力だけで決まる。

    二つの段が同じパラメータを使う（重みの共有）ときは、どちらかが凍結されていれば、そのパラメータも凍結される。

    Args:
        model: 線形層（か畳み込み）で終わる分類のモデル。その場で変える。
        mode: 凍結の範囲。または、凍結する段の名前（`stage_names` が返すもの）。

    Returns:
        受け取ったモデル。

    Raises:
        ValueError: mode が不正か、段の名前が空か、知らないものか、重なっているか、モデルに分類の層が見つからないとき。
    """
    stages = split_stages(model)
    frozen = _frozen(stages, mode)
    for module in model.modules():
        vars(module).pop("train", None)
    model.requires_grad_(True)
    for stage in frozen:
        for parameter in stage.parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        for module in stage.modules:
            module.train = partial(_stay_in_eval, module)  # type: ignore[method-assign]
    return model.train(model.training)


def _frozen(stages: list[Stage], mode: Freeze | Sequence[str]) -> list[Stage]:
    """凍結する段。"""
    names = [stage.name for stage in stages]
    if isinstance(mode, str):
        ranges = {"all": stages[:-1], "partial": stages[:-2], "none": []}
        if mode in ranges:
            return ranges[mode]
        raise ValueError(
            f'凍結の範囲に {mode!r} が渡されました。"all"（分類の層だけ学習）、"partial"（最後の段も学習）、'
            f'"none"（すべて学習）のどれかか、段の名前の並びにしてください（段の名前: {names}）。'
        )
    chosen = list(mode)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise ValueError(f"段 {unknown} はありません。{names} の中から選んでください。")
    if not chosen:
        raise ValueError(
            f'凍結する段の名前が空です。何も凍結しないなら "none"、凍結するなら {names} から選んでください。'
        )
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"段の名前が重なっています: {chosen}。{names} の中から、一つずつ選んでください。")
    return [stage for stage in stages if stage.name in chosen]


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001 train() と同じ引数を受け取る
    """凍結した部品の `train()`。いつも評価モードにする。"""
    return type(module).train(module, False)
