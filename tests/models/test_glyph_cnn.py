"""GlyphCNN: 形、同梱の重みの照合と出来、記録、合わない重みの断り方、事前学習の手順。"""

import hashlib
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tlkit.data import mnist5k
from tlkit.data.glyph_augment import augment
from tlkit.data.glyphs import CHARSETS, glyphs
from tlkit.models import GlyphCNN
from tlkit.models import glyph_cnn as module

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("device", DEVICES)
def test_shapes_and_the_parts_of_the_forward(device: str) -> None:
    torch.manual_seed(0)
    model = GlyphCNN(10).eval().to(device)
    x = torch.rand(3, 1, 28, 28, device=device)
    assert model.stem(x).shape == (3, 16, 14, 14)
    assert model.stages(model.stem(x)).shape == (3, 64, 3, 3)
    assert model.features(x).shape == (3, 128) and model.features(x).min() == 0
    torch.testing.assert_close(model(x), model.classifier(model.features(x)))
    assert sum(p.numel() for p in model.parameters()) == 98_554


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = GlyphCNN(5)
    model(torch.rand(8, 1, 28, 28)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("name", module.WEIGHTS)
def test_asset_matches_its_record_and_is_small(name: str) -> None:
    recipe = json.loads((module.ASSETS / f"{module.WEIGHTS[name]}.json").read_text(encoding="utf-8"))
    path = module.ASSETS / recipe["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == recipe["sha256"]
    assert path.stat().st_size == recipe["bytes"] < 1_000_000
    assert recipe["command"].startswith(f"python experiments/pretrain_glyphs.py {name} --seed ")
    assert {"torch", "python"} <= recipe["versions"].keys() and recipe["cpu_seconds"] > 0
    model = GlyphCNN.pretrained(name)
    assert not model.training and model.classifier.out_features == len(recipe["classes"])


def test_letters_were_learned_without_digits() -> None:
    recipe = json.loads((module.ASSETS / "glyph_cnn_letters.json").read_text(encoding="utf-8"))
    assert recipe["classes"] == CHARSETS["letters"] and not set(recipe["classes"]) & set("0123456789")


def test_held_out_fonts_are_read_as_recorded() -> None:
    recipe = json.loads((module.ASSETS / "glyph_cnn_letters.json").read_text(encoding="utf-8"))
    letters = glyphs()
    held_out = letters.of_family("Computer Modern")
    assert int(held_out.sum()) == recipe["validation_images"]
    x = augment(letters.images[held_out].repeat(4, 1, 1, 1), torch.Generator().manual_seed(0))
    with torch.inference_mode():
        accuracy = (GlyphCNN.pretrained()(x).argmax(1) == letters.labels[held_out].repeat(4)).float().mean()
    assert float(accuracy) == pytest.approx(recipe["validation_accuracy"], abs=0.01)


def test_letter_features_help_with_few_digits() -> None:
    """効果の大きさの検査: 各数字 2 枚だけで、乱数の重みの特徴より 10 ポイント以上よい（種 3 つの平均）。"""
    digits = mnist5k()
    random, letters = GlyphCNN(10).eval(), GlyphCNN.pretrained()
    gains = []
    with torch.inference_mode():
        banks = [model.features(digits.images) for model in (random, letters)]
    for seed in range(3):
        order = torch.randperm(5000, generator=torch.Generator().manual_seed(seed))
        few = torch.cat([order[digits.labels[order] == digit][:2] for digit in range(10)])
        scores = []
        for bank in banks:
            nearest = torch.cdist(bank, bank[few]).argmin(1)
            scores.append((digits.labels[few][nearest] == digits.labels).float().mean())
        gains.append(scores[1] - scores[0])
    assert sum(gains) / 3 > 0.1


def test_new_classes_keep_the_pretrained_body() -> None:
    source, model = GlyphCNN.pretrained("letters").state_dict(), GlyphCNN(10, weights="letters").state_dict()
    assert model["classifier.weight"].shape == (10, 128)
    assert all(torch.equal(model[name], value) for name, value in source.items() if not name.startswith("classifier"))
    same = GlyphCNN(52, weights="letters").state_dict()
    assert all(torch.equal(same[name], value) for name, value in source.items())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GlyphCNN(10, weights="kana"), "'kana' はありません.*letters"),
        (lambda: GlyphCNN.pretrained("kana"), "'kana' はありません"),
        (lambda: GlyphCNN(10, width=8, weights="letters"), "width=8.*width=16"),
        (lambda: module.from_state({"fc.weight": torch.zeros(1)}), "GlyphCNN の重みではありません.*fc.weight"),
        (lambda: module.from_state({**GlyphCNN(3).state_dict(), "extra": torch.zeros(1)}), "extra"),
        (
            lambda: module.from_state({**GlyphCNN(3).state_dict(), "head.1.bias": torch.zeros(5)}),
            r"head.1.bias の形が \(5,\)",
        ),
    ],
)
def test_wrong_weights_are_explained(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_damaged_and_missing_assets_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = module.ASSETS / "glyph_cnn_letters.safetensors"
    monkeypatch.setattr(module, "ASSETS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"glyph_cnn_letters\.json.*入れ直して"):
        GlyphCNN.pretrained()
    (tmp_path / "glyph_cnn_letters.json").write_bytes(original.with_suffix(".json").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"glyph_cnn_letters\.safetensors"):
        GlyphCNN.pretrained()
    content = bytearray(original.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / original.name).write_bytes(content)
    with pytest.raises(ValueError, match=r"記録と違います.*入れ直し"):
        GlyphCNN.pretrained()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """事前学習の手順。1 エポックを 10 回の更新に縮める。"""
    threads = torch.get_num_threads()
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    loaded = importlib.import_module("pretrain_glyphs")
    monkeypatch.setattr(loaded, "STEPS_PER_EPOCH", 10)
    yield loaded
    torch.set_num_threads(threads)


def test_the_recipe_runs_and_repeats(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for run in ("a", "b"):
        flags = f"uci --epochs 2 --width 2 --learning-rate 0.01 --out {tmp_path / run}"
        monkeypatch.setattr(sys, "argv", ["pretrain_glyphs.py", *flags.split()])
        script.main()
        recipe = json.loads((tmp_path / run / "glyph_cnn_uci.json").read_text(encoding="utf-8"))
        path = tmp_path / run / recipe["file"]
        model = module.from_state(module.read_weights(path, recipe["sha256"]))
        assert model.stem[0].weight.shape == (2, 1, 3, 3)
        assert recipe["command"].endswith("uci --seed 0 --epochs 2 --learning-rate 0.01 --width 2")
        digests.append(recipe["sha256"])
    assert digests[0] == digests[1]


def test_the_recipe_holds_out_whole_font_families(script: ModuleType) -> None:
    letters, held_out = script.split("letters", torch.Generator())
    families = [{letters.faces[k].family for k in letters.face_ids[part].unique()} for part in (held_out, ~held_out)]
    assert families[0] == {script.HELD_OUT} and script.HELD_OUT not in families[1]
