"""ファインチューニングの 1 ステップと、特徴の使い回しと、`training.fit` の、速さと記憶。相手は、同じことの別のやり方。

python benchmarks/finetune.py            # 測って results/finetune.json に書く（1 コアで 5 分ほど）
python benchmarks/finetune.py --tiny     # 動くことだけを確かめる
"""

from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _loops import CLASSES, baseline, difference, images, loop, loop_cases, loss, sgd
from _timing import (
    Call,
    compare,
    extra_memory,
    interleave,
    label,
    one_thread,
    options,
    save,
    show,
    spread,
    surroundings,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from tlkit.finetune import extract_features, set_freeze
from tlkit.models import TransferModel
from tlkit.training import fit

FULL, FROZEN, LEFT_OUT = "全体を学習（float32）", "凍結（set_freeze）", "最適化手法から外すだけ"
BF16 = "bf16 と channels_last で全体を学習"
UNCACHED = "毎回バックボーンを通す"
SETTINGS: dict[str, dict[str, Any]] = {
    FULL: {},
    FROZEN: {"freeze": "all"},
    LEFT_OUT: {"optimize_head_only": True},
    "channels_last で全体を学習": {"channels_last": True},
    "bf16 で全体を学習": {"amp": torch.bfloat16},
    BF16: {"amp": torch.bfloat16, "channels_last": True},
    "凍結して bf16 と channels_last": {"freeze": "all", "amp": torch.bfloat16, "channels_last": True},
}


def main() -> None:
    """測り、表を出し、JSON に書く。"""
    chosen = options("ファインチューニングと学習のくり返しの、速さと記憶を測ります。", rounds=11)
    one_thread()
    around, tiny = surroundings(), chosen.tiny
    batch, px = (2, 32) if tiny else (8, 224)
    hardware = bf16_hardware()
    names = measurable(hardware)
    steps = timed_steps(names, batch, px, chosen.rounds)
    probe = linear_probe(4 if tiny else 64, batch, px, 2 if tiny else 5, chosen.rounds)
    loops = [loop(*case, chosen.rounds * times) for *case, times in loop_cases(batch, px, tiny=tiny)]
    memory = [extra(name, batch, px, times=1 if tiny else 3) for name in (names[:2] if tiny else names)]
    rows = [*steps, probe, *loops]
    show(rows)
    _report(hardware, probe, loops, memory)
    content = {"bf16": {"applicable": bool(hardware), "instructions": hardware}, "rows": rows, "memory": memory}
    save("finetune", {"benchmark": "finetune", **around, **content}, chosen.out, tiny=tiny)


def bf16_hardware() -> list[str]:
    """bf16 の積和を速くする命令（AMX、AVX512-BF16）のうち、この CPU にあるもの。なければ bf16 は測らない。"""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text(encoding="utf-8").split()) if info.is_file() else set()
    find = getattr(torch.cpu, "get_capabilities", dict)  # 古い torch にはない
    known = flags | {name for name, present in find().items() if present is True}
    return sorted(known & {"amx_bf16", "avx512_bf16"})


def measurable(hardware: list[str]) -> list[str]:
    """測る設定の名前。bf16 を速くする命令がなければ、bf16 の設定を除く。"""
    return [name for name, setting in SETTINGS.items() if hardware or "amp" not in setting]


def step(name: str, batch: int, px: int) -> Call:
    """`fit` で 1 回だけ更新する関数。"""
    setting = dict(SETTINGS[name])
    torch.manual_seed(0)
    model = set_freeze(resnet18(weights=None, num_classes=CLASSES), setting.pop("freeze", "none"))
    optimizer = sgd(model.get_submodule("fc" if setting.pop("optimize_head_only", False) else ""))
    loader = DataLoader(images(batch, px), batch)
    return lambda: fit(model, loader, loss, optimizer, epochs=1, device="cpu", progress=False, **setting)


def timed_steps(names: list[str], batch: int, px: int, rounds: int) -> list[dict[str, Any]]:
    """1 回の更新の時間と、全体を float32 で学習するときに対する比。"""
    seconds = interleave({name: step(name, batch, px) for name in names}, rounds)
    rows = []
    for name in names[1:]:
        result = compare(name, {name: seconds[name], FULL: seconds[FULL]})
        rows.append({"name": f"更新 1 回: {name}", "size": {"batch": batch, "px": px}, **baseline(result)})
    return rows


def linear_probe(count: int, batch: int, px: int, epochs: int, rounds: int) -> dict[str, Any]:
    """線形プローブ。特徴を一度だけ取り出してから学習する時間と、毎回バックボーンを通す時間。"""
    torch.manual_seed(0)
    model = TransferModel(CLASSES, "resnet18", freeze="all", weights=None)
    data, start = images(count, px), deepcopy(model.classifier.state_dict())

    def train(module: nn.Module, given: TensorDataset) -> list[Tensor]:
        loader = DataLoader(given, batch, shuffle=True, generator=torch.Generator().manual_seed(0))
        fit(module, loader, loss, sgd(module), epochs=epochs, device="cpu", progress=False)
        return [value.clone() for value in model.classifier.state_dict().values()]

    def cached() -> list[Tensor]:
        model.classifier.load_state_dict(start)
        return train(model.classifier, TensorDataset(*extract_features(model, DataLoader(data, batch))))

    def uncached() -> list[Tensor]:
        model.classifier.load_state_dict(start)
        return train(model, data)

    name = "線形プローブ: 特徴を一度だけ取り出す"
    seconds = interleave({name: cached, UNCACHED: uncached}, rounds)
    ours, theirs = cached(), uncached()
    return {
        "name": name,
        "size": {"n": count, "batch": batch, "px": px, "epochs": epochs},
        **baseline(compare(name, seconds)),
        "times_faster": spread([b / a for a, b in zip(seconds[name], seconds[UNCACHED], strict=True)]),
        "weights_changed": difference(ours, list(start.values())),
        "weights_difference": difference(ours, theirs),
    }


def extra(name: str, batch: int, px: int, times: int) -> dict[str, Any]:
    """初めの 1 回の更新の追加の記憶。勾配とモメンタムを含む。毎回 1 割ほど揺れるので、何度か測って中央値を取る。"""
    found = [extra_memory(_prepare, name, batch, px) for _ in range(times)]
    known = [mib for mib in found if mib is not None]
    return {"name": name, "size": {"batch": batch, "px": px}, "runs": known, "mib": median(known) if known else None}


def _prepare(name: str, batch: int, px: int) -> Call:
    step(name, 2, 32)()  # 部品の読み込みを、測る前に済ませる
    return step(name, batch, px)


def _report(
    hardware: list[str], probe: dict[str, Any], loops: list[dict[str, Any]], memory: list[dict[str, Any]]
) -> None:
    print(f"\nbf16 を速くする命令: {'、'.join(hardware) or 'なし（bf16 は測っていない）'}")
    print(f"{probe['name']}: {_bounds(probe['times_faster'])} 倍の速さ、重みの差 {probe['weights_difference']:.1e}")
    for row in loops:
        more, gap = row["extra_microseconds_per_step"], row["weights_difference"]
        print(f"{row['name']}: 速さの比 {_bounds(row['throughput'])}、1 回に {more:+.0f} µs、重みの差 {gap:.1e}")
    print("\n| 追加の記憶 | 大きさ | MiB | 全体を学習するときとの比 |\n|---|---|---|---|")
    whole = memory[0]["mib"]
    for item in memory:
        found = "測れない |" if item["mib"] is None else f"{item['mib']:.0f} | {item['mib'] / whole:.2f}"
        print(f"| {item['name']} | {label(item['size'])} | {found} |")


def _bounds(found: dict[str, float]) -> str:
    return f"{found['median']:.3f}（{found['min']:.3f}–{found['max']:.3f}）"


if __name__ == "__main__":
    main()
