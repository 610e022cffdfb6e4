"""07 章のクイズのうち、コードの問題を、選択肢を入れて実際に動かして確かめる。数値の問題は test_quiz_07_claims.py。"""

import re
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.course.quiz.schema import QuizItem, load_quiz

PATH = Path(__file__).resolve().parents[2] / "chapters" / "quiz" / "07_distillation.yaml"
ITEMS = {item.id: item for item in load_quiz(PATH)}


def wanted(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    """T²·KL(教師_T ‖ 生徒_T) の標本平均を、定義の式のまま求める。"""
    p, q = (t / temperature).softmax(1), (s / temperature).softmax(1)
    return temperature**2 * (p * (p.log() - q.log())).sum(1).mean()


def program(item: QuizItem) -> str:
    block = re.search(r"```python\n(.*?)```", item.stem, re.DOTALL)
    assert block
    return block[1]


def run(code: str, **names: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reduction="mean" には、PyTorch が警告を出す
        exec(code, names)
    return names


def codes(item: QuizItem) -> list[str]:
    return [choice.strip("`") for choice in item.choices]


def only_the_answer(item: QuizItem, found: list[bool]) -> bool:
    return found == [number == item.answer for number in range(4)]


def test_kl_div_gives_the_loss_only_with_the_answer() -> None:
    torch.manual_seed(0)
    s, t = torch.randn(2, 6, 5, dtype=torch.float64)
    item = ITEMS["q07-07"]
    values = [run(program(item).replace("（空欄）", c), F=F, s=s, t=t, T=3.0)["soft"] for c in codes(item)]
    assert only_the_answer(item, [torch.allclose(value, wanted(s, t, 3)) for value in values])
    no_log, _, swapped, both_logs = values
    assert no_log < 0 and both_logs.isnan()
    torch.testing.assert_close(swapped, wanted(t, s, 3))


def rested(choice: str) -> tuple[bool, bool, bool]:
    """q07-12 の選択肢で 2 回動かし、移動統計が動かないか、答えが揺れないか、計算グラフがないかを返す。"""
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2)).train()
    before, answers = teacher[1].running_mean.clone(), []
    first, second = re.findall(r"`(.+?)`", choice)
    run(
        program(ITEMS["q07-12"]).replace("（空欄ア）", first).replace("（空欄イ）", second),
        torch=torch,
        teacher=teacher,
        student=lambda x: x,
        loader=[(torch.eye(4, 3), None)] * 2,
        distillation_loss=lambda s, t, y: answers.append(t),
    )
    return torch.equal(before, teacher[1].running_mean), torch.equal(*answers), not answers[0].requires_grad


def test_teacher_rests_only_with_the_answer() -> None:
    found = [rested(choice) for choice in ITEMS["q07-12"].choices]
    assert only_the_answer(ITEMS["q07-12"], [all(states) for states in found])
    assert found[:3] == [(False, False, True), (False, False, True), (True, True, False)]


def seen(code: str) -> tuple[bool, bool]:
    """q07-13 の選択肢で、二つのモデルが同じ画像を見るか、生徒モデルの画像が変形されているかを返す。"""
    torch.manual_seed(0)
    x, pairs = torch.randn(4, 3), []
    run(
        program(ITEMS["q07-13"]).replace("（空欄）", code),
        loader=[(0, x, None)],
        cached=[x],  # モデルを恒等写像にしたので、前計算の答えは元の画像そのもの
        student=lambda v: v,
        teacher=lambda v: v,
        augment=lambda v: v + torch.randn_like(v),
        distillation_loss=lambda s, t, y: pairs.append((s, t)),
    )
    ((s, t),) = pairs
    return torch.equal(s, t), not torch.equal(s, x)


def test_both_models_see_one_varied_picture_only_with_the_answer() -> None:
    found = [seen(code) for code in codes(ITEMS["q07-13"])]
    assert only_the_answer(ITEMS["q07-13"], [all(states) for states in found])
    assert found == [(False, True), (True, True), (False, True), (False, False)]


def test_third_line_is_mended_only_by_the_answer() -> None:
    torch.manual_seed(0)
    s, t = torch.randn(2, 32, 100, dtype=torch.float64)
    item, lines, right = ITEMS["q07-24"], program(ITEMS["q07-24"]).splitlines(), wanted(s, t, 4)

    def soft(line: str) -> Tensor:
        code = "\n".join([*lines[:2], line, *lines[3:]])
        value: Tensor = run(code, F=F, s=s, t=t, y=torch.arange(32), T=4.0, alpha=0.9)["soft"]
        return value

    values = [soft(line) for line in codes(item)]
    assert only_the_answer(item, [torch.allclose(value, right) for value in values])
    torch.testing.assert_close(soft(lines[2]) * 100, right)
    torch.testing.assert_close(values[1], right * 32)
    torch.testing.assert_close(values[2] * 100, wanted(t, s, 4))
    torch.testing.assert_close(values[3], right * 32 / 100)
