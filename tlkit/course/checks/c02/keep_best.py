"""演習 02-5: 検証で最良のエポックの重みを残す学習。問題、入力、答えの呼び方を置く。

場面ごとに、検証の値の台本を決めておく。だから、どのエポックで止まり、どの重みに戻るはずかが手で分かる。
モデルは `keep_best_model.py`、判定は `keep_best_judge.py` にある。
"""

import math
from typing import Any

import torch

from tlkit.course.checks.c02.keep_best_judge import judge
from tlkit.course.checks.c02.keep_best_model import MARGIN, Recorder, TooManyEpochsError
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

NAN = math.nan
LONG = 20  # どの台本よりも長い patience。途中で止まらない
SCRIPTS: dict[str, tuple[list[float], int]] = {
    "rises": ([0.3, 0.4, 0.6, 0.7, 0.9], LONG),
    "falls": ([0.9, 0.7, 0.6, 0.4, 0.3], LONG),
    "peak": ([0.5, 0.7, 0.6, 0.9, 0.8, 0.4], LONG),
    "bumps": ([0.5, 0.9, 0.6, 0.7, 0.3], LONG),
    "negative": ([-3.0, -1.0, -2.0, -4.0], LONG),
    "ties": ([0.5, 0.8, 0.6, 0.8, 0.7], LONG),
    "nan-first": ([NAN, 0.3, 0.5, 0.4], LONG),
    "nan-middle": ([0.4, NAN, 0.6, NAN, 0.5], LONG),
    "one": ([0.3], LONG),
    "stop": ([0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.95, 0.4], 3),
    "soon": ([0.5, 0.4, 0.9, 0.8], 1),
    "waits": ([0.5, 0.4, 0.3, 0.6, 0.5, 0.4, 0.3, 0.9], 3),
    "echo": ([0.9, 0.5, 0.6, 0.5, 0.6, 0.5], 3),
    "plateau": ([0.6, 0.6, 0.6, 0.6, 0.6], 2),
    "nan-waits": ([0.6, NAN, NAN, 0.9, 0.8], 2),
    "all-nan": ([NAN, NAN, NAN, NAN], 2),
}


def make_inputs(seed: int) -> dict[str, Any]:
    """台本の場面と、学習のまねに使う乱数。"""
    g = torch.Generator().manual_seed(seed)
    scenes = {
        name: {"scores": list(scores), "epochs": len(scores), "patience": patience, "training": True, "frozen": False}
        for name, (scores, patience) in SCRIPTS.items()
    }
    scenes["eval-given"] = scenes["peak"] | {"training": False}
    scenes["frozen"] = scenes["peak"] | {"frozen": True}
    given = {
        "inputs": torch.randn(6, 3, generator=g),
        "moves": torch.randn(max(map(len, (s for s, _ in SCRIPTS.values()))) + MARGIN + 1, 6, generator=g),
    }
    return {"given": given, "scenes": scenes}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにモデルを作り直し、答えを呼んで、呼ばれ方と、終わった後のモデルの状態を記録する。"""
    return {name: trial(_observe, answer, scene, inputs["given"]) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, scene: dict[str, Any], given: dict[str, torch.Tensor]) -> dict[str, Any]:
    recorder = Recorder(scene, given)
    with torch.enable_grad():
        try:
            result = answer(recorder.model, recorder.train_epoch, recorder.validate, scene["epochs"], scene["patience"])
        except TooManyEpochsError:
            return {"overrun": True}
    return recorder.outcome(result) | {"overrun": False}


KEEP_BEST = Question(
    id="02-5",
    points=15,
    title="最良の重みを、本当に残す",
    goal="検証で最良だったエポックの重みの写しを取り、早期終了の後に、BatchNormの移動統計まで戻すことができる",
    minutes=30,
    difficulty=2,
    answers=("train_keeping_best",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("training",),
    hints=(
        "1エポックは、学習モードにして学習、評価モードにして検証、これまでの最良と比べる、の順です。"
        "最良なら、その時点の重みの写しを取ります。後の学習で中身が変わらないものが「写し」です。"
        "繰り返しが終わったら（途中で止まったときも）、写しをモデルに戻します。",
        "写し: state_dict() の返すテンソルは、モデルと同じメモリを指します。deepcopy か、テンソルごとの clone() で写します。\n"
        "最良: score > best のときだけ（同じ値は前のものを残す）。NaN との比較はいつも偽なので、> で比べれば NaN は最良になりません。\n"
        "停止: 最良なら waited = 0、そうでなければ waited を1増やし、waited = patience で止めます。",
        "best, best_state, waited, scores = -math.inf, None, 0, []\n"
        "for ...: model.train() → train_epoch(model) → model.eval() → torch.no_grad() の中で validate(model) を scores に足す\n"
        "scores[-1] > best なら best と waited を更新し、copy.deepcopy で model.state_dict() の写しを best_state に入れます。\n"
        "そうでなければ waited を数え、patience に達したら break します。\n"
        "最後に、best_state が None でなければ model.load_state_dict で戻し、scores を返します。",
    ),
)
