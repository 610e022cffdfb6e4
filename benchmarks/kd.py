"""蒸留の損失（ソフトの項と正解ラベルの項）の、順伝播と逆伝播の速さ、追加の記憶、桁。相手は torchdistill の KDLoss。

python benchmarks/kd.py            # 測って results/kd.json に書く
python benchmarks/kd.py --tiny     # 動くことだけを確かめる
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from _timing import Call, compare, extra_memory, interleave, label, one_thread, options, save, show, surroundings
from torch import Tensor

from tlkit.losses import DistillationLoss

OURS, TORCHDISTILL, AUTOGRAD = "tlkit", "torchdistill", "自動微分に任せた kl_div の式（再実装）"
SIZES = [(256, 1000), (1024, 1000), (64, 10)]
LARGEST = (4096, 1000)
TEMPERATURE, ALPHA = 4.0, 0.7
SHORT = 1_000_000  # 1 回の要素の数をこれくらいにそろえる（短い測定は、時計の揺れに埋もれる）
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    """測り、表を出し、JSON に書く。"""
    chosen = options("蒸留の損失の速さ、記憶、桁を測ります。", rounds=41)
    one_thread()
    sizes = [(32, 16)] if chosen.tiny else SIZES
    around = surroundings()
    rows = [timing(n, c, chosen.rounds) for n, c in sizes]
    n, c = sizes[0] if chosen.tiny else LARGEST
    memory = [extra(name, n, c) for name in ([OURS] if chosen.tiny else peers())]
    accuracy = [digits(n, c, temperature) for n, c in sizes for temperature in (1.0, 4.0, 20.0)]
    show(rows)
    print("\n| 追加の記憶 | 大きさ | MiB |\n|---|---|---|")
    for item in memory:
        print(f"| {item['name']} | {label(item['size'])} | {_number(item['mib'])} |")
    print("\n| float32 のソフトの項の相対誤差 | 大きさ | T | 誤差 |\n|---|---|---|---|")
    for item in accuracy:
        for name, error in item["relative_error"].items():
            print(f"| {name} | {label(item['size'])} | {item['temperature']:g} | {error:.1e} |")
    content = {"benchmark": "kd", **around, "rows": rows, "memory": memory, "accuracy": accuracy}
    save("kd", content, chosen.out, tiny=chosen.tiny)


def peers(temperature: float = TEMPERATURE, alpha: float = ALPHA) -> dict[str, Loss]:
    """名前から、（生徒のロジット, 教師のロジット, 正解）を受け取る損失へ。α はどれもソフトの項の重みにそろえる。"""
    ours = DistillationLoss(temperature, alpha)
    found: dict[str, Loss] = {OURS: lambda s, t, y: ours(s, t, y).total}
    if importlib.util.find_spec("torchdistill"):
        from torchdistill.losses.mid_level import KDLoss

        # KDLoss の alpha は正解ラベルの項の重みで、正解を渡さないと T² が掛からない
        theirs = KDLoss("s", "z", "t", "z", temperature, alpha=1 - alpha, beta=alpha)
        found[TORCHDISTILL] = lambda s, t, y: theirs({"s": {"z": s}}, {"t": {"z": t}}, y)
    found[AUTOGRAD] = lambda s, t, y: autograd_kd(s, t, y, temperature, alpha)
    return found


def autograd_kd(s: Tensor, t: Tensor, y: Tensor, temperature: float, alpha: float) -> Tensor:
    """log_softmax と softmax を kl_div に渡し、微分は自動微分に任せる、よくある書き方。"""
    log_q, p = (s / temperature).log_softmax(1), (t / temperature).softmax(1)
    soft = temperature**2 * F.kl_div(log_q, p, reduction="batchmean")
    return alpha * soft + (1 - alpha) * F.cross_entropy(s, y)


def samples(n: int, c: int) -> tuple[Tensor, Tensor, Tensor]:
    """学習の途中のような、標準偏差 3 のロジットと正解。"""
    g = torch.Generator().manual_seed(0)
    s, t = (3 * torch.randn(n, c, generator=g) for _ in range(2))
    return s, t, torch.randint(c, (n,), generator=g)


def step(loss: Loss, n: int, c: int, repeats: int = 1) -> Callable[[], tuple[Tensor, Tensor]]:
    """順伝播と逆伝播を repeats 回行い、値と生徒のロジットの勾配を返す関数。"""
    s, t, y = samples(n, c)
    s.requires_grad_()

    def call() -> tuple[Tensor, Tensor]:
        for _ in range(repeats):
            s.grad = None
            value = loss(s, t, y)
            value.backward()
        assert s.grad is not None
        return value.detach(), s.grad

    return call


def timing(n: int, c: int, rounds: int) -> dict[str, Any]:
    """1 つの大きさの、時間と比。値と勾配が合うことも確かめる。"""
    repeats = max(1, SHORT // (n * c))
    calls = {name: step(loss, n, c, repeats) for name, loss in peers().items()}
    result = compare(OURS, interleave(dict(calls), rounds))
    value, grad = calls[OURS]()
    for name, peer in result["peers"].items():
        other, other_grad = calls[name]()
        peer["kind"] = "installed" if name == TORCHDISTILL else "reimplementation"
        peer["value_difference"] = abs(float(value / other - 1))
        peer["gradient_difference"] = float((grad - other_grad).norm() / other_grad.norm())
    size = {"n": n, "classes": c, "repeats": repeats}
    return {"name": "DistillationLoss の順伝播と逆伝播", "size": size, **result}


def extra(name: str, n: int, c: int) -> dict[str, Any]:
    """順伝播と逆伝播 1 回の追加の記憶。"""
    return {"name": name, "size": {"n": n, "classes": c}, "mib": extra_memory(_prepare, name, n, c)}


def _prepare(name: str, n: int, c: int) -> Call:
    loss = peers()[name]
    step(loss, 8, c)()  # 部品の読み込みを、測る前に済ませる
    return step(loss, n, c)


def digits(n: int, c: int, temperature: float) -> dict[str, Any]:
    """ソフトの項（α = 1）の float32 の値を、同じ入力を float64 で計算した値と比べる。"""
    s, t, y = samples(n, c)
    losses = {name: loss for name, loss in peers(temperature, 1.0).items() if name != TORCHDISTILL}
    exact = float(losses[AUTOGRAD](s.double(), t.double(), y))
    errors = {name: abs(float(loss(s, t, y)) / exact - 1) for name, loss in losses.items()}
    return {"size": {"n": n, "classes": c}, "temperature": temperature, "relative_error": errors}


def _number(value: float | None) -> str:
    return "測れない" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    main()
