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


class TestImageNetWhere:
    """固定した ImageNet の特徴は、写真で勝ち、質感で並び、数字で負ける。"""

    def gain(self, name: str, per_class: int, control: str) -> MeanCI:
        found = results.load("01_imagenet_where")
        methods = {"method": "imagenet_frozen"}, {"method": control}
        return found.difference("accuracy", *methods, set=name, per_class=per_class)

    @pytest.mark.parametrize("name", ["photos", "photos_grey"])
    def test_it_wins_on_photos(self, name: str) -> None:
        assert low(self.gain(name, 30, "scratch_cnn")) > 0.05
        assert low(self.gain(name, 30, "pixels")) > 0.20

    def test_without_colour_the_win_is_larger(self) -> None:
        assert low(self.gain("photos_grey", 30, "scratch_cnn")) > high(self.gain("photos", 30, "scratch_cnn"))

    @pytest.mark.parametrize("per_class", [2, 30])
    @pytest.mark.parametrize("name", ["mnist5k", "uci_digits"])
    def test_it_loses_to_a_small_network_on_digits(self, name: str, per_class: int) -> None:
        assert high(self.gain(name, per_class, "scratch_cnn")) < -0.08

    @pytest.mark.parametrize("per_class", [2, 30])
    def test_on_uci_digits_it_loses_even_to_pixels(self, per_class: int) -> None:
        assert high(self.gain("uci_digits", per_class, "pixels")) < -0.03

    def test_on_textures_it_ties(self) -> None:
        tie = self.gain("textures", 30, "scratch_cnn")
        assert low(tie) > -0.03 and high(tie) < 0.03


class TestTransferability:
    """素朴な点数は並びの偶然を測る。ほかの点数も、ソースが 9 個以下では、一つのターゲットだけでは確かめられない。"""

    @pytest.fixture
    def found(self) -> results.Results:
        return results.load("01_transferability")

    def rank(self, found: results.Results, score: str, target: str = "all") -> dict:
        (row,) = [row for row in found.summary if row["score"] == score and row["target"] == target]
        return row

    @pytest.mark.parametrize("name", ["noise", "letters_standardised"])
    def test_shuffled_rows_take_the_naive_score_from_one_to_zero(self, found: results.Results, name: str) -> None:
        shuffles = found.where(kind="shuffle", input=name)
        assert shuffles.mean("aligned").mean == pytest.approx(1)
        assert low(shuffles.mean("shuffled")) < 0.02 and high(shuffles.mean("shuffled")) < 0.05

    @pytest.mark.parametrize("name", ["pixels", "letters"])
    def test_unstandardised_columns_leave_a_part_that_is_no_relation_either(
        self, found: results.Results, name: str
    ) -> None:
        shuffled = found.where(kind="shuffle", input=name).mean("shuffled")
        assert low(shuffled) > 0.2 and high(shuffled) < 0.6

    def test_naive_score_is_within_chance(self, found: results.Results) -> None:
        row = self.rank(found, "naive")
        assert row["low"] < 0 and row["rho"] < row["null_95"]

    @pytest.mark.parametrize("score", ["logme", "leep", "cka_labels", "probe_cv"])
    def test_these_scores_beat_chance_over_all_targets(self, found: results.Results, score: str) -> None:
        row = self.rank(found, score)
        assert row["rho"] > row["null_95"] + 0.2 and row["low"] > 0.2

    def test_one_target_has_too_few_sources(self, found: results.Results) -> None:
        """一つのターゲットでは、点数が無関係でも、95 % 点が大きい。"""
        single = [row for row in found.summary if row["target"] != "all" and row["null_95"] > 0]
        assert len(single) >= 35
        assert all(row["sources"] <= 9 and row["null_95"] > 0.6 for row in single)

    def test_h_score_saturates_when_features_outnumber_samples(self, found: results.Results) -> None:
        saturated = [row for row in found.where(kind="pair").rows if row["dimensions"] > row["n"]]
        classes = {"mnist5k": 10, "uci_digits": 10, "font_digits": 10, "textures": 3, "photos": 9}
        imagenet = [row for row in saturated if row["source"] == "imagenet"]
        assert len(imagenet) == 5 * len(found.seeds)
        # 同じ切り抜きが 2 枚入ると、そのぶん階数が下がるので、わずかに小さくなることがある
        assert all(row["h_score"] == pytest.approx(classes[row["target"]] - 1, abs=0.05) for row in imagenet)

    def test_the_best_source_depends_on_the_target(self, found: results.Results) -> None:
        pairs = found.where(kind="pair")

        def gap(target: str, one: str, other: str) -> MeanCI:
            return pairs.difference("accuracy", {"source": one}, {"source": other}, target=target)

        assert low(gap("photos", "imagenet", "mnist")) > 0.2
        assert low(gap("mnist5k", "mnist", "imagenet")) > 0.3
        assert high(gap("uci_digits", "imagenet", "random")) < -0.2

    def test_cross_validation_is_too_hopeful_when_crops_share_a_scene(self, found: results.Results) -> None:
        pairs = found.where(kind="pair", target="photos", source="imagenet")
        hopeful = [row["probe_cv"] - row["accuracy"] for row in pairs.rows]
        assert low(mean_ci(hopeful)) > 0.1
