"""第2章の結果の一部を測り直す。tlkit の中が変わって値が変わったら、ここで分かる。

機械や版が違えば末尾の桁は変わるので、テスト画像の 2 % までの違いは許す。
"""

import pytest
from _vision import mnist_split

from tlkit import results

NEAR = 0.02


@pytest.mark.parametrize(("method", "augment"), [("last_block", True), ("lp_ft", False), ("ulmfit", False)])
def test_methods(script, method: str, augment: bool) -> None:
    module, stored = script("02_methods"), results.load("02_methods")
    split = mnist_split(0, development=False, test=stored.settings["test"])
    setting = module.picked(stored.settings, 20, method, augment)
    again = module.measure(method, split, 20, 0, augment=augment, **setting)
    assert again == pytest.approx(stored.by_seed("accuracy", n=20, method=method, augment=augment)[0], abs=NEAR)


def test_full_and_scratch_without_augmentation_are_those_of_chapter_1_at_the_same_rate(script) -> None:
    """同じ学習率なら、第1章の実験と同じ学習である（学習の部品を二つ作っていない）。"""
    module, first = script("02_methods"), results.load("01_data_amount")
    split = mnist_split(0, development=False, test=first.settings["test"])
    for method, name in (("full", "finetune"), ("scratch", "scratch")):
        again = module.measure(method, split, 20, 0, augment=False, lr=first.settings["picked"][f"small/{name}"])
        assert again == pytest.approx(first.by_seed("accuracy", n=20, method=name)[0], abs=NEAR)


@pytest.mark.parametrize(("source", "calibrated", "k"), [("letters", False, 2), ("random", True, 4)])
def test_layers(script, source: str, calibrated: bool, k: int) -> None:
    module, stored = script("02_layers"), results.load("02_layers")
    split = mnist_split(0, development=False, test=stored.settings["test"])
    line = module.Line(source, "frozen", calibrated)
    lr = stored.settings["lr"][module.key(100, line, k)]
    again = module.measure(line, k, split, 100, 0, lr=lr)
    expected = stored.by_seed("accuracy", n=100, source=source, mode="frozen", calibrated=calibrated, k=k)[0]
    assert again == pytest.approx(expected, abs=NEAR)


@pytest.mark.parametrize("method", ["full", "bn_moves"])
def test_forgetting(script, method: str) -> None:
    module, stored = script("02_forgetting"), results.load("02_forgetting")
    split = mnist_split(0, development=False, test=stored.settings["test"])
    again = module.measure(method, split, 1e-3, 0)
    row = stored.where(method=method, lr=1e-3, seed=0).rows[0]
    assert again == pytest.approx({key: row[key] for key in again}, abs=NEAR)
