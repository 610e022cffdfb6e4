"""演習 08-5 の判定のうち、一つの場面の性質と、正しい値。

1 枚ずつのサポートでは距離の式だけを、そのあとの場面ではプロトタイプを調べる。
−‖q − c‖² + ‖q‖² は q の 1 次式なので、返ったロジットから、使われた点 c を逆に求められる。
"""

from itertools import permutations

import torch
from torch import Tensor

from tlkit.course.checks.findings import Finding

Scene = dict[str, Tensor]
NEAR = 1e-8


def weights(query: Tensor, support_y: Tensor) -> Tensor:
    """勾配を調べるときに、ロジットへ掛ける重み (Q, N)。"""
    ways = int(support_y.max()) + 1
    return (torch.arange(len(query) * ways, dtype=torch.float64) * 1.7).sin().reshape(len(query), ways)


def centres(scene: Scene) -> Tensor:
    """プロトタイプ (N, D)。float64 で求める。"""
    support, labels = scene["support"].double(), scene["support_y"]
    return torch.stack([support[labels == k].mean(0) for k in range(int(labels.max()) + 1)])


def logits(scene: Scene) -> Tensor:
    """定義どおりのロジット (Q, N)。"""
    return -(scene["query"].double()[:, None] - centres(scene)).square().sum(2)


def _near(a: Tensor, b: Tensor, tolerance: float = NEAR) -> bool:
    return float((a - b).abs().max()) <= tolerance * (1 + float(b.abs().max()))


def distance_findings(found: Tensor, scene: Scene) -> Finding:
    """1 クラス 1 枚、ラベルの順のサポート。プロトタイプはサポートそのものなので、距離の式だけが問われる。"""
    want = logits(scene)
    width = scene["query"].shape[1]
    if _near(found, -want):
        yield (
            "sign",
            "距離の二乗が、正のまま返りました。近いクラスほどロジットが大きくなるように、負号を付けてください。",
        )
    if _near(found, want / width):
        yield (
            "dimension-mean",
            f"D = {width} で、値が本来の 1/{width} です。二乗した差は、次元について平均せず、足してください。",
        )
    if _near(found.square(), -want):
        yield "not-squared", "ユークリッド距離を2乗していません。2乗しないと、確率も、境界の形の導き方も変わります。"
    yield from _constants(found, want)
    if not _near(found, want, 1e-4):
        yield (
            "distance",
            f"1クラスに1枚のサポートで、1件めのクエリ {_shown(scene['query'][0])} とクラス0のプロトタイプ {_shown(scene['support'][0])} の"
            f"ロジットが {float(found[0, 0]):.4f} です（差の二乗和から {float(want[0, 0]):.4f} のはず）。",
        )
    if not _near(found, want, 1e-10):
        yield "precision", "値が、float64 の精度で合いません。途中で float32 に落としていないか、確かめてください。"


def _constants(found: Tensor, want: Tensor) -> Finding:
    """クエリごとの定数と、全体の定数倍。"""
    if _near(found.exp().sum(1), torch.ones(len(found))) or _near(found.sum(1), torch.ones(len(found))):
        yield "softmaxed", "クエリごとに確率（か、その対数）になっています。softmaxを掛ける前の値を返してください。"
    gap = found - want
    if not _near(found, want) and _near(gap, gap.mean(1, keepdim=True).expand_as(gap)):
        yield (
            "query-constant",
            "ロジットが、クエリごとに、どのクラスでも同じ数だけ違います。分類の結果は変わりませんが、求めるのは −‖q − c‖² そのものです。"
            "どの項を落としたか、確かめてください。",
        )
    ratio = float((found * want).sum() / want.square().sum())
    if abs(ratio - 1) > NEAR and _near(found, ratio * want):
        yield "factor", f"どの値も、本来の {ratio:.4g} 倍です。距離の2乗に、ほかの定数を掛けないでください。"


def _shown(point: Tensor) -> str:
    return "[" + ", ".join(f"{value:.3f}" for value in point.tolist()) + "]"


WHERE = {
    "ordered": "どのクラスも2枚で、クラスの順に並んだサポートで、",
    "equal": "どのクラスも2枚で、並びがばらばらのサポートで、",
    "base": "クラスによって枚数の違うサポートで、",
}


def point_findings(found: Tensor, scene: Scene, name: str) -> Finding:
    """使われた点を逆に求め、クラスの平均と比べる。"""
    where, want, query = WHERE[name], centres(scene), scene["query"]
    if _near(found, logits(scene)):
        return
    lifted = torch.cat([2 * query, torch.ones(len(query), 1, dtype=torch.float64)], 1)  # 2 q·c + b の係数
    target = found + query.square().sum(1, keepdim=True)
    solved = torch.linalg.lstsq(lifted, target).solution
    points, offset = solved[:-1].T, solved[-1]
    if not _near(lifted @ solved, target):
        yield (
            "not-one-point",
            f"{where}クラスごとに決まった1点からの、距離の2乗になっていません。サポートの1枚1枚との距離を比べたり選んだりせず、"
            "先に1点にまとめてください。",
        )
    if _near(points, want):
        yield (
            "averaged-distances",
            f"{where}ロジットが、クラスごとに、どのクエリでも同じ数だけずれます。ずれは、クラスの中の広がりです。"
            "距離の平均でなく、平均までの距離を求めてください。",
        )
    if not _near(offset, -points.square().sum(1)):
        yield "not-one-point", f"{where}クラスごとに決まった1点からの、距離の2乗になっていません。"
    if any(_near(points, want[order]) for order in _orders(len(want))):
        yield (
            "class-order",
            f"{where}列の並びが、クラスの番号の順ではありません。k番目の列を、support_y が k のクラスにしてください。",
        )
    counts = scene["support_y"].bincount()[:, None]
    if _near(points, want * counts):
        yield "summed", f"{where}プロトタイプが、平均でなく、和になっています。そのクラスの枚数で割ってください。"
    if name == "base" and _near(points, want * counts * len(want) / counts.sum()):
        yield "same-count", f"{where}どのクラスも同じ枚数で割っています。クラスごとの枚数で割ってください。"
    yield from _which(points, want, scene, name)


def _orders(ways: int) -> list[list[int]]:
    """番号の並べ替えのすべて（元のままを除く）。"""
    return [list(order) for order in permutations(range(ways))][1:]


def _which(points: Tensor, want: Tensor, scene: Scene, name: str) -> Finding:
    """外れたクラスのうち、最初のものを示す。"""
    gaps = (points - want).abs().amax(1)
    k = int((gaps > NEAR * (1 + want.abs().max())).int().argmax())
    rows = scene["support"][scene["support_y"] == k]
    where = (
        f"{WHERE[name]}クラス{k}のプロトタイプが {_shown(points[k])} です（{len(rows)}枚の平均は {_shown(want[k])}）。"
    )
    if bool(torch.isclose(rows, points[k], atol=1e-7).all(1).any()):
        yield "one-row", f"{where}そのクラスの1枚だけが使われています。すべての行を平均してください。"
    yield (
        {"ordered": "not-mean", "equal": "order-assumed", "base": "unequal-shots"}[name],
        where
        + {
            "ordered": "行について平均したか、確かめてください。",
            "equal": "クラスの順に並んだサポートでは正しいので、並びに頼っています。support_y で行を選んでください。",
            "base": "どのクラスも2枚なら正しいのに、枚数が違うと外れます。クラスごとに、すべての行を平均してください。",
        }[name],
    )
