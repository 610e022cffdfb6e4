"""演習 08-8 の判定。返り値の形、選び方、差、区間、結論の順に、場面を変えたときの変わり方で調べる。

場面は `compare_methods_scene.py`、問題は `compare_methods.py` にある。
"""

import math
from typing import Any

import numpy as np
from scipy import stats

from tlkit.course.checks.c08.compare_methods_scene import BASELINE, BEST, Scene
from tlkit.course.checks.findings import Finding, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

KEYS = ("chosen", "difference", "half", "verdict")
WORDS = ("better", "worse", "unclear")
NEAR = 1e-6


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    if verdict := first_raised(data):
        return verdict
    return first(_findings({name: record["value"] for name, record in data.items()}, inputs["scenes"])) or PASSED


def _findings(found: dict[str, Scene], scenes: dict[str, Scene]) -> Finding:
    for seen in found.values():
        yield from _form(seen)
    values = {name: seen["values"] for name, seen in found.items()}
    gaps = {name: _gaps(scene) for name, scene in scenes.items()}
    yield from _chosen({name: value["chosen"] for name, value in values.items()})
    yield from _difference({name: value["difference"] for name, value in values.items()}, gaps)
    yield from _half({name: value["half"] for name, value in values.items()}, gaps)
    yield from _verdict({name: value["verdict"] for name, value in values.items()})


def _gaps(scene: Scene) -> np.ndarray:
    """種ごとの差 (S,)。"""
    best, baseline = (scene["test"][name].numpy().mean(axis=1) for name in (BEST, BASELINE))
    return np.asarray(best - baseline)


def _form(seen: Scene) -> Finding:
    if seen["type"] != "dict" or set(seen["names"]) != set(KEYS):
        given = "、".join(seen["names"]) or seen["type"]
        yield "form", f"返り値が {given} です。chosen、difference、half、verdict の四つを持つ dict を返してください。"
    for key in ("difference", "half"):
        if not isinstance(seen["values"][key], float):
            yield "not-float", f"{key} が {seen['kinds'][key]} です。.item() か float() で、Python の数にしてください。"
        elif not math.isfinite(seen["values"][key]):
            yield "not-finite", f"{key} が {seen['values'][key]} です。どの場面でも、有限の数になるはずです。"
    if seen["values"]["verdict"] not in WORDS:
        yield (
            "verdict-words",
            f"verdict が {seen['values']['verdict']} です。{'、'.join(WORDS)} のどれかにしてください。",
        )


def _chosen(chosen: dict[str, Any]) -> Finding:
    if BASELINE in chosen.values():
        yield "chose-baseline", "基準そのものが選ばれました。基準は比べる相手なので、候補から除いてください。"
    if chosen["others"] != chosen["base"]:
        yield (
            "chosen-on-test",
            "メタ検証は同じまま、メタテストの正解率だけを変えると、選ばれる手法が変わりました。メタテストで選ぶと、まぐれで高かった手法が残り、"
            "差を大きく見積もります。メタ検証だけで選んでください。",
        )
    if chosen["base"] == BEST != chosen["uneven"]:
        yield (
            "chosen-count",
            "エピソードの数が手法ごとに違うと、平均の高い手法が選ばれません。合計でなく、平均で比べてください。",
        )
    for name, value in chosen.items():
        if value != BEST:
            yield (
                "chosen-other",
                f"{value} が選ばれました（場面 {name}）。メタ検証の平均が最も高いのは、基準を除くと {BEST} です。",
            )


def _difference(found: dict[str, float], gaps: dict[str, np.ndarray]) -> Finding:
    if not close(found["known"], found["base"], NEAR):
        yield (
            "difference-on-validation",
            "メタテストは同じまま、メタ検証の正解率を変えると、差が変わりました。差は、選ぶのに使っていないメタテストで測ります。",
        )
    if found["base"] * gaps["base"].mean() < 0 and found["worse"] * gaps["worse"].mean() < 0:
        yield "difference-sign", "差の符号が逆です。選んだ手法から、基準を引いてください。"
    for name, want in gaps.items():
        if not close(found[name], float(want.mean()), NEAR):
            yield (
                "difference-other",
                f"差が {found[name]:.4f} です。種ごとの差の平均は {want.mean():.4f} です（種 {len(want)} 個）。"
                "全部の種と全部のエピソードを使ってください。",
            )


def _half(found: dict[str, float], gaps: dict[str, np.ndarray]) -> Finding:
    if found["base"] <= 0:
        yield (
            "half-positive",
            f"半幅が {found['base']:.4f} です。種ごとの差にばらつきがあるので、正の数になるはずです。",
        )
    if not close(found["repeated"] / found["base"], 1):
        yield (
            "pooled-episodes",
            f"同じエピソードを4回ずつくり返しただけで、半幅が {found['repeated'] / found['base']:.3g} 倍になりました。新しい証拠は何も増えていません。"
            "エピソードを独立な標本として数えています。種ごとの平均を、一つの標本としてください。",
        )
    if not close(found["shifted"] / found["base"], 1):
        yield (
            "unpaired",
            "全部の手法の正解率に、種ごとに同じ数を足すと、半幅が変わりました。どちらの手法にも同じだけ効く、種の良しあしは、差には効きません。"
            "同じ種どうしで引いてから、その差のばらつきを求めてください。",
        )
    yield from _width(found, gaps)


def _width(found: dict[str, float], gaps: dict[str, np.ndarray]) -> Finding:
    """対になった、種ごとの差の区間だと分かった後の、半幅の大きさ。"""
    used = {name: found[name] * len(gaps[name]) ** 0.5 / gaps[name].std(ddof=1) for name in ("base", "many")}
    if close(used["base"], used["many"]):
        yield (
            "quantile-fixed",
            f"半幅 ÷ (s/√S) が、種5個でも12個でも {used['base']:.3f} です。種が少ないほど、ばらつきの見積もりが不確かなので、"
            "自由度 S − 1 の t 分布の分位点を使います。",
        )
    for name, value in used.items():
        count = len(gaps[name])
        want = float(stats.t.ppf(0.975, count - 1))
        if not close(value, want, NEAR):
            yield (
                "half-other",
                f"種 {count} 個のとき、半幅が、正しい値の {value / want:.4f} 倍です。不偏分散（S − 1 で割る）、両側95%の分位点（0.975）、"
                "自由度 S − 1、√S を、順に確かめてください。",
            )
    for name, want_gaps in gaps.items():
        right = float(stats.t.ppf(0.975, len(want_gaps) - 1) * want_gaps.std(ddof=1) / len(want_gaps) ** 0.5)
        if not close(found[name], right, NEAR):
            yield "half-elsewhere", f"半幅が {found[name]:.4f} です。正しい値は {right:.4f} です（場面 {name}）。"


def _verdict(found: dict[str, str]) -> Finding:
    if found["unclear"] != "unclear":
        yield (
            "verdict-overclaims",
            f"信頼区間が0を含むのに、{found['unclear']} と結論しました。差は確かめられていないので、unclear です。",
        )
    if found["base"] == "worse" or found["worse"] == "better":
        yield "verdict-sign", "結論の向きが逆です。選んだ手法が基準より高ければ better です。"
    if "unclear" in (found["base"], found["worse"]):
        yield (
            "verdict-timid",
            "信頼区間が0を含まないのに、unclear と結論しました。差が正なら better、負なら worse です。",
        )
    if found["equal"] != "unclear":
        yield (
            "verdict-zero",
            f"どの種でも差がちょうど0（0 ± 0）なのに、{found['equal']} と結論しました。区間の端が0でも、0を含みます。",
        )
    for name, value in found.items():
        want = {"unclear": "unclear", "equal": "unclear", "worse": "worse"}.get(name, "better")
        if value != want:
            yield "verdict-other", f"場面 {name} の結論が {value} です。正しくは {want} です。"
