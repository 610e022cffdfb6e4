"""`maml.py` の部品: 課題と、MAML の更新 1 回のさまざまな書き方。どれも同じ値と勾配を返す。"""

import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from tlkit.fewshot import Episode, SineTasks, sine_network
from tlkit.meta import MAML, StackedMAML
from tlkit.models import Conv4

OURS, LEARN2LEARN, LOOP = "tlkit", "learn2learn", "functional_call のくり返し"
SOURCE = Path(sys.prefix) / "src" / "learn2learn-0.2.0"
Loss = Callable[[Tensor, Tensor], Tensor]
Update = Callable[[], float]


def learn2learn_maml() -> type | None:
    """learn2learn 0.2.0 の MAML。配布物を広げたものから、書きかえずに読み込む。無ければ None。

    Python 3.11 では、データ用の C の部品が組み立てられず、パッケージとしては入らない（longintrepr.h が無い）。
    MAML そのものは Python だけで書かれているので、その部分だけを使う。
    """
    if not (SOURCE / "learn2learn" / "algorithms" / "maml.py").is_file():
        return None
    for name in ("learn2learn", "learn2learn.algorithms"):  # __init__ は、使わない部品まで読み込もうとする
        package = types.ModuleType(name)
        package.__path__ = [str(SOURCE / name.replace(".", "/"))]
        sys.modules.setdefault(name, package)
    found: type = importlib.import_module("learn2learn.algorithms.maml").MAML
    return found


def conv4_case(width: int, ways: int, shots: int, queries: int, tasks: int) -> tuple[nn.Module, list[Episode]]:
    """Conv4 と、乱数の画像の課題。速さは画素の値によらない。"""
    torch.manual_seed(0)
    model, y = Conv4(ways, width=width), torch.arange(ways)
    episodes = [
        Episode(
            *(torch.randn(ways * shots, 1, 28, 28), y.repeat(shots)),
            *(torch.randn(ways * queries, 1, 28, 28), y.repeat(queries)),
        )
        for _ in range(tasks)
    ]
    return model, episodes


def sine_case(tasks: int, shots: int, queries: int) -> tuple[nn.Module, Episode]:
    """1-40-40-1 のネットワークと、正弦波の課題の束。"""
    torch.manual_seed(0)
    return sine_network(), next(iter(SineTasks(tasks=tasks, shots=shots, queries=queries, batches=1, seed=0)))


def conv4_updates(lr: float, steps: int, **size: int) -> dict[str, Update]:
    """名前から、平均の損失を返し、平均の勾配を `.grad` に入れる関数へ。"""
    model, episodes = conv4_case(**size)

    def ours() -> float:
        loss = MAML(lr, steps).loss(model, episodes)["loss"]
        loss.backward()
        return float(loss.detach())

    return {
        name: _zeroed(model, call) for name, call in _all(ours, model, episodes, F.cross_entropy, lr, steps).items()
    }


def sine_updates(lr: float, steps: int, **size: int) -> dict[str, Update]:
    """正弦波の回帰について、同じもの。"""
    model, stacked = sine_case(**size)
    episodes = [Episode(*parts) for parts in zip(*stacked, strict=True)]

    def ours() -> float:
        loss = StackedMAML(lr, steps).loss(model, stacked)
        loss.backward()
        return float(loss.detach())

    return {name: _zeroed(model, call) for name, call in _all(ours, model, episodes, F.mse_loss, lr, steps).items()}


def _all(
    ours: Update, model: nn.Module, episodes: list[Episode], loss: Loss, lr: float, steps: int
) -> dict[str, Update]:
    found = {OURS: ours, LOOP: _functional(model, episodes, loss, lr, steps)}
    maml = learn2learn_maml()
    return found if maml is None else found | {LEARN2LEARN: _learn2learn(maml, model, episodes, loss, lr, steps)}


def _zeroed(model: nn.Module, call: Update) -> Update:
    """勾配を消してから呼ぶ。勾配は `call.model` から読める。"""

    def run() -> float:
        model.zero_grad(set_to_none=True)
        return call()

    run.model = model  # type: ignore[attr-defined]
    return run


def _functional(model: nn.Module, episodes: list[Episode], loss: Loss, lr: float, steps: int) -> Update:
    """課題ごとに逆伝播する、いちばん短い書き方。"""

    def run() -> float:
        total = 0.0
        for e in episodes:
            params = dict(model.named_parameters())
            for _ in range(steps):
                value = loss(functional_call(model, params, (e.support_x,)), e.support_y)
                gradients = torch.autograd.grad(value, list(params.values()), create_graph=True)
                params = {name: p - lr * g for (name, p), g in zip(params.items(), gradients, strict=True)}
            outer = loss(functional_call(model, params, (e.query_x,)), e.query_y) / len(episodes)
            outer.backward()
            total += float(outer.detach())
        return total

    return run


def _learn2learn(maml: type, model: nn.Module, episodes: list[Episode], loss: Loss, lr: float, steps: int) -> Update:
    """learn2learn の手引きどおりの書き方。課題ごとに逆伝播する。"""
    wrapped = maml(model, lr=lr)

    def run() -> float:
        total = 0.0
        for e in episodes:
            learner = wrapped.clone()
            for _ in range(steps):
                learner.adapt(loss(learner(e.support_x), e.support_y))
            outer = loss(learner(e.query_x), e.query_y) / len(episodes)
            outer.backward()
            total += float(outer.detach())
        return total

    return run
