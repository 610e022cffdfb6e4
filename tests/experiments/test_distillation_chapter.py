"""第7章の本文が、複数の結果を突き合わせて言っていること。一つの結果についての主張は、隣の test_distillation_*.py にある。"""

import re
from pathlib import Path

import numpy as np
import pytest

from tlkit import results
from tlkit.course.quiz.schema import load_quiz
from tlkit.stats import MeanCI, mean_ci

CHAPTER = Path(__file__).resolve().parents[2] / "chapters" / "07_distillation.py"
QUIZ = CHAPTER.parent / "quiz" / "07_distillation.yaml"


def low(ci: MeanCI) -> float:
    return ci.mean - ci.half


def high(ci: MeanCI) -> float:
    return ci.mean + ci.half


class TestGridBesidePair:
    """格子の実験と、対照を並べた実験は、同じ種なら同じ画像とラベルを使う。だから、種ごとに引き算できる。"""

    @pytest.fixture
    def grid(self) -> results.Results:
        return results.load("07_grid")

    @pytest.fixture
    def pair(self) -> results.Results:
        return results.load("07_pair")

    def over(self, grid: results.Results, pair: results.Results, control: str) -> MeanCI:
        ours, theirs = grid.by_seed("accuracy", method="distill"), pair.by_seed("accuracy", method=control)
        assert ours.keys() == theirs.keys()
        return mean_ci([ours[seed] - theirs[seed] for seed in ours])

    def test_the_same_seed_has_the_same_teacher(self, grid: results.Results, pair: results.Results) -> None:
        assert grid.by_seed("accuracy", method="teacher") == pair.by_seed("accuracy", method="teacher")

    def test_soft_targets_beat_hard_labels_on_the_same_images(
        self, grid: results.Results, pair: results.Results
    ) -> None:
        assert low(self.over(grid, pair, "hard_augment")) > 0.005

    def test_but_not_label_smoothing_by_a_point(self, grid: results.Results, pair: results.Results) -> None:
        """クラスの似かたが効いたとは、まだ言えない。"""
        gain = self.over(grid, pair, "smooth_augment")
        assert low(gain) < 0 and gain.mean < 0.01

    def test_choosing_on_one_seed_flatters_the_choice(self) -> None:
        """一つの種で選び、その種の値を報告すると、ほかの種での値より高い。"""
        scan = results.load("07_grid_dev")
        cells = scan.where(method="distill").table("score", by=["temperature", "alpha"])
        rows = {
            (row["seed"], row["temperature"], row["alpha"]): row["score"] for row in scan.where(method="distill").rows
        }
        scores = np.array([[rows[seed, *cell] for cell in cells] for seed in scan.seeds])
        above = scores - scores.mean(1, keepdims=True)
        gaps = [above[i].max() - np.delete(above[:, above[i].argmax()], i).mean() for i in range(len(above))]
        assert low(mean_ci(gaps)) > 0.002


def test_softness_adds_nothing_clear_beyond_smoothing() -> None:
    found = results.load("07_pair")
    same = found.difference("accuracy", {"method": "distill"}, {"method": "smooth_augment"})
    assert low(same) < 0 < high(same)


def test_small_students_with_many_labels_gain_nothing_clear() -> None:
    """2,000 枚のラベルと同じ変形では、蒸留した生徒モデルと正解ラベルの生徒モデルの差は 1 ポイントに満たない。"""
    found = results.load("07_compression")
    gain = found.difference("accuracy", {"method": "distilled"}, {"method": "hard"}, model="student", bits=32)
    assert abs(gain.mean) < 0.01 and low(gain) < 0 < high(gain)


def test_structured_pruning_does_not_beat_training_the_small_network() -> None:
    found = results.load("07_compression")
    change = found.difference("accuracy", {"method": "structured", "tuned": 1}, {"method": "scratch"}, width=8)
    assert low(change) < 0


def test_every_question_is_asked_once_and_in_order() -> None:
    lines = re.findall(r"<!-- quiz: (.+?) -->", CHAPTER.read_text(encoding="utf-8"))
    assert " ".join(lines).split() == [item.id for item in load_quiz(QUIZ)]
