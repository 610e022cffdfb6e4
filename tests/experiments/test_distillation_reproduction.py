"""第7章の結果の一部を測り直す。tlkit の中が変わって値が変わったら、ここで分かる。

機械や版が違えば末尾の桁は変わるので、テスト画像の 2 % までの違いは許す。
"""

import pytest
import torch
from _distill import REGION, TEST, region, task

from tlkit import results

NEAR = 0.02


def test_small_student(script) -> None:
    module, stored = script("07_capacity"), results.load("07_capacity")
    seed = stored.seeds[0]
    split, _, tensors = module.material(seed, development=False)
    again = module.score("16/distill", split, tensors, seed, stored.settings["picked"]["16/distill"])
    (row,) = stored.where(hidden=16, method="distill", seed=seed).rows
    assert again == pytest.approx(row["accuracy"], abs=NEAR)


def test_pseudo_labels(script) -> None:
    module, stored = script("07_pair"), results.load("07_pair")
    seed = stored.seeds[0]
    material = module.Material(seed, development=False)
    for method in ("distill", "pseudo_unlabelled"):
        again = module.score(method, material, seed, stored.settings["picked"][method])
        (row,) = stored.where(method=method, seed=seed).rows
        assert again == pytest.approx(row["accuracy"], abs=NEAR), method


def test_withheld_digit(script) -> None:
    module, stored = script("07_withheld"), results.load("07_withheld")
    seed = stored.seeds[0]
    material = module.Material(seed, development=False)
    (setting,) = (s for s in stored.settings["picked"] if s["temperature"] == 8.0)
    share = (module.logits_of(material.teacher, material.split.train).argmax(1) == 3).float().mean().item()
    again = module.measured(material.train(**setting, seed=seed), material, share)
    (row,) = stored.where(model="distill", temperature=8.0, seed=seed).rows
    for name in ("accuracy", "accuracy_corrected", "accuracy_on_test"):
        assert again[name] == pytest.approx(row[name], abs=NEAR), name


class TestWithheldParts:
    """バイアスの直し方。3 のロジットだけを動かすので、ほかの数字の間の順位は変わらない。"""

    LOGITS = torch.tensor(
        [
            [2.0, 0, 0, 0.5, 0, 0, 0, 0, 0, 0],  # 差 1.5
            [0, 3.0, 0, 2.5, 0, 0, 0, 0, 0, 0],  # 差 0.5
            [0, 0, 1.0, -2.0, 0, 0, 0, 0, 0, 0],  # 差 3
            [0, 0, 0, 4.0, 3.0, 0, 0, 0, 0, 0],  # 差 −1
        ]
    )

    @pytest.fixture
    def module(self, script):
        return script("07_withheld")

    @pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
    def test_the_bias_gives_the_share(self, module, share: float) -> None:
        bias = module.bias_for_share(self.LOGITS, share)
        moved = self.LOGITS + bias * torch.eye(10)[3]
        assert (moved.argmax(1) == 3).float().mean().item() == share

    def test_the_best_bias_is_the_best_of_all(self, module) -> None:
        torch.manual_seed(0)
        logits, labels = torch.randn(200, 10), torch.randint(10, (200,))
        best = module.rates(logits, labels, module.bias_for_accuracy(logits, labels), "")["accuracy"]
        for bias in torch.linspace(-5, 5, 101).tolist():
            moved = logits + bias * torch.eye(10)[3]
            plain = (moved.argmax(1) == labels).float().mean().item()
            assert module.rates(logits, labels, bias, "")["accuracy"] == pytest.approx(plain)
            assert best >= plain - 1e-6

    def test_recall_counts_only_threes(self, module) -> None:
        labels = torch.tensor([0, 3, 2, 3])
        before, after = (module.rates(self.LOGITS, labels, bias, "") for bias in (0.0, 1.0))
        assert (before["accuracy"], before["accuracy_on_3"]) == (0.75, 0.5)
        assert (after["accuracy"], after["accuracy_on_3"]) == (1.0, 1.0)


class TestTask:
    """分け方: 開発と本番、学習と評価は重ならない。"""

    def test_regions_do_not_overlap(self) -> None:
        ours, theirs = ({image.numpy().tobytes() for image in region(flag)[0]} for flag in (True, False))
        assert not ours & theirs and len(region(True)[0]) == len(region(False)[0]) == REGION

    def test_parts_do_not_overlap(self) -> None:
        found = task(5, 200, development=False)
        assert found.labels.bincount().tolist() == [20] * 10
        parts = [found.images, found.unlabelled, found.test]
        assert [len(part) for part in parts] == [200, REGION - TEST - 200, TEST]
        seen = [image.numpy().tobytes() for part in parts for image in part]
        everything = [image.numpy().tobytes() for image in region(False)[0]]
        assert sorted(seen) == sorted(everything)
