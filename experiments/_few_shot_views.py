"""第8章の実験の測り方: 検証の正解率、テストでの四つの見方、種で組にした差の判定。

終わった組（手法、設定、種）は、`tlkit.distill.sweep` で .cache/experiments/ に残す。途中で止めても、測り直さない。
残した値は、学習と測り方のコードが変わると使われなくなるが、候補を足しただけなら使われる。
"""

import functools
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from _few_shot import INNER_STEPS, Learned, Setting, fixed, sampler
from _few_shot_methods import LEARNERS
from _record import PARTIAL, Row, own_code
from torch import nn

from tlkit.distill.sweep import sweep
from tlkit.fewshot import Episode, episode_accuracies
from tlkit.fewshot.evaluation import Logits
from tlkit.fewshot.splits import Part
from tlkit.meta import MAML, gradient_cosine
from tlkit.stats import mean_ci

EPISODES: dict[Part, int] = {"val": 100, "test": 300}
TEST_STEPS = (1, 3, 10)  # 検証で選ぶ、測るときの内側の回数
ADAPTIVE = (
    "maml",
    "fomaml",
    "anil",
    "maml_three_steps",
    "maml_pretrained",
    "meta_distillation",
    "meta_distillation_fixed",
)
STEPS_SHOWN = (0, 1, 3, 10)
GRADIENT_EPISODES = 20


def measurement() -> Setting:
    """測り方の設定。"""
    return {"episodes": dict(EPISODES), "test_steps": TEST_STEPS, **fixed()}


@functools.lru_cache(maxsize=2)
def held(part: Part, seed: int, shots: int) -> list[Episode]:
    """検証かテストのエピソード。どの手法にも、同じものを使う。"""
    return list(sampler(part, seed, shots, EPISODES[part]))


def accuracy(learned: Learned, logits: Logits, episodes: Iterable[Episode]) -> float:
    """エピソードの正解率の平均。"""
    return float(episode_accuracies(logits, learned.model, episodes).mean())


def validated(setting: Setting, seed: int) -> list[Row]:
    """検証の漢字での正解率。内側のある手法では、測るときの回数ごと。"""
    method, shots = setting["method"], setting["shots"]
    learned = LEARNERS[method](seed, shots, setting)
    steps: tuple[int | None, ...] = TEST_STEPS if method in ADAPTIVE else (None,)
    episodes = held("val", seed, shots)
    return [{**setting, "test_steps": n, "score": accuracy(learned, learned.logits(n or 0), episodes)} for n in steps]


def tested(setting: Setting, seed: int) -> list[Row]:
    """テストの仮名での正解率を、四つの見方で測る。

    main は、比べるための値。one_class は、クエリが 1 クラスだけのとき（正規化の統計が偏る）。
    steps は、内側の回数を変えたとき。batchnorm は、学習のときと違う統計で測ったとき。
    もう一つの gradient は正解率ではなく、学習の終わった重みでの、二階と一次近似の勾配の余弦（メタ訓練のエピソード）。
    """
    method, shots = setting["method"], setting["shots"]
    learned = LEARNERS[method](seed, shots, setting)
    episodes, main = held("test", seed, shots), learned.logits(setting["test_steps"] or 0)
    common = {"shots": shots, "method": method, "updates": setting["updates"]}

    def row(view: str, logits: Logits, chosen: Iterable[Episode] = episodes, **more: Any) -> Row:
        columns = {"view": view, **common, "test_steps": None, "batchnorm": None, **more}
        return {**columns, "accuracy": accuracy(learned, logits, chosen)}

    parameters = sum(p.numel() for p in learned.model.parameters())
    first = row("main", main, test_steps=setting["test_steps"])
    rows = [{**first, "seconds": learned.seconds, "parameters": parameters}]
    rows.append(row("one_class", main, [one_class(e) for e in episodes]))
    if method == "maml":
        rows += [row("steps", learned.logits(n), test_steps=n) for n in STEPS_SHOWN]
    if method in ("maml", "fomaml"):
        cosine = order_cosine(learned.model, setting["inner_lr"], sampler("train", seed, shots, GRADIENT_EPISODES))
        rows.append({"view": "gradient", **common, "test_steps": INNER_STEPS, "batchnorm": None, "cosine": cosine})
    return rows + [row("batchnorm", logits, batchnorm=name) for name, logits in learned.others.items()]


def one_class(episode: Episode) -> Episode:
    """クエリを、番号 0 のクラスだけにした課題。番号は課題ごとに無作為なので、どの文字にもなる。"""
    kept = episode.query_y == 0
    return episode._replace(query_x=episode.query_x[kept], query_y=episode.query_y[kept])


def order_cosine(model: nn.Module, inner_lr: float, episodes: Iterable[Episode]) -> float:
    """二階の勾配と一次近似の勾配（どちらもエピソードの平均）の、向きの余弦。"""
    tasks, gradients = list(episodes), []
    for first_order in (False, True):
        loss = MAML(inner_lr, INNER_STEPS, first_order=first_order).loss(model, tasks)["loss"]
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    return gradient_cosine(*gradients)


def kept(run: Callable[[Setting, int], list[Row]], name: str, tried: Iterable[Setting], seed: int) -> list[Row]:
    """それぞれの設定の行。終わった設定は、残してある値を使う。"""
    fingerprint = json.dumps([_code(), measurement()], sort_keys=True)
    store = PARTIAL / f"{name}_jobs" / sha256(fingerprint.encode()).hexdigest()[:16] / f"{seed}.jsonl"
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        trials = sweep(run, tried, seeds=(seed,), store=store, fingerprint=fingerprint, executor=pool)
    return [row for trial in trials for row in trial.result]


@functools.cache
def _code() -> dict[str, str]:
    """学習と測り方のコードの sha256。動き始めたときの値のまま。"""
    return own_code(Path(__file__))


def compared(rows: list[Row], pairs: Iterable[tuple[str, str]], by: str = "shots") -> list[Row]:
    """列 by の値ごとの、種で組にした正解率の差（one − other）の、平均、95 % 信頼区間の両端、判定。

    判定は、区間が 0 を含めば "not_established"、含まなければ "higher" か "lower" である。比べる組の数による補正はしない。
    """
    main = [row for row in rows if row["view"] == "main"]
    scores = {(row["method"], row[by], row["seed"]): row["accuracy"] for row in main}
    seeds, values = (sorted({row[key] for row in main}) for key in ("seed", by))
    found = []
    for one, other in pairs:
        for value in values:
            mean, half = mean_ci([scores[one, value, seed] - scores[other, value, seed] for seed in seeds])
            row = {by: value, "one": one, "other": other, "gain": mean, "low": mean - half, "high": mean + half}
            found.append({**row, "verdict": verdict(mean - half, mean + half)})
    return found


def verdict(low: float, high: float) -> str:
    """差の区間 [low, high] の判定。"""
    return "higher" if low > 0 else "lower" if high < 0 else "not_established"
