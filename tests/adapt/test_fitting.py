"""共通の学習ループ: 素朴なループとの一致、予定、再開、再現性、適応の効果、断り方。"""

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from adapt_kit import DEVICES, METHODS, Tiny, loaders, same, tiny
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tlkit.adapt import CORALLoss, DANNLoss, MMDLoss, SourceOnly, fit_adaptation
from tlkit.models import DANN
from tlkit.nn import dann_lambda
from tlkit.training import History, TrainingDivergedError

QUIET = {"device": "cpu", "progress": False}


def rate(step: int, steps: int, lr: float) -> float:
    return lr / (1 + 10 * step / steps) ** 0.75


@pytest.mark.parametrize("name", METHODS)
def test_equals_a_bare_loop_bit_for_bit(name: str) -> None:
    """40 件と 24 件を 8 件ずつ: 5 回で 1 周し、ターゲットは 3 回ごとに引き直す。12 回は 2 周と 2 回。"""
    ours, bare, steps = tiny(), tiny(), 12
    history = fit_adaptation(ours, METHODS[name], *loaders(), steps=steps, lr=0.05, weight_decay=1e-3, **QUIET)

    source, target = loaders()
    bare.train()
    optimizer = torch.optim.SGD(bare.parameters(), lr=123.0, momentum=0.9, weight_decay=1e-3)
    shorter: Any = iter(())
    for step in range(steps):
        if step % 5 == 0:
            longer, shorter = iter(source), iter(target)
        try:
            t, _ = next(shorter)
        except StopIteration:
            shorter = iter(target)
            t, _ = next(shorter)
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 + 10 * step / steps) ** -0.75
        loss = METHODS[name](bare, (next(longer), t), step / steps)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert same(ours, bare)
    assert [row["step"] for row in history.epochs] == [5.0, 10.0, 12.0]
    kinds = {"source_only": set(), "dann": {"domain"}}.get(name, {"discrepancy"})
    assert history.epochs[0].keys() == {"epoch", "step", "loss", "class"} | kinds


def test_learning_rate_and_progress_follow_the_steps() -> None:
    """学習率は μ_p = μ_0/(1 + 10p)^0.75。勾配が 1 で一定なら、重みの減り方がそのまま学習率になる。"""
    weight, seen = nn.Linear(1, 1, bias=False), []

    def constant(model: nn.Module, pair: object, progress: float) -> dict[str, Tensor]:
        seen.append((progress, float(model.weight.detach())))
        return {"loss": model.weight.sum()}

    weight.double()
    fit_adaptation(weight, constant, *loaders(), steps=12, lr=0.3, momentum=0.0, **QUIET)
    assert [p for p, _ in seen] == [step / 12 for step in range(12)]
    values = [value for _, value in seen] + [float(weight.weight.detach())]
    found = [before - after for before, after in itertools.pairwise(values)]
    assert found == pytest.approx([rate(step, 12, 0.3) for step in range(12)], rel=1e-12)


def test_lambda_rises_step_by_step_from_zero() -> None:
    seen: list[float] = []

    class Watch(Tiny):
        def forward(self, x: Tensor, lambda_: float = 1.0) -> tuple[Tensor, Tensor]:
            seen.append(lambda_)
            return super().forward(x, lambda_)

    fit_adaptation(Watch(), DANNLoss(gamma=7.0, lambda_max=0.4), *loaders(), steps=9, **QUIET)
    assert seen == [0.4 * dann_lambda(step / 9, 7.0) for step in range(9) for _ in range(2)]


class StopError(Exception):
    """途中で止まったことにする。"""


class Interrupted:
    """あるだけ更新したところで止まる手法。渡された進み具合を覚える。"""

    def __init__(self, method: Any, stop_after: int | None) -> None:
        self.method, self.stop_after, self.seen = method, stop_after, []

    def __call__(self, model: nn.Module, pair: tuple, progress: float) -> dict[str, Tensor]:
        if len(self.seen) == self.stop_after:
            raise StopError
        self.seen.append(progress)
        return self.method(model, pair, progress)


def interruptible(name: str, path: Path | None, *, stop_after: int | None = None, seed: int = 0, **kinds: bool) -> Any:
    """モデルの初期値とローダーの種は seed で変わる。再開すれば、どちらも保存した状態に置き換わるはずである。"""
    model, method = tiny(seed, dropout=0.3), Interrupted(METHODS[name], stop_after)
    history = History()
    with contextlib.suppress(StopError):
        history = fit_adaptation(model, method, *loaders(seed, **kinds), steps=17, checkpoint=path, **QUIET)
    return model, method.seen, history


@pytest.mark.parametrize(("name", "shared"), [(name, False) for name in METHODS] + [("dann", True)])
def test_interrupted_and_resumed_equals_uninterrupted(name: str, shared: bool, tmp_path: Path) -> None:
    whole, steps, history = interruptible(name, None, shared=shared)
    path = tmp_path / "run.pt"
    partial, before, _ = interruptible(name, path, stop_after=13, shared=shared)
    assert len(before) == 13 and not same(whole, partial)
    resumed, after, again = interruptible(name, path, seed=9, shared=shared)
    assert after == steps[10:] == [step / 17 for step in range(10, 17)]  # 10 回目の後の途中経過から
    assert same(whole, resumed) and again.epochs == history.epochs


def test_interrupted_twice_with_the_target_longer(tmp_path: Path) -> None:
    def run(path: Path | None, stop_after: int | None = None) -> nn.Module:
        model, method = tiny(), Interrupted(DANNLoss(), stop_after)
        with contextlib.suppress(StopError):
            fit_adaptation(model, method, *loaders(n=20, m=44), steps=20, checkpoint=path, **QUIET)
        return model

    path = tmp_path / "run.pt"
    run(path, 8)
    run(path, 7)
    assert same(run(path), run(None))


@pytest.mark.parametrize("name", METHODS)
def test_same_seeds_same_weights_bit_for_bit(name: str) -> None:
    def run(seed: int) -> nn.Module:
        model = tiny(seed, dropout=0.3)
        fit_adaptation(model, METHODS[name], *loaders(seed), steps=15, **QUIET)
        return model

    assert same(run(0), run(0)) and not same(run(0), run(1))


def shifted(seed: int, n: int = 300) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """2 次元は、どちらのドメインでもクラスを表す。残る 3 次元は、ソースではクラスを表し、ターゲットではいつも同じ。"""
    g = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[0.0, 2.0], [-1.8, -1.0], [1.8, -1.0]])

    def domain(misleading: bool) -> tuple[Tensor, Tensor]:
        y = torch.randint(3, (n,), generator=g)
        steady = centres[y] + 0.6 * torch.randn(n, 2, generator=g)
        tempting = 3.0 * F.one_hot(torch.zeros_like(y) if misleading else y, 3)
        return torch.cat([steady, tempting + 0.5 * torch.randn(n, 3, generator=g)], 1), y

    return domain(False), domain(True)


def target_accuracy(method: Any, seed: int) -> float:
    (x, y), (t, unseen) = shifted(seed)
    model, generator = tiny(seed, inputs=5, width=16, norm=False), torch.Generator().manual_seed(seed)
    source = DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True, generator=generator)
    target = DataLoader(t, batch_size=50, shuffle=True, generator=generator)
    fit_adaptation(model, method, source, target, steps=200, lr=0.05, **QUIET)
    with torch.no_grad():
        return float((model.eval()(t)[0].argmax(1) == unseen).float().mean())


def test_adaptation_beats_source_only_on_every_seed() -> None:
    """四つの種のどれでも 10 ポイント、平均で 20 ポイントは、ソースだけの学習よりよい。"""
    seeds = range(4)
    baseline = torch.tensor([target_accuracy(SourceOnly(), seed) for seed in seeds])
    for method in (DANNLoss(lambda_max=0.3), MMDLoss(weight=3.0), CORALLoss(weight=30.0)):
        gain = torch.tensor([target_accuracy(method, seed) for seed in seeds]) - baseline
        assert gain.min() > 0.1 and gain.mean() > 0.2, f"{method}: {gain}"


@pytest.mark.parametrize("device", DEVICES)
def test_runs_on_every_device_with_channels_last(device: str) -> None:
    x = torch.rand(8, 3, 28, 28)
    source = DataLoader(TensorDataset(x, torch.arange(8)), batch_size=4)
    target = DataLoader(x.square(), batch_size=4)
    model = DANN(network="mnist28")
    options = {"steps": 3, "device": device, "channels_last": True, "progress": False}
    history = fit_adaptation(model, DANNLoss(), source, target, **options)
    assert len(history.epochs) == 2 and next(model.parameters()).device.type == device
    assert model.extractor[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_bad_steps_are_refused(steps: object) -> None:
    with pytest.raises(ValueError, match=r"steps に .* が渡されました.*1 以上の整数"):
        fit_adaptation(tiny(), SourceOnly(), *loaders(), steps=steps, **QUIET)


def test_divergence_and_empty_loaders_are_told() -> None:
    with pytest.raises(TrainingDivergedError, match="有限でなくなりました"):
        fit_adaptation(tiny(norm=False), SourceOnly(), *loaders(), steps=50, lr=1e12, **QUIET)
    source, target = loaders()
    nothing = DataLoader(target.dataset, batch_size=999, drop_last=True)
    with pytest.raises(ValueError, match="target のローダーが空です"):
        fit_adaptation(tiny(), SourceOnly(), source, nothing, steps=2, **QUIET)


def test_unknown_options_are_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match=r"epochs、validate.*channels_last"):
        fit_adaptation(tiny(), SourceOnly(), *loaders(), steps=2, epochs=3, validate=len)
