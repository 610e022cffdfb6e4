"""見たことのない文字を、少しの手本から見分ける: メタ学習は、全クラスの分類で学んだ特徴の最近傍重心より高いか。

漢字でメタ訓練し、仮名の 5-way 1-shot と 5-shot でテストする。サポートとクエリは、必ず違う書体である。
どの手法も、更新の回数、1 回の更新のエピソードの数、ネットワークの大きさを同じにする（値は `_few_shot.py`）。
"""

from pathlib import Path
from typing import Any

from _few_shot import UPDATES
from _few_shot_views import compared, kept, measurement, tested, validated
from _record import Experiment, Row, Settings, chosen, main

UNUSED: dict[str, Any] = {"lr": None, "inner_lr": None, "temperature": None}
KEYS = (*UNUSED, "test_steps")


def _rates(*rates: float) -> list[dict[str, Any]]:
    return [{**UNUSED, "lr": lr} for lr in rates]


def _inner(*pairs: tuple[float, float], temperature: float | None = None) -> list[dict[str, Any]]:
    """（外側学習率, 内側学習率）の組。"""
    return [{"lr": lr, "inner_lr": inner, "temperature": temperature} for lr, inner in pairs]


COMMON = ((3e-3, 0.4), (1e-2, 0.1), (1e-2, 0.4), (1e-2, 0.03))  # （外側学習率, 内側学習率）
PAIRS, DISTILLING = (*COMMON, (3e-2, 0.4)), (*COMMON, (3e-2, 0.1))
GRID: dict[str, list[dict[str, Any]]] = {
    "classifier": _rates(1e-3, 3e-3, 1e-2, 3e-2),
    "protonet_per_set": _rates(1e-3, 3e-3, 1e-2, 3e-2),
    "protonet_joint": _rates(1e-3, 3e-3, 1e-2, 3e-2),
    "protonet_running": _rates(1e-3, 3e-3, 1e-2, 3e-2),
    "maml": _inner(*PAIRS),
    "maml_three_steps": _inner((1e-2, 0.1), (1e-2, 0.4), (3e-2, 0.4)),
    "fomaml": _inner(*PAIRS),
    "anil": _inner(*PAIRS),
    "maml_pretrained": _inner(*PAIRS),
    "distillation": [{**UNUSED, "lr": lr, "temperature": t} for lr, t in ((1e-2, 1.0), (1e-2, 4.0), (3e-2, 1.0))],
    "meta_distillation": _inner(*DISTILLING, temperature=4.0),
    "meta_distillation_fixed": _inner(*DISTILLING, temperature=4.0),
}
ONE_SHOT_ONLY = ("protonet_joint", "protonet_running", "maml_three_steps")  # 1-shot だけで比べるもの
NO_CHOICE = ("pixels", "untrained", "teacher")  # 選ぶ設定がないもの
BASELINE = "classifier"
COMPARED = [
    *((BASELINE, m) for m in ("pixels", *GRID, "teacher") if m != BASELINE),
    *(("protonet_per_set", m) for m in ("pixels", "untrained", "protonet_joint", "protonet_running", "maml")),
    *(("maml", m) for m in ("pixels", "maml_three_steps", "fomaml", "anil", "protonet_joint", "protonet_running")),
    *(
        (f"meta_distillation{end}", m)
        for end in ("", "_fixed")
        for m in ("maml", "maml_pretrained", "protonet_per_set")
    ),
    *(("meta_distillation", m) for m in ("meta_distillation_fixed", "distillation", "teacher")),
    *(("distillation", m) for m in ("protonet_per_set", "teacher", "maml")),
]
# この設計の前に見た、種 1 個の試行（検証の漢字の正解率）。設定と予算が違うので、主張の根拠にはしない
EARLIER: list[dict[str, Any]] = [
    {"method": "pixels", "one_shot": 0.295},
    {"method": "protonet_per_set", "one_shot": 0.888, "five_shot": 0.955},
    {"method": "protonet_joint", "one_shot": 0.850},
    {"method": "maml", "one_shot": 0.883, "note": "更新 600 回。測るときの内側を 10 回にすると 0.939"},
    {"method": "fomaml", "one_shot": 0.769},
    {"method": "anil", "one_shot": 0.821},
    {"method": "classifier", "one_shot": 0.978, "five_shot": 0.990},
    {"method": "meta_distillation", "one_shot": 0.775, "note": "幅 16。同じ条件の MAML は 0.773"},
    *(
        {"method": method, "one_shot": score, "note": f"幅 16、更新 {updates} 回、学習率 {lr}"}
        for method, updates, lr, score in (
            ("classifier", 100, 3e-3, 0.344),
            ("classifier", 100, 1e-2, 0.256),
            ("classifier", 400, 1e-2, 0.858),
            ("protonet_per_set", 100, 3e-3, 0.568),
            ("protonet_per_set", 100, 1e-2, 0.567),
            ("protonet_per_set", 400, 1e-2, 0.881),
        )
    ),
    {"method": "maml", "one_shot": 0.506, "note": "幅 16、更新 100 回、学習率 0.01、内側学習率 0.4"},
    *(
        {"method": method, "one_shot": score, "note": f"今と同じ予算、学習率 0.01、{note}"}
        for method, score, note in (
            ("maml", 0.397, "内側学習率 1.6"),
            ("maml_three_steps", 0.894, "内側学習率 0.4"),
            ("teacher", 0.928, "幅 48、更新 400 回"),
            ("distillation", 0.909, "教師モデルが幅 48、更新 400 回"),
            ("meta_distillation", 0.923, "内側学習率 0.1。教師モデルが幅 48、更新 400 回"),
            ("meta_distillation_fixed", 0.773, "内側学習率 0.4。教師モデルが幅 48、更新 400 回"),
        )
    ),
]


def develop(seed: int, settings: Settings) -> list[Row]:
    """1-shot で、設定ごとの、検証の漢字の正解率を測る。仮名は使わない。"""
    tried = [
        {"method": method, "shots": 1, "updates": UPDATES, **setting}
        for method, candidates in settings["grid"].items()
        for setting in candidates
    ]
    return kept(validated, "08_few_shot_dev", tried, seed)


def settings() -> Settings:
    """手法ごとの設定は、開発用の結果で選ぶ。5-shot でも、1-shot で選んだ設定を使う。"""
    picked: dict[str, Settings] = {m: {**UNUSED, "test_steps": None} for m in NO_CHOICE}
    picked |= {method: chosen("08_few_shot_dev", KEYS, method=method) for method in GRID}
    count = sum(len(candidates) for candidates in GRID.values())
    return {"picked": picked, "tried": GRID, "tried_settings": count, "earlier_trials": EARLIER, **measurement()}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """選んだ設定のまま、仮名の正解率を測る。"""
    tried = [
        {"method": method, "shots": shots, "updates": UPDATES, **setting}
        for shots in (1, 5)
        for method, setting in settings["picked"].items()
        if shots == 1 or method not in ONE_SHOT_ONLY
    ]
    return kept(tested, "08_few_shot", tried, seed)


def summarise(rows: list[Row]) -> list[Row]:
    """K ごとの、測った手法どうしの比較。"""
    found = []
    for shots in (1, 5):
        measured = [row for row in rows if row["shots"] == shots]
        methods = {row["method"] for row in measured}
        found += compared(measured, [pair for pair in COMPARED if methods.issuperset(pair)])
    return found


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="08_few_shot",
            title="漢字でメタ訓練し、仮名でテストする少数ショット学習（5-way、1-shot と 5-shot）",
            description="更新の回数、1 回の更新のエピソードの数、ネットワーク（Conv4）、最適化は、どの手法も同じ。メタ学習の手法は、同じ種と同じ K"
            "なら同じエピソードで学習する。classifier は、漢字の全クラスの分類を、1-shot のエピソードの組と同じ枚数のバッチで学習し、特徴の"
            "最近傍重心で答える。maml_three_steps のほかの MAML は、学習のときの内側が 1 回である。teacher は 3 倍の回数だけ学習した同じ大きさの ProtoNet で、distillation はクエリへの答えを、"
            "meta_distillation はサポートへの答えを生徒モデルに教える。fixed の教師モデルは学習しない。maml_pretrained は、teacher の重みから"
            "始める MAML（対照）。teacher の学習は、予算に数えない。設定は 1-shot の検証の漢字で選び、"
            "5-shot でもそのまま使う。per_set、MAML、蒸留の手法は、クエリの集合の統計を使う（トランスダクティブ）。"
            "正規化の選び方と、学習のときの内側の回数は、1-shot だけで比べる。",
            run=confirm,
            settings=settings,
            source=here,
            seeds=tuple(range(5, 10)),
            summarise=summarise,
        ),
        Experiment(
            name="08_few_shot_dev",
            title="少数ショット学習の実験の、設定の選択（1-shot、検証の漢字）",
            description="score は検証の漢字の正解率。内側のある手法では、同じ学習を、測るときの内側の回数を変えて測る。仮名は使わない。",
            run=develop,
            settings=lambda: {"grid": GRID, **measurement()},
            source=here,
            seeds=(0, 1),
            option="--dev",
        ),
    )
