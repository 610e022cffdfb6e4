"""03 章のクイズのうち、コードと表の問題を、実際に動かして確かめる（計算の問題は computed_by が確かめる）。"""

import itertools
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tlkit.course.quiz.schema import QuizItem, load_quiz
from tlkit.losses import mmd2
from tlkit.nn import dann_lambda, gradient_reversal

PATH = Path(__file__).resolve().parents[2] / "chapters" / "quiz" / "03_domain_adaptation.yaml"
ITEMS = {item.id: item for item in load_quiz(PATH)}


def codes(item: QuizItem) -> list[str]:
    return [choice.strip("`") for choice in item.choices]


def table(item: QuizItem) -> list[list[str]]:
    """問題文の表の、見出しと罫線を除いた行。"""
    rows = [line for line in item.stem.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def program(item: QuizItem, code: str) -> str:
    """問題文のコードの空欄を、選択肢で埋めたもの。"""
    block = re.search(r"```python\n(.*?)```", item.stem, re.DOTALL)
    assert block
    return re.sub(r"（空欄）", lambda _: code, block[1])


def only_the_answer(item: QuizItem, works: Any) -> bool:
    return [works(code) for code in codes(item)] == [number == item.answer for number in range(4)]


def test_reversal_function_works_only_with_the_answer() -> None:
    def works(code: str) -> bool:
        names: dict[str, Any] = {"torch": torch}
        exec(program(ITEMS["q03-12"], code), names)
        x = torch.tensor([2.0, -1.0], requires_grad=True)
        try:
            names["Reverse"].apply(x, 0.5).backward(torch.tensor([0.4, -0.6]))
        except RuntimeError:
            return False
        return torch.allclose(x.grad, torch.tensor([-0.2, 0.3]))

    assert only_the_answer(ITEMS["q03-12"], works)


def test_dann_forward_is_adversarial_only_with_the_answer() -> None:
    torch.manual_seed(0)
    parts = {"extractor": nn.Linear(4, 3), "label_classifier": nn.Linear(3, 5), "domain_classifier": nn.Linear(3, 2)}
    x, domains = torch.randn(8, 4), torch.arange(8) % 2

    def gradients(code: str) -> tuple[Tensor, Tensor]:
        """特徴抽出器と識別器の、識別の損失についての勾配。"""
        names: dict[str, Any] = {"gradient_reversal": gradient_reversal}
        exec(program(ITEMS["q03-13"], code), names)
        logits = names["forward"](SimpleNamespace(**parts), x, 0.5)[1]
        wanted = (parts["extractor"].weight, parts["domain_classifier"].weight)
        found = torch.autograd.grad(nn.functional.cross_entropy(logits, domains), wanted, allow_unused=True)
        return tuple(torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True))  # type: ignore[return-value]

    plain = gradients("features")

    def works(code: str) -> bool:
        try:
            extractor, discriminator = gradients(code)
        except RuntimeError:  # 次元が合わない
            return False
        return torch.allclose(extractor, -0.5 * plain[0]) and torch.allclose(discriminator, plain[1])

    assert only_the_answer(ITEMS["q03-13"], works)


def test_negating_the_features_lets_the_extractor_help_the_discriminator() -> None:
    torch.manual_seed(0)
    features, weight = torch.randn(8, 3, requires_grad=True), torch.randn(3, 2)

    def loss(values: Tensor) -> Tensor:
        return nn.functional.cross_entropy(-0.5 * values @ weight, torch.arange(8) % 2)

    (slope,) = torch.autograd.grad(loss(features), features)
    assert loss(features - 0.1 * slope) < loss(features)


def test_progress_grows_evenly_from_zero_only_with_the_answer() -> None:
    def works(code: str) -> bool:
        seen: list[float] = []
        names = {"epochs": 3, "loader": range(4), "dann_lambda": seen.append, "model": None}
        exec(program(ITEMS["q03-15"], code), {**names, "dann_loss": lambda *_: None})
        return seen == pytest.approx([step / 12 for step in range(12)])

    assert only_the_answer(ITEMS["q03-15"], works)
    assert dann_lambda(0.0) == 0


def test_pairs_are_reshuffled_and_whole_only_with_the_answer() -> None:
    def works(code: str) -> bool:
        torch.manual_seed(0)
        source = DataLoader(TensorDataset(torch.arange(100), torch.arange(100)), batch_size=1, shuffle=True)
        target = DataLoader(TensorDataset(torch.arange(40), torch.arange(40)), batch_size=1, shuffle=True)
        source_seen, target_seen = [], []

        def record(x_s: Tensor, x_t: Tensor) -> None:
            source_seen.append(int(x_s))
            target_seen.append(int(x_t))
            if len(source_seen) > 150:
                raise StopIteration

        names = {"itertools": itertools, "source_loader": source, "target_loader": target, "record": record}
        try:
            exec(program(ITEMS["q03-27"], code).replace("...", "record(x_s, x_t)"), names)
        except StopIteration:
            return False
        whole = sorted(source_seen) == list(range(100)) and sorted(target_seen[40:80]) == list(range(40))
        return whole and target_seen[:40] != target_seen[40:80]

    assert only_the_answer(ITEMS["q03-27"], works)


def test_joint_table_moves_only_the_prior() -> None:
    cells = torch.tensor([[float(cell.strip("人")) for cell in row[1:]] for row in table(ITEMS["q03-04"])])
    source, target = cells[:, :2] / 100, cells[:, 2:] / 100
    assert source.sum() == target.sum() == 1
    assert source.sum(0)[1] == 0.5 and target.sum(0)[1] == pytest.approx(0.2)
    torch.testing.assert_close(source / source.sum(0), target / target.sum(0))
    assert not torch.allclose(source.sum(1), target.sum(1))
    rows = [joint / joint.sum(1, keepdim=True) for joint in (source, target)]
    assert rows[0][1, 1].item() == pytest.approx(0.8) and rows[1][1, 1].item() == pytest.approx(0.5)


def test_bandwidth_table_is_what_such_samples_give() -> None:
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 128, 64, generator=random)
    y[:, 0] += 2
    assert torch.cdist(x, y).median().item() == pytest.approx(11, abs=0.6)
    for sigma, value, norm in table(ITEMS["q03-19"]):
        sample = x.clone().requires_grad_()
        measured = mmd2(sample, y, bandwidth=float(sigma))
        (slope,) = torch.autograd.grad(measured, sample)
        for found, written in ((measured.item(), float(value)), (slope.norm().item(), float(norm))):
            assert abs(found - written) <= written / 2  # 桁が合えばよい。0 は厳密に 0
