"""演習 07-4 の判定。返り値の形、変えてはいけないもの、更新の回数、動くべきもの、勾配、終わったときの値の順に調べる。

勾配の中身は `fit_hint_gradients.py`、正しい学習のやり直しは `fit_hint_reference.py`、場面は `fit_hint_model.py` にある。
"""

from typing import Any

import torch

from tlkit.course.checks.c07.fit_hint_gradients import Seen, gradient_findings
from tlkit.course.checks.findings import Finding, Records, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    if verdict := _raised(data):
        return verdict
    found = {name: Seen(record["value"], inputs["scenes"][name]) for name, record in data.items()}
    return first(_findings(found)) or PASSED


def _raised(records: Records) -> Verdict | None:
    rest = {name: record for name, record in records.items() if name not in ("once", "linear")}
    return (
        first_raised(rest)
        or first_raised({"linear": records["linear"]}, "特徴が (N, D) で、回帰器が線形層のとき、")
        or first_raised(records, "一度しか回せない loader（ジェネレーターなど）を渡すと、")
    )


def _findings(found: dict[str, Seen]) -> Finding:
    for seen in found.values():
        yield from _form(seen.record["result"])
    for seen in found.values():
        yield from _teacher(seen)
        yield from _upper(seen)
    for seen in found.values():
        yield from _optimizer(seen)
    for seen in found.values():
        yield from _moved(seen)
        yield from _passes(seen)
    yield from gradient_findings(found)
    for seen in found.values():
        yield from _end(seen)


def _form(result: dict[str, Any]) -> Finding:
    if not result["is_list"]:
        yield "not-list", f"返り値が {result['type']} です。更新ごとの損失を、順に並べた list を返してください。"
    for kind in result["kinds"]:
        if kind != "float":
            yield (
                "not-float",
                f"返した list の要素が {kind} です。テンソルのまま集めると、計算グラフがメモリに残り続けます。.item() で float にしてください。",
            )


def _teacher(seen: Seen) -> Finding:
    statistics, values = _split(seen.changed("teacher."))
    if values:
        yield (
            "teacher-moved",
            f"教師モデルの重み {values[0]} が変わりました。教師モデルは、手本として使うだけで、学習しません。",
        )
    if statistics:
        yield (
            "teacher-statistics",
            f"教師モデルの {statistics[0]} が変わりました。学習モードのバッチ正規化に入力を通すと、重みが同じでも移動統計が動きます。"
            "教師モデルは評価モードで使ってください。",
        )
    if flags := [name for name in seen.record["flags"] if name.startswith("teacher.")]:
        yield (
            "flags-changed",
            f"{flags[0]} の requires_grad が変わりました。torch.no_grad() を使えば、変えずに済みます。",
        )
    if seen.record["teacher_grads"]:
        yield (
            "teacher-gradients",
            "教師モデルのパラメータに、勾配が残っています。教師モデルは torch.no_grad() の中で動かしてください。",
        )
    if any(call["grad"] for call in seen.record["calls"] if call["owner"] == "teacher"):
        yield (
            "teacher-graph",
            "勾配を計算する設定のまま、教師モデルに入力を通しています。detach() すれば結果は同じですが、計算グラフのためにメモリを使います。"
            "torch.no_grad() の中で通してください。",
        )


def _upper(seen: Seen) -> Finding:
    """生徒モデルの、ガイドされる層より上。"""
    statistics, values = _split([name for name in seen.changed("student.") if not name.startswith(seen.lower)])
    depth = seen.scene["guided"]
    if values:
        yield (
            "upper-moved",
            f"guided_depth = {depth} なのに、それより上の {values[0]} が変わりました。学習するのは、生徒モデルの初めの {depth} 段と回帰器だけです。",
        )
    if statistics:
        yield (
            "upper-statistics",
            f"guided_depth = {depth} なのに、それより上の {statistics[0]} が変わりました。学習モードのバッチ正規化は、入力が通るだけで移動統計を更新します。"
            "生徒モデルには、ガイドされる層までだけを通してください。",
        )
    if flags := seen.record["flags"]:
        yield "flags-changed", f"{flags[0]} の requires_grad が変わりました。終わったときに、元のままにしてください。"


def _split(names: list[str]) -> tuple[list[str], list[str]]:
    """移動統計の名前と、重みの名前。"""
    statistics = [name for name in names if name.endswith(STATISTICS)]
    return statistics, [name for name in names if name not in statistics]


def _optimizer(seen: Seen) -> Finding:
    made, count, batches = seen.record["made"], seen.record["count"], len(seen.scene["batches"])
    if not made:
        yield (
            "optimizer-unused",
            "make_optimizer が呼ばれませんでした。最適化手法は、渡された make_optimizer で作ってください。",
        )
    if not count:
        yield "no-step", "optimizer.step() が一度も呼ばれませんでした。"
    if made > 1:
        yield (
            "optimizer-remade",
            f"make_optimizer が {made} 回呼ばれました。慣性（momentum）は最適化手法の中に溜まるので、作り直すと消えます。"
            "回帰器と生徒モデルのパラメータを一つの list にして、初めに1回だけ作ってください。",
        )
    once = "（この loader は、一度しか回せません）" if seen.scene["once"] else ""
    if count < batches:
        yield (
            "batches-left",
            f"loader には {batches} 個のバッチがあるのに、更新は {count} 回でした{once}。すべてのバッチで1回ずつ更新してください。",
        )
    if count > batches:
        yield (
            "many-steps",
            f"loader には {batches} 個のバッチがあるのに、更新は {count} 回でした。loader は1回だけまわしてください。",
        )


def _moved(seen: Seen) -> Finding:
    _, values = _split(seen.record["changed"])
    if not any(name.startswith("regressor.") for name in values):
        yield (
            "regressor-still",
            "回帰器の重みが変わりません。回帰器も、生徒モデルと一緒に学習します。最適化手法に渡してください。",
        )
    if not any(name.startswith(seen.lower) for name in values):
        yield (
            "guided-still",
            "生徒モデルの重みが、どの段も変わりません。生徒モデルの特徴が detach や no_grad で切れていないか、"
            "パラメータを最適化手法に渡したか確かめてください。",
        )
    for stage in seen.lower:
        if not any(name.startswith(stage) for name in values):
            depth = seen.scene["guided"]
            yield (
                "stage-left",
                f"guided_depth = {depth} なのに、{stage[:-1]} の重みが変わりません。初めの {depth} 段を、すべて学習します。",
            )


def _passes(seen: Seen) -> Finding:
    """学習する段のバッチ正規化に、学習モードで、1 バッチにつき 1 回だけ通したか。"""
    batches = len(seen.scene["batches"])
    for stage in seen.lower:
        passes = int(seen.record["learned"][f"{stage}norm.num_batches_tracked"])
        if not passes:
            yield (
                "guided-eval",
                f"{stage[:-1]} のバッチ正規化の移動統計が変わりません。生徒モデルの学習する段は、学習モードで通し、バッチの統計を使わせてください。",
            )
        if passes != batches:
            yield (
                "extra-pass",
                f"{batches} 個のバッチに対して、{stage[:-1]} に学習モードで {passes} 回通しています。"
                "1回ずつにしてください。余分に通すと、移動統計も余分に動きます。",
            )


def _end(seen: Seen) -> Finding:
    """返した損失と、終わったときの重みと移動統計。"""
    values, want = seen.record["result"]["values"], seen.right.losses
    if len(values) != len(want):
        yield (
            "losses-count",
            f"更新は {len(want)} 回なのに、返した損失は {len(values)} 個です。更新ごとに一つずつ、順に並べてください。",
        )
    for index, (value, right) in enumerate(zip(values, want, strict=True), 1):
        if not abs(value - right) <= 1e-6 * right:
            yield (
                "losses-wrong",
                f"更新は正しいのですが、{index} 番目に返した損失が {value:.5f} です（{right:.5f} のはずです）。"
                "そのバッチの、更新の前の損失（差の二乗の平均）を返してください。",
            )
    for name, goal in seen.right.learned.items():
        gap = float((torch.tensor(seen.record["learned"][name]).double() - goal).abs().max())
        if not gap <= 1e-5 * max(1.0, float(goal.abs().max())):
            yield (
                "end-wrong",
                f"更新のたびの勾配は正しいのですが、終わったときの {name} が、正しい値から {gap:.2g} 違います。"
                "更新は、make_optimizer で作った最適化手法だけに任せてください。",
            )
