"""第2章の主張を、結果のファイルに対する検査として書く。効果の大きさと、95 % 区間の端で判定する。"""

import pytest

from tlkit import results
from tlkit.stats import MeanCI, mean_ci

TRANSFERRED = ("head", "last_block", "full", "discriminative", "lp_ft", "ulmfit")


def low(ci: MeanCI) -> float:
    return ci.mean - ci.half


def high(ci: MeanCI) -> float:
    return ci.mean + ci.half


@pytest.mark.parametrize("augment", [False, True])
class TestMethods:
    """ラベルが少ないと、どの移し方も役に立つ。ラベルが増えると、移し方の違いも、移したことの得も小さくなる。"""

    def gain(self, method: str, control: str, n: int, augment: bool) -> MeanCI:
        found = results.load("02_methods")
        return found.difference("accuracy", {"method": method}, {"method": control}, n=n, augment=augment)

    @pytest.mark.parametrize("method", TRANSFERRED)
    def test_every_way_of_transfer_helps_at_20(self, augment: bool, method: str) -> None:
        assert low(self.gain(method, "scratch", 20, augment)) > 0.05

    @pytest.mark.parametrize("method", TRANSFERRED)
    def test_and_nearly_nothing_is_left_at_500(self, augment: bool, method: str) -> None:
        assert high(self.gain(method, "scratch", 500, augment)) < 0.025

    def test_a_frozen_backbone_falls_behind_when_labels_grow(self, augment: bool) -> None:
        assert high(self.gain("head", "full", 500, augment)) < -0.015
        assert high(self.gain("head", "scratch", 500, augment)) < 0.005

    def test_solving_the_head_first_wins_at_20(self, augment: bool) -> None:
        assert low(self.gain("lp_ft", "full", 20, augment)) > 0.02
        assert all(low(self.gain("lp_ft", other, 20, augment)) > 0 for other in ("head", "discriminative", "ulmfit"))

    def test_discriminative_rates_help_a_little_at_20_and_not_at_500(self, augment: bool) -> None:
        assert low(self.gain("discriminative", "full", 20, augment)) > 0
        tie = self.gain("discriminative", "full", 500, augment)
        assert low(tie) > -0.01 and high(tie) < 0.01

    def test_gradual_unfreezing_adds_nothing_clear_at_100(self, augment: bool) -> None:
        tie = self.gain("ulmfit", "discriminative", 100, augment)
        assert low(tie) > -0.015 and high(tie) < 0.015


class TestAugmentation:
    """変形は、乱数から学習する側をいちばん助ける。そろえないと、移した得を大きく見せる。"""

    def effect(self, method: str, n: int) -> MeanCI:
        found = results.load("02_methods")
        return found.difference("accuracy", {"augment": True}, {"augment": False}, method=method, n=n)

    def test_it_helps_scratch_most_when_labels_are_few(self) -> None:
        assert low(self.effect("scratch", 20)) > 0.05
        assert high(self.effect("lp_ft", 20)) < 0.04

    @pytest.mark.parametrize("method", ["head", "discriminative", "lp_ft"])
    def test_without_it_the_gain_looks_larger(self, method: str) -> None:
        found = results.load("02_methods")
        gains = {
            augment: {
                seed: found.by_seed("accuracy", method=method, n=50, augment=augment)[seed]
                - found.by_seed("accuracy", method="scratch", n=50, augment=augment)[seed]
                for seed in found.seeds
            }
            for augment in (False, True)
        }
        assert low(mean_ci([gains[False][seed] - gains[True][seed] for seed in found.seeds])) > 0.03


class TestLayers:
    """真ん中の段まで写すと役に立つ。乱数の段は、固定する数が多いほど損をする。"""

    def change(self, n: int, k: int, other: int = 0, **line: object) -> MeanCI:
        return results.load("02_layers").difference("accuracy", {"k": k}, {"k": other}, n=n, **line)

    def gap(self, n: int, k: int, one: dict, other: dict) -> MeanCI:
        return results.load("02_layers").difference("accuracy", one, other, n=n, k=k)

    @pytest.mark.parametrize("mode", ["frozen", "tuned"])
    def test_copying_three_stages_helps_and_one_alone_does_not(self, mode: str) -> None:
        line = {"source": "letters", "mode": mode, "calibrated": False}
        assert low(self.change(100, 3, **line)) > 0.04
        assert low(self.change(500, 3, **line)) > 0.005
        first = self.change(100, 1, **line)
        assert low(first) > -0.02 and high(first) < 0.02

    def test_the_last_stage_must_be_tuned(self) -> None:
        letters = {"source": "letters", "calibrated": False}
        pair = {**letters, "mode": "tuned"}, {**letters, "mode": "frozen"}
        assert low(self.gap(100, 4, *pair)) > 0.008
        assert low(self.gap(500, 4, *pair)) > 0.02
        assert high(self.change(500, 4, mode="frozen", **letters)) < -0.008
        third = self.gap(100, 3, *pair)
        assert low(third) > -0.01 and high(third) < 0.01

    @pytest.mark.parametrize(("n", "loss", "gap"), [(100, 0.12, 0.15), (500, 0.10, 0.08)])
    def test_frozen_random_stages_lose_even_when_calibrated(self, n: int, loss: float, gap: float) -> None:
        random = {"source": "random", "mode": "frozen", "calibrated": True}
        means = [results.load("02_layers").mean("accuracy", n=n, k=k, **random).mean for k in range(5)]
        assert means[1:] == sorted(means[1:], reverse=True)
        assert high(self.change(n, 4, **random)) < -loss
        letters = {"source": "letters", "mode": "frozen", "calibrated": False}
        assert low(self.gap(n, 4, letters, random)) > gap


class TestCalibration:
    """統計が合わないと、同じ学習率では差が大きい。4 段の固定では、学習率を選び直せば差が消える。3 段では残る。"""

    def effect(self, name: str, value: str = "accuracy", **where: object) -> MeanCI:
        return results.load(name).difference(value, {"calibrated": True}, {"calibrated": False}, mode="frozen", **where)

    @pytest.mark.parametrize("n", [100, 500])
    @pytest.mark.parametrize("k", [1, 2, 3, 4])
    def test_letters_need_none(self, n: int, k: int) -> None:
        effect = self.effect("02_layers", source="letters", n=n, k=k)
        assert low(effect) > -0.015 and high(effect) < 0.015

    @pytest.mark.parametrize("n", [100, 500])
    def test_at_the_same_rate_random_stages_collapse_without_it(self, n: int) -> None:
        """開発用の結果（学習率ごと）。種は 2 個なので、どちらの種でもそうであることを見る。"""
        tried = results.load("02_layers_dev").where(source="random", mode="frozen", n=n, k=4)
        for lr in (1e-3, 3e-3):
            with_it, without = (tried.by_seed("score", calibrated=calibrated, lr=lr) for calibrated in (True, False))
            assert all(with_it[seed] - without[seed] > 0.20 for seed in with_it)

    @pytest.mark.parametrize("n", [100, 500])
    def test_with_a_rate_of_its_own_the_head_makes_up_for_it(self, n: int) -> None:
        assert high(self.effect("02_layers", source="random", n=n, k=4)) < 0.02

    @pytest.mark.parametrize("n", [100, 500])
    def test_but_not_with_a_stage_in_between(self, n: int) -> None:
        assert low(self.effect("02_layers", source="random", n=n, k=3)) > 0.01


class TestForgetting:
    """学習率が大きいほどソースを忘れる。ターゲットの正解率を見ているだけでは、忘れたことに気づけない。"""

    @pytest.fixture
    def found(self) -> results.Results:
        return results.load("02_forgetting")

    def test_a_frozen_backbone_forgets_nothing(self, found: results.Results) -> None:
        assert all(row["source_accuracy"] == row["source_before"] for row in found.where(method="head").rows)
        assert all(row["source_accuracy"] == row["source_before"] for row in found.where(method="head_inverted").rows)

    def test_larger_rates_forget_more(self, found: results.Results) -> None:
        rates = found.settings["lr_tried"]
        kept = [found.mean("source_accuracy", method="full", lr=lr).mean for lr in rates]
        assert kept == sorted(kept, reverse=True)
        assert low(found.mean("source_accuracy", method="full", lr=3e-4)) > 0.80
        assert high(found.mean("source_accuracy", method="full", lr=3e-2)) < 0.15

    def test_the_target_does_not_show_it(self, found: results.Results) -> None:
        pair = {"method": "full", "lr": 1e-2}, {"method": "full", "lr": 3e-3}
        same = found.difference("accuracy", *pair)
        assert low(same) > -0.015 and high(same) < 0.015
        assert high(found.difference("source_accuracy", *pair)) < -0.2

    @pytest.mark.parametrize(("lr", "effect"), [(3e-3, 0.05), (1e-2, 0.3)])
    def test_at_the_same_rate_of_the_head_discriminative_rates_forget_less(
        self, found: results.Results, lr: float, effect: float
    ) -> None:
        pair = {"method": "discriminative", "lr": lr}, {"method": "full", "lr": lr}
        assert low(found.difference("source_accuracy", *pair)) > effect
        assert low(found.difference("accuracy", *pair)) > -0.015

    def test_but_a_rate_chosen_on_the_target_can_undo_it(self, found: results.Results) -> None:
        """開発用の画像では、ターゲットの正解率がほぼ同じ学習率のうち、大きいほうが選ばれた。"""
        pair = {"method": "decay", "decay": 2.6}, {"method": "decay", "decay": 1.0}
        assert found.settings["lr_by_decay"]["2.6"] > found.settings["lr_by_decay"]["1.0"]
        assert high(found.difference("source_accuracy", *pair)) < -0.05
        tie = found.difference("accuracy", *pair)
        assert low(tie) > -0.015 and high(tie) < 0.015

    def test_moving_statistics_are_harmless_between_similar_images(self, found: results.Results) -> None:
        for row in found.where(method="bn_moves").rows:
            assert abs(row["source_accuracy"] - row["source_before"]) < 0.02

    def test_and_destroy_the_source_when_the_target_is_inverted(self, found: results.Results) -> None:
        assert high(found.mean("source_accuracy", method="bn_moves_inverted")) < 0.1
        target = found.difference("accuracy", {"method": "bn_moves_inverted"}, {"method": "head_inverted"})
        assert high(target) < -0.03
