"""出題の規則の検査。規則が悪い例を見つけることと、教材のすべてのクイズが規則を守ることを確かめる。"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from quiz_computed import fits, numbers_in, problems_of
from quiz_rules import violations

from tlkit.course.quiz.schema import QuizItem, load_quiz

QUIZ = Path(__file__).resolve().parents[2] / "chapters" / "quiz"
FILES = sorted(QUIZ.glob("*.yaml"))
Make = Callable[..., dict[str, Any]]


def test_there_are_quizzes_to_check() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_quiz_of_the_course_keeps_the_rules(path: Path) -> None:
    items = load_quiz(path)
    assert violations(items) == []
    assert [problem for item in items for problem in problems_of(item)] == []
    assert (QUIZ.parent / f"{path.stem}.py").is_file()


def test_good_question_has_no_violation(make_entry: Make) -> None:
    item = QuizItem(**make_entry())
    assert violations([item]) == []
    assert problems_of(item) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"choices": ["甲", "乙", "丙", "すべて正しい"]}, "「すべて正し」"),
        ({"choices": ["甲", "乙", "丙", "上記のどれでもない"]}, "「上記」"),
        ({"choices": ["甲", "乙", "丙", "甲と乙はいずれも誤り"]}, "「いずれも誤り」"),
        ({"stem": "値はいくつか。"}, "最も適切なものはどれか。"),
        ({"why": ["甲", "乙", "(b)を見る。", "丁"]}, "理由に「(b)」"),
        ({"why": ["選択肢Ｂと比べる。".replace("Ｂ", "b"), "乙", "丙", "丁"]}, "理由に「選択肢b」"),
        ({"why": ["正解は5です。", "乙", "丙", "丁"]}, "理由に「正解は」"),
        ({"stem": "**損失（MSE）**の説明として最も適切なものはどれか。"}, "太字になっていない"),
        ({"choices": ["$1", "2", "3", "4"]}, "$ が対になっていません"),
    ],
)
def test_bad_question_is_found(changes: Any, words: str, make_entry: Make) -> None:
    found = violations([QuizItem(**make_entry(**changes))])
    assert len(found) == 1
    assert words in found[0]


def many(make_entry: Make, answers: list[int], choices: list[str]) -> list[QuizItem]:
    return [QuizItem(**make_entry(answer=a, choices=choices)) for a in answers]


def test_right_choice_may_not_be_the_longest_too_often(make_entry: Make) -> None:
    uneven = ["短い", "こちらだけがとても長い", "短め", "短かい"]
    assert violations(many(make_entry, [1, 1, 1, 0, 2, 3], uneven)) == []
    assert "最も長い問題が多すぎます（6問中4問" in violations(many(make_entry, [1, 1, 1, 1, 2, 3], uneven))[0]


def test_right_positions_must_be_spread(make_entry: Make) -> None:
    even = ["甲", "乙", "丙", "丁"]
    assert violations(many(make_entry, [0, 0, 1, 2], even)) == []
    assert "正答が a に偏っています（4問中3問）" in violations(many(make_entry, [0, 0, 0, 2], even))
    assert "正答が d になる問題がありません" in violations(many(make_entry, [0, 0, 1, 1, 2, 2, 0, 1], even))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answer": 2}, "合うのは ['b']、answer は c"),
        ({"computed_by": "7"}, "合うのは []"),
        ({"choices": ["$2.5$", "2.50", "3", "5"]}, "合うのは ['a', 'b']"),
        ({"computed_by": "no_such(1)"}, "評価できません（NameError"),
        ({"computed_by": "1 +"}, "評価できません（SyntaxError"),
        ({"computed_by": None}, "計算の問題には computed_by が要ります"),
    ],
)
def test_answer_that_the_computation_denies_is_found(changes: Any, words: str, make_entry: Make) -> None:
    assert words in problems_of(QuizItem(**make_entry(**changes)))[0]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("停止 6、重み 3", [6, 3]),
        ("5,130個", [5130]),
        ("−1", [-1]),
        ("（0.867, 0.117）", [0.867, 0.117]),
        (r"$1.48 \times 10^{-4}$", [1.48e-4]),
        (r"$\frac{1}{32}$", [0.03125]),
        ("1/32", [0.03125]),
        ("√5", [5**0.5]),
        (r"$\sqrt{5}$", [5**0.5]),
        ("3-5", [3, 5]),
        ("σ²=2", [2]),
        ("０.5", [0.5]),
        ("なし", []),
    ],
)
def test_numbers_are_read_from_a_choice(text: str, numbers: list[float]) -> None:
    assert [value for value, _ in numbers_in(text)] == pytest.approx(numbers)


@pytest.mark.parametrize(
    ("result", "choice", "same"),
    [
        (0.98661, "0.987", True),
        (0.98661, "0.986", False),
        (0.98661, "1", False),  # 整数は丸めずに比べる
        ((6, 3), "停止 6、重み 3", True),
        ((6, 3), "停止 3、重み 6", False),
        ((6,), "停止 6、重み 3", False),
        ("クラスA", "クラス A", True),
        ("クラスA", "クラスB", False),
        (1.4813e-4, r"$1.48\times10^{-4}$", True),
        (1.4913e-4, r"$1.48\times10^{-4}$", False),
    ],
)
def test_results_are_compared_at_the_written_precision(result: Any, choice: str, same: bool) -> None:
    assert fits(result, choice) is same


def test_helper_formulas_agree_with_values_worked_out_by_hand() -> None:
    item_of = {
        "mmd2_linear([[1, 2]], [[3, 1]])": "5",
        "mmd2_biased([0, 1], [0, 1], 1)": "0",
        "mmd2_biased([0], [1], 1)": "0.787",
        "mmd2_unbiased([0, 1], [2, 3], 1)": "0.769",
        "softmax([4, 2, 0], 2)": "(0.665, 0.245, 0.090)",
        "shift_name([[0.4, 0.1], [0.2, 0.3]], [[0.16, 0.04], [0.32, 0.48]])": "P(Y|X)、共変量シフト",
        "shift_name([[0.4, 0.2], [0.1, 0.3]], [[0.16, 0.32], [0.04, 0.48]])": "P(X|Y)、ラベルシフト",
        "shift_name([[0.4, 0.1], [0.2, 0.3]], [[0.1, 0.4], [0.2, 0.3]])": "P(X)、概念シフト",
        "shift_name([[0.4, 0.1], [0.2, 0.3]], [[0.1, 0.2], [0.4, 0.3]])": "なし、概念シフト",
        "mmd2_linear([[0, 1], [2, 3]], [[-2, 0], [2, 4]])": "1",
        "mmd2_biased([0, 1, 2, 3], [0.5, 1.5], 1e-3)": "0.75",
        "mmd2_unbiased([0, 1, 2, 3], [0.5, 1.5], 1e-3)": "0",
    }
    from quiz_computed import NAMESPACE

    for expression, value in item_of.items():
        assert fits(eval(expression, dict(NAMESPACE)), value), expression


@pytest.mark.parametrize(("value", "text", "fit"), [(0.2, "1/5", True), (0.25, "1/5", False), (0.46, "1/2", False)])
def test_fractions_of_choices_are_compared_exactly(value: float, text: str, fit: bool) -> None:
    assert fits(value, text) is fit
