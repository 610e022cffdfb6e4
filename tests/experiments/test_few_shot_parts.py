"""第8章の実験の部品: クラスと書体が漏れないこと、予算がそろうこと、途中から再開できること、判定の規則。"""

import json
from types import ModuleType
from typing import Any

import _few_shot
import _few_shot_methods
import _few_shot_views
import pytest
import torch
from _few_shot_methods import LEARNERS

SETTING = {"lr": 3e-3, "inner_lr": 0.1, "temperature": 4.0, "test_steps": 1, "updates": 2}
UNTRAINED = ("pixels", "untrained")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 回の更新と、2 個のエピソードに縮める。"""
    monkeypatch.setattr(_few_shot_methods, "TEACHER_UPDATES", 2)  # 教師モデルの更新の回数
    monkeypatch.setattr(_few_shot_views, "EPISODES", {"val": 2, "test": 2})
    monkeypatch.setattr(_few_shot_views, "GRADIENT_EPISODES", 2)
    caches = (_few_shot_methods.teacher, _few_shot_methods._classifier, _few_shot_views.held)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def module(script) -> ModuleType:
    return script("08_few_shot")


class TestEpisodes:
    @pytest.mark.parametrize("part", ["train", "val", "test"])
    def test_classes_do_not_leak_and_faces_differ(self, part: str) -> None:
        tasks, made = _few_shot.glyphs(0), _few_shot.sampler(part, 0, 1, 1)
        others = {c for other in ("train", "val", "test") if other != part for c in tasks.split.classes(other)}
        for _ in range(30):
            draw = made.draw(made.generator)
            faces = [set(tasks.face_ids[index].tolist()) for index in (draw.support, draw.query)]
            assert not set(draw.classes.tolist()) & others and not faces[0] & faces[1]

    def test_every_method_sees_the_same_episodes(self) -> None:
        first, second = (list(_few_shot.sampler("train", 0, 1, 3)) for _ in range(2))
        assert all(
            torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
        )
        assert not torch.equal(first[0].query_x, next(iter(_few_shot.sampler("train", 1, 1, 1))).query_x)

    def test_sizes(self) -> None:
        training, testing = (next(iter(_few_shot.sampler(part, 0, 5, 1))) for part in ("train", "test"))
        assert (len(training.support_x), len(training.query_x)) == (25, 25)
        assert (len(testing.support_x), len(testing.query_x)) == (25, 50)

    def test_one_class(self) -> None:
        episode = next(iter(_few_shot.sampler("test", 0, 1, 1)))
        skewed = _few_shot_views.one_class(episode)
        assert skewed.query_y.tolist() == [0] * 10 and torch.equal(skewed.support_x, episode.support_x)
        assert torch.equal(skewed.query_x, episode.query_x[episode.query_y == 0])


class TestBudget:
    def test_every_network_starts_from_the_same_weights(self) -> None:
        one, other = _few_shot.network(3), _few_shot.network(3, 5)
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.blocks.parameters(), strict=True))

    def test_the_classifier_sees_as_many_images_as_one_shot_episodes(self) -> None:
        images, labels = next(iter(_few_shot_methods.Images(0, updates=1)))
        episode = next(iter(_few_shot.sampler("train", 0, 1, 1)))
        assert len(images) == _few_shot.META_BATCH * (len(episode.support_x) + len(episode.query_x))
        assert int(labels.max()) < _few_shot_methods.Images(0).classes == len(_few_shot.glyphs(0).split.train)

    @pytest.mark.usefixtures("tiny")
    @pytest.mark.parametrize("method", [method for method in LEARNERS if method not in UNTRAINED])
    def test_every_method_takes_the_same_number_of_updates(self, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        taken = []
        step = torch.optim.Adam.step
        monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *args: taken.append(1) or step(self, *args))
        if "distillation" in method or method == "maml_pretrained":
            _few_shot_methods.teacher(0, 1)
            taken.clear()
        rows = _few_shot_views.tested({**SETTING, "method": method, "shots": 1}, 0)
        assert len(taken) == 2
        assert all(0 <= row["accuracy"] <= 1 for row in rows if row["view"] != "gradient")
        assert [row["view"] for row in rows][:2] == ["main", "one_class"] and rows[0]["parameters"] > 7000

    @pytest.mark.usefixtures("tiny")
    def test_the_cached_teacher_is_not_changed_by_its_students(self) -> None:
        source = _few_shot_methods.teacher(0, 1)[0].model
        before = {name: value.clone() for name, value in source.state_dict().items()}
        for method in ("distillation", "meta_distillation"):
            LEARNERS[method](0, 1, SETTING)
        assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())

    def test_distillation_tries_no_more_settings_than_its_controls(self, module: ModuleType) -> None:
        counts = {method: len(settings) for method, settings in module.GRID.items()}
        assert counts["meta_distillation"] == counts["meta_distillation_fixed"] <= counts["maml"]
        assert counts["fomaml"] == counts["anil"] == counts["maml"] == counts["maml_pretrained"]
        assert len({counts[f"protonet_{name}"] for name in ("per_set", "joint", "running")}) == 1


class TestSelection:
    @pytest.mark.usefixtures("tiny")
    def test_only_validation_characters_are_used(self, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        parts, held = [], _few_shot_views.held
        monkeypatch.setattr(module, "UPDATES", 2)
        monkeypatch.setattr(_few_shot_views, "held", lambda part, *rest: parts.append(part) or held(part, *rest))
        monkeypatch.setattr(module, "kept", lambda run, name, tried, seed: [r for s in tried for r in run(s, seed)])
        grid = {"classifier": module.GRID["classifier"][:1], "anil": module.GRID["anil"][:1]}
        rows = module.develop(0, {"grid": grid})
        assert set(parts) == {"val"}
        assert [(row["method"], row["test_steps"]) for row in rows] == [
            ("classifier", None),
            *(("anil", steps) for steps in _few_shot_views.TEST_STEPS),
        ]

    def test_finished_settings_are_not_measured_again(self, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_few_shot_views, "PARTIAL", tmp_path)
        calls = []

        def run(setting: dict[str, Any], seed: int) -> list[dict[str, Any]]:
            calls.append(setting["lr"])
            return [{**setting, "score": seed + setting["lr"]}]

        first = _few_shot_views.kept(run, "x", [{"lr": 1.0}], 7)
        both = _few_shot_views.kept(run, "x", [{"lr": 1.0}, {"lr": 2.0}], 7)
        assert calls == [1.0, 2.0] and both[:1] == first == [{"lr": 1.0, "score": 8.0}]
        assert _few_shot_views.kept(run, "x", [{"lr": 1.0}], 8)[0]["score"] == 9.0


class TestVerdict:
    @pytest.mark.parametrize(
        ("low", "high", "wanted"),
        [
            (0.01, 0.02, "higher"),
            (-0.02, -0.01, "lower"),
            (-0.01, 0.02, "not_established"),
            (0.0, 0.1, "not_established"),
        ],
    )
    def test_rule(self, low: float, high: float, wanted: str) -> None:
        assert _few_shot_views.verdict(low, high) == wanted

    def test_pairs_are_within_seeds_and_only_in_the_main_view(self) -> None:
        rows = [
            {"view": view, "method": method, "shots": 1, "seed": seed, "accuracy": 0.1 * seed + gain + noise}
            for seed, noise in ((5, 0.0), (6, 0.01), (7, 0.02))
            for method, gain in (("a", 0.1 + noise), ("b", 0.0))
            for view in ("main", "steps")
        ]
        rows = [{**row, "accuracy": 0.0} if row["view"] == "steps" else row for row in rows]
        (row,) = _few_shot_views.compared(rows, [("a", "b")])
        assert row["gain"] == pytest.approx(0.11) and row["verdict"] == "higher"
        assert row["high"] - row["low"] == pytest.approx(2 * 4.302653 * 0.01 / 3**0.5, rel=1e-5)

    def test_every_compared_method_is_measured(self, module: ModuleType) -> None:
        measured = {*module.NO_CHOICE, *module.GRID}
        assert {method for pair in module.COMPARED for method in pair} <= measured == set(LEARNERS)
        assert len(set(module.COMPARED)) == len(module.COMPARED)


def test_settings_survive_json(module: ModuleType) -> None:
    grid = json.loads(json.dumps(module.GRID))
    assert grid == module.GRID and set(module.KEYS) == {*module.UNUSED, "test_steps"}
