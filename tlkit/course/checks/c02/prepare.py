"""演習 02-8: 手法の名前から、モデルの凍結と最適化の組を用意する関数。問題と、場面の一覧を置く。

答えの呼び方は `prepare_probe.py`、モデルは `prepare_model.py`、判定は `prepare_judge.py` にある。
"""

from typing import Any

from tlkit.course.checks.c02.prepare_judge import judge
from tlkit.course.checks.c02.prepare_model import spec
from tlkit.course.checks.c02.prepare_probe import observe
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

RATES = {"head": (0.05, 2.6), "last_block": (0.02, 3.0), "discriminative": (0.04, 2.6), "scratch": (0.01, 2.0)}
SEQUENCES = (
    ("head",),
    ("last_block",),
    ("discriminative",),
    ("scratch",),
    ("head", "discriminative"),
    ("last_block", "head"),
    ("discriminative", "last_block"),
    ("scratch", "head"),
    ("head", "scratch"),
)


def make_inputs(seed: int) -> dict[str, Any]:
    """重みとデータと、場面（手法を順に呼ぶ列）の一覧。"""
    scenes: dict[str, dict[str, Any]] = {"→".join(methods): {"methods": list(methods)} for methods in SEQUENCES}
    scenes["gentle"] = {"methods": ["discriminative"], "base_lr": 0.3, "decay": 1.5}
    scenes["redrawn"] = {"methods": ["scratch"], "shift": 1}  # 乱数の種だけが違う
    scenes["other"] = {"methods": ["scratch"], "weights": "other"}  # 元の重みだけが違う
    for scene in scenes.values():
        base_lr, decay = RATES[scene["methods"][-1]]
        scene |= {"base_lr": scene.get("base_lr", base_lr), "decay": scene.get("decay", decay)}
    return {"spec": spec(seed), "scenes": scenes}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにモデルを作り直し、手法を順に用意して学習し、最後に用意した後の様子を記録する。"""
    return {name: trial(observe, answer, inputs["spec"], scene) for name, scene in inputs["scenes"].items()}


PREPARE = Question(
    id="02-8",
    points=20,
    title="研究課題：四つの手法を、同じ条件で比べる",
    goal="凍結の範囲、学習率の組、再初期化を一つの関数にまとめ、手法だけが違う公平な実験を組み立てることができる",
    minutes=60,
    difficulty=3,
    answers=("prepare",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("finetune.freeze", "finetune.groups", "_stages"),
    hints=(
        "五つの段を、入力側から順に並べた list を作ります。手法ごとに違うのは、出力側から何段を学習するかと、段ごとの学習率だけです。"
        "凍結には三つの仕事があります。requires_grad を False にする、古い grad を消す、train() の後も評価モードにとどめる、です。"
        "前の手法の設定が残らないように、学習する段のほうも毎回書き直します。",
        "学習する段の数は、head が1、last_block が2、discriminative と scratch が5です。\n"
        "出力側から数えて k 段目（分類層が k = 0）の学習率は、discriminative なら base_lr / decay**k、ほかは base_lr です。\n"
        "scratch では、reset_parameters を持つ部品のすべてで reset_parameters() を呼びます。BatchNorm では、移動統計も初めに戻ります。",
        "stages = [model.stem, *model.stages, model.head, model.classifier]\n"
        "for k, stage in enumerate(reversed(stages)): の中で、stage.requires_grad_(k < 学習する段の数) とします。\n"
        "def train(mode=True): の中で torch.nn.Module.train(model, mode) を呼び、凍結した段を eval() にして、model を返します。\n"
        "model.train = train と置くと、このモデルの train() だけが変わります。次に prepare を呼べば上書きされます。\n"
        "初めに model.zero_grad() を呼ぶと、古い勾配は None になります。",
    ),
)
