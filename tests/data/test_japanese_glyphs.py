"""漢字と仮名の画像: 書体がそろい、空の箱がなく、仮名と同じ形の漢字が入っていないこと。"""

from pathlib import Path

import pytest
import torch

from tlkit.data import glyph_faces
from tlkit.data.japanese_glyphs import FACES, HIRAGANA, KANA_LIKE, KATAKANA, japanese_glyphs, kanji


def test_kanji_are_the_first_level_without_the_kana_look_alikes() -> None:
    found = kanji()
    assert len(found) == len(set(found)) == 2965 - len(KANA_LIKE)
    assert found[0] == "亜" and found[-1] == "腕"
    assert not set(found) & set(KANA_LIKE) and all("一" <= c <= "鿿" for c in found)


def test_kana_have_no_pair_of_one_shape() -> None:
    assert len(set(HIRAGANA + KATAKANA)) == 91
    assert "へ" in HIRAGANA and "ヘ" not in KATAKANA


@pytest.mark.parametrize(("charset", "every", "classes"), [("kanji", 50, 60), ("kana", 1, 91), ("hiragana", 1, 46)])
def test_every_character_is_drawn_by_every_face(charset: str, every: int, classes: int) -> None:
    data = japanese_glyphs(charset, every=every)
    assert data.images.shape == (3 * classes, 1, 28, 28) and data.images.dtype == torch.float32
    pairs = set(zip(data.labels.tolist(), data.face_ids.tolist(), strict=True))
    assert pairs == {(label, face) for label in range(classes) for face in range(3)}
    assert data.images.min() == 0 and data.images.amax((1, 2, 3)).min() > 0.5
    assert data.faces == FACES and len(data.classes) == classes


def test_no_face_draws_the_same_picture_for_two_characters() -> None:
    """字形の無い文字は、どれも同じ空の箱になる。"""
    data = japanese_glyphs("kanji", every=10)
    for face in range(3):
        images = data.images[data.face_ids == face]
        assert len({image.numpy().tobytes() for image in images}) == len(images)


def test_faces_draw_different_pictures_of_a_character() -> None:
    data = japanese_glyphs("hiragana")
    first, second, third = (data.images[data.face_ids == face] for face in range(3))
    for a, b in ((first, second), (first, third), (second, third)):
        assert (a - b).abs().mean((1, 2, 3)).min() > 0.01


def test_size_and_wrong_arguments() -> None:
    assert japanese_glyphs("hiragana", size=16).images.shape == (138, 1, 16, 16)
    with pytest.raises(ValueError, match="charset に 'latin'"):
        japanese_glyphs("latin")
    with pytest.raises(ValueError, match="every=0"):
        japanese_glyphs("kana", every=0)


def test_missing_font_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(glyph_faces, "_folder", lambda package: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"pip install .* pylopdf-fonts-jp"):
        FACES[1].path()


def test_an_absent_package_is_a_missing_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pylopdf-fonts-jp"):
        FACES[2].path()
