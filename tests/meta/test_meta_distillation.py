"""メタ蒸留: 適応した生徒モデルの損失であること、生徒モデルの初めの重みと教師モデルに正しい勾配が流れること。"""

import copy

import pytest
import torch
import torch.nn.functional as F
from meta_kit import F64, central_difference, conv_net, image_episode
from torch import Tensor, nn

from tlkit.fewshot import prototypes, prototypical_logits
from tlkit.losses import DistillationLoss
from tlkit.meta import MAML, MetaDistillation, PrototypeTeacher, mean_over_tasks

SETTINGS = {"inner_lr": 0.4, "inner_steps": 2, "temperature": 3.0, "alpha": 0.6}


def meta(norm: object = nn.BatchNorm2d, **options: object) -> MetaDistillation:
    return MetaDistillation(conv_net(norm, seed=1), conv_net(norm, seed=2), **(SETTINGS | options))


def mlp(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(F64)


def vectors() -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    y = torch.arange(3)
    sx, qx = (torch.randn(n, 4, generator=g, dtype=F64) for n in (6, 9))
    return sx, y.repeat(2), qx, y.repeat(3)


def test_value_is_the_query_loss_of_the_student_adapted_by_hand() -> None:
    made = MetaDistillation(mlp(1), mlp(2), **SETTINGS)
    sx, sy, qx, qy = vectors()
    by_hand, teacher = copy.deepcopy(made.student), made.teacher(sx).detach()
    for _ in range(2):
        loss = DistillationLoss(3.0, 0.6)(by_hand(sx), teacher, sy).total
        gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(by_hand.parameters(), gradients, strict=True):
                parameter -= 0.4 * gradient
    wanted = F.cross_entropy(by_hand(qx), qy)
    found = made(sx, sy, qx, qy)
    assert found.shape == () and found.item() == pytest.approx(wanted.item(), rel=1e-13)
    torch.testing.assert_close(made.predict(sx, sy, qx), by_hand(qx))
    assert found.item() != pytest.approx(F.cross_entropy(made.student(qx), qy).item(), rel=1e-3)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda c: nn.GroupNorm(2, c)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("side", ["teacher", "student"])
def test_gradients_match_central_differences(norm: object, training: bool, side: str) -> None:
    made, e = meta(norm).train(training), image_episode()
    slope, difference = central_difference(lambda: made(*e), getattr(made, side).parameters())
    assert slope == pytest.approx(difference, rel=1e-6)
    assert abs(slope) > 1e-5


def test_every_weight_gets_a_gradient() -> None:
    made = MetaDistillation(mlp(1), mlp(2), **SETTINGS)
    made(*vectors()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"first_order": True}, {"inner_steps": 0}])
def test_when_the_teacher_has_no_say(options: dict) -> None:
    """α = 0、一次近似、適応なしでは、教師モデルの勾配はちょうど 0 である。"""
    made = MetaDistillation(mlp(1), mlp(2), **(SETTINGS | options))
    loss = made(*vectors())
    found = torch.autograd.grad(loss, list(made.teacher.parameters()), allow_unused=True, retain_graph=True)
    assert all(g is None or not g.any() for g in found)
    assert all(g.any() for g in torch.autograd.grad(loss, list(made.student.parameters())))


def test_the_loss_of_the_unadapted_student_is_the_known_mistake() -> None:
    """内側で適応しても、外側が適応前の重みを使うと、教師モデルの勾配は消える。正しい版では消えない。"""
    made = MetaDistillation(mlp(1), mlp(2), **SETTINGS)
    sx, sy, qx, qy = vectors()
    made.adapted(sx, sy)
    wrong = F.cross_entropy(made.student(qx), qy)
    assert torch.autograd.grad(wrong, list(made.teacher.parameters()), allow_unused=True) == (None,) * 4
    right = torch.autograd.grad(made(sx, sy, qx, qy), list(made.teacher.parameters()))
    assert sum(float(g.norm()) for g in right) > 1e-3


def test_without_the_soft_term_it_is_maml() -> None:
    made, e = meta(alpha=0.0), image_episode()
    assert made(*e).item() == pytest.approx(MAML(0.4, 2).task_loss(made.student, e)["loss"].item(), rel=1e-13)


def test_temperature_and_alpha_reach_the_inner_loss() -> None:
    values = {made(*image_episode()).item() for made in (meta(), meta(alpha=0.9), meta(temperature=1.0))}
    assert len(values) == 3


@pytest.mark.parametrize("training", [True, False])
def test_weights_and_running_statistics_stay(training: bool) -> None:
    made = meta().train(training)
    before = copy.deepcopy(made.state_dict())
    made(*image_episode()).backward()
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_the_teacher_is_asked_once_per_task() -> None:
    made, calls = meta(inner_steps=5), []
    made.teacher.register_forward_hook(lambda *_: calls.append(1))
    made(*image_episode())
    assert len(calls) == 1


def test_a_frozen_teacher_and_a_frozen_part_of_the_student() -> None:
    made = meta()
    made.teacher.requires_grad_(False)
    made.student.features.requires_grad_(False)
    assert set(made.adapted(*image_episode()[:2])) == {"classifier.weight", "classifier.bias"}
    made(*image_episode()).backward()
    assert [name for name, p in made.named_parameters() if p.grad is not None] == [
        "student.classifier.weight",
        "student.classifier.bias",
    ]


def test_a_learned_rate_is_a_parameter_and_gets_its_gradient() -> None:
    rate = nn.Parameter(torch.tensor([0.4, 0.2], dtype=F64))
    made, e = meta(inner_lr=rate), image_episode()
    assert any(p is rate for p in made.parameters())
    slope, difference = central_difference(lambda: made(*e), [rate])
    assert slope == pytest.approx(difference, rel=1e-6) and abs(slope) > 1e-5


def test_tasks_can_be_accumulated() -> None:
    made, tasks = meta(), [image_episode(i) for i in range(3)]
    plain = torch.stack([made(*e) for e in tasks]).mean()
    wanted = torch.autograd.grad(plain, list(made.parameters()))
    mean_over_tasks(lambda e: {"loss": made(*e)}, tasks, made.parameters())["loss"].backward()
    for parameter, gradient in zip(made.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-14)


def test_the_value_alone_needs_no_recording() -> None:
    made, e = meta(), image_episode()
    with torch.no_grad():
        silent = made(*e)
    assert silent.item() == pytest.approx(made(*e).item(), rel=1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha に 1.5"),
        ({"temperature": 0.0}, "temperature に 0"),
        ({"inner_steps": -1}, "steps に -1"),
    ],
)
def test_wrong_settings_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        meta(**options)(*image_episode())


class TestPrototypeTeacher:
    def made(self) -> MetaDistillation:
        return MetaDistillation(PrototypeTeacher(conv_net(seed=1)), conv_net(seed=2), **SETTINGS)

    def test_answers_from_the_distances_to_the_support(self) -> None:
        teacher, (x, y, _, _) = PrototypeTeacher(conv_net().train()), image_episode()
        z = copy.deepcopy(teacher.embedding)(x)
        wanted = prototypical_logits(z, prototypes(z, y))
        torch.testing.assert_close(teacher.eval().task_logits(x, y), wanted)

    def test_the_scale_keeps_the_teacher_from_being_sure(self) -> None:
        """離れた埋め込みで s = 1 だと、教師モデルの勾配は消える。縮めれば残る。"""

        def gradient(scale: float | Tensor) -> float:
            teacher = PrototypeTeacher(nn.Sequential(conv_net(seed=1), Times(100.0)), scale)
            made = MetaDistillation(teacher, conv_net(seed=2), **SETTINGS)
            return sum(float(g.norm()) for g in torch.autograd.grad(made(*image_episode()), list(teacher.parameters())))

        class Times(nn.Module):
            def __init__(self, factor: float) -> None:
                super().__init__()
                self.factor = factor

            def forward(self, x: Tensor) -> Tensor:
                return self.factor * x

        assert gradient(1.0) < 1e-12 < 1e-3 < gradient(1e-4)
        with pytest.raises(ValueError, match="scale に 0"):
            PrototypeTeacher(conv_net(), 0.0)

    def test_a_learned_scale_gets_its_gradient(self) -> None:
        scale = nn.Parameter(torch.tensor(0.5, dtype=F64))
        made, e = (
            MetaDistillation(PrototypeTeacher(conv_net(seed=1), scale), conv_net(seed=2), **SETTINGS),
            image_episode(),
        )
        slope, difference = central_difference(lambda: made(*e), [scale])
        assert slope == pytest.approx(difference, rel=1e-6) and abs(slope) > 1e-6

    def test_renaming_the_classes_renames_the_answer(self) -> None:
        """入力だけを見る教師モデルでは、こうならない。"""
        teacher, (x, y, _, _) = PrototypeTeacher(conv_net()), image_episode()
        renamed = torch.tensor([2, 0, 1])[y]
        torch.testing.assert_close(teacher.task_logits(x, renamed)[:, [2, 0, 1]], teacher.task_logits(x, y))

    @pytest.mark.parametrize("side", ["teacher", "student"])
    def test_gradients_match_central_differences(self, side: str) -> None:
        made, e = self.made(), image_episode()
        slope, difference = central_difference(lambda: made(*e), getattr(made, side).parameters())
        assert slope == pytest.approx(difference, rel=1e-6) and abs(slope) > 1e-5

    def test_its_running_statistics_stay(self) -> None:
        made = self.made().train()
        before = copy.deepcopy(made.state_dict())
        made(*image_episode()).backward()
        assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


@pytest.mark.cuda
def test_gradients_on_the_gpu() -> None:
    made, e = meta().cuda(), image_episode()
    slope, difference = central_difference(lambda: made(*(part.cuda() for part in e)), made.teacher.parameters())
    assert slope == pytest.approx(difference, rel=1e-6)
