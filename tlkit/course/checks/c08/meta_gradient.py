"""演習 08-1: 1 次元の 2 次の損失での、メタ勾配。問題、入力、答えの呼び方を置く。

課題が一つのとき、メタ勾配は、初めの値 θ、サポートの最小点 a、クエリの最小点 b のどれについても 1 次式である。
だから、それぞれを 1 だけ動かすと、何倍が掛かっているかが読める。判定は `meta_gradient_judge.py`、読み方は `meta_gradient_slopes.py` にある。
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from tlkit.course.checks.c08.meta_gradient_judge import judge
from tlkit.course.checks.c08.meta_gradient_slopes import ORDERS, SETTINGS, STEPS, VARIANTS, Case
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import failed, trial

TASKS = 4


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    g = torch.Generator().manual_seed(seed)
    rate, base = _between(0.2, 0.3, g), _case(g, 1, (0.8, 1.4), 0.0)
    changes = {"plain": {}, "steeper": {"curvature": 2 * base["curvature"]}, "faster": {"lr": 2 * rate}}
    moves = {
        "base": {},
        "theta": {"theta": base["theta"] + 1},
        "theta-2": {"theta": base["theta"] + 2},
        "support": {"support": base["support"] + 1},
        "query": {"query": base["query"] + 1},
    }
    grid = {
        f"{setting}/{order}/{k}/{variant}": base
        | {"lr": rate, "steps": k, "first_order": order == "first"}
        | changes[setting]
        | moves[variant]
        for setting in SETTINGS
        for order in ORDERS
        for k in STEPS
        for variant in VARIANTS
    }
    return {"cases": grid | _several(g) | _special(g)}


def _several(g: torch.Generator) -> dict[str, Case]:
    """課題が四つの場合、同じ四つを 2 回ずつ並べた場合、一つずつの場合。"""
    four = _case(g, TASKS, (0.5, 2.0), 0.3) | {"steps": 2}
    parts = ("curvature", "support", "query")
    cases = {"four": four, "four-twice": four | {part: torch.cat([four[part]] * 2) for part in parts}}
    cases |= {f"alone-{i}": four | {part: four[part][i : i + 1] for part in parts} for i in range(TASKS)}
    return cases | {f"{name}/first": case | {"first_order": True} for name, case in cases.items()}


def _special(g: torch.Generator) -> dict[str, Case]:
    """1 − cη が負、0、−1 より小さい場合、回数の多い場合、整数の初めの値、float32。"""
    named = {
        "negative": _case(g, 1, (1.3, 1.7), 1.0) | {"steps": 3},
        "zero": _case(g, 1, (2.0, 2.0), 0.5) | {"steps": 2},
        "diverging": _case(g, 1, (2.3, 2.6), 1.0) | {"steps": 5},
        "mixed": _case(g, 5, (0.2, 2.5), 1.0) | {"steps": 3},
        "many": _case(g, 3, (0.05, 0.2), 0.2) | {"steps": 40},
        "integer": _case(g, 2, (0.5, 1.5), 0.2) | {"steps": 2, "theta": 3},
    }
    single = _case(g, 3, (0.5, 2.0), 0.3) | {"steps": 2}
    named["float32"] = {key: item.float() if isinstance(item, Tensor) else item for key, item in single.items()}
    return named | {f"{name}/first": case | {"first_order": True} for name, case in named.items()}


def _case(g: torch.Generator, tasks: int, curvature: tuple[float, float], lr: float) -> Case:
    """どの最小点も、初めの値も、互いに離れた課題の組。"""
    low, high = curvature
    return {
        "theta": _between(2.5, 3.5, g),
        "curvature": low + (high - low) * _rand(tasks, g),
        "support": -2 + _rand(tasks, g),
        "query": 0.5 + _rand(tasks, g),
        "lr": lr,
        "steps": 0,
        "first_order": False,
    }


def _rand(n: int, g: torch.Generator) -> Tensor:
    return torch.rand(n, generator=g, dtype=torch.float64)


def _between(low: float, high: float, g: torch.Generator) -> float:
    return low + (high - low) * float(_rand(1, g))


def probe(answer: Any, by_hand: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。別に、計算グラフが作られるかを見ながら呼ぶ。"""
    cases, values = inputs["cases"], {}
    for name, case in cases.items():
        values[name] = trial(_ask, answer, case)
        if failed(values[name]):  # どれか一つが例外なら、判定はそれを伝える。同じ例外を、何百も記録しない
            break
    return {
        "by_hand": _numbers(by_hand),
        "values": values,
        "graph": _draws_graph(answer, cases["four"]),
    }


def _ask(answer: Any, case: Case) -> Any:
    return answer(
        *(case[key] for key in ("theta", "curvature", "support", "query")),
        **{key: case[key] for key in ("lr", "steps", "first_order")},
    )


def _draws_graph(answer: Any, case: Case) -> bool:
    """逆伝播のための値が控えられたか。引数は勾配を求めないので、控えるのは、答えが自動微分を使ったときだけである。"""
    kept: list[bool] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(True)
        return value

    with saved_tensors_hooks(keep, lambda value: value):
        record = trial(_ask, answer, case)
    return bool(kept) or failed(record)  # torch.func.grad は、控えを見張る間は例外になる


def _numbers(given: Any) -> list[float] | None:
    """手計算の答え。数の並びとして読めなければ None。"""
    try:
        return [float(value) for value in given]
    except (TypeError, ValueError):
        return None


META_GRADIENT = Question(
    id="08-1",
    points=12,
    title="メタ勾配を手で求める",
    goal="1次元の課題で、内側のk回の更新を通したメタ勾配と、その一次近似を、手で導いて計算できる",
    minutes=30,
    difficulty=2,
    answers=("meta_gradient", "by_hand"),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("meta.adapt",),
    hints=(
        "まず、1回の更新で、θ と a の隔たりが何倍になるかを調べます。k回なら、そのk乗倍です。これで θ′ が θ の1次式になります。"
        "次に、クエリの損失を θ′ で微分し、最後に、連鎖律で dθ′/dθ を掛けます。",
        "θ′ − a = (1 − cη)^k (θ − a)、だから dθ′/dθ = (1 − cη)^k です。\n"
        "一次近似は、dθ′/dθ を1とみなします: c (θ′ − b)。\n"
        "正確なメタ勾配: (1 − cη)^k · c (θ′ − b)。最後に、課題で平均します。",
        "shrink = (1 - lr * curvature) ** steps を作ります。課題ごとの値 (M,) です。\n"
        "adapted = support + shrink * (theta - support) が θ′ です。\n"
        "gradient = curvature * (adapted - query) に、first_order でなければ shrink を掛け、mean() を返します。\n"
        "手計算では、1回ごとに θ から η c (θ − a) を引きます。2回とも、a からの隔たりが同じ割合で縮むはずです。",
    ),
)
