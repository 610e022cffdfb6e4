"""演習 08-8: 手法の比べ方。問題と、答えの呼び方を置く。

場面は `compare_methods_scene.py`、判定は `compare_methods_judge.py` にある。
"""

from typing import Any

from tlkit.course.checks.c08.compare_methods_judge import judge
from tlkit.course.checks.c08.compare_methods_scene import Scene, scenes
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

KEYS = ("chosen", "difference", "half", "verdict")


def make_inputs(seed: int) -> dict[str, Any]:
    """場面の一覧。"""
    return {"scenes": scenes(seed)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとに、答えを 1 回呼ぶ。"""
    return {name: trial(_observe, answer, scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, scene: Scene) -> dict[str, Any]:
    result = answer(dict(scene["validation"]), dict(scene["test"]), scene["baseline"])
    given = result if isinstance(result, dict) else {}
    values = {key: given[key] for key in KEYS if key in given}
    return {
        "type": type(result).__name__[:60],
        "names": [str(key)[:60] for key in list(given)[:8]],
        "kinds": {key: type(value).__name__[:60] for key, value in values.items()},
        "values": {key: _plain(value) for key, value in values.items()},
    }


def _plain(value: Any) -> str | float | None:
    """文字列か数だけを通す。"""
    if isinstance(value, str):
        return value[:60]
    return float(value) if isinstance(value, float | int) else None


COMPARE_METHODS = Question(
    id="08-8",
    points=12,
    title="手法を、種ごとの対で比べる",
    goal="手法をメタ検証だけで選び、メタテストでの差を、種を単位とする信頼区間とともに述べることができる",
    minutes=25,
    difficulty=2,
    answers=("compare_methods",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("stats",),
    hints=(
        "初めに、何が独立な標本かを考えます。同じ種のエピソードは、同じ一つのモデルで測った値なので、独立ではありません。"
        "種ごとに一つの数にまとめ、同じ種どうしで引いてから、その差のばらつきを見ます。",
        "選ぶ: 基準でない手法のうち、validation の平均が最大のもの。\n"
        "差: d_s = （選んだ手法の、種 s の平均） − （基準の、種 s の平均）。test を使います。\n"
        "区間: 平均 ± t_{S−1}(0.975) · s / √S。s は不偏分散の平方根、S は種の数です。",
        "chosen は、baseline でない名前を、validation[name].mean() の大きさで max します。\n"
        "gaps は、test の二つの手法の mean(dim=1) の差で、形は (S,) です。\n"
        "half は、stats.t.ppf(0.975, S - 1) に gaps.std().item() を掛け、S の平方根で割ります。\n"
        "verdict は、差の絶対値が half 以下なら unclear、そうでなければ差の符号で決めます。",
    ),
)
