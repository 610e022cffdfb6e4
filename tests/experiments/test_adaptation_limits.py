"""第3章の補助の実験（λ、ラベルシフト、ほかの組）で分かったこと。章の主な主張は test_adaptation_claims.py にある。"""

import pytest

from tlkit import results
from tlkit.stats import MeanCI

FIXED = (0.1, 0.3, 1.0, 3.0)
RAMPS = (0.3, 1.0, 3.0)


def low(ci: MeanCI) -> float:
    return ci.mean - ci.half


def high(ci: MeanCI) -> float:
    return ci.mean + ci.half


class TestLambda:
    """競っていた識別器が負けていても、新しい識別器は見分ける。λ を上げると、ある所から悪くなる。"""

    @pytest.fixture
    def found(self) -> results.Results:
        return results.load("03_lambda")

    def change(self, found: results.Results, value: str, large: float, small: float, kind: str = "fixed") -> MeanCI:
        return found.difference(value, {"lambda": large}, {"lambda": small}, schedule=kind)

    @pytest.mark.parametrize(
        ("kind", "value"), [("fixed", 0.3), ("fixed", 1.0), ("fixed", 3.0), *(("ramp", v) for v in RAMPS)]
    )
    def test_the_two_discriminators_disagree(self, found: results.Results, kind: str, value: float) -> None:
        case = {"schedule": kind, "lambda": value}
        assert high(found.mean("own_domain_accuracy", **case)) < 0.66
        assert low(found.mean("domain_accuracy", **case)) > 0.89

    @pytest.mark.parametrize("value", [0.1, 0.3, 1.0])
    def test_moderate_lambdas_help(self, found: results.Results, value: float) -> None:
        assert low(self.change(found, "accuracy", value, 0.0)) > 0.08

    @pytest.mark.parametrize("small", [0.1, 0.3])
    def test_a_large_fixed_lambda_costs_accuracy_and_the_joint_error_grows(
        self, found: results.Results, small: float
    ) -> None:
        assert high(self.change(found, "accuracy", 3.0, small)) < -0.03
        assert low(self.change(found, "joint_error", 3.0, small)) > 0.04

    def test_the_ramp_suffers_less_but_suffers(self, found: results.Results) -> None:
        assert high(self.change(found, "accuracy", 3.0, 1.0, "ramp")) < -0.015
        assert low(self.change(found, "joint_error", 3.0, 1.0, "ramp")) > 0.015

    def test_the_schedule_has_no_clear_advantage_over_a_small_fixed_lambda(self, found: results.Results) -> None:
        pair = {"schedule": "ramp", "lambda": 1.0}, {"schedule": "fixed", "lambda": 0.1}
        tie = found.difference("accuracy", *pair)
        assert low(tie) > -0.05 and high(tie) < 0.03

    def test_the_source_task_shows_nothing_of_it(self, found: results.Results) -> None:
        assert all(low(found.mean("source_accuracy", schedule="fixed", **{"lambda": v})) > 0.955 for v in (0.0, *FIXED))


class TestLabelShift:
    """割合を無理にそろえると、多い数字が、少ない数字の場所へ押し込まれる。"""

    @pytest.fixture
    def found(self) -> results.Results:
        return results.load("03_label_shift")

    def fall(self, found: results.Results, method: str, value: str) -> MeanCI:
        return found.difference(value, {"share": 0.9}, {"share": 0.3}, method=method)

    def lead(self, found: results.Results, one: str, other: str, share: float) -> MeanCI:
        return found.difference("accuracy", {"method": one}, {"method": other}, share=share)

    @pytest.mark.parametrize(("method", "fall"), [("adabn", -0.10), ("dann", -0.10), ("mmd", -0.50)])
    def test_it_is_the_common_digits_that_are_lost(self, found: results.Results, method: str, fall: float) -> None:
        common, rare = (self.fall(found, method, f"recall_{kind}") for kind in ("common", "rare"))
        assert high(common) < fall
        assert common.mean < rare.mean - 0.15

    def test_mmd_falls_with_every_step(self, found: results.Results) -> None:
        for less, more in ((0.3, 0.5), (0.5, 0.7), (0.7, 0.9)):
            assert high(found.difference("accuracy", {"share": more}, {"share": less}, method="mmd")) < -0.05

    def test_domains_stay_hard_to_tell_while_mmd_collapses(self, found: results.Results) -> None:
        """A 距離が小さいままでも、正解率は半分以下になる。不変であることは、良い特徴の証拠にならない。"""
        assert high(found.mean("a_distance", method="mmd", share=0.9)) < 0.6
        assert high(found.mean("accuracy", method="mmd", share=0.9)) < 0.5
        assert low(found.mean("accuracy", method="mmd", share=0.3)) > 0.9

    def test_dann_overtakes_mmd(self, found: results.Results) -> None:
        assert low(self.lead(found, "mmd", "dann", 0.3)) > 0.1
        assert high(self.lead(found, "mmd", "dann", 0.9)) < -0.03

    def test_at_the_end_adabn_is_worse_than_no_adaptation_and_mmd_no_better(self, found: results.Results) -> None:
        assert high(self.lead(found, "adabn", "source_only", 0.9)) < -0.02
        assert high(self.lead(found, "mmd", "source_only", 0.9)) < 0.04


class TestOtherPairs:
    """UCI との組では得が小さい。数字を分けても、MNIST-M での値は変わらない。"""

    @pytest.fixture
    def found(self) -> results.Results:
        return results.load("03_pairs")

    def gain(self, found: results.Results, one: str, other: str, pair: str) -> MeanCI:
        return found.difference("accuracy", {"method": one}, {"method": other}, pair=pair)

    def test_only_the_pair_used_to_choose_is_marked(self, found: results.Results) -> None:
        assert {row["pair"] for row in found.rows if row["development"]} == {"mnist_to_uci"}

    @pytest.mark.parametrize("method", ["dann", "coral"])
    @pytest.mark.parametrize("pair", ["mnist_to_uci", "uci_to_mnist"])
    def test_on_uci_they_are_no_better_than_adabn(self, found: results.Results, pair: str, method: str) -> None:
        assert high(self.gain(found, method, "adabn", pair)) < 0.05

    def test_dann_is_worse_than_adabn_even_on_a_pair_used_to_choose(self, found: results.Results) -> None:
        assert high(self.gain(found, "dann", "adabn", "mnist_to_uci")) < -0.01

    def test_mmd_beats_adabn_in_one_direction_only(self, found: results.Results) -> None:
        assert low(self.gain(found, "mmd", "adabn", "uci_to_mnist")) > 0.03
        tie = self.gain(found, "mmd", "adabn", "mnist_to_uci")
        assert low(tie) > -0.03 and high(tie) < 0.07

    def test_a_large_gap_remains_from_uci_to_mnist(self, found: results.Results) -> None:
        assert low(self.gain(found, "target_only", "mmd", "uci_to_mnist")) > 0.15

    @pytest.mark.parametrize(("method", "margin"), [("adabn", 0.01), ("mmd", 0.02), ("dann", 0.10)])
    def test_sharing_the_digits_changes_little(self, found: results.Results, method: str, margin: float) -> None:
        """DANN は種によるばらつきが大きく、差の区間も広い。"""
        change = found.difference("accuracy", {"pair": "mnist_m_disjoint"}, {"pair": "mnist_m_shared"}, method=method)
        assert low(change) > -margin and high(change) < margin
