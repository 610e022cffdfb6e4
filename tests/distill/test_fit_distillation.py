"""生徒モデルの学習: 素朴なループとの一致、教師モデルの不変、前計算、再開、蒸留の効果、断り方。"""

import contextlib
import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from distill_kit import DEVICES, QUIET, data, loader, same, snapshot, tiny, unchanged
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tlkit.distill import FromTeacher, HardLabels, WithTeacherLogits, fit_distillation, fit_student, teacher_logits
from tlkit.losses import DistillationLoss
from tlkit.models import Student, Teacher
from tlkit.training import TrainingDivergedError


def test_equals_a_bare_loop_bit_for_bit() -> None:
    ours, bare, teacher = tiny(2), tiny(2), tiny(1).eval()
    loss = DistillationLoss(2.0, 0.6)
    history = fit_distillation(ours, teacher, loader(), None, loss=loss, steps=12, lr=0.02, weight_decay=0.1, **QUIET)

    optimizer, batches = torch.optim.AdamW(bare.parameters(), lr=123.0, weight_decay=0.1), loader()
    stream = (pair for _ in range(3) for pair in batches)
    bare.train()
    for step, (x, y) in zip(range(12), stream, strict=False):
        optimizer.param_groups[0]["lr"] = 0.02 * ((1 + math.cos(math.pi * step / 12)) / 2)
        with torch.no_grad():
            targets = teacher(x)
        optimizer.zero_grad()
        loss(bare(x), targets, y).total.backward()
        optimizer.step()
    assert same(ours, bare)
    assert [row["step"] for row in history.epochs] == [5, 10, 12]
    assert history.epochs[0].keys() == {"epoch", "step", "loss", "soft", "hard"}
    for row in history.epochs:
        assert row["loss"] == pytest.approx(0.6 * row["soft"] + 0.4 * row["hard"], rel=1e-5)


def test_the_default_loss_is_that_of_the_contract() -> None:
    given, default = tiny(2), tiny(2)
    fit_distillation(given, tiny(1), loader(), None, loss=DistillationLoss(3.0, 0.7), epochs=2, **QUIET)
    fit_distillation(default, tiny(1), loader(), None, epochs=2, **QUIET)
    assert same(given, default)


def test_teacher_is_left_as_it_was() -> None:
    teacher = tiny(1, dropout=0.5).train()
    before = snapshot(teacher)
    fit_distillation(tiny(2), teacher, loader(), loader(shuffle=False), epochs=3, **QUIET)
    assert unchanged(teacher, before) and all(module.training for module in teacher.modules())


def test_logits_computed_beforehand_give_the_same_student() -> None:
    teacher, dataset = tiny(1, dropout=0.5), data()
    live, stored = tiny(2), tiny(2)
    fit_distillation(live, teacher, loader(dataset), None, epochs=4, **QUIET)
    rows = teacher_logits(teacher, loader(dataset, shuffle=False, batch=7))
    fit_distillation(stored, None, loader(WithTeacherLogits(dataset, rows)), None, epochs=4, **QUIET)
    for ours, theirs in zip(live.parameters(), stored.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    wrong = tiny(2)
    fit_distillation(wrong, None, loader(WithTeacherLogits(dataset, rows.roll(1, 0))), None, epochs=4, **QUIET)
    assert (wrong[0].weight - live[0].weight).norm() > 0.01 * live[0].weight.norm()


def test_best_epoch_on_validation_is_restored() -> None:
    validation, student = data(60, seed=5), tiny(2)
    history = fit_distillation(
        student, tiny(1), loader(), DataLoader(validation, batch_size=7), epochs=6, lr=0.05, **QUIET
    )
    scores = [row["score"] for row in history.epochs]
    x, y = validation.tensors
    with torch.no_grad():
        found = float((student.eval()(x).argmax(1) == y).float().mean())
    assert found == pytest.approx(max(scores)) and history.best_epoch == 1 + scores.index(max(scores))
    assert len(set(scores)) > 1


class StopError(Exception):
    """途中で止まったことにする。"""


def resumable(path: Path | None, stop_after: int | None = None, seed: int = 2) -> nn.Module:
    student, batches, calls = tiny(seed, dropout=0.3), loader(seed=seed), []

    def augment(x: Tensor) -> Tensor:
        if len(calls) == stop_after:
            raise StopError
        calls.append(None)
        return x + 0.1 * torch.randn(x.shape, generator=batches.generator)

    with contextlib.suppress(StopError):
        fit_distillation(student, tiny(1), batches, None, augment=augment, steps=17, checkpoint=path, **QUIET)
    return student


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    def seeded(*args: object, **kwargs: object) -> nn.Module:
        return resumable(*args, **kwargs)

    whole, path = seeded(None), tmp_path / "run.pt"
    partial = seeded(path, stop_after=13)
    assert not same(whole, partial)
    assert same(seeded(path, seed=9), whole)


def test_same_seeds_same_weights_and_fair_batches_for_every_method() -> None:
    """蒸留でも正解ラベルだけでも、見る画像の順は同じである。"""
    seen: dict[str, list[Tensor]] = {"hard": [], "kd": []}

    def watch(name: str) -> object:
        return lambda x: seen[name].append(x.clone()) or x

    students = [tiny(2), tiny(2)]
    fit_student(students[0], HardLabels(augment=watch("hard")), loader(), epochs=2, **QUIET)
    fit_student(students[1], FromTeacher(tiny(1), augment=watch("kd")), loader(), epochs=2, **QUIET)
    assert len(seen["hard"]) == 10 and all(torch.equal(a, b) for a, b in zip(seen["hard"], seen["kd"], strict=True))
    assert not same(*students)
    again = tiny(2)
    fit_student(again, HardLabels(), loader(), epochs=2, **QUIET)
    assert same(again, students[0])


def noisy(seed: int, n: int, flips: float) -> tuple[Tensor, Tensor]:
    """3 クラスの中心からの標本。flips の割合のラベルは、でたらめである。"""
    g = torch.Generator().manual_seed(seed)
    centres = 1.5 * torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]])
    y = torch.randint(3, (n,), generator=g)
    x = centres[y] + torch.randn(n, 4, generator=g)
    wrong = torch.rand(n, generator=g) < flips
    return x, torch.where(wrong, torch.randint(3, (n,), generator=g), y)


def test_soft_targets_of_a_good_teacher_help_with_noisy_labels() -> None:
    """四つの種のどれでも、蒸留（α = 1）は、同じ 60 件の誤りを含むラベルだけの学習より 5 ポイント以上よい。"""

    class Bayes(nn.Module):
        """真の事後確率のロジット。"""

        def forward(self, x: Tensor) -> Tensor:
            return 1.5 * x[:, :3]

    def accuracy(student: nn.Module, seed: int) -> float:
        x, y = noisy(100 + seed, 4000, 0.0)
        with torch.no_grad():
            return float((student.eval()(x).argmax(1) == y).float().mean())

    gains = []
    for seed in range(4):
        x, y = noisy(seed, 60, 0.4)
        train = DataLoader(TensorDataset(x, y), batch_size=20)
        hard, distilled = (tiny(seed, width=32, norm=False) for _ in range(2))
        fit_student(hard, HardLabels(), train, epochs=60, lr=0.02, **QUIET)
        loss = DistillationLoss(1.0, 1.0)
        fit_distillation(distilled, Bayes(), train, None, loss=loss, epochs=60, lr=0.02, **QUIET)
        gains.append(accuracy(distilled, seed) - accuracy(hard, seed))
    assert min(gains) > 0.05, gains


@pytest.mark.parametrize("device", DEVICES)
def test_runs_on_every_device_with_the_pair_of_the_chapter(device: str) -> None:
    g = torch.Generator().manual_seed(0)
    pairs = TensorDataset(torch.rand(8, 3, 32, 32, generator=g), torch.arange(8))
    torch.manual_seed(0)
    teacher, student = Teacher(), Student()
    options = {"epochs": 1, "device": device, "progress": False, "channels_last": True, "amp": torch.bfloat16}
    history = fit_distillation(student, teacher, DataLoader(pairs, batch_size=4), DataLoader(pairs, 8), **options)
    assert next(teacher.parameters()).device.type == next(student.parameters()).device.type == device
    assert all(math.isfinite(value) for value in history.epochs[0].values())


def test_self_distillation_from_a_copy() -> None:
    student = tiny(2)
    teacher = copy.deepcopy(student)
    history = fit_distillation(student, teacher, loader(), None, epochs=2, **QUIET)
    assert len(history.epochs) == 2 and not same(student, teacher)
    with pytest.raises(ValueError, match="deepcopy"):
        fit_distillation(student, student, loader(), None, epochs=1, **QUIET)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"引数 momentum は使えません.*epochs"):
        fit_student(tiny(), HardLabels(), loader(), epochs=1, momentum=0.9, **QUIET)
    for wrong in ({}, {"epochs": 1, "steps": 1}, {"epochs": 0}, {"steps": -1}):
        with pytest.raises(ValueError, match="epochs="):
            fit_student(tiny(), HardLabels(), loader(), **wrong, **QUIET)
    empty = DataLoader(data(4), batch_size=8, drop_last=True)
    with pytest.raises(ValueError, match="validation が空"):
        fit_student(tiny(), HardLabels(), loader(), empty, epochs=1, **QUIET)
    with pytest.raises(TrainingDivergedError, match="有限でなくなりました"):
        fit_student(tiny(norm=False), HardLabels(), loader(), epochs=30, lr=1e30, **QUIET)


def test_hard_labels_reach_the_plain_cross_entropy() -> None:
    student = tiny(2, norm=False)
    history = fit_student(student, HardLabels(), loader(), steps=1, **QUIET)
    x, y = next(iter(loader()))
    assert history.epochs[0]["loss"] == pytest.approx(F.cross_entropy(tiny(2, norm=False)(x), y).item(), rel=1e-6)
