"""小さくするほかの方法（量子化、枝刈り）の結果についての主張と、一部の測り直し。

効果の大きさと、種で組にした差の 95 % 区間の端で判定する。速さの主張は `tests/benchmarks/` にある。
"""

import pytest

from tlkit import results
from tlkit.stats import MeanCI

NEAR = 0.02  # 測り直した正解率の、許す違い（機械や版による末尾の桁の違い）
SPARSITIES, WIDTHS = (0.5, 0.8, 0.9, 0.95), (12, 8, 4)
WHOLE = {"teacher": "none", "student": "distilled"}


def low(ci: MeanCI) -> float:
    return ci.mean - ci.half


def high(ci: MeanCI) -> float:
    return ci.mean + ci.half


@pytest.fixture
def found() -> results.Results:
    return results.load("07_compression")


def loss_by_rounding(found: results.Results, model: str, bits: int, scale: str) -> MeanCI:
    return found.difference(
        "accuracy",
        {"method": WHOLE[model], "bits": 32},
        {"method": "quantised", "bits": bits, "scale": scale},
        model=model,
    )


class TestQuantisation:
    """重みは、8 ビットでは落ちず、4 ビットでも少ししか落ちず、2 ビットでは崩れる（学習し直さないとき）。"""

    @pytest.mark.parametrize("scale", ["tensor", "channel"])
    @pytest.mark.parametrize("model", ["teacher", "student"])
    def test_loss_by_bits(self, found: results.Results, model: str, scale: str) -> None:
        assert high(loss_by_rounding(found, model, 8, scale)) < 0.003
        assert high(loss_by_rounding(found, model, 4, scale)) < 0.03
        assert low(loss_by_rounding(found, model, 2, scale)) > 0.1

    def test_eight_bits_need_a_quarter_of_the_bytes(self, found: results.Results) -> None:
        for model, method in WHOLE.items():
            whole = found.mean("weight_bytes", model=model, method=method).mean
            for scale in ("tensor", "channel"):
                rounded = found.mean("weight_bytes", model=model, method="quantised", bits=8, scale=scale).mean
                assert 0.25 < rounded / whole < 0.26


class TestUnstructured:
    """小さい重みの 9 割を 0 にしても、学習し直せば正解率は戻る。ただし、計算量も、密な保存の大きさも変わらない。"""

    @pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9])
    def test_accuracy_comes_back_after_tuning(self, found: results.Results, sparsity: float) -> None:
        control = {"method": "unstructured", "sparsity": 0.0, "tuned": 1}
        difference = found.difference("accuracy", {**control, "sparsity": sparsity}, control)
        assert low(difference) > -0.01

    def test_without_tuning_it_collapses_in_the_end(self, found: results.Results) -> None:
        whole = found.by_seed("accuracy", method="none")
        means = [found.mean("accuracy", method="unstructured", sparsity=s, tuned=0).mean for s in SPARSITIES]
        assert means == sorted(means, reverse=True) and means[0] > sum(whole.values()) / len(whole) - 0.01
        assert high(found.mean("accuracy", method="unstructured", sparsity=0.95, tuned=0)) < 0.8

    def test_zeros_are_neither_less_work_nor_less_storage(self, found: results.Results) -> None:
        whole = found.where(method="none").rows[0]
        for row in found.where(method="unstructured").rows:
            assert (row["flops"], row["weight_bytes"]) == (whole["flops"], whole["weight_bytes"])
            assert row["nonzero"] == pytest.approx((1 - row["sparsity"]) * whole["nonzero"], rel=0.1)


class TestStructured:
    """チャネルを取り除くと、計算量が本当に減る。ただし、初めから小さいネットワークより良くはならない。"""

    @pytest.mark.parametrize("width", WIDTHS)
    def test_pruned_is_not_better_than_trained_from_scratch(self, found: results.Results, width: int) -> None:
        difference = found.difference(
            "accuracy", {"method": "structured", "tuned": 1}, {"method": "scratch", "tuned": 0}, width=width
        )
        assert high(difference) < 0.01

    @pytest.mark.parametrize("width", WIDTHS)
    def test_tuning_is_needed(self, found: results.Results, width: int) -> None:
        pruned = {"method": "structured", "width": width}
        assert low(found.difference("accuracy", {**pruned, "tuned": 1}, {**pruned, "tuned": 0})) > 0.1

    def test_work_falls_faster_than_the_width(self, found: results.Results) -> None:
        whole = found.mean("flops", method="none").mean
        for width in WIDTHS:
            assert found.mean("flops", method="structured", width=width, tuned=1).mean / whole < width / 16

    def test_a_small_convolutional_network_beats_the_distilled_student(self, found: results.Results) -> None:
        """4 分の 1 の幅の GlyphCNN は、生徒モデルより重みが少なく、正解率が高い。計算量は生徒モデルのほうが少ない。"""
        narrow, student = {"method": "scratch", "width": 4}, {"method": "distilled"}
        assert low(found.difference("accuracy", narrow, student)) > 0.005
        sizes = [found.where(**which).rows[0] for which in (narrow, student)]
        assert sizes[0]["parameters"] < 0.5 * sizes[1]["parameters"] and sizes[0]["flops"] > 2 * sizes[1]["flops"]


def test_the_summary_is_computed_from_the_rows(found: results.Results) -> None:
    assert len(found.summary) == 1 + 12 + 4 + 3
    for row in found.summary:
        difference = found.difference("accuracy", row["one"], row["other"])
        assert (row["low"], row["high"]) == pytest.approx((low(difference), high(difference)), abs=1e-5)


def test_one_seed_can_be_measured_again(script, found: results.Results) -> None:
    """学習は教師モデルの 1 回だけ。丸めと枝刈りは、学習し直さない行を確かめる。"""
    module, seed = script("07_compression"), found.seeds[0]
    material = module.Material(seed)
    teacher = material.trained(found.settings["width"], found.settings["steps"])
    models = [
        ({"method": "none"}, teacher),
        (
            {"method": "quantised", "model": "teacher", "bits": 4, "scale": "tensor"},
            module.quantize_weights(teacher, 4, per_channel=False),
        ),
        ({"method": "unstructured", "sparsity": 0.8, "tuned": 0}, module.prune_magnitude(teacher, 0.8)),
    ]
    for about, model in models:
        (row,) = found.where(seed=seed, **about).rows
        assert material.score(model) == pytest.approx(row["accuracy"], abs=NEAR)
