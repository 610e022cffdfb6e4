"""第8章の少数ショット学習の結果についての主張。効果の大きさと、種で組にした差の 95 % 区間の端で判定する。

部品と判定の規則の検査は `test_few_shot_parts.py`、測り直しは `test_few_shot_reproduction.py` にある。
"""

import pytest
from _few_shot_views import verdict

from tlkit import results
from tlkit.stats import MeanCI

LEARNED = ("classifier", "protonet_per_set", "maml", "distillation", "meta_distillation")
QUERY_STATISTICS = ("protonet_per_set", "maml", "distillation", "meta_distillation")


def low(ci: MeanCI) -> float:
    return ci.mean - ci.half


def high(ci: MeanCI) -> float:
    return ci.mean + ci.half


def gain(found: results.Results, one: str, other: str, **common: object) -> MeanCI:
    return found.difference("accuracy", {"method": one}, {"method": other}, view="main", **common)


@pytest.fixture
def found() -> results.Results:
    return results.load("08_few_shot")


class TestProtocol:
    """同じ予算、同じネットワークで、テストの文字を見ずに選んだ設定を測っている。"""

    def test_no_seed_is_used_twice(self) -> None:
        seeds = [s for name in ("08_few_shot_dev", "08_few_shot") for s in results.load(name).seeds]
        assert len(set(seeds)) == len(seeds)

    def test_the_networks_have_one_size(self, found: results.Results) -> None:
        sizes = {row["method"]: row["parameters"] for row in found.where(view="main").rows}
        features = {sizes[m] for m in ("classifier", "protonet_per_set", "protonet_joint", "distillation", "teacher")}
        head = found.settings["ways"] * (found.settings["width"] + 1)
        assert len(features) == 1
        assert {sizes[m] for m in ("maml", "fomaml", "anil", "maml_pretrained")} == {features.pop() + head}

    def test_what_was_tried_is_listed(self, found: results.Results) -> None:
        tried = found.settings["tried"]
        assert found.settings["tried_settings"] == sum(len(settings) for settings in tried.values())
        for method, settings in tried.items():
            picked = {key: value for key, value in found.settings["picked"][method].items() if key != "test_steps"}
            assert picked in settings, method

    def test_the_summary_is_computed_from_the_rows(self, found: results.Results) -> None:
        for row in found.summary:
            difference = gain(found, row["one"], row["other"], shots=row["shots"])
            ends = low(difference), high(difference)
            assert (row["low"], row["high"]) == pytest.approx(ends, abs=1e-5)
            assert row["verdict"] == verdict(*ends)


@pytest.mark.parametrize("shots", [1, 5])
class TestFewShot:
    """見たことのない仮名は、画素のままより、漢字で学習した特徴のほうが、ずっとよく見分けられる。"""

    @pytest.mark.parametrize("method", LEARNED)
    def test_learning_beats_the_pixels(self, found: results.Results, shots: int, method: str) -> None:
        assert low(gain(found, method, "pixels", shots=shots)) > 0.1

    def test_without_adaptation_maml_only_guesses(self, found: results.Results, shots: int) -> None:
        steps = {n: found.mean("accuracy", view="steps", shots=shots, test_steps=n) for n in (0, 1)}
        assert abs(steps[0].mean - 0.2) < 0.05 and low(steps[1]) > 0.4

    @pytest.mark.parametrize("method", QUERY_STATISTICS)
    def test_a_skewed_query_set_breaks_methods_that_use_its_statistics(
        self, found: results.Results, shots: int, method: str
    ) -> None:
        lost = found.difference("accuracy", {"view": "main"}, {"view": "one_class"}, shots=shots, method=method)
        assert low(lost) > 0.1

    def test_a_skewed_query_set_does_not_matter_to_running_statistics(self, found: results.Results, shots: int) -> None:
        lost = found.difference("accuracy", {"view": "main"}, {"view": "one_class"}, shots=shots, method="classifier")
        assert abs(lost.mean) < 0.03


# 本文が「実験：同じ予算で比べる」で言うこと。higher は、前者の正解率のほうが高い
RANKING = {
    1: {
        "higher": [
            *(("classifier", m) for m in ("protonet_running", "maml", "anil")),
            *(("maml", m) for m in ("fomaml", "anil")),
            *(("protonet_per_set", m) for m in ("protonet_joint", "protonet_running")),
            ("distillation", "protonet_per_set"),
            *(("meta_distillation", m) for m in ("maml", "meta_distillation_fixed")),
        ],
        "lower": [("classifier", "teacher"), ("distillation", "teacher"), ("meta_distillation", "teacher")],
        "not_established": [
            *(("classifier", m) for m in ("protonet_per_set", "distillation", "meta_distillation")),
            *(("maml", m) for m in ("protonet_joint", "protonet_running")),
            ("protonet_per_set", "maml"),
            ("meta_distillation", "maml_pretrained"),
        ],
    },
    5: {
        "higher": [
            *(("maml", m) for m in ("fomaml", "anil")),
            ("distillation", "protonet_per_set"),
            *(("meta_distillation", m) for m in ("maml", "meta_distillation_fixed")),
        ],
        "lower": [
            *(("classifier", m) for m in ("maml", "distillation", "meta_distillation")),
            ("distillation", "teacher"),
        ],
        "not_established": [("meta_distillation", "maml_pretrained"), ("meta_distillation", "teacher")],
    },
}


class TestRanking:
    """本文の文は、判定をそのまま言葉にしている。値が変わって判定が変われば、文も直す。"""

    @pytest.mark.parametrize(
        ("shots", "word", "one", "other"),
        [(k, word, *pair) for k, found in RANKING.items() for word, pairs in found.items() for pair in pairs],
    )
    def test_the_verdict_the_text_puts_into_words(
        self, found: results.Results, shots: int, word: str, one: str, other: str
    ) -> None:
        (row,) = [r for r in found.summary if (r["shots"], r["one"], r["other"]) == (shots, one, other)]
        assert row["verdict"] == word

    def test_the_classifier_gains_by_the_statistics_of_the_query_set(self, found: results.Results) -> None:
        """全クラスの分類も「別々」で測ると、1-shotではProtoNetとMAMLより高く、5-shotでは差を確かめられない。"""
        by_set = {"method": "classifier", "view": "batchnorm", "batchnorm": "per_set"}
        for other in ("protonet_per_set", "maml"):
            main = {"method": other, "view": "main"}
            assert low(found.difference("accuracy", by_set, main, shots=1)) > 0
            five = found.difference("accuracy", by_set, main, shots=5)
            assert low(five) < 0 < high(five)

    @pytest.mark.parametrize("shots", [1, 5])
    def test_more_inner_steps_than_in_training_help(self, found: results.Results, shots: int) -> None:
        for more, fewer in ((3, 1), (10, 3)):
            gap = found.difference("accuracy", {"test_steps": more}, {"test_steps": fewer}, view="steps", shots=shots)
            assert low(gap) > 0

    def test_joint_statistics_do_not_fall_with_one_class(self, found: results.Results) -> None:
        where = {"shots": 1, "method": "protonet_joint"}
        assert abs(found.difference("accuracy", {"view": "main"}, {"view": "one_class"}, **where).mean) < 0.03

    @pytest.mark.parametrize("shots", [1, 5])
    def test_the_two_gradients_stay_apart_after_training(self, found: results.Results, shots: int) -> None:
        """二階で学習した重みでは1から遠いまま、一次近似で学習した重みではそれより1に近いが、離れている。"""
        second, first = (found.mean("cosine", view="gradient", method=m, shots=shots) for m in ("maml", "fomaml"))
        assert high(second) < 0.5 and high(second) < low(first) and high(first) < 0.9
