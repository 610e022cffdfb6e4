"""第7章の温度 T と重み α の格子で分かったこと。効果の大きさと、種で組にした差の 95 % 区間の端で判定する。

選んだ値が開発用の結果だけから決まることと、種が重ならないことは、test_experiment_files.py が調べる。
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tlkit import results
from tlkit.stats import MeanCI, mean_ci

HISTORY = Path(__file__).resolve().parents[2] / "experiments" / "history"
WARM = (3.0, 5.0, 10.0)
ALPHAS = (0.3, 0.5, 0.7, 0.9)
NEAR = 0.02


def low(ci: MeanCI) -> float:
    return ci.mean - ci.half


def high(ci: MeanCI) -> float:
    return ci.mean + ci.half


def row_mean(grid: results.Results, seed: int, temperature: float) -> float:
    """温度ごとの、四つの α についての平均。"""
    return sum(row["score"] for row in grid.where(seed=seed, temperature=temperature).rows) / len(ALPHAS)


class TestValidation:
    @pytest.fixture
    def grid(self) -> results.Results:
        return results.load("07_grid_dev").where(method="distill")

    def test_every_setting_of_the_grid_was_measured_on_every_seed(self, grid: results.Results) -> None:
        cells = grid.table("score", by=["temperature", "alpha"])
        assert list(cells) == [(t, a) for t in (1.0, *WARM) for a in ALPHAS]
        assert len(grid.rows) == 16 * len(grid.seeds) == 80

    @pytest.mark.parametrize("temperature", WARM)
    def test_a_higher_temperature_than_one_is_better(self, grid: results.Results, temperature: float) -> None:
        change = mean_ci([row_mean(grid, s, temperature) - row_mean(grid, s, 1.0) for s in grid.seeds])
        assert change.mean > 0.01 and low(change) > 0.003

    def test_the_other_settings_cannot_be_told_apart(self, grid: results.Results) -> None:
        """T が 3 以上なら、どの T とどの α も、検証の平均では 0.6 ポイントも違わない。"""
        means = [ci.mean for (t, _), ci in grid.table("score", by=["temperature", "alpha"]).items() if t > 1]
        assert max(means) - min(means) < 0.006
        spread = [ci.half for ci in grid.table("score", by=["temperature", "alpha"]).values()]
        assert sum(spread) / len(spread) > max(means) - min(means)

    def test_the_best_single_seed_is_not_what_to_expect(self, grid: results.Results) -> None:
        best = max(ci.mean for ci in grid.table("score", by=["temperature", "alpha"]).values())
        assert max(row["score"] for row in grid.rows) > best + 0.004

    def test_the_learning_rate_is_the_one_the_labels_alone_choose(self, grid: results.Results) -> None:
        hard = results.load("07_grid_dev").where(method="hard", weight_decay=0.01).table("score", by="lr")
        best = max(hard, key=lambda lr: hard[lr].mean)
        assert {(row["lr"], row["weight_decay"]) for row in grid.rows} == {(best, 0.01)}


class TestConfirmation:
    @pytest.fixture
    def found(self) -> results.Results:
        return results.load("07_grid")

    def test_the_chosen_setting_beats_the_best_of_the_labels_alone(self, found: results.Results) -> None:
        gain = found.difference("accuracy", {"method": "distill"}, {"method": "hard"})
        assert gain.mean > 0.01 and low(gain) > 0.005

    def test_the_student_does_not_reach_the_teacher(self, found: results.Results) -> None:
        assert high(found.difference("accuracy", {"method": "distill"}, {"method": "teacher"})) < -0.02

    def test_the_summary_is_computed_from_the_rows(self, found: results.Results) -> None:
        (row,) = found.summary
        gain = found.difference("accuracy", {"method": "distill"}, {"method": "hard"})
        assert (row["gain"], row["low"], row["high"]) == pytest.approx((gain.mean, low(gain), high(gain)), abs=1e-5)

    def test_it_is_the_same_comparison_as_in_the_pair(self, found: results.Results) -> None:
        """正解ラベルだけの学習は、07_pair の hard_augment と同じ設定が選ばれ、同じ値になる。"""
        pair = results.load("07_pair")
        assert found.by_seed("accuracy", method="hard") == pytest.approx(
            pair.by_seed("accuracy", method="hard_augment")
        )

    def test_label_smoothing_is_nearly_as_good(self, found: results.Results) -> None:
        """教師モデルの確率から学ぶのと、平滑化した正解から学ぶのとの差は、1 ポイントに届かない。"""
        ours, smooth = found.by_seed("accuracy", method="distill"), results.load("07_pair").by_seed("accuracy", method="smooth_augment")  # fmt: skip
        assert abs(mean_ci([ours[seed] - smooth[seed] for seed in ours]).mean) < 0.01


def test_with_a_strong_weight_decay_there_is_nothing_to_gain() -> None:
    """前の設計の結果。強い重み減衰を蒸留にも使うと、差の区間が 0 を含む。"""
    (row,) = json.loads((HISTORY / "07_grid_strong_decay.json").read_text(encoding="utf-8"))["summary"]
    assert row["low"] < 0 < row["high"] < 0.015


class TestAgain:
    """一部を測り直す。機械や版が違えば末尾の桁は変わるので、2 % までの違いは許す。"""

    @pytest.fixture
    def module(self, script: Any) -> ModuleType:
        return script("07_grid")

    def test_one_seed_of_the_chosen_setting(self, module: ModuleType) -> None:
        stored = results.load("07_grid")
        seed = stored.seeds[0]
        for method in ("teacher", "distill"):
            setting = {"method": method, "development": False, **stored.settings["picked"].get(method, {})}
            assert module.measure(setting, seed) == pytest.approx(stored.by_seed("accuracy", method=method)[seed], abs=NEAR)  # fmt: skip

    def test_the_base_of_the_grid_ignores_other_decays(self, module: ModuleType) -> None:
        scores = {(0.001, 0.01): 0.5, (0.003, 0.01): 0.7, (0.01, 0.01): 0.7, (0.01, 1.0): 0.9}
        trials = [module.Trial({"lr": lr, "weight_decay": d}, s, v) for (lr, d), v in scores.items() for s in (0, 1)]
        assert module.base(trials) == {"lr": 0.003, "weight_decay": 0.01}
