"""MAML の更新 1 回（勾配を求めるまで）の速さと追加の記憶。相手は learn2learn と、いちばん短いくり返し。

python benchmarks/maml.py            # 測って results/maml.json に書く
python benchmarks/maml.py --tiny     # 動くことだけを確かめる
"""

from collections.abc import Callable
from typing import Any

import torch
from _maml_peers import LEARN2LEARN, OURS, Update, conv4_updates, sine_updates
from _timing import Call, compare, extra_memory, interleave, label, one_thread, options, save, show, surroundings

Size = dict[str, int]
Updates = Callable[..., dict[str, Update]]
CONV4, SINE = "MAML の更新 1 回: Conv4", "MAML の更新 1 回: 正弦波の MLP"
CONV4_SIZES: list[tuple[int, Size]] = [
    (1, {"width": 64, "ways": 5, "shots": 1, "queries": 15, "tasks": 4}),
    (1, {"width": 32, "ways": 5, "shots": 1, "queries": 15, "tasks": 16}),
    (5, {"width": 32, "ways": 5, "shots": 1, "queries": 15, "tasks": 4}),
]
SINE_SIZES: list[tuple[int, Size]] = [(steps, {"tasks": 25, "shots": 10, "queries": 10}) for steps in (1, 5)]
TINY_CONV4: list[tuple[int, Size]] = [(1, {"width": 4, "ways": 2, "shots": 2, "queries": 2, "tasks": 2})]
TINY_SINE: list[tuple[int, Size]] = [(1, {"tasks": 3, "shots": 2, "queries": 2})]
REPEATS = {CONV4: 1, SINE: 5}  # 短いものは、1 回の測定で何度か動かす


def main() -> None:
    """測り、表を出し、JSON に書く。"""
    chosen = options("MAML の更新 1 回の速さと記憶を測ります。", rounds=9)
    one_thread()
    conv4, sine = (TINY_CONV4, TINY_SINE) if chosen.tiny else (CONV4_SIZES, SINE_SIZES)
    around = surroundings()
    rows = [timing(CONV4, conv4_updates, steps, size, chosen.rounds) for steps, size in conv4]
    rows += [timing(SINE, sine_updates, steps, size, chosen.rounds) for steps, size in sine]
    steps, size = conv4[-1] if chosen.tiny else conv4[1]
    memory = [extra(name, steps, size) for name in (OURS, *rows[0]["peers"])]
    show(rows)
    print("\n| 追加の記憶 | 大きさ | MiB |\n|---|---|---|")
    for item in memory:
        print(f"| {item['name']} | {label(item['size'])} | {_number(item['mib'])} |")
    save("maml", {"benchmark": "maml", **around, "rows": rows, "memory": memory}, chosen.out, tiny=chosen.tiny)


def timing(name: str, updates: Updates, steps: int, size: Size, rounds: int) -> dict[str, Any]:
    """1 つの大きさの、時間と比。値と勾配が合うことも確かめる。"""
    lr = 0.4 if name == CONV4 else 0.01
    calls = updates(lr, steps, **size)
    repeated: dict[str, Call] = {key: _repeat(call, REPEATS[name]) for key, call in calls.items()}
    result = compare(OURS, interleave(repeated, rounds))
    value, gradient = _evaluate(calls[OURS])
    for key, peer in result["peers"].items():
        other, other_gradient = _evaluate(calls[key])
        peer["kind"] = "installed" if key == LEARN2LEARN else "baseline"
        peer["value_difference"] = abs(value / other - 1)
        peer["gradient_difference"] = float((gradient - other_gradient).norm() / other_gradient.norm())
    return {"name": name, "size": {**size, "steps": steps}, "repeats": REPEATS[name], **result}


def _evaluate(call: Update) -> tuple[float, torch.Tensor]:
    value = call()
    model: torch.nn.Module = call.model  # type: ignore[attr-defined]
    return value, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _repeat(call: Update, times: int) -> Call:
    return lambda: [call() for _ in range(times)]


def extra(name: str, steps: int, size: Size) -> dict[str, Any]:
    """Conv4 の更新 1 回の追加の記憶。"""
    return {"name": name, "size": {**size, "steps": steps}, "mib": extra_memory(_prepare, name, steps, size)}


def _prepare(name: str, steps: int, size: Size) -> Call:
    steps_, small = TINY_CONV4[0]
    conv4_updates(0.4, steps_, **small)[name]()  # 部品の読み込みを、測る前に済ませる
    return conv4_updates(0.4, steps, **size)[name]


def _number(value: float | None) -> str:
    return "測れない" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    main()
