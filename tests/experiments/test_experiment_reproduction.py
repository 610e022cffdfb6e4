"""結果の一部を測り直す。tlkit の中が変わって値が変わったら、ここで分かる。

機械や版が違えば末尾の桁は変わるので、テスト画像の 2 % までの違いは許す。
"""

import _sources
import pytest
from _vision import mnist_split

from tlkit import results
from tlkit.models.glyph_cnn import GlyphCNN

NEAR = 0.02


@pytest.mark.parametrize("method", ["probe", "finetune"])
def test_data_amount(script, method: str) -> None:
    stored = results.load("01_data_amount")
    split = mnist_split(0, development=False, test=stored.settings["test"])
    value = stored.settings["picked"][f"small/{method}"]
    again = script("01_data_amount").measure(method, value, split, 20, 0)
    assert again == pytest.approx(stored.by_seed("accuracy", n=20, method=method)[0], abs=NEAR)


@pytest.mark.parametrize("method", ["target_only", "pool_rotated"])
def test_negative_transfer(script, method: str) -> None:
    stored = results.load("01_negative_transfer")
    split = mnist_split(0, development=False, test=stored.settings["test"])
    again = script("01_negative_transfer")._recalls(method, split, 50, stored.settings["lr"][method], 0)
    for key in ("accuracy", "accuracy_6_9"):
        assert again[key] == pytest.approx(stored.by_seed(key, n=50, method=method)[0], abs=2 * NEAR)


@pytest.mark.parametrize(("name", "method"), [("textures", "imagenet_frozen"), ("uci_digits", "pixels")])
def test_imagenet_where(script, name: str, method: str) -> None:
    module, stored = script("01_imagenet_where"), results.load("01_imagenet_where")
    setting = stored.settings["picked"][f"{name}/2/{method}"]
    again = module.measure(method, setting, module.split_of(name, 0, development=False), 2, 0)
    assert again == pytest.approx(stored.by_seed("accuracy", set=name, per_class=2, method=method)[0], abs=NEAR)


def test_transferability_scores(script) -> None:
    module, stored = script("01_transferability"), results.load("01_transferability")
    letters = _sources.Source(_sources.Grey28(GlyphCNN.pretrained("letters")), _sources.glyphs("letters").images)
    again = module._pair(letters, _sources.target("mnist5k", 0), 0)
    row = stored.where(kind="pair", target="mnist5k", source="letters", seed=0).rows[0]
    assert again == pytest.approx({key: row[key] for key in again}, rel=1e-2, abs=NEAR)


def test_transferability_ranks(script) -> None:
    module, stored = script("01_transferability"), results.load("01_transferability")
    pairs = list(stored.where(kind="pair").rows)
    for row in stored.summary:
        if row["target"] != "all":
            table = module._averages(row["score"], [pair for pair in pairs if pair["target"] == row["target"]])
            assert row["sources"] == len(table)
            assert row["rho"] == pytest.approx(module._rho(table), abs=1e-5)
