"""演習 03-10: ソースとターゲットのバッチを、取りこぼさずに組にする。問題、入力、答えの呼び方を置く。

渡すローダーは、引かれた順を控える `RecordingLoader` である。だから、返った組だけでなく、引き直しと先読みの回数も分かる。
ローダーは `pair_batches_loaders.py`、判定は `pair_batches_judge.py` にある。
"""

import itertools
from typing import Any

import numpy as np

from tlkit.course.checks.c03.pair_batches_judge import judge
from tlkit.course.checks.c03.pair_batches_loaders import RecordingLoader, TooManyIterationsError
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

MARGIN = 5  # 終わらない答えは、長いほうよりこれだけ多く受け取った所で止める
SIZES = {
    "target-short": (7, 3),
    "source-short": (3, 7),
    "target-divides": (6, 2),
    "source-divides": (2, 6),
    "equal": (4, 4),
    "target-single": (5, 1),
    "source-single": (1, 5),
    "both-single": (1, 1),
    "target-empty": (3, 0),
    "source-empty": (0, 3),
    "both-empty": (0, 0),
}


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、二つのローダーのバッチの数と、並べ替えの種を決める。"""
    rng = np.random.default_rng(seed)
    return {
        "scenes": {
            name: {"source": source, "target": target, "seed": int(rng.integers(2**31))}
            for name, (source, target) in SIZES.items()
        }
    }


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにローダーを作り直し、組を 1 周分だけ受け取る。"""
    return {name: trial(_observe, answer, scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, scene: dict[str, Any]) -> dict[str, Any]:
    loaders = {
        "source": RecordingLoader("source", scene["source"], scene["seed"]),
        "target": RecordingLoader("target", scene["target"], scene["seed"] + 1),
    }
    seen: dict[str, Any] = {"pairs": [], "after_first": None, "ended": False, "stuck": False, "refused": False}
    try:
        returned = answer(loaders["source"], loaders["target"])
        if not hasattr(type(returned), "__iter__"):
            return {"iterable": False, "type": type(returned).__name__[:60]}
        most = max(scene["source"], scene["target"]) + MARGIN
        for pair in itertools.islice(returned, most):
            seen["pairs"].append(_described(pair, loaders))
            if seen["after_first"] is None:
                seen["after_first"] = {name: sum(loader.drawn) for name, loader in loaders.items()}
        seen["ended"] = len(seen["pairs"]) < most
    except TooManyIterationsError:
        seen["stuck"] = True
    except ValueError:
        if scene["source"] and scene["target"]:
            raise
        seen["refused"] = True
    rounds = {name: [count for count in loader.drawn if count] for name, loader in loaders.items()}
    return seen | {"iterable": True, "rounds": rounds}


def _described(pair: Any, loaders: dict[str, RecordingLoader]) -> list[Any] | None:
    """組を、（どのローダーの, 何周めの, 何番め）の 2 つにする。組でなければ None、知らない中身も None。"""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return None
    return [next((found for loader in loaders.values() if (found := loader.find(part))), None) for part in pair]


PAIR_BATCHES = Question(
    id="03-10",
    points=10,
    title="二つのローダーを、取りこぼさずに組にする",
    goal="ソースとターゲットのバッチの数が違っても、長いほうを全部使い、短いほうを新しく引き直しながら組にできる",
    minutes=25,
    difficulty=2,
    answers=("pair_batches",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("adapt.pairs",),
    hints=(
        "短いほうが尽きたら、そのローダーを初めから新しく反復します。覚えておいたバッチを使い回すのではありません。"
        "組の数は、長いほうのバッチの数です。どちらが長いかで場合を分けずに、両方を「尽きたら引き直す」ものとして扱うと、短く書けます。",
        "尽きないイテレータ: ローダーに iter をかけ、最後まで取り出したら、また iter をかける、を限りなくくり返します。\n"
        "組の数: max(len(source), len(target))。この数だけ取り出したら、次を取りに行かずに止めます。\n"
        "空のローダー: 引き直しても何も出ません。先に len を調べて ValueError を出さないと、永遠に回り続けます。",
        "def forever(loader): の中で、while True: の下に yield from loader と書くと、尽きるたびに新しい反復が始まります。\n"
        "zip(forever(source), forever(target)) は終わりがないので、itertools.islice で長いほうの len の分だけ取り出します。\n"
        "len が0のローダーがあるかは、そのどれよりも前に調べます。",
    ),
)
