"""フォントから描いた文字: 使う書体の網羅、形と位置、無い文字の除外、変形の性質。"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tlkit.data import glyph_faces
from tlkit.data import glyphs as module
from tlkit.data.glyph_augment import _thickness, augment
from tlkit.data.glyph_faces import DROPPED, FACES, code_point
from tlkit.data.glyphs import glyphs

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(scope="module")
def alnum() -> module.Glyphs:
    return glyphs("alnum")


def test_images_follow_the_mnist_recipe(alnum: module.Glyphs) -> None:
    images = alnum.images
    assert images.shape[1:] == (1, 28, 28) and images.dtype == torch.float32
    assert len(images) == len(alnum.labels) == len(alnum.face_ids) > 2000
    assert images.min() == 0 and images.max() == 1 and images.amax(dim=(1, 2, 3)).min() > 0.5
    rows, columns = (images.amax(dim=(1, axis)) > 0 for axis in (3, 2))
    assert torch.equal(torch.maximum(_extent(rows), _extent(columns)), torch.full((len(images),), 20))


def _extent(ink: Tensor) -> Tensor:
    position = torch.arange(28)
    return torch.where(ink, position, -1).amax(1) - torch.where(ink, position, 99).amin(1) + 1


def test_mass_is_in_the_centre(alnum: module.Glyphs) -> None:
    mass, position = alnum.images.sum(dim=(1, 2, 3)), torch.arange(28.0)
    for axis in (2, 3):
        offset = (alnum.images.sum(dim=(1, axis)) * position).sum(1) / mass - 13.5
        assert (offset.abs() <= 0.51).float().mean() > 0.95  # 残りは、枠からはみ出さないように戻した文字
        assert offset.abs().max() < 3


def test_every_class_is_drawn_by_most_faces_and_never_twice_by_one(alnum: module.Glyphs) -> None:
    assert "".join(alnum.classes) == module.CHARSETS["alnum"]
    assert alnum.labels.bincount().min() >= 28
    pairs = list(zip(alnum.face_ids.tolist(), alnum.labels.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))


def test_no_two_images_of_a_character_are_the_same(alnum: module.Glyphs) -> None:
    seen = {(int(label), image.numpy().tobytes()) for label, image in zip(alnum.labels, alnum.images, strict=True)}
    assert len(seen) == len(alnum.images)


def test_a_font_listed_twice_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FACES", (FACES[0], FACES[0], FACES[-1]))
    module._drawn.cache_clear()
    try:
        assert glyphs("digits").face_ids.tolist() == [0] * 10 + [2] * 10
    finally:
        module._drawn.cache_clear()


def test_letters_hold_no_digit_and_are_part_of_alnum(alnum: module.Glyphs) -> None:
    letters = glyphs()
    assert "".join(letters.classes).isalpha() and len(letters.classes) == 52
    part = alnum.labels >= 10
    assert torch.equal(letters.images, alnum.images[part])
    assert torch.equal(letters.labels, alnum.labels[part] - 10)


def test_callers_cannot_spoil_each_other() -> None:
    glyphs("digits").images.zero_()
    assert glyphs("digits").images.sum() > 0


def test_every_packaged_font_is_used_or_dropped_with_a_reason() -> None:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    present = {path.name for path in folder.glob("*.ttf")} | {"ipaexg.ttf"}
    used = {face.file for face in FACES}
    assert used.isdisjoint(DROPPED) and all(DROPPED.values())
    assert present <= used | set(DROPPED), f"扱いの決まっていないフォント: {sorted(present - used - set(DROPPED))}"


def test_placeholder_boxes_are_not_drawn() -> None:
    """LastResort はどの文字にも枠つきの絵を返す。符号位置があるだけでは、字形があることにならない。"""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "LastResortHE-Regular.ttf"
    assert ord("A") in module._code_points(path) and path.name in DROPPED
    assert not module._code_points(FACES[0].path()) & {0x1F1E6, 0x30042}  # DejaVu Sans に無い文字


def test_faces_lack_what_they_should(alnum: module.Glyphs) -> None:
    names = [face.name for face in FACES]
    held = {name: "".join(alnum.classes[i] for i in alnum.labels[alnum.face_ids == k]) for k, name in enumerate(names)}
    assert held["cmsy10"] == module.CHARSETS["upper"]
    assert held["STIXGeneral Fraktur"] == module.CHARSETS["letters"]
    assert held["DejaVuSans"] == module.CHARSETS["alnum"]


@pytest.mark.parametrize(
    ("character", "style", "want"),
    [
        ("A", "", 0x41),
        ("A", "SCRIPT", 0x1D49C),
        ("B", "SCRIPT", 0x212C),
        ("C", "FRAKTUR", 0x212D),
        ("7", "MONOSPACE", 0x1D7FD),
        ("7", "SCRIPT", -1),
    ],
)
def test_code_points_of_mathematical_styles(character: str, style: str, want: int) -> None:
    assert code_point(character, style) == want


def test_family_splits_the_faces() -> None:
    letters = glyphs()
    held_out = letters.of_family("Computer Modern")
    assert 0 < held_out.sum() < len(held_out) / 4
    families = {letters.faces[k].family for k in letters.face_ids[held_out].unique()}
    assert families == {"Computer Modern"}
    assert torch.equal(letters.of_family(*{face.family for face in FACES}), torch.ones(len(held_out), dtype=torch.bool))
    with pytest.raises(ValueError, match=r"\['Arial'\].*STIX"):
        letters.of_family("Arial")


@pytest.mark.parametrize(("arguments", "message"), [(("kana",), "'kana'.*letters"), (("letters", 4), "size に 4")])
def test_wrong_arguments_are_explained(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        glyphs(*arguments)


def test_other_sizes_scale_the_box() -> None:
    images = glyphs("digits", size=56).images
    assert images.shape[2:] == (56, 56)
    assert (images.amax(dim=(1, 3)) > 0).sum(1).max() == 40


def test_missing_font_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(glyph_faces, "_folder", lambda package: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"ipaexg\.ttf.*pip install .*matplotlib-fontja"):
        FACES[-1].path()


# ---------------------------------------------------------------- 変形


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("device", DEVICES)
def test_augmented_images_keep_shape_range_and_source(alnum: module.Glyphs, device: str) -> None:
    images = alnum.images[:200].to(device)
    kept = images.clone()
    changed = augment(images, seeded())
    assert changed.shape == images.shape and changed.dtype == images.dtype and changed.device == images.device
    assert changed.min() >= 0 and changed.max() <= 1
    assert torch.equal(images, kept)
    assert (changed - images).abs().mean() > 0.02


def test_same_seed_gives_the_same_images_and_no_other_randomness(alnum: module.Glyphs) -> None:
    images = alnum.images[:20]
    state = torch.get_rng_state()
    first = augment(images, seeded())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(augment(images, seeded()), first)
    assert not torch.equal(augment(images, seeded(1)), first)


def test_each_image_gets_its_own_change(alnum: module.Glyphs) -> None:
    changed = augment(alnum.images[:1].repeat(50, 1, 1, 1), seeded())
    assert len({image.numpy().tobytes() for image in changed}) == 50
    mass = changed.sum(dim=(1, 2, 3)) / alnum.images[0].sum()
    assert mass.min() < 0.9 and mass.max() > 1.5  # 細いものも太いものもある


def test_strokes_survive_the_thinning(alnum: module.Glyphs) -> None:
    thinned = _thickness(alnum.images, seeded())
    torch.testing.assert_close(thinned.amax(dim=(1, 2, 3)), torch.ones(len(thinned)))
    assert augment(alnum.images, seeded()).amax(dim=(1, 2, 3)).min() > 0.6


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 28, 28\).*\(N, 1, H, W\)"):
        augment(torch.zeros(2, 28, 28), seeded())
