"""漢字から仮名への課題: クラスが漏れず、書体がサポートとクエリで違うこと。"""

import pytest
import torch
from torch import Tensor, nn

from tlkit.fewshot import GlyphTasks, ProtoNet, episode_accuracies, glyph_tasks


@pytest.fixture(scope="module")
def tasks() -> GlyphTasks:
    return glyph_tasks(every=30, val=30)


def test_kanji_are_for_training_and_kana_for_testing(tasks: GlyphTasks) -> None:
    parts = {part: {tasks.classes[c] for c in tasks.split.classes(part)} for part in ("train", "val", "test")}
    assert [len(parts[part]) for part in ("train", "val", "test")] == [69, 30, 91]
    kanji = parts["train"] | parts["val"]
    assert all("一" <= c <= "鿿" for c in kanji) and all("ぁ" <= c <= "ヶ" for c in parts["test"])
    assert len(tasks.classes) == len(set(tasks.classes)) == int(tasks.labels.max()) + 1
    assert tasks.faces[2] == "NotoSerifJP-Regular"


def test_labels_and_images_belong_together(tasks: GlyphTasks) -> None:
    """仮名の番号をずらし忘れると、漢字のクラスに仮名の画像が入る。"""
    from tlkit.data.japanese_glyphs import japanese_glyphs

    kana = japanese_glyphs("kana")
    index = int(((tasks.labels == tasks.classes.index("ぬ")) & (tasks.face_ids == 1)).nonzero())
    wanted = (kana.labels == kana.classes.index("ぬ")) & (kana.face_ids == 1)
    assert torch.equal(tasks.images[index], kana.images[wanted][0])


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_support_and_query_are_of_different_faces(tasks: GlyphTasks, part: str) -> None:
    made = tasks.sampler(part, ways=5, shots=3, queries=4, episodes=1, seed=0)
    for _ in range(50):
        draw = made.draw(made.generator)
        faces = [set(tasks.face_ids[index].tolist()) for index in (draw.support, draw.query)]
        assert len(faces[0]) == len(faces[1]) == 1 and faces[0] != faces[1]
        assert set(tasks.labels[torch.cat([draw.support, draw.query])].tolist()) == set(draw.classes.tolist())
        assert set(draw.classes.tolist()) <= set(tasks.split.classes(part))


def test_pictures_of_one_glyph_are_changed_differently(tasks: GlyphTasks) -> None:
    e = next(iter(tasks.sampler("val", ways=2, shots=5, queries=5, episodes=1, seed=0)))
    assert e.support_x.shape == e.query_x.shape == (10, 1, 28, 28)
    assert len({x.numpy().tobytes() for x in e.support_x}) == 10
    assert e.support_x.min() >= 0 and e.support_x.max() <= 1


def test_seed_divides_the_kanji_and_never_the_kana() -> None:
    first, second = glyph_tasks(every=30, val=30), glyph_tasks(every=30, val=30, seed=1)
    assert first.split.val != second.split.val and first.split.test == second.split.test


def test_the_pixels_alone_are_better_than_chance_and_far_from_perfect(tasks: GlyphTasks) -> None:
    """題材が簡単すぎも難しすぎもしないこと。"""

    class Pixels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    made = tasks.sampler("val", ways=5, shots=1, queries=5, episodes=100, seed=0, fresh=False)
    assert 0.25 < episode_accuracies(ProtoNet("running").logits, Pixels(), made).mean() < 0.6
