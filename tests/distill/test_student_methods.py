"""生徒モデルの損失: 教師モデルは動かず、同じ画像を見て、勾配を受け取らない。断り方。"""

import pytest
import torch
import torch.nn.functional as F
from distill_kit import DEVICES, data, snapshot, tiny, unchanged
from torch import Tensor, nn

from tlkit.distill import FromTeacher, HardLabels
from tlkit.losses import DistillationLoss


def batch(device: str = "cpu") -> tuple[Tensor, Tensor]:
    x, y = data(12).tensors
    return x.to(device), y.to(device)


class Recorder(nn.Module):
    """受け取った入力と、そのときの状態を覚える。"""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x.clone(), self.training, torch.is_grad_enabled()))
        return self.model(x)


@pytest.mark.parametrize("device", DEVICES)
def test_equals_the_loss_on_the_logits_of_an_evaluating_teacher(device: str) -> None:
    teacher, student, (x, y) = tiny(1, dropout=0.5).to(device), tiny(2).to(device), batch(device)
    values = FromTeacher(teacher.train(), DistillationLoss(2.0, 0.4))(student, (x, y))
    with torch.no_grad():
        targets = teacher.eval()(x)
    want = DistillationLoss(2.0, 0.4)(student(x), targets, y)
    assert {name: value.item() for name, value in values.items()} == pytest.approx(
        {"loss": want.total.item(), "soft": want.soft.item(), "hard": want.hard.item()}
    )


def test_teacher_does_not_change_and_gets_no_gradient() -> None:
    teacher, student = tiny(1, dropout=0.5), tiny(2)
    teacher.train()
    teacher[1].eval()
    before = snapshot(teacher)
    FromTeacher(teacher)(student, batch())["loss"].backward()
    assert unchanged(teacher, before) and all(p.grad is None for p in teacher.parameters())
    assert teacher.training and not teacher[1].training  # 状態は、部品ごとに元へ戻る
    assert all(p.grad is not None for p in student.parameters())


def test_both_see_the_same_augmented_images_and_it_is_drawn_once() -> None:
    teacher, student, calls = Recorder(tiny(1)), Recorder(tiny(2)), []

    def augment(x: Tensor) -> Tensor:
        calls.append(x)
        return x + torch.randn_like(x)

    x, y = batch()
    FromTeacher(teacher, augment=augment)(student, (x, y))
    (shown, training, grad), (learned, student_training, student_grad) = teacher.seen[0], student.seen[0]
    assert len(calls) == len(teacher.seen) == len(student.seen) == 1
    assert torch.equal(shown, learned) and not torch.equal(shown, x)
    assert (training, grad) == (False, False) and (student_training, student_grad) == (True, True)


def test_a_student_that_shares_parts_with_the_teacher_still_trains() -> None:
    """教師モデルを評価モードにしている間だけ、共有された部品も評価モードになる。"""
    student = Recorder(tiny(2, dropout=0.5))
    teacher = nn.Sequential(student.model, nn.Linear(3, 3))
    FromTeacher(teacher)(student, batch())
    assert student.seen[0][1] and all(module.training for module in student.modules())


def test_stored_logits_replace_the_teacher() -> None:
    teacher, student, (x, y) = tiny(1).eval(), tiny(2), batch()
    stored = teacher(x).detach()
    values = FromTeacher(None)(student, (x, y, stored))
    again = FromTeacher(teacher)(student, (x, y))
    assert values["loss"].item() == pytest.approx(again["loss"].item(), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_labels_are_the_cross_entropy(smoothing: float) -> None:
    student, (x, y) = tiny(norm=False), batch()
    value = HardLabels(smoothing)(student, (x, y))["loss"]
    target = (1 - smoothing) * F.one_hot(y, 3) + smoothing / 3
    want = -(target * student(x).log_softmax(1)).sum(1).mean()
    assert value.item() == pytest.approx(want.item(), rel=1e-6)
    doubled = HardLabels(smoothing, augment=lambda z: 2 * z)(student, (x, y))["loss"]
    assert doubled.item() == pytest.approx(HardLabels(smoothing)(student, (2 * x, y))["loss"].item(), rel=1e-6)


def test_label_smoothing_is_distillation_from_a_uniform_teacher() -> None:
    """勾配は、一様な教師モデルからの蒸留（T = 1、α = ε）と同じである。"""
    student, (x, y) = tiny(norm=False), batch()
    smooth = HardLabels(0.1)(student, (x, y))["loss"]
    uniform = FromTeacher(None, DistillationLoss(1.0, 0.1))(student, (x, y, torch.zeros(12, 3)))["loss"]
    for ours, theirs in zip(
        *(torch.autograd.grad(v, list(student.parameters())) for v in (smooth, uniform)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan"), True])
def test_bad_smoothing_is_refused(smoothing: object) -> None:
    with pytest.raises(ValueError, match="0 以上 1 未満"):
        HardLabels(smoothing)


def test_augmenting_beside_stored_logits_is_refused() -> None:
    with pytest.raises(ValueError, match="変形する前の画像"):
        FromTeacher(None, augment=lambda x: x)


def test_where_the_logits_come_from_must_be_clear() -> None:
    student, (x, y) = tiny(), batch()
    stored = torch.zeros(12, 3)
    for teacher, given in ((None, (x, y)), (tiny(1), (x, y, stored)), (student, (x, y))):
        with pytest.raises(ValueError, match=r"出どころが決まりません.*deepcopy"):
            FromTeacher(teacher)(student, given)


@pytest.mark.parametrize("given", [torch.zeros(2, 4), (torch.zeros(2, 4),), (torch.zeros(2, 4), [0, 1])])
def test_batches_of_another_form_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="テンソルの組"):
        HardLabels()(tiny(), given)
