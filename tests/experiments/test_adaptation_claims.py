"""MNIST → MNIST-M の主な結果についての主張。効果の大きさと、95 % 区間の端で判定する。

λ、ラベルシフト、ほかの組についての主張は `test_adaptation_limits.py`、測り直しは `test_adaptation_reproduction.py` にある。
"""

import pytest

from tlkit import results
from tlkit.stats import MeanCI, mean_ci


def low(ci: MeanCI) -> float:
    return ci.mean - ci.half


def high(ci: MeanCI) -> float:
    return ci.mean + ci.half


def gain(found: results.Results, one: str, other: str, value: str = "accuracy", **common: object) -> MeanCI:
    return found.difference(value, {"method": one}, {"method": other}, **common)


class TestAdaptation:
    """MNIST → MNIST-M では、DANN と MMD が、ソースのみとターゲットのみの差の 4 割より多くを埋める。"""

    @pytest.fixture
    def found(self) -> results.Results:
        return results.load("dann_mnistm")

    def closed(self, found: results.Results, method: str) -> MeanCI:
        base, best, ours = (found.by_seed("accuracy", method=m) for m in ("source_only", "target_only", method))
        return mean_ci([(ours[s] - base[s]) / (best[s] - base[s]) for s in found.seeds])

    @pytest.mark.parametrize(("method", "share"), [("dann", 0.6), ("mmd", 0.9), ("coral", 0.5), ("adabn", 0.15)])
    def test_share_of_the_gap_closed(self, found: results.Results, method: str, share: float) -> None:
        assert low(self.closed(found, method)) > share

    def test_order_of_the_methods(self, found: results.Results) -> None:
        for one, other in (("coral", "adabn"), ("dann", "adabn"), ("mmd", "dann"), ("target_only", "mmd")):
            assert low(gain(found, one, other)) > 0.01

    def test_only_mmd_makes_the_domains_hard_to_tell(self, found: results.Results) -> None:
        assert high(found.mean("a_distance", method="mmd")) < 0.5
        for method in ("adabn", "dann", "coral"):
            assert low(found.mean("a_distance", method=method)) > 1.5
        assert high(gain(found, "dann", "source_only", "joint_error")) < -0.02

    def test_the_source_is_not_forgotten(self, found: results.Results) -> None:
        for method in ("dann", "mmd", "coral"):
            assert low(gain(found, method, "source_only", "source_accuracy")) > -0.02
