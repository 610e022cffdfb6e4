"""転移可能性の点数は、測った正解率の順位を当てるか。

ソース × ターゲットの組ごとに、ターゲットの訓練標本だけから点数を計算する。その後で、固定した特徴の上の線形分類器の
テストでの正解率を測る。ソースの並べ方が点数と正解率でどれだけ合うかを、順位相関で見る。
ソースは 9 個以下なので、偶然だけでも大きな順位相関が出る。その幅（null）と、ブートストラップの区間も一緒に書く。
"""

from pathlib import Path

import numpy as np
import torch
from _record import Experiment, Row, Settings, main
from _sources import OVERLAPS, PER_CLASS, TARGETS, Source, sources, target
from _vision import Split, features_of, linear_probe
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from tlkit.transferability import h_score, leep, linear_cka, logme, nce, proxy_a_distance, spearman_mmd_score

SCORES = ("logme", "h_score", "leep", "nce", "cka_labels", "negative_a_distance", "naive", "probe_cv")
COSTS = (0.001, 0.01, 0.1, 1.0)
RESAMPLES = 2000


def confirm(seed: int, settings: Settings) -> list[Row]:
    """すべての組の点数と正解率。終わりに、素朴な点数の行を並べ替える。"""
    made = sources(seed, settings["source_steps"], settings["source_lr"])
    rows: list[Row] = []
    for goal in TARGETS:
        split = target(goal, seed)
        for name, source in made.items():
            if (name, goal) not in OVERLAPS:
                rows.append({"kind": "pair", "target": goal, "source": name, **_pair(source, split, seed)})
    return rows + _shuffles(made["letters"], target("mnist5k", seed), seed)


def _pair(source: Source, split: Split, seed: int) -> Row:
    x, y = features_of(source.network, split.train), split.train_labels
    probs = _probabilities(source, split.train)
    best, cv = _best_cost(x, y, seed)
    test_x = features_of(source.network, split.test)
    return {
        "n": len(y),
        "dimensions": x.shape[1],
        "accuracy": linear_probe(x, y, test_x, split.test_labels, best),
        "logme": _finite(logme(x, y)),
        "h_score": h_score(x, y),
        "leep": leep(probs, y),
        "nce": nce(probs.argmax(1), y),
        "cka_labels": linear_cka(x, torch.nn.functional.one_hot(y)),
        "probe_cv": cv,
        **_domain_scores(source, x, seed),
    }


def _finite(score: float) -> float | None:
    """ラベルを誤差なく説明できるときの LogME は無限大になる。順位を付けられないので、空にする。"""
    return score if np.isfinite(score) else None


def _domain_scores(source: Source, x: np.ndarray, seed: int) -> Row:
    """ソースの画像が手に入るときだけ計算できる点数。"""
    if source.images is None:
        return {"negative_a_distance": None, "naive": None}
    order = torch.randperm(len(source.images), generator=torch.Generator().manual_seed(seed))[: len(x)]
    own = features_of(source.network, source.images[order])
    return {
        "negative_a_distance": -proxy_a_distance(own, x, seed=seed),
        "naive": spearman_mmd_score(own, x[: len(own)]),
    }


@torch.inference_mode()
def _probabilities(source: Source, images: Tensor) -> Tensor:
    return torch.cat([source.network(part).softmax(1) for part in images.split(100)])


def _best_cost(x: np.ndarray, y: Tensor, seed: int) -> tuple[float, float]:
    """正則化の逆数 C を、訓練標本の中の 5 分割の交差検証で選ぶ。（C, その交差検証の正解率）。"""
    folds = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(x, y.numpy()))
    found = {c: np.mean([linear_probe(x[a], y[a], x[b], y[b], c) for a, b in folds]) for c in COSTS}
    best = max(found, key=lambda c: found[c])
    return best, float(found[best])


def _shuffles(source: Source, split: Split, seed: int) -> list[Row]:
    """同じ標本どうしの素朴な点数を、行をそろえたときと、片方の行を並べ替えたときで比べる。"""
    pixels = split.train.flatten(1).numpy()
    features = features_of(source.network, split.train).astype(np.float64)
    spread = features.std(0)
    standard = (features - features.mean(0))[:, spread > 0] / spread[spread > 0]
    noise = np.random.default_rng(seed).normal(size=(len(pixels), 64))
    order = np.random.default_rng(seed).permutation(len(pixels))
    cases = {"pixels": pixels, "letters": features, "letters_standardised": standard, "noise": noise}
    return [
        {
            "kind": "shuffle",
            "input": name,
            "aligned": spearman_mmd_score(x, x),
            "shuffled": spearman_mmd_score(x, x[order]),
        }
        for name, x in cases.items()
    ]


def summarise(rows: list[Row]) -> list[Row]:
    """種で平均した点数と正解率の、ソースについての順位相関。ターゲットごとと、全ターゲットの平均。"""
    pairs = [row for row in rows if row["kind"] == "pair"]
    return [row for score in SCORES for row in _ranks(score, pairs)]


def _ranks(score: str, pairs: list[Row]) -> list[Row]:
    tables = {goal: _averages(score, [row for row in pairs if row["target"] == goal]) for goal in TARGETS}
    found = [{"score": score, "target": goal, **_rank(table, seed=0)} for goal, table in tables.items()]
    return [*found, {"score": score, "target": "all", **_pooled(list(tables.values()), seed=0)}]


def _averages(score: str, pairs: list[Row]) -> np.ndarray:
    """(ソースの数, 2) の、種で平均した（点数, 正解率）。点数のない行は除く。"""
    scored = [row for row in pairs if row[score] is not None]
    names = list(dict.fromkeys(row["source"] for row in scored))
    groups = [[row for row in scored if row["source"] == name] for name in names]
    return np.array([[np.mean([row[key] for row in group]) for key in (score, "accuracy")] for group in groups])


def _rho(table: np.ndarray) -> float:
    """順位相関。点数がすべて同じなら、順位を付けられないので 0 とする。"""
    ranks = rankdata(table, axis=0)
    return float(np.corrcoef(ranks.T)[0, 1]) if np.ptp(ranks, axis=0).all() else 0.0


def _rank(table: np.ndarray, seed: int) -> Row:
    rng = np.random.default_rng(seed)
    n = len(table)
    boots = [_rho(table[rng.integers(n, size=n)]) for _ in range(RESAMPLES)]
    null = [abs(_rho(_permuted(table, rng))) for _ in range(RESAMPLES)]
    return {"sources": n, "rho": _rho(table), **_interval(boots), "null_95": round(float(np.quantile(null, 0.95)), 6)}


def _pooled(tables: list[np.ndarray], seed: int) -> Row:
    """ターゲットの中の順位相関の平均。ソースとターゲットの両方を引き直す。"""
    rng = np.random.default_rng(seed)

    def resampled() -> float:
        drawn = [tables[i] for i in rng.integers(len(tables), size=len(tables))]
        return float(np.mean([_rho(table[rng.integers(len(table), size=len(table))]) for table in drawn]))

    boots = [resampled() for _ in range(RESAMPLES)]
    null = [abs(np.mean([_rho(_permuted(table, rng)) for table in tables])) for _ in range(RESAMPLES)]
    return {
        "sources": max(len(table) for table in tables),
        "rho": float(np.mean([_rho(table) for table in tables])),
        **_interval(boots),
        "null_95": round(float(np.quantile(null, 0.95)), 6),
    }


def _permuted(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.column_stack([rng.permutation(table[:, 0]), table[:, 1]])


def _interval(values: list[float]) -> Row:
    low, high = np.quantile(values, [0.025, 0.975])
    return {"low": round(float(low), 6), "high": round(float(high), 6)}


def settings() -> Settings:
    """どれも前もって決めた値で、選択はしていない。C だけは、訓練標本の中の交差検証で、組ごとに選ぶ。"""
    return {
        "source_steps": 200,
        "source_lr": 0.003,
        "per_class": PER_CLASS,
        "c_tried": COSTS,
        "resamples": RESAMPLES,
        "left_out": sorted("/".join(pair) for pair in OVERLAPS),
    }


if __name__ == "__main__":
    main(
        Experiment(
            name="01_transferability",
            title="転移可能性の点数と、測った正解率の順位相関",
            description="点数はターゲットの訓練標本（クラスごとに 10 枚）だけから計算する。正解率は、固定した特徴の上の線形分類器の、"
            "テストでの値。summary は、種で平均した値の、ソースについての順位相関（low と high はソースを引き直した 95 % 区間、"
            "null_95 は点数を並べ替えたときの絶対値の 95 % 点）。ソースの画像がない組では、ドメインの点数は空にする。",
            run=confirm,
            settings=settings,
            source=Path(__file__).resolve(),
            assets=("glyph_cnn_letters.safetensors", "glyph_cnn_uci.safetensors"),
            summarise=summarise,
        )
    )
