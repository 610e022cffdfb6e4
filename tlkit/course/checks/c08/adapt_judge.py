"""演習 08-2 の判定。返り値の形、渡した値の変化、1 回の更新、くり返し、0 回、勾配、断るべき回数の順に調べる。

勾配の判定は `adapt_judge_gradients.py`、比べる値は `adapt_reference.py`、場合の作り方は `adapt.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c08.adapt_judge_gradients import gradients
from tlkit.course.checks.c08.adapt_reference import Reference, Vectors, reference
from tlkit.course.checks.c08.adapt_scene import Case
from tlkit.course.checks.findings import Finding, Records, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict, wrong
from tlkit.course.checks.trial import failed

WHEN = {
    "zero": "steps = 0 のとき、",
    "learnable": "lr が0次元のテンソルのとき、",
    "derived": "params の値が、別の計算の結果（葉でないテンソル）のとき、",
    "default": "first_order を省いたとき、",
}
References = dict[str, Reference]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    records, cases = data["values"], inputs["cases"]
    if verdict := _form_of_one_step(records, cases) or _raised(records):
        return verdict
    seen = {name: record["value"] for name, record in records.items()}
    if verdict := first(_form(seen, cases)) or first(_side_effects(seen)):
        return verdict
    references = {name: reference(case) for name, case in cases.items()}
    found = {name: _values(entry["items"]) for name, entry in seen.items()}
    return (
        first(_one_step(seen["one"], found["one"], cases["one"], references["one"]))
        or first(_steps(seen["three"], found["three"], references["three"]))
        or first(_zero(found["zero"], references["zero"]))
        or first(_all_values(found, cases, references))
        or first(gradients(seen, cases, references))
        or _negative(data["negative"])
        or PASSED
    )


def _form_of_one_step(records: Records, cases: dict[str, Case]) -> Verdict | None:
    """1 回だけの返り値の形。名前の欠けた辞書は、2 回めの loss を止めるので、例外より先に調べる。"""
    record = records["one"]
    return None if failed(record) else first(_form({"one": record["value"]}, cases))


def _raised(records: Records) -> Verdict | None:
    plain = {name: record for name, record in records.items() if name.removesuffix("/first") not in WHEN}
    if verdict := first_raised(plain):
        return verdict
    for name, record in records.items():
        when = WHEN.get(name.removesuffix("/first"), "")
        if failed(record) and name.startswith("zero") and record["error"]["type"] == "ValueError":
            return wrong("rejects-zero", f"{when}ValueError が起きました。0回なら、渡した値をそのまま返してください。")
        if verdict := first_raised({name: record}, when):
            return verdict
    return None


def _form(seen: dict[str, Any], cases: dict[str, Case]) -> Finding:
    """返り値の種類、名前、テンソルの形と dtype。"""
    for name, entry in seen.items():
        items, params = entry["items"], cases[name]["params"]
        if items is None:
            yield "not-dict", f"返り値が {entry['type']} です。名前からテンソルへの辞書（dict）を返してください。"
            return
        if set(items) != set(params):
            yield (
                "names-changed",
                f"params の名前が {list(params)}、返り値の名前が {list(items)} です（steps = {cases[name]['steps']}）。同じ名前をすべて返してください。",
            )
        for key, item in items.items():
            if not item["tensor"]:
                yield "not-tensor", f"返り値の {key} が {item['type']} です。torch.Tensor にしてください。"
            elif item["shape"] != list(params[key].shape):
                yield (
                    "shape",
                    f"{key} の形が {tuple(params[key].shape)} から {tuple(item['shape'])} に変わりました。形は、更新しても同じです。",
                )
            elif item["dtype"] != str(params[key].dtype).removeprefix("torch."):
                yield "dtype-changed", f"{params[key].dtype} の {key} を渡すと、{item['dtype']} が返りました。"


def _side_effects(seen: dict[str, Any]) -> Finding:
    for entry in seen.values():
        if entry["changed"]:
            yield (
                "initial-changed",
                f"呼び出しのあとで、渡した {entry['changed'][0]} の値が変わりました。初めの値は、外側の更新と、ほかの課題が使います。"
                "`-=` や `.data` への代入をやめ、引き算で新しいテンソルを作ってください。",
            )
        if not entry["same_dict"]:
            yield (
                "dict-changed",
                "渡した辞書 params の中身が、別のテンソルに入れ替わりました。dict(params) で写してから、写しのほうを更新してください。",
            )
        if entry["grad_left"]:
            yield (
                "grad-left",
                f"呼び出しのあとで、{entry['grad_left'][0]} の .grad に内側の勾配が残っています。外側の勾配と混ざってしまいます。"
                "backward() でなく、torch.autograd.grad で求めてください。",
            )
        if entry["frozen"]:
            yield (
                "flags-changed",
                f"呼び出しのあとで、{entry['frozen'][0]} の requires_grad が False になりました。渡されたテンソルの設定は変えないでください。",
            )


def _one_step(entry: Any, found: Vectors, case: Case, ref: Reference) -> Finding:
    """1 回の更新: 動き = −η × 初めの値での勾配。"""
    moves = {name: value - ref.points[0][name] for name, value in found.items()}
    still = [name for name, move in moves.items() if float(move.abs().max()) < 1e-9]
    if len(still) == len(moves):
        yield "unmoved", "steps = 1 なのに、どの値も初めのままです。更新した値を返していますか。"
    if still:
        yield "some-unmoved", f"steps = 1 で、{'と'.join(still)} が動きません。params のすべての値を更新してください。"
    rates = {name: _ratio(moves[name], -ref.descent[name]) for name in moves}
    lr, sizes = case["lr"], [rate for rate, _ in rates.values()]
    if max(rest for _, rest in rates.values()) > 1e-6:
        if _mixed(entry["calls"], ref.points[0]):
            yield (
                "one-by-one",
                "1回の更新の途中で、一部の値だけを更新した辞書が loss に渡されました。勾配は、すべての値について、"
                "同じ点で一度に求めてから、そろえて動かします。",
            )
        name = next(name for name, (_, rest) in rates.items() if rest > 1e-6)
        yield (
            "direction",
            f"steps = 1 で、{name} の動いた向きが、{name} の勾配の向きと違います。名前と勾配の対応は合っていますか。",
        )
    if max(sizes) < 0:
        yield "ascends", "steps = 1 で、サポートの損失が増える向きに動きました。勾配を引いてください。"
    if not all(close(size, sizes[0], 1e-6) for size in sizes):
        shown = "、".join(f"{name} は {rate:.4g} 倍" for name, (rate, _) in rates.items())
        yield "uneven", f"steps = 1 で動いた量が、勾配に対して、{shown}です。どの値にも、同じ lr を使ってください。"
    if not close(sizes[0], lr, 1e-6):
        yield "step-size", f"lr = {lr} で、勾配の {sizes[0]:.4g} 倍だけ動きました。{lr} 倍のはずです。"


def _steps(entry: Any, found: Vectors, ref: Reference) -> Finding:
    """くり返し: どの回も、更新した値で勾配を求め直す。"""
    if _near(found, ref.points[3]):
        return
    for count in (0, 1, 2, 4):
        if _near(found, ref.points[count]):
            yield "step-count", f"steps = 3 で、{count} 回だけ更新した値が返りました。3回更新してください。"
    if all(_near(_tensors(call), ref.points[0]) for call in entry["calls"]):
        yield (
            "original-parameters",
            f"steps = 3 で、loss が {len(entry['calls'])} 回、いつも初めの値で呼ばれました。同じ勾配で3回動くと、3倍の lr の1回と同じです。"
            "2回めからは、更新した値を loss に渡してください。",
        )
    yield (
        "later-steps",
        "steps = 1 では正しいのですが、steps = 3 では違います。2回めからも、同じ lr で、その時の値での勾配だけを引いてください。",
    )


def _zero(found: Vectors, ref: Reference) -> Finding:
    if not _near(found, ref.points[0]):
        yield "zero-changed", "steps = 0 で、値が変わりました。0回なら、渡した値をそのまま返してください。"


def _all_values(found: dict[str, Vectors], cases: dict[str, Case], references: References) -> Finding:
    for name, vectors in found.items():
        case, want = cases[name], references[name].points[cases[name]["steps"]]
        gap = max(float((vectors[key] - want[key]).abs().max()) for key in want)
        if not gap <= (1e-4 if name == "float32" else 1e-9):
            when = WHEN.get(name.removesuffix("/first"), "")
            yield (
                "value-mismatch",
                f"{when}lr = {case['lr']}、steps = {case['steps']}、first_order = {case['first_order']} の例で、"
                f"値が最大 {gap:.3g} 違います。first_order は、値を変えず、勾配だけを変えます。",
            )


def _negative(record: dict[str, Any]) -> Verdict | None:
    if not failed(record):
        return wrong(
            "negative-accepted",
            "steps = -1 を受け取りました。range(-1) は黙って0回になります。ValueError にしてください。",
        )
    if record["error"]["type"] != "ValueError":
        kind = record["error"]["type"]
        return wrong("wrong-exception", f"steps = -1 で、ValueError でなく {kind} が起きました。")
    return None


def _mixed(calls: list[Any], start: Vectors) -> bool:
    """一部の名前だけが初めの値から動いた呼び出しがあるか。"""
    moved = [[not _close(value, start[name]) for name, value in _tensors(call).items()] for call in calls]
    return any(any(flags) and not all(flags) for flags in moved)


def _values(items: dict[str, Any]) -> Vectors:
    return _tensors({name: item["value"] for name, item in items.items()})


def _tensors(values: dict[str, list[float]]) -> Vectors:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def _close(a: Tensor, b: Tensor) -> bool:
    return bool(((a - b).abs() <= 1e-9).all())


def _near(found: Vectors, want: Vectors) -> bool:
    return all(_close(found[name], want[name]) for name in want)


def _ratio(move: Tensor, direction: Tensor) -> tuple[float, float]:
    """move = 係数 × direction と置いたときの係数と、説明できない部分の割合。"""
    factor = float((move * direction).sum() / direction.square().sum())
    return factor, float((move - factor * direction).norm() / move.norm())
