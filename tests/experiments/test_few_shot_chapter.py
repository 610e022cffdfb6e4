"""第8章の本文が、複数の結果や、結果と本文を突き合わせて言っていること。一つの結果についての主張は、隣の test_few_shot_claims.py にある。"""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from tlkit import results
from tlkit.course.quiz.schema import load_quiz
from tlkit.fewshot import glyph_tasks
from tlkit.stats import MeanCI

CHAPTER = Path(__file__).resolve().parents[2] / "chapters" / "08_meta_learning.py"
QUIZ = CHAPTER.parent / "quiz" / "08_meta_learning.yaml"
PAPER_UPDATES = 60_000  # Finn et al. 2017 の Omniglot
PER_SET = ("protonet_per_set", "anil", "maml", "meta_distillation")  # 本文が「大きく下がる」と言う手法


def low(ci: MeanCI) -> float:
    return ci.mean - ci.half


@pytest.fixture(scope="module")
def text() -> str:
    return CHAPTER.read_text(encoding="utf-8")


@pytest.fixture
def found() -> results.Results:
    return results.load("08_few_shot")


def written(text: str, name: str) -> Any:
    """本文のセルで、name に代入している値（定数だけの式）。"""
    (value,) = [
        node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == [name]
    ]
    return eval(compile(ast.Expression(value), str(CHAPTER), "eval"), {"__builtins__": {}})


class TestNames:
    """本文が挙げる手法と組は、結果にある。結果にある手法は、本文に残らず出てくる。"""

    def test_every_measured_method_is_shown(self, text: str, found: results.Results) -> None:
        assert set(written(text, "method_names")) == {row["method"] for row in found.where(view="main").rows}
        assert set(written(text, "method_names")) == set(found.settings["picked"])

    def test_methods_with_a_teacher_are_marked(self, text: str) -> None:
        marked = {method for method, name in written(text, "method_names").items() if name.endswith("＊")}
        assert marked == {
            "teacher", "maml_pretrained", "distillation", "meta_distillation", "meta_distillation_fixed",
        }  # fmt: skip

    @pytest.mark.parametrize("shots", [1, 5])
    def test_every_compared_pair_has_one_verdict(self, text: str, found: results.Results, shots: int) -> None:
        pairs = [(row["one"], row["other"]) for row in found.summary if row["shots"] == shots]
        measured = {row["method"] for row in found.where(view="main", shots=shots).rows}
        for question, asked in written(text, "questions").items():
            shown = [pair for pair in asked if measured.issuperset(pair)]
            assert shown and all(pairs.count(pair) == 1 for pair in shown), question

    def test_only_what_the_text_says_is_left_out_at_five_shots(self, text: str, found: results.Results) -> None:
        """本文は、正規化の選び方と、内側3回の学習を、5-shotでは比べないと言う。"""
        one, five = ({row["method"] for row in found.where(view="main", shots=shots).rows} for shots in (1, 5))
        assert one - five == {"protonet_joint", "protonet_running", "maml_three_steps"} and five < one
        assert (
            "5-shotでは、正規化の選び方（「まとめて」と「移動統計」）と、学習のときの内側の回数（3回）を比べない"
            in text
        )

    def test_every_verdict_has_a_word(self, text: str, found: results.Results) -> None:
        assert {row["verdict"] for row in found.summary} <= set(written(text, "verdict_words"))


class TestProtocol:
    """本文が言葉で書いた決めごとと、結果の設定。"""

    def test_the_text_says_five_way(self, found: results.Results) -> None:
        assert found.settings["ways"] == 5
        assert {row["shots"] for row in found.rows} == {1, 5}

    def test_maml_learns_with_one_inner_step(self, found: results.Results) -> None:
        assert found.settings["inner_steps"] == 1

    def test_two_digits_fewer_updates_than_the_paper(self, found: results.Results) -> None:
        assert 100 <= PAPER_UPDATES / found.settings["updates"] < 1000

    def test_the_teacher_is_the_same_method_with_three_times_the_updates(self, found: results.Results) -> None:
        """「教師モデルは、ProtoNet（別々）を、3倍の回数だけ学習したもの」。学習率も同じである。"""
        assert found.settings["teacher_updates"] == 3 * found.settings["updates"]
        assert found.settings["teacher_lr"] == found.settings["picked"]["protonet_per_set"]["lr"]

    def test_three_faces_and_no_shared_character(self) -> None:
        tasks = glyph_tasks()
        kana = {tasks.classes[c] for c in tasks.split.test}
        assert len(tasks.faces) == 3
        assert not kana & {tasks.classes[c] for c in (*tasks.split.train, *tasks.split.val)}


class TestStatements:
    @pytest.mark.parametrize("method", PER_SET)
    def test_one_class_in_the_query_set_hurts(self, found: results.Results, method: str) -> None:
        lost = found.difference("accuracy", {"view": "main"}, {"view": "one_class"}, shots=1, method=method)
        assert low(lost) > 0.1

    @pytest.mark.parametrize("shots", [1, 5])
    def test_more_updates_help(self, found: results.Results, shots: int) -> None:
        gain = found.difference(
            "accuracy", {"method": "teacher"}, {"method": "protonet_per_set"}, view="main", shots=shots
        )
        assert low(gain) > 0

    def test_running_and_per_set_share_their_weights(self, found: results.Results) -> None:
        """「重みは同じで、違うのは測り方だけ」。移動統計で学んだものを別々で測ると、値がすべて一致する。"""
        again = found.by_seed("accuracy", view="batchnorm", batchnorm="per_set", shots=1, method="protonet_running")
        assert again == found.by_seed("accuracy", view="main", shots=1, method="protonet_per_set")

    def test_meta_distillation_carries_its_teacher(self, found: results.Results) -> None:
        """「メタ蒸留は、テストのときも教師モデルを使う」。"""
        sizes = {row["method"]: row["parameters"] for row in found.where(view="main").rows}
        for method in ("meta_distillation", "meta_distillation_fixed"):
            assert sizes[method] == sizes["maml"] + sizes["teacher"]
        assert sizes["distillation"] == sizes["teacher"]


def test_no_sentence_waits_for_a_result(text: str) -> None:
    assert "@@" not in text


def test_every_question_is_asked_once_and_in_order(text: str) -> None:
    lines = re.findall(r"<!-- quiz: (.+?) -->", text)
    assert " ".join(lines).split() == [item.id for item in load_quiz(QUIZ)]
