"""32×32 の教師モデルと生徒モデル: 形、パラメータ数、中間の地図が損失に渡せること、断り方。"""

import pytest
import torch
from torch import nn

from tlkit.losses import attention_transfer_loss, hint_loss
from tlkit.models import Student, Teacher

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
WIDTHS = {Teacher: ((64, 128, 256), 2), Student: ((16, 32, 64), 1)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", WIDTHS)
def test_shapes_of_every_output(kind: type, device: str) -> None:
    model, x = kind(7).to(device), torch.rand(2, 3, 32, 32, device=device)
    widths, _ = WIDTHS[kind]
    shapes = [tuple(found.shape) for found in model.maps(x)]
    assert shapes == [(2, width, side, side) for width, side in zip(widths, (16, 8, 4), strict=True)]
    assert model.features(x).shape == (2, widths[2]) and model(x).shape == (2, 7)
    model.eval()
    torch.testing.assert_close(model.classifier(model.maps(x)[-1].mean((2, 3))), model(x))


@pytest.mark.parametrize("kind", WIDTHS)
def test_parameters_add_up(kind: type) -> None:
    (a, b, c), depth = WIDTHS[kind]
    steps = [(3, a), (a, b), (b, c)] if depth == 1 else [(3, a), (a, a), (a, b), (b, b), (b, c), (c, c)]
    want = sum(9 * i * o + 2 * o for i, o in steps) + (c + 1) * 10
    assert sum(p.numel() for p in kind().parameters()) == want == {Teacher: 1_148_874, Student: 24_346}[kind]


def test_maps_of_the_pair_can_be_compared() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 32, 32)
    ours, theirs = Student().maps(x), Teacher().maps(x)
    for student_maps, teacher_maps in zip(ours, theirs, strict=True):
        assert attention_transfer_loss(student_maps, teacher_maps).item() > 0
        regressor = nn.Conv2d(student_maps.shape[1], teacher_maps.shape[1], 1)
        hint_loss(regressor(student_maps), teacher_maps.detach()).backward(retain_graph=True)
        assert regressor.weight.grad.norm() > 0


@pytest.mark.parametrize("kind", WIDTHS)
def test_bad_input_is_refused(kind: type) -> None:
    for shape in ((2, 3, 28, 28), (2, 1, 32, 32), (3, 32, 32)):
        with pytest.raises(ValueError, match=r"\(N, 3, 32, 32\)"):
            kind()(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"num_classes に 0 .*1 以上の整数"):
        kind(0)
