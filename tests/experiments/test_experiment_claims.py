"""第1章の主張を、結果のファイルに対する検査として書く。効果の大きさと、95 % 区間の端で判定する。"""

import pytest

from tlkit import results
from tlkit.stats import MeanCI, mean_ci


def low(ci: MeanCI) -> float:
    return ci.mean - ci.half


def high(ci: MeanCI) -> float:
    return ci.mean + ci.half


class TestDataAmount:
    """事前学習の効果は、枚数が少ないほど大きい。"""

    @pytest.fixture
    def found(self) -> results.Results:
        return results.load("01_data_amount")

    def gain(self, found: results.Results, method: str, control: str, n: int) -> MeanCI:
        return found.difference("accuracy", {"method": method}, {"method": control}, n=n)

    def test_pretraining_helps_when_labels_are_few(self, found: results.Results) -> None:
        assert low(self.gain(found, "probe", "scratch", 20)) > 0.10
        assert low(self.gain(found, "finetune", "scratch", 20)) > 0.05

    def test_the_gain_is_not_only_augmentation(self, found: results.Results) -> None:
        assert low(self.gain(found, "finetune_augment", "scratch_augment", 20)) > 0.03
        assert low(self.gain(found, "probe", "scratch_augment", 20)) > 0.02

    def test_but_augmentation_alone_explains_a_good_part(self, found: results.Results) -> None:
        assert low(self.gain(found, "scratch_augment", "scratch", 20)) > 0.04

    @pytest.mark.parametrize(("method", "control"), [("probe", "scratch"), ("finetune_augment", "scratch_augment")])
    def test_the_gain_shrinks(self, found: results.Results, method: str, control: str) -> None:
        values = {
            (name, n): found.by_seed("accuracy", method=name, n=n) for name in (method, control) for n in (20, 1000)
        }
        shrinks = [
            (values[method, 20][seed] - values[control, 20][seed])
            - (values[method, 1000][seed] - values[control, 1000][seed])
            for seed in found.seeds
        ]
        assert low(mean_ci(shrinks)) > 0.02

    def test_frozen_features_gain_nothing_at_1000(self, found: results.Results) -> None:
        assert high(self.gain(found, "probe", "scratch", 1000)) < 0.01


class TestNegativeTransfer:
    """逆さまのソースは、使わないときより悪くする。"""

    @pytest.fixture
    def found(self) -> results.Results:
        return results.load("01_negative_transfer")

    def gain(self, found: results.Results, method: str, n: int, value: str = "accuracy") -> MeanCI:
        return found.difference(value, {"method": method}, {"method": "target_only"}, n=n)

    @pytest.mark.parametrize("n", [20, 50, 100, 200])
    def test_upright_source_helps_and_rotated_source_mixed_in_hurts(self, found: results.Results, n: int) -> None:
        assert low(self.gain(found, "pool_upright", n)) > 0.05
        assert high(self.gain(found, "pool_rotated", n)) < -0.10

    def test_fine_tuning_forgets_most_of_the_harm(self, found: results.Results) -> None:
        assert high(self.gain(found, "finetune_rotated", 20)) < -0.03
        assert low(self.gain(found, "finetune_rotated", 200)) > -0.02
        for n in (20, 50, 100, 200):
            rotated = found.difference("accuracy", {"method": "finetune_rotated"}, {"method": "pool_rotated"}, n=n)
            assert low(rotated) > 0.10

    def test_six_and_nine_suffer_most(self, found: results.Results) -> None:
        assert high(self.gain(found, "pool_rotated", 50, "accuracy_6_9")) < -0.35
        assert (
            self.gain(found, "pool_rotated", 50, "accuracy_6_9").mean < self.gain(found, "pool_rotated", 50).mean - 0.1
        )

    def test_one_looks_the_same_upside_down_and_does_not_suffer(self, found: results.Results) -> None:
        assert low(self.gain(found, "pool_rotated", 50, "recall_1")) > -0.10
