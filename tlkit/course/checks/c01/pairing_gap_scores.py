"""演習 01-5 の確認が答えに渡す点数。値が手で分かり、渡された標本の並びを控える。

標本の 0 列目には行の番号 0, 1, 2, … が入っている（`pairing_gap.py`）。だから、もとの並びかどうかが値から読める。
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

Score = Callable[[Tensor, Tensor], Any]


def _together(source: Tensor, target: Tensor) -> float:
    """行の組がもとのままなら 1、崩れたら 0。"""
    return float((source[:, 0] == target[:, 0]).all())


SCORES: dict[str, Score] = {
    "free": lambda source, target: (source.mean(0) - target.mean(0)).square().sum(),  # 並び順によらない
    "pairs": _together,
    "rise": lambda source, target: 3 - _together(source, target),
    "tripled": lambda source, target: 3 * _together(source, target),
    "lifted": lambda source, target: 10 + _together(source, target),
    "source": lambda source, _target: float(source[0, 0] == 0),  # source の並び順だけで決まる
    "target": lambda _source, target: float(target[0, 0] == 0),
}


def recording(name: str, source: Tensor, target: Tensor, calls: list[list[Any]]) -> Score:
    """呼ばれるたびに [source の並び, target の並び, 引数が逆か] を calls に控える点数を作る。"""
    original = source.clone(), target.clone()

    def score(source: Tensor, target: Tensor) -> Any:
        orders = [_order(source, original[0]), _order(target, original[1])]
        usable = all(isinstance(order, list) for order in orders)
        crossed = [] if usable else [_order(source, original[1]), _order(target, original[0])]
        calls.append([*orders, not usable and all(isinstance(order, list) for order in crossed)])
        return SCORES[name](source, target) if usable else 0.0  # 壊れた入力は、judge が calls から見つける

    return score


def _order(z: Any, original: Tensor) -> list[int] | str:
    """z の各行が、もとの何行目か。行でなくなっていれば、その崩れ方の名前。"""
    if not isinstance(z, Tensor):
        return "kind"
    if z.shape != original.shape:
        return "shape"
    places = z[:, 0].nan_to_num().clamp(0, len(original) - 1).long()  # 0 列目が行の番号なので、探さずに済む
    if bool((original[places] == z).all()):
        found: list[int] = places.tolist()
        return found
    inside = (z.sort(dim=1).values[:, None] == original.sort(dim=1).values[None]).all(2)
    return "features" if bool(inside.any(1).all()) else "values"
