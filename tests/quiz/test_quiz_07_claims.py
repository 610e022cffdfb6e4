"""07 章のクイズの数値を計算し直して確かめる。コードの問題は test_quiz_07_code.py。

正しい選択肢の数値は `computed_by` も確かめる。ここでは torch で独立に求め、理由に書かれた誤りの数値も確かめる。
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from quiz_computed import fits, numbers_in
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tlkit.course.quiz.schema import QuizItem, load_quiz

PATH = Path(__file__).resolve().parents[2] / "chapters" / "quiz" / "07_distillation.yaml"
ITEMS = {item.id: item for item in load_quiz(PATH)}


def d(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum()


def slope(student: Tensor, teacher: Tensor, temperature: float, power: int) -> Tensor:
    """T^power·KL(教師 ‖ 生徒) の、生徒モデルのロジット (C,) についての勾配を、自動微分で求める。"""
    logits = student.clone().requires_grad_()
    value = temperature**power * kl((teacher / temperature).softmax(0), (logits / temperature).softmax(0))
    return torch.autograd.grad(value, logits)[0]


def numbers(text: str) -> list[float]:
    return [value for value, _ in numbers_in(text)]


def table(item: QuizItem) -> list[list[str]]:
    """問題文の表の、見出しと罫線を除いた行。"""
    rows = [line for line in item.stem.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


P10, Q10 = d(0.6, 0.3, 0.1), d(0.5, 0.3, 0.2)
MAP19 = torch.tensor([[[1.0, 2.0], [0.0, 2.0]], [[1.0, 0.0], [-2.0, 2.0]]]).flatten(1)  # (C, H·W)
A19 = MAP19.square().sum(0)
T_06, S_06 = d(0.75, 0.25), d(0.5, 0.5)
Z_04 = d(81, 9, 1).log()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        # 選択肢の順に、書かれた誤り（または正しい手順）で求めた値
        ("q07-04", [(Z_04 * 2).softmax(0), Z_04.softmax(0), (Z_04 / 2).softmax(0), Z_04 / Z_04.sum()]),
        ("q07-06", [kl(T_06, S_06), kl(S_06, T_06), -(T_06 * T_06.log()).sum(), -(T_06 * S_06.log()).sum()]),
        ("q07-08", [(0.1, 0.26), (0.1, 0.1 * 4 * 0.05 + 0.9 * 0.8), (0.9, 0.9 * 0.05 + 0.1 * 0.8), (0.9, 0.18 + 0.08)]),
        ("q07-10", [-4 * (Q10 - P10), (Q10 - P10) / 4, 4 * (Q10 - P10), 16 * (Q10 - P10)]),
        ("q07-11", [d(0, 0, 0), d(-3, 3, 0) / 3, d(-4, 2, -1) / 3, d(-3, 3, 0)]),
        ("q07-19", [A19 / A19.sum(), A19 / A19.norm(), A19 / A19.max(), F.normalize(MAP19.sum(0), dim=0)]),
        ("q07-20", [(1 - 0.2, 0.2 / 4), (1 - 0.2, 0.2), (1 - 0.2 + 0.2 / 5, 0.2 / 5), (1 / 5, 1 / 5)]),
        ("q07-21", [(1 / 2, 1 / 8), (1 / 4, 1 / 4), (1 / 16, 1 / 16), (1 / 4, 1 / 16)]),
        ("q07-22", [(2.55 / 255, 102), (2.55 / 255, -128 + 102), (2.55 / 255, 128 - 102), (1.53 / 127, 0)]),
        ("q07-23", [(80, 8 * 4, 8), (70, 160, 40), (20, 160, 40), (80, 160, 40)]),
    ],
)
def test_every_choice_is_what_its_reason_computes(name: str, values: list[Any]) -> None:
    for choice, value in zip(ITEMS[name].choices, values, strict=True):
        written = value.round(decimals=12) if isinstance(value, Tensor) else value
        assert fits(written, choice), (choice, value)


def test_steps_written_in_the_reasons() -> None:
    assert numbers(ITEMS["q07-19"].stem.split("$$")[1])[-9:] == [1, 2, 0, 2, 2, 1, 0, -2, 2]  # 5 番目は f_2 の添字
    assert A19.tolist() == [2, 4, 4, 8] and (A19.sum(), A19.norm(), A19.max()) == (18, 10, 8)
    assert sum(d(0.80, *[0.20] * 4)).item() == pytest.approx(1.6)
    assert kl(T_06, S_06).item() == pytest.approx(0.75 * math.log(3) - math.log(2))
    assert fits(0.75 * 1.099 - 0.693, "0.131")  # 与えた近似値だけでも、選択肢が決まる


def test_softened_table_comes_from_one_pair_of_logits() -> None:
    logits = {"ア": d(4, 12, 0), "イ": d(0, 12, 4)}
    for image, temperature, *cells in table(ITEMS["q07-02"]):
        probabilities = (logits[image] / numbers(temperature)[0]).softmax(0)
        assert [float(cell) for cell in cells] == pytest.approx(probabilities.tolist(), abs=5e-4)


def test_temperature_keeps_the_order_and_moves_the_entropy() -> None:
    z = d(1.0, -0.5, 2.0)
    rows = torch.stack([(z / t).softmax(0) for t in (0.05, 0.5, 1.0, 4.0, 1e4)])
    assert (rows.argsort(1) == z.argsort()).all()
    entropy = torch.special.entr(rows).sum(1)
    assert (entropy.diff() > 0).all()
    assert entropy[0] < 1e-6 and entropy[-1].item() == pytest.approx(math.log(3))


def test_gradient_table_shrinks_by_the_square() -> None:
    hard = torch.autograd.functional.jacobian(lambda s: F.cross_entropy(s, torch.tensor(0)), d(0, 0)).norm().item()
    norms = []
    for temperature, soft, constant in table(ITEMS["q07-09"]):
        norms.append(slope(d(0, 0), d(2, 0), float(temperature), power=0).norm().item())
        assert float(soft) == pytest.approx(norms[-1], abs=5e-5)
        assert float(constant) == pytest.approx(hard, abs=5e-5)
    assert norms[1] / norms[0] == pytest.approx(1 / 4, abs=0.01)
    assert norms[2] / norms[1] == pytest.approx(1 / 4, abs=0.01)


def test_gradients_agree_with_autograd() -> None:
    found = slope(4 * Q10.log(), 4 * P10.log(), 4.0, power=2)
    assert fits(found.round(decimals=12), ITEMS["q07-10"].choices[ITEMS["q07-10"].answer])
    limit = slope(d(3, 3, 0), d(7, 1, 1), 1e5, power=2)
    torch.testing.assert_close(limit, d(-1, 1, 0), atol=1e-4, rtol=0)


def test_validation_chooses_the_reported_row() -> None:
    rows = [[numbers(cell)[0] for cell in row] for row in table(ITEMS["q07-17"])]
    by_validation = max(rows, key=lambda row: row[2])
    by_test = max(rows, key=lambda row: row[3])
    by_mean = max(rows, key=lambda row: row[2] + row[3])
    told = [numbers(choice) for choice in ITEMS["q07-17"].choices]
    assert told[0] == [*by_test[:2], by_test[3]]
    assert told[1] == [*by_validation[:2], by_validation[2]]
    assert told[2] == [*by_validation[:2], by_validation[3]]
    assert told[3] == pytest.approx([*by_mean[:2], (by_mean[2] + by_mean[3]) / 2])
    assert len({id(row) for row in (by_validation, by_test)}) == 2 and by_mean is by_test


def test_stories_in_the_tables_hold() -> None:
    plain, distilled = (float(row[-1]) for row in table(ITEMS["q07-14"]))
    assert distilled - plain == pytest.approx((0.05 + 0.07) / 2)
    scores = [(float(row[1]), float(row[2])) for row in table(ITEMS["q07-15"])]
    assert [teacher for teacher, _ in scores] == sorted(teacher for teacher, _ in scores)
    assert scores[-1][1] == min(student for _, student in scores) < 0.88 - 2 * 0.005
    assert min(scores[0][1], scores[1][1]) > 0.88 + 2 * 0.005


def test_regressor_is_counted() -> None:
    counts = {nn.Conv2d(32, 128, size, bias=False).weight.numel() for size in (1, 3)} | {32 * 128 * 8 * 8}
    told = {int(numbers(choice)[0]) for choice in ITEMS["q07-18"].choices}
    assert told == counts
    assert numbers(ITEMS["q07-18"].choices[ITEMS["q07-18"].answer]) == [32 * 128]


def test_uniform_teacher_is_label_smoothing() -> None:
    torch.manual_seed(0)
    s, y = torch.randn(6, 5, dtype=torch.float64, requires_grad=True), torch.arange(6) % 5
    uniform = torch.full((6, 5), 1 / 5, dtype=torch.float64)
    distilled = 0.2 * F.kl_div(s.log_softmax(1), uniform, reduction="batchmean") + 0.8 * F.cross_entropy(s, y)
    target = torch.full((6, 5), 0.04, dtype=torch.float64).scatter_(1, y[:, None], 0.84)
    losses = (distilled, F.cross_entropy(s, y, label_smoothing=0.2), F.cross_entropy(s, target))
    slopes = [torch.autograd.grad(loss, s)[0] for loss in losses]
    torch.testing.assert_close(slopes[0], slopes[1])
    torch.testing.assert_close(slopes[0], slopes[2])


def test_convolutions_have_the_stated_ratios() -> None:
    measured = []
    for channels, side in ((64, 16), (32, 8)):
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        with FlopCounterMode(display=False) as counter:
            assert layer(torch.zeros(1, channels, side, side)).shape[-2:] == (side, side)
        measured.append((layer.weight.numel(), counter.get_total_flops()))
    (weights, flops), (fewer_weights, fewer_flops) = measured
    assert numbers(ITEMS["q07-21"].choices[3]) == [fewer_weights / weights, fewer_flops / flops] == [1 / 4, 1 / 16]


def test_quantiser_maps_the_ends_to_the_ends() -> None:
    x = d(-1.02, 0.0, 1.53)
    assert ((x / 0.01).round() - 26).tolist() == [-128, -26, 127]
    assert ((x / 0.01).round() + 26).tolist()[-1] == 179
    assert (x / (1.53 / 127)).round().tolist() == [-85, 0, 127]
    found = torch.fake_quantize_per_tensor_affine(x.float(), 0.01, -26, -128, 127)
    torch.testing.assert_close(found, x.float(), atol=1e-6, rtol=0)


def test_pruned_layers_keep_their_bytes() -> None:
    rows = [(numbers(row[1])[0], numbers(row[2])[0] / 100) for row in table(ITEMS["q07-23"])]
    layers = []
    for count, share in rows:
        weight = torch.linspace(0.1, 1, int(count))
        weight[: round(count * share)] = 0
        layers.append(weight)
    zeros = [int((weight == 0).sum()) for weight in layers]
    assert zeros == [5000, 27000] and sum(zeros) / sum(map(len, layers)) == 0.8
    assert sum(weight.nbytes for weight in layers) == 160_000
    assert sum(weight.to(torch.int8).nbytes for weight in layers) == 40_000
