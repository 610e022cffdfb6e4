"""演習 08-3 の判定。返り値の形、モデルを変えないこと、0 回の値、効くデータ、適応した重み、値、勾配の順に調べる。

適応した重みの性質は `maml_loss_inner.py`、勾配の性質は `maml_loss_gradients.py`、正しい値は `maml_loss_reference.py` にある。
"""

import math
from typing import Any

from tlkit.course.checks.c08.maml_loss_gradients import gradient_findings
from tlkit.course.checks.c08.maml_loss_inner import inner_findings
from tlkit.course.checks.c08.maml_loss_model import Scene
from tlkit.course.checks.c08.maml_loss_reference import query_loss
from tlkit.course.checks.findings import Finding, Records, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    scenes = inputs["scenes"]
    norm = {name: record for name, record in data.items() if scenes[name]["norm"]}
    plain = {name: record for name, record in data.items() if name not in norm}
    return (
        first_raised(plain)
        or first_raised(norm, "バッチ正規化のあるモデルで、")
        or first(_findings(data, scenes))
        or PASSED
    )


def _findings(records: Records, scenes: dict[str, Scene]) -> Finding:
    for record in records.values():
        yield from _form(record)
    for record in records.values():
        yield from _untouched(record)
    for name, record in records.items():
        yield from _modes(record, scenes[name])
    values = {name: float(record["value"]) for name, record in records.items()}
    yield from _no_steps(values, query_loss(scenes["zero"]))
    yield from _roles(values)
    yield from inner_findings(records, scenes)
    yield from _values(values, scenes)
    yield from gradient_findings(records, scenes)


def _form(record: dict[str, Any]) -> Finding:
    if record["kind"] != "tensor":
        yield (
            "not-tensor",
            f"返り値が {record['type']} です。損失を、0次元の torch.Tensor のまま返してください。数にすると、微分できません。",
        )
    elif record["shape"]:
        yield (
            "not-scalar",
            f"返り値の形が {tuple(record['shape'])} です。クエリの画像についての平均を取り、0次元にしてください。",
        )
    elif record["dtype"] != "float64":
        yield (
            "dtype-changed",
            f"float64 のモデルとデータを渡すと、{record['dtype']} が返りました。dtype を変えないでください。",
        )


MESSAGES = {
    "value": (
        "parameters-changed",
        "モデルのパラメータ {name} の値が変わりました。内側の更新は、値を書き換えずに、新しいテンソルを作ってください。"
        "次の課題も、同じ初めの値から始めます。",
    ),
    "buffer": (
        "buffers-changed",
        "モデルのバッファ {name} が変わりました。学習モードのバッチ正規化は、呼ばれるたびに移動統計を書き換えます。"
        "functional_call に、バッファの写しも渡してください。",
    ),
    "grad": (
        "grad-changed",
        "モデルのパラメータ {name} の .grad が変わりました。backward() は .grad に足しこみます。内側の勾配は torch.autograd.grad で求めてください。",
    ),
    "flag": ("flags-changed", "モデルのパラメータ {name} の requires_grad が変わりました。元のままにしてください。"),
    "training": (
        "mode-changed",
        "モデルの training が変わりました。学習モードか評価モードかは、渡されたままにしてください。",
    ),
}


def _untouched(record: dict[str, Any]) -> Finding:
    """モデルが、渡されたままか。"""
    for item in record["changed"]:
        kind, _, name = item.partition(":")
        code, message = MESSAGES[kind]
        yield code, message.format(name=name)
    if record["replaced"]:
        yield (
            "parameters-replaced",
            f"モデルの {record['replaced'][0]} が、別のテンソルに置きかわりました。最適化手法が持つパラメータと、つながらなくなります。",
        )


def _modes(record: dict[str, Any], scene: Scene) -> Finding:
    if any(call["training"] != scene["training"] for call in record["calls"]):
        mode = "学習モード" if scene["training"] else "評価モード"
        yield (
            "mode-switched",
            f"{mode}のモデルを渡すと、別のモードで計算しました。モードは、渡されたままで使ってください。",
        )


def _no_steps(values: dict[str, float], want: float) -> Finding:
    """0 回なら、元のモデルの、クエリの交差エントロピー。"""
    zero = values["zero"]
    if not all(math.isfinite(value) for value in values.values()):
        yield "not-finite", "損失に、NaN か無限大があります。"
    if not close(values["zero-relabelled"], zero, 1e-9):
        yield (
            "support-at-zero",
            "inner_steps = 0 なのに、サポートのラベルを変えると値が変わりました。返すのは、クエリの損失だけです。",
        )
    if not close(values["zero-twice"], zero, 1e-9):
        yield (
            "not-averaged",
            f"inner_steps = 0 で、同じクエリを2回ずつ並べると、値が {values['zero-twice'] / zero:.3g} 倍になりました。平均なら変わりません。",
        )
    if not close(zero, want, 1e-9):
        yield (
            "loss-other",
            f"inner_steps = 0 の値が {zero:.5g} です（{want:.5g} のはずです）。元のモデルの、クエリの交差エントロピーになるはずです。",
        )


def _roles(values: dict[str, float]) -> Finding:
    """サポートとクエリのどちらも効くか。"""
    base = values["base"]
    if close(base, values["relabelled"], 1e-9):
        adapts = not close(base, values["zero"], 1e-9)
        seen = "inner_steps = 2 で、サポートのラベルを変えても、値が変わりません。"
        yield (
            "support-ignored" if adapts else "unadapted",
            seen
            + (
                "適応には、クエリでなく、サポートを使ってください。"
                if adapts
                else "クエリの損失を、適応したパラメータで計算してください。"
            ),
        )
    if close(base, values["requeried"], 1e-9):
        yield "query-ignored", "クエリを替えても、値が変わりません。返すのは、クエリの損失です。"


def _values(values: dict[str, float], scenes: dict[str, Scene]) -> Finding:
    for name, scene in scenes.items():
        want, found = query_loss(scene), values[name]
        if not abs(found - want) <= 1e-7 * max(1.0, want):
            norm = "バッチ正規化のあるモデル（" + ("学習" if scene["training"] else "評価") + "モード）で、"
            yield (
                "value-mismatch",
                f"{norm if scene['norm'] else ''}η = {scene['lr']}、inner_steps = {scene['steps']}、"
                f"first_order = {scene['first_order']} の値が {found:.6g} です（{want:.6g} のはずです）。",
            )
