"""小さくしたモデルの大きさと、CPU での順伝播の時間。教師モデル、生徒モデル、int8、枝刈りを並べる。

python benchmarks/compression.py            # 測って results/compression.json に書く
python benchmarks/compression.py --tiny     # 動くことだけを確かめる

重みは乱数のままである（時間は値によらない）。正解率は `experiments/07_compression.py` が測る。
"""

import importlib.metadata
import io
import statistics
import zlib
from collections.abc import Callable
from typing import Any

import torch
from _compressed import GROUPS, Group, Variant, left_out, variants
from _timing import Call, compare, interleave, one_thread, options, save, show, surroundings
from torch import Tensor, nn

from tlkit.distill import count_flops, count_parameters
from tlkit.distill.pruning import count_nonzero

BATCHES = (1, 64)
SHORT = {1: 30, 64: 2}  # 1 回の測定で何度通すか（短い測定は、時計の揺れに埋もれる）


def main() -> None:
    """測り、表を出し、JSON に書く。"""
    chosen = options("小さくしたモデルの大きさと、CPU での時間を測ります。", rounds=41)
    one_thread()
    torch.manual_seed(0)
    around = surroundings()
    installed = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    if "torchao" in installed:
        around["versions"]["torchao"] = importlib.metadata.version("torchao")
    rows, sizes = [], []
    for group in GROUPS:
        models = variants(group, tiny=chosen.tiny)
        sizes += [size(group, variant, models) for variant in models]
        for batch in (1, 2) if chosen.tiny else BATCHES:
            rows += timings(group, models, batch, chosen.rounds)
    show(rows)
    _show_sizes(sizes)
    skipped = left_out(tiny=chosen.tiny)
    for name, reason in skipped.items():
        print(f"\n測らなかったもの: {name}（{reason}）")
    content = {"benchmark": "compression", **around, "rows": rows, "sizes": sizes, "left_out": skipped}
    save("compression", content, chosen.out, tiny=chosen.tiny)


def timings(group: Group, models: list[Variant], batch: int, rounds: int) -> list[dict[str, Any]]:
    """一つの組の、小さくしたモデルごとの時間と、元のモデルに対する比。"""
    x = torch.rand(batch, *group.shape, generator=torch.Generator().manual_seed(1))
    repeats = SHORT.get(batch, 1)
    calls = {variant.name: _repeated(variant.model, x, repeats) for variant in models}
    with torch.inference_mode():
        seconds = {name: [t / repeats for t in times] for name, times in interleave(dict(calls), rounds).items()}
    return [_row(group, variant, seconds, batch, repeats) for variant in models if variant.against]


def _row(group: Group, variant: Variant, seconds: dict[str, list[float]], batch: int, repeats: int) -> dict[str, Any]:
    names = (variant.name, *variant.against)
    result = compare(variant.name, {name: seconds[name] for name in names})
    result["ms"] |= _quartiles([1e3 * t for t in seconds[variant.name]])
    for name, peer in result["peers"].items():
        peer["kind"] = "baseline"
        peer["ms"] |= _quartiles([1e3 * t for t in seconds[name]])
        pairs = zip(seconds[variant.name], seconds[name], strict=True)
        peer["ratio"] |= _quartiles([ours / theirs for ours, theirs in pairs])
    name = f"{group.name}: {variant.name}"
    return {"name": name, "size": {"batch": batch}, "repeats": repeats, **result}


def size(group: Group, variant: Variant, models: list[Variant]) -> dict[str, Any]:
    """一つのモデルの大きさと、元のモデルとの出力の差。

    int8 の層は、重みを nn.Parameter として持たないか、見かけの型で持つ。パラメータの数と計算量は、元のモデルで数える。
    """
    x = torch.rand(8, *group.shape, generator=torch.Generator().manual_seed(2))
    by_name = {other.name: other.model for other in models}
    counted = by_name[variant.counted_as or variant.name]
    state = _saved(variant.model)
    with torch.inference_mode():
        out = variant.model(x)
        gap = [float((out - by_name[n](x)).abs().max() / by_name[n](x).abs().max()) for n in variant.against[:1]]
    return {
        "name": variant.name,
        "group": group.name,
        "parameters": count_parameters(counted),
        "nonzero": count_nonzero(counted),
        "flops": count_flops(counted, x[:1]),
        "arithmetic": variant.arithmetic,
        "stored_bytes": len(state),
        "deflated_bytes": len(zlib.compress(state, 9)),
        "output_difference": gap[0] if gap and variant.same_function else None,
    }


def _repeated(model: nn.Module, x: Tensor, repeats: int) -> Call:
    def call() -> None:
        for _ in range(repeats):
            model(x)

    return call


def _quartiles(values: list[float]) -> dict[str, float]:
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return {"lower": lower, "upper": upper}


def _saved(model: nn.Module) -> bytes:
    original: Callable[..., Any] = getattr(model, "_orig_mod", model)  # torch.compile の包みを外す
    buffer = io.BytesIO()
    torch.save(original.state_dict(), buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()


def _show_sizes(sizes: list[dict[str, Any]]) -> None:
    print("\n| 組 | モデル | パラメータ | 0でない | 計算量 [FLOP] | 演算 | 保存 [B] | 圧縮した保存 [B] |")
    print("|---|---|---|---|---|---|---|---|")
    for item in sizes:
        counts = [item[key] for key in ("parameters", "nonzero", "flops")]
        stored = [item[key] for key in ("stored_bytes", "deflated_bytes")]
        cells = [item["group"], item["name"], *counts, item["arithmetic"], *stored]
        print("| " + " | ".join(str(cell) for cell in cells) + " |")


if __name__ == "__main__":
    main()
