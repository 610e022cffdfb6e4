"""転移可能性の指標の速さと、LogME の値の正しさ。相手は、公開されている計算のしかた（`_scores.py`）。

`python benchmarks/transferability.py` は、測って results/transferability.json に書く。`--tiny` は、動くことだけを確かめる。
"""

from typing import Any

import numpy as np
from _scores import Array, h_score_covariances, leep_loop, logme_exact, logme_icml, nce_loop
from _timing import Call, compare, interleave, label, one_thread, options, save, show, surroundings

from tlkit.transferability import h_score, leep, logme, nce
from tlkit.transferability.published import logme_published

OURS, TLLIB = "tlkit", "tllib と同じ手順（再実装）"
REPAIRED = "公開の不動点反復の誤りを直したもの（再実装）"
PUBLISHED = "公開の不動点反復（再実装。D > N で値が誤り）"
SIZES = [(1000, 2048, 10), (2000, 512, 10), (5000, 512, 100)]
SOURCES = 1000  # ソースのクラスの数（ImageNet と同じ）


def main() -> None:
    """測り、表を出し、JSON に書く。"""
    chosen = options("転移可能性の指標の速さと、LogME の正しさを測ります。", rounds=9)
    one_thread()
    around = surroundings()
    rows, exact = [], []
    for size in [(30, 40, 3), (40, 8, 3)] if chosen.tiny else SIZES:
        found = measure(*size, chosen.rounds)
        rows += found
        exact.append(correctness(*size, found[0]))
    show(rows)
    print("\n| LogME の値と、最大値との差 | 大きさ | 差 |\n|---|---|---|")
    for item in exact:
        for name, difference in item["difference"].items():
            print(f"| {name} | {label(item['size'])} | {difference:+.1e} |")
    content = {"benchmark": "transferability", **around, "rows": rows, "logme": exact}
    save("transferability", content, chosen.out, tiny=chosen.tiny)


def problem(n: int, d: int, classes: int) -> tuple[Array, Array, Array]:
    """ReLU のあとのような非負の特徴、ラベル、ソースのクラスの確率。"""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    features = np.abs(rng.normal(size=(n, d))) + 0.5 * rng.normal(size=(classes, d))[labels]
    scores = rng.normal(size=(n, SOURCES)) + 2 * rng.normal(size=(classes, SOURCES))[labels]
    probs = np.exp(scores - scores.max(1, keepdims=True))
    return features, labels, probs / probs.sum(1, keepdims=True)


def measure(n: int, d: int, classes: int, rounds: int) -> list[dict[str, Any]]:
    """1 つの大きさの、指標ごとの時間、比、値。"""
    f, y, p = problem(n, d, classes)
    z = p.argmax(1)
    cases: dict[str, dict[str, Call]] = {
        "logme": {
            OURS: lambda: logme(f, y),
            TLLIB: lambda: logme_icml(f, y),
            REPAIRED: lambda: logme_published(f, y, repaired=True),
            PUBLISHED: lambda: logme_published(f, y),
        },
        "leep": {OURS: lambda: leep(p, y), TLLIB: lambda: leep_loop(p, y)},
        "nce": {OURS: lambda: nce(z, y), TLLIB: lambda: nce_loop(z, y)},
    }
    if d < n - 1:  # D ≥ N − 1 では H スコアに意味がない
        cases["h_score"] = {OURS: lambda: h_score(f, y), TLLIB: lambda: h_score_covariances(f, y)}
    return [_row(name, {"n": n, "d": d, "classes": classes}, calls, rounds) for name, calls in cases.items()]


def _row(name: str, size: dict[str, int], calls: dict[str, Call], rounds: int) -> dict[str, Any]:
    result = compare(OURS, interleave(calls, rounds))
    for peer, content in result["peers"].items():
        content["kind"] = "reimplementation"
        content["value"] = calls[peer]()
    return {"name": name, "size": size, "value": calls[OURS](), **result}


def correctness(n: int, d: int, classes: int, row: dict[str, Any]) -> dict[str, Any]:
    """LogME の値と、別の道筋で求めた証拠の最大値との差。"""
    f, y, _ = problem(n, d, classes)
    exact = logme_exact(f, y)
    values = {OURS: row["value"]} | {name: peer["value"] for name, peer in row["peers"].items()}
    return {
        "size": {"n": n, "d": d, "classes": classes},
        "exact": exact,
        "difference": {name: value - exact for name, value in values.items()},
    }


if __name__ == "__main__":
    main()
