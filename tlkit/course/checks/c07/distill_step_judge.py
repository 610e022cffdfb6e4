"""演習 07-6 の判定。返り値の型、変形とモデルの呼ばれ方、教師モデルに残った跡、更新の回数、勾配の中身、返した値の順に調べる。

勾配の中身は `distill_step_gradients_judge.py`、項ごとの勾配の計算は `distill_step_terms.py` にある。
"""

import math
from typing import Any

from tlkit.course.checks.c07.distill_step_gradients_judge import Seen, gradient_findings
from tlkit.course.checks.c07.distill_step_model import Scene
from tlkit.course.checks.c07.distill_step_terms import total
from tlkit.course.checks.findings import Finding, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

ROLES = {"student": "生徒モデル", "teacher": "教師モデル"}


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    if verdict := first_raised(data):
        return verdict
    found = {name: record["value"] for name, record in data.items()}
    return first(_findings(found, inputs["scenes"])) or PASSED


def _findings(found: dict[str, Scene], scenes: dict[str, Scene]) -> Finding:
    for check in (_form, _passes, _views, _modes, _teacher, _steps):
        for seen in found.values():
            yield from check(seen)
    yield from gradient_findings({name: Seen(seen, scenes[name]) for name, seen in found.items()})
    for name, seen in found.items():
        yield from _value(seen["result"], scenes[name])
    if not all(seen["training"] for seen in found.values()):
        yield (
            "mode-changed",
            "呼んだ後に、生徒モデルが評価モードになっています。次の更新で、バッチの統計が使われません。",
        )


def _form(seen: Scene) -> Finding:
    if seen["result"] is None:
        yield (
            "not-float",
            f"返り値が {seen['type']} です。損失の合計を .item() で float にして返してください。"
            "テンソルのまま集めると、計算グラフがメモリに残り続けます。",
        )


def _passes(seen: Scene) -> Finding:
    """モデルに通した回数と順番。"""
    for role, title in ROLES.items():
        calls = [call for call in seen["calls"] if call["role"] == role]
        if not calls:
            yield f"{role}-not-passed", f"{title}に、入力が一度も通されていません。"
        if any(call["steps"] for call in calls):
            yield (
                "pass-after-update",
                f"更新の後にも、{title}に入力を通しています。返す損失は更新の前のもので、backward に使った値がそのまま使えます。",
            )
        if len(calls) > 1:
            yield (
                f"{role}-extra-pass",
                f"1回の更新で、{title}に {len(calls)} 回通しています。1回で足ります。同じロジットから、二つの項を計算してください。",
            )


def _views(seen: Scene) -> Finding:
    """どちらのモデルも、1 回だけ変形した同じ画像を見たか。"""
    given = {call["role"]: call["given"] for call in seen["calls"]}
    if not seen["augmented"]:
        yield "not-augmented", "augment が一度も呼ばれていません。学習の画像は、変形してから二つのモデルに通します。"
    if any(name != "raw" for name in seen["augmented"]):
        yield "augmented-twice", "変形した画像を、もう一度変形しています。元の画像に、1回だけ掛けてください。"
    for role, other in (("teacher", "student"), ("student", "teacher")):
        if given[role] == "raw" and given[other] != "raw":
            yield (
                f"{role}-unaugmented",
                f"{ROLES[role]}だけが、変形の前の画像を見ています。教師モデルは、生徒モデルが見ている画像の答えを教えます。"
                "変形した同じ画像を、二つのモデルに通してください。",
            )
    if "other" in given.values() or set(given.values()) == {"raw"}:
        yield (
            "other-input",
            "augment の結果と違う入力を、モデルに通しています。augment の返したテンソルを、そのまま全部通してください。",
        )
    if given["student"] != given["teacher"]:
        yield (
            "separate-augmentation",
            "生徒モデルと教師モデルが、別々に変形した画像を見ています。augment は、呼ぶたびに違う結果を返します。"
            "教師モデルが、生徒モデルの見ていない画像の答えを教えることになります。",
        )
    if len(seen["augmented"]) > 1:
        yield "augment-extra", f"augment が {len(seen['augmented'])} 回呼ばれました。使わない変形の計算は、要りません。"


def _modes(seen: Scene) -> Finding:
    student, teacher = (next(call for call in seen["calls"] if call["role"] == role) for role in ROLES)
    if teacher["training"]:
        yield (
            "teacher-training",
            "教師モデルの全部または一部の層が、学習モードで動きました。ドロップアウトが答えに雑音を加え、"
            "バッチ正規化の移動統計が動いて、手本そのものが壊れていきます。学習モードで渡されても、評価モードで動かしてください。",
        )
    if not student["training"]:
        yield (
            "student-evaluated",
            "生徒モデルの全部または一部の層が、評価モードで動きました。学習する側は、バッチ正規化にバッチの統計を使わせます。",
        )
    if not student["grad"]:
        yield (
            "student-no-grad",
            "torch.no_grad() の中で、生徒モデルに入力を通しています。生徒モデルには勾配が要ります。",
        )


def _teacher(seen: Scene) -> Finding:
    """教師モデルに残った跡。"""
    if seen["taught"]:
        yield (
            "teacher-gradient",
            f"教師モデルのパラメータに、勾配が {seen['taught']} 回届きました。教師モデルの逆伝播は無駄な計算です。"
            "そのうえ、optimizer が教師モデルのパラメータも持っていると、手本のほうが生徒モデルに近づいてしまいます。",
        )
    if seen["teacher-changed"]:
        listed = "、".join(seen["teacher-changed"][:3])
        yield (
            "teacher-changed",
            f"呼んだ後に、教師モデルの {listed} が変わっています。重みも移動統計も、変えないでください。",
        )


def _steps(seen: Scene) -> Finding:
    if seen["steps"] == 0:
        yield "no-step", "optimizer.step() が一度も呼ばれませんでした。更新は、渡された optimizer に任せます。"
    if seen["steps"] > 1:
        yield "many-steps", f"optimizer.step() が {seen['steps']} 回呼ばれました。更新は1回です。"


def _value(found: float, scene: Scene) -> Finding:
    want = total(scene)
    if not math.isfinite(found) or not close(found, want, 1e-5):
        yield (
            "loss-value",
            f"更新は正しいのですが、返した損失が {found:.4f} です（T = {scene['temperature']}、α = {scene['alpha']}）。"
            f"更新の前の、二つの項の重みつきの和は {want:.4f} です。",
        )
