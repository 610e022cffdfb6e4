"""MNIST-M: 重ね方の式、切り出しの位置、乱数、写真の組、誤った引数。BSDS500 は test_bsds500.py にある。"""

import time

import numpy as np
import pytest
import torch
from data_mirror import COUNT, Mirror

from tlkit import data
from tlkit.data import download
from tlkit.data.mnist_m import DEVELOPMENT_PHOTOS, TARGET_PHOTOS, blend, mnist_m

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def one_by_one(images: torch.Tensor, scenes: list[np.ndarray], seed: int) -> np.ndarray:
    """論文の式を、画像と画素とチャネルごとの繰り返しで書いたもの。乱数は blend と同じ順に引く。"""
    count, _, height, width = images.shape
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(scenes), (count,), generator=random).tolist()
    corner = torch.rand(count, 2, generator=random, dtype=torch.float64).tolist()
    blended = np.zeros((count, 3, height, width))
    for number, (photo, (down, right)) in enumerate(zip(chosen, corner, strict=True)):
        scene = scenes[photo]
        top, left = int(down * (scene.shape[0] - height + 1)), int(right * (scene.shape[1] - width + 1))
        for row, column, channel in np.ndindex(height, width, 3):
            ink = images[number, 0, row, column].item()
            blended[number, channel, row, column] = abs(int(scene[top + row, left + column, channel]) / 255 - ink)
    return blended


def corners(image: torch.Tensor, scene: np.ndarray) -> list[tuple[int, int]]:
    """画像（背景だけの数字を重ねたもの）と一致する切れはしの、左上の位置。"""
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(scene, (height, width, 3))[:, :, 0]
    return [(int(y), int(x)) for y, x in np.argwhere((windows == pixels).all(axis=(2, 3, 4)))]


def test_pixel_is_the_absolute_difference_of_each_channel() -> None:
    digit = torch.tensor([[0.0, 0.25], [0.5, 1.0]])[None, None]
    scene = np.array([[[0, 51, 255], [102, 0, 51]], [[255, 102, 0], [0, 255, 204]]], dtype=np.uint8)
    expected = [
        [[0.0, 0.15], [0.5, 1.0]],
        [[0.2, 0.25], [0.1, 0.0]],
        [[1.0, 0.05], [0.5, 0.2]],
    ]
    assert blend(digit, [scene], seed=0)[0].numpy() == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize("seed", [0, 11])
def test_blend_equals_the_formula_written_as_a_loop(seed: int) -> None:
    digits = torch.rand(12, 1, 9, 7, generator=torch.Generator().manual_seed(seed))
    scenes = [picture(9, 7, seed=1), picture(20, 31, seed=2), picture(9, 40, seed=3)]
    np.testing.assert_allclose(blend(digits, scenes, seed=seed).numpy(), one_by_one(digits, scenes, seed), atol=1e-6)


def test_real_digits_on_real_photos_stay_within_0_and_1_in_every_channel() -> None:
    digits = data.mnist5k().images[::100]
    blended = blend(digits, data.photos(TARGET_PHOTOS), seed=4)
    assert blended.min() >= 0 and blended.max() <= 1
    scenes = [photo.image for photo in data.photos(TARGET_PHOTOS)]
    np.testing.assert_allclose(blended.numpy(), one_by_one(digits, scenes, 4), atol=1e-6)


def test_every_position_and_photo_is_drawn_about_equally() -> None:
    scenes = [picture(5, 6, seed=1), picture(4, 4, seed=2)]
    empty = torch.zeros(3000, 1, 4, 4)
    found = [[corners(image, scene) for scene in scenes] for image in blend(empty, scenes, seed=3)]
    assert all(len(first) + len(second) == 1 for first, second in found)
    assert 1400 < sum(len(second) for _, second in found) < 1600
    places = [first[0] for first, _ in found if first]
    assert set(places) == {(y, x) for y in range(2) for x in range(3)}
    counts = np.unique(places, axis=0, return_counts=True)[1]
    assert counts.min() > 200 and counts.max() < 300


def test_positions_of_a_non_square_photo_reach_its_last_row_and_column() -> None:
    tall = picture(40, 29)
    places = {corners(image, tall)[0] for image in blend(torch.zeros(300, 1, 28, 28), [tall], seed=0)}
    assert {y for y, _ in places} == set(range(13)) and {x for _, x in places} == {0, 1}


@pytest.mark.parametrize("size", [(28, 28), (28, 29), (29, 28)])
def test_photo_no_bigger_than_the_digit_is_used_to_its_corners(size: tuple[int, int]) -> None:
    tiny = picture(*size)
    places = {corners(image, tiny)[0] for image in blend(torch.zeros(40, 1, 28, 28), [tiny], seed=0)}
    assert places == {(y, x) for y in range(size[0] - 27) for x in range(size[1] - 27)}


def test_same_seed_gives_the_same_bits_and_leaves_other_randomness_alone() -> None:
    digits, scenes = torch.rand(50, 1, 28, 28), data.photos(TARGET_PHOTOS)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = blend(digits, scenes, seed=7)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, blend(digits, scenes, seed=7))
    assert not torch.equal(first, blend(digits, scenes, seed=8))


def test_arguments_are_not_changed_and_dtype_follows() -> None:
    digits, scene = torch.rand(4, 1, 28, 28, dtype=torch.float64), picture(30, 30)
    kept, pixels = digits.clone(), scene.copy()
    blended = blend(digits, [scene], seed=0)
    assert blended.dtype == torch.float64 and blended.shape == (4, 3, 28, 28)
    assert torch.equal(digits, kept) and np.array_equal(scene, pixels)
    assert blend(digits[:0], [scene], seed=0).shape == (0, 3, 28, 28)


def test_mirrored_photo_is_as_good_as_its_copy() -> None:
    digits, scene = torch.rand(6, 1, 28, 28), picture(40, 33)
    assert torch.equal(blend(digits, [scene[:, ::-1]], seed=0), blend(digits, [scene[:, ::-1].copy()], seed=0))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_result_is_where_the_digits_are(device: str, dtype: torch.dtype) -> None:
    digits = torch.rand(9, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    scenes = [picture(30, 40, seed=1), picture(28, 31, seed=2)]
    ours = blend(digits.to(device, dtype), scenes, seed=0)
    assert ours.device.type == device and ours.dtype == dtype
    error = 2e-3 if dtype == torch.float16 else 1e-6
    torch.testing.assert_close(ours.cpu().float(), blend(digits, scenes, seed=0), atol=error, rtol=0)


def test_four_thousand_digits_take_less_than_a_second() -> None:
    digits, scenes = data.mnist5k().images[:4000], data.photos(TARGET_PHOTOS)
    start = time.process_time()
    blend(digits, scenes, seed=0)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("images", "photos", "words"),
    [
        (torch.zeros(2, 28, 28), [picture(30, 30)], r"\(2, 28, 28\).*\(N, 1, H, W\)"),
        (torch.zeros(2, 3, 28, 28), [picture(30, 30)], r"\(2, 3, 28, 28\)"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), [picture(30, 30)], "torch.uint8"),
        (torch.full((2, 1, 28, 28), 1.5), [picture(30, 30)], "1.5 です。0 から 1 が必要"),
        (torch.full((2, 1, 28, 28), -0.1), [picture(30, 30)], "-0.1 から"),
        (torch.full((2, 1, 28, 28), float("nan")), [picture(30, 30)], "nan から"),
        (torch.zeros(2, 1, 28, 28), [], "photos が空"),
        (torch.zeros(2, 1, 28, 28), [picture(30, 30), picture(27, 90)], "27×90 で、数字の 28×28 より小さい"),
        (torch.zeros(2, 1, 28, 28), [picture(30, 30) / 255], "float64"),
        (torch.zeros(2, 1, 28, 28), [picture(30, 30)[..., 0]], r"\(30, 30\)"),
        (torch.zeros(2, 1, 28, 28), [data.Photo("grey", "灰色", picture(30, 30)[..., :1])], "写真 grey の形"),
    ],
)
def test_unusable_arguments_are_told(images: torch.Tensor, photos: list[np.ndarray], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        blend(images, photos, seed=0)


def test_photos_for_choosing_and_for_reporting_are_apart() -> None:
    assert not set(TARGET_PHOTOS) & set(DEVELOPMENT_PHOTOS)
    assert {photo.name for photo in data.photos()} == {*TARGET_PHOTOS, *DEVELOPMENT_PHOTOS}


def test_registered_set_is_the_blend_of_the_embedded_digits() -> None:
    ours, digits = data.load("mnist_m"), data.mnist5k()
    assert ours.name == "mnist_m" and ours.images.shape == (5000, 3, 28, 28) and ours.images.dtype == torch.float32
    assert torch.equal(ours.labels, digits.labels) and ours.classes == digits.classes
    assert torch.equal(ours.images, blend(digits.images, data.photos(TARGET_PHOTOS), seed=0))
    other = data.load("mnist_m", photos=DEVELOPMENT_PHOTOS, seed=3)
    assert torch.equal(other.images, blend(digits.images, data.photos(DEVELOPMENT_PHOTOS), seed=3))


def test_photos_are_given_by_name_or_as_they_are_in_that_order() -> None:
    own = data.Photo("own", "自分の写真", picture(60, 50))
    expected = [own, *data.photos(("rocket",))]
    ours = mnist_m(photos=[own, "rocket"])
    assert torch.equal(ours.images, blend(data.mnist5k().images, expected, seed=0))


@pytest.mark.parametrize("split", ["train", "test"])
def test_full_mnist_goes_the_same_way(mirror: Mirror, split: str) -> None:
    ours, plain = data.load("mnist_m", digits="mnist", split=split), data.load("mnist", split=split)
    assert ours.images.shape == (COUNT, 3, 28, 28) and torch.equal(ours.labels, plain.labels)
    assert torch.equal(ours.images, blend(plain.images, data.photos(TARGET_PHOTOS), seed=0))


def test_missing_mnist_names_the_embedded_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*details: object, **options: object) -> None:
        raise OSError("つながらない")

    monkeypatch.setattr(download, "urlopen", unreachable)
    with pytest.raises(data.DataUnavailableError, match="t10k-images-idx3") as caught:
        data.load("mnist_m", digits="mnist", split="test")
    assert "digits を省くと同梱の mnist5k" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "train"}, 'mnist5k は分かれていないので "all"'),
        ({"digits": "mnist"}, 'split に .all. が渡されました。"train"'),
        ({"digits": "usps"}, "digits に 'usps'"),
        ({"photos": "coffee"}, "組で渡して"),
        ({"photos": ("dog",)}, "'dog'"),
        ({"photos": ()}, "photos が空"),
        ({"photos": [picture(30, 30), "rocket"]}, "list（中身: ndarray、str）が渡されました。同梱の写真の名前"),
        ({"photos": data.photos(("rocket",))[0]}, "Photo（中身: 不明）が渡されました"),
        ({"photos": None}, "NoneType.*bsds500"),
    ],
)
def test_wrong_options_are_told(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        data.load("mnist_m", **options)
