"""5 カーネルの MMD² の、順伝播と逆伝播の速さ、追加の記憶、桁。相手は pytorch-adapt の MMDLoss。

python benchmarks/mmd.py            # 測って results/mmd.json に書く
python benchmarks/mmd.py --tiny     # 動くことだけを確かめる
"""

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from _timing import Call, compare, extra_memory, interleave, label, one_thread, options, save, show, surroundings
from torch import Tensor

from tlkit.losses import mmd2

OURS, ADAPT, GRAM = "tlkit", "pytorch-adapt", "自動微分に任せた内積の式（再実装）"
TIMED = [(256, 256), (1024, 256), (1024, 2048)]
LARGEST = (4096, 2048)
OFFSET = 100.0
Loss = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """測り、表を出し、JSON に書く。"""
    chosen = options("MMD² の速さ、記憶、桁を測ります。", rounds=15)
    one_thread()
    timed, largest = ([(32, 16)], (64, 16)) if chosen.tiny else (TIMED, LARGEST)
    around = surroundings()
    rows = [timing(n, d, chosen.rounds) for n, d in timed]
    compared = [] if chosen.tiny else [(name, n, d) for n, d in timed for name in peers(d)]
    memory = [extra(*case) for case in [*compared, (OURS, *largest)]]
    accuracy = [digits(n, d) for n, d in timed]
    show(rows)
    print("\n| 追加の記憶 | 大きさ | MiB |\n|---|---|---|")
    for item in memory:
        print(f"| {item['name']} | {label(item['size'])} | {_number(item['mib'])} |")
    print(f"\n| float32 の相対誤差（特徴に {OFFSET:g} を足す） | 大きさ | 誤差 |\n|---|---|---|")
    for item in accuracy:
        for name, error in item["relative_error"].items():
            print(f"| {name} | {label(item['size'])} | {error:.1e} |")
    content = {"benchmark": "mmd", **around, "rows": rows, "memory": memory, "accuracy": accuracy}
    save("mmd", content, chosen.out, tiny=chosen.tiny)


def peers(d: int) -> dict[str, Loss]:
    """名前から、二つの標本を受け取って MMD² を返す関数へ。カーネルも推定量（U 統計量）も同じにそろえる。"""
    sigmas = [
        (d * factor) ** 0.5 for factor in (0.25, 0.5, 1.0, 2.0, 4.0)
    ]  # σ² は 2 倍ずつ。真ん中が d² の中央値の半分
    gammas = torch.tensor([1 / (2 * sigma**2) for sigma in sigmas])
    found: dict[str, Loss] = {OURS: lambda x, y: mmd2(x, y, bandwidth=sigmas)}
    if importlib.util.find_spec("pytorch_adapt"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 古い依存が出す、廃止の予告
            from pytorch_adapt.layers import MMDLoss
        found[ADAPT] = lambda x, y: MMDLoss(kernel_scales=gammas, mmd_type="quadratic", bandwidth=1.0)(x, y)
    found[GRAM] = lambda x, y: gram_mmd2(x, y, gammas)
    return found


def gram_mmd2(x: Tensor, y: Tensor, gammas: Tensor) -> Tensor:
    """平均を引かずに ‖a‖² + ‖b‖² − 2a·b で距離を求め、微分は自動微分に任せる、よくある書き方。"""

    def total(a: Tensor, b: Tensor) -> Tensor:
        d2 = (a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)
        return sum((torch.exp(-gamma * d2).sum() for gamma in gammas), torch.zeros(())) / len(gammas)

    n, m = len(x), len(y)
    return (total(x, x) - n) / (n * (n - 1)) + (total(y, y) - m) / (m * (m - 1)) - 2 * total(x, y) / (n * m)


def samples(n: int, d: int) -> tuple[Tensor, Tensor]:
    """平均だけが少しずれた二つの正規分布からの標本。"""
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=g), torch.randn(n, d, generator=g) + 0.2


def step(loss: Loss, n: int, d: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """順伝播と逆伝播を 1 回行い、値と x の勾配を返す関数。"""
    x, y = (z.requires_grad_() for z in samples(n, d))

    def call() -> tuple[Tensor, Tensor]:
        x.grad = y.grad = None
        value = loss(x, y)
        value.backward()
        assert x.grad is not None
        return value.detach(), x.grad

    return call


def timing(n: int, d: int, rounds: int) -> dict[str, Any]:
    """1 つの大きさの、時間と比。値と勾配が合うことも確かめる。"""
    calls = {name: step(loss, n, d) for name, loss in peers(d).items()}
    result = compare(OURS, interleave(dict(calls), rounds))
    value, grad = calls[OURS]()
    for name, peer in result["peers"].items():
        other, other_grad = calls[name]()
        peer["kind"] = "installed" if name == ADAPT else "reimplementation"
        peer["value_difference"] = abs(float(value / other - 1))
        peer["gradient_difference"] = float((grad - other_grad).norm() / other_grad.norm())
    return {"name": "mmd2 の順伝播と逆伝播", "size": {"n": n, "m": n, "d": d, "kernels": 5}, **result}


def extra(name: str, n: int, d: int) -> dict[str, Any]:
    """順伝播と逆伝播 1 回の追加の記憶。"""
    return {"name": name, "size": {"n": n, "m": n, "d": d, "kernels": 5}, "mib": extra_memory(_prepare, name, n, d)}


def _prepare(name: str, n: int, d: int) -> Call:
    loss = peers(d)[name]
    step(loss, 8, d)()  # 部品の読み込みを、測る前に済ませる
    return step(loss, n, d)


def digits(n: int, d: int) -> dict[str, Any]:
    """特徴に OFFSET を足した float32 の値を、同じ（丸めたあとの）入力を float64 で計算した値と比べる。"""
    x, y = (z + OFFSET for z in samples(n, d))
    exact = float(peers(d)[OURS](x.double(), y.double()))
    errors = {name: abs(float(loss(x, y)) / exact - 1) for name, loss in peers(d).items()}
    return {"size": {"n": n, "m": n, "d": d}, "offset": OFFSET, "relative_error": errors}


def _number(value: float | None) -> str:
    return "測れない" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    main()
