"""演習 03-5 の判定。返り値の形、モデルの呼ばれ方、更新の回数、勾配の中身、返した損失の順に調べる。

勾配の中身は `dann_step_gradients_judge.py`、項ごとの勾配の計算は `dann_step_terms.py` にある。
"""

import math
from typing import Any

import torch

from tlkit.course.checks.c03.dann_step_gradients_judge import Seen, gradient_findings
from tlkit.course.checks.c03.dann_step_model import Scene
from tlkit.course.checks.c03.dann_step_terms import losses, start
from tlkit.course.checks.findings import Finding, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

PASSES = {"source": "ソース", "target": "ターゲット"}


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    if verdict := first_raised(data):
        return verdict
    found = {name: record["value"] for name, record in data.items()}
    return first(_findings(found, inputs["scenes"])) or PASSED


def _findings(found: dict[str, Scene], scenes: dict[str, Scene]) -> Finding:
    for seen in found.values():
        yield from _form(seen["result"])
    yield from _calls(found, scenes)
    for seen in found.values():
        yield from _steps(seen)
    yield from gradient_findings({name: Seen(seen, scenes[name]) for name, seen in found.items()})
    for name, seen in found.items():
        yield from _values(seen["result"]["values"], scenes[name])
    if not all(seen["training"] for seen in found.values()):
        yield (
            "mode-changed",
            "呼んだ後に、モデルが評価モードになっています。次の更新で、バッチの統計が使われません。モードは変えないでください。",
        )


def _form(result: dict[str, Any]) -> Finding:
    if not result["is_dict"]:
        yield (
            "not-dict",
            f'返り値が {result["type"]} です。{{"class": クラスの損失, "domain": ドメインの損失}} という辞書を返してください。',
        )
    if set(result["kinds"]) != {"class", "domain"}:
        listed = "、".join(sorted(result["kinds"])) or "なし"
        yield (
            "wrong-keys",
            f"返した辞書の名前が {listed} です。class と domain の二つにしてください。",
        )
    for key, kind in result["kinds"].items():
        if key not in result["values"]:
            yield (
                "not-float",
                f"返した辞書の {key} が {kind} です。テンソルのまま集めると、計算グラフがメモリに残り続けます。.item() で float にしてください。",
            )


def _calls(found: dict[str, Scene], scenes: dict[str, Scene]) -> Finding:
    """モデルの呼ばれ方。"""
    for seen in found.values():
        yield from _given(seen["calls"])
    for seen in found.values():
        yield from _passes(seen["calls"])
    yield from _lambdas(found, scenes)


def _given(calls: list[dict[str, Any]]) -> Finding:
    names = [call["given"] for call in calls]
    if "both" in names:
        yield (
            "concatenated",
            "ソースとターゲットを1つのバッチにつないで、モデルに通しています。BatchNormが、二つのドメインの混ざった統計で正規化します。"
            "別々に1回ずつ通してください。",
        )
    if "other" in names:
        yield (
            "other-input",
            "渡された source_x、target_x と違う入力を、モデルに通しています。画像をそのまま、全部通してください。",
        )
    for name, title in PASSES.items():
        if name not in names:
            yield (
                f"{name}-not-passed",
                f"{title}の入力が、一度もモデルに通されていません。ドメインの損失は、両方のドメインで計算します。",
            )


def _passes(calls: list[dict[str, Any]]) -> Finding:
    if any(call["steps"] for call in calls):
        yield (
            "pass-after-update",
            "更新の後にも、モデルに入力を通しています。返す損失は更新の前のもので、backward に使った値がそのまま使えます。"
            "余分に通すと、BatchNormの移動統計まで余分に動きます。",
        )
    if not all(call["training"] for call in calls):
        yield (
            "eval-pass",
            "評価モードで、モデルに入力を通しています。学習の間は、どちらのドメインも学習モードで通し、BatchNormにそのバッチの統計を使わせます。",
        )
    if not all(call["grad"] for call in calls):
        yield (
            "no-grad-pass",
            "torch.no_grad() の中で、モデルに入力を通しています。ターゲットにはラベルがありませんが、ドメインの損失の勾配が要ります。",
        )
    if len(calls) > len(PASSES):
        yield (
            "extra-pass",
            f"モデルに {len(calls)} 回通しています。ソースとターゲットを、1回ずつ通せば足ります。"
            "一度の呼び出しで、クラスとドメインの両方のロジットが得られます。",
        )


def _lambdas(found: dict[str, Scene], scenes: dict[str, Scene]) -> Finding:
    """λ が、両方の呼び出しに、渡されたまま届いたか。"""
    for name, seen in found.items():
        want = scenes[name]["lambda"]
        given = {call["given"]: call["lambda"] for call in seen["calls"]}
        missing = [title for key, title in PASSES.items() if given[key] is None]
        if len(missing) == len(PASSES):
            yield (
                "lambda-not-passed",
                "モデルに λ が渡されていません。model(x) では、勾配反転層が既定の λ = 1 で働きます。model(x, lambda_) としてください。",
            )
        if missing:
            yield (
                "lambda-one-pass",
                f"{missing[0]}を通すときだけ、λ が渡されていません。二つのドメインで、反転の強さが食い違います。",
            )
        for key, title in PASSES.items():
            if not close(given[key], want, 1e-6):
                yield (
                    "lambda-changed",
                    f"{title}を通すときの λ が、渡された {want} でなく {given[key]:.3g} です。符号も大きさも、そのまま渡してください。",
                )


def _steps(seen: Scene) -> Finding:
    if seen["steps"] == 0:
        yield (
            "no-step",
            "optimizer.step() が一度も呼ばれませんでした。パラメータの更新は、渡された optimizer に任せます。",
        )
    if seen["steps"] > 1:
        yield (
            "many-steps",
            f"optimizer.step() が {seen['steps']} 回呼ばれました。更新は1回です。"
            "勾配反転層があるので、ドメイン識別器と特徴抽出器を交互に更新する必要はありません。",
        )


def _values(values: dict[str, float], scene: Scene) -> Finding:
    with torch.no_grad():
        terms = {name: value.item() for name, value in losses(scene, start(scene)).items()}
    want = {"class": terms["class"], "domain": (terms["source-0"] + terms["target-1"]) / 2}
    for key, title in (("class", "クラス"), ("domain", "ドメイン")):
        if not math.isfinite(values[key]) or not close(values[key], want[key], 1e-5):
            yield (
                f"{key}-value",
                f'更新は正しいのですが、返した "{key}" が {values[key]:.4f} です。{title}の損失は {want[key]:.4f} のはずです。'
                "更新の前の、λ を掛けない値を返してください。domain は、二つのドメインの平均（½ ずつ）です。",
            )
