"""第3章の結果の一部を測り直す。tlkit の中が変わって値が変わったら、ここで分かる。

本番の学習は 1 回に数十秒かかる。DANN、MMD、CORAL は、結果に残した短い学習（short）を測り直し、
更新の回数が本番どおりの学習は、ソースのみで一度だけ確かめる。
機械や版が違えば末尾の桁は変わるので、テスト画像の 2 % までの違いは許す。
"""

import pytest
import torch
from _adaptation import digit_regions, measure, mnist_to_mnist_m
from _shift import class_shares, mnist_m_halves, skewed_rows

from tlkit import results

NEAR = 0.02
DISTANCE = 4 * NEAR  # A 距離は、識別器の正解率の 4 倍の幅で動く


def assert_near(again: dict, row: dict) -> None:
    for key, value in again.items():
        assert value == pytest.approx(row[key], abs=DISTANCE if key in ("a_distance", "joint_error") else NEAR), key


def test_source_only_and_adabn(script) -> None:
    module, stored = script("03_adaptation"), results.load("dann_mnistm")
    seed = stored.seeds[0]
    pair = mnist_to_mnist_m(seed, development=False)
    model = module._trained("source_only", pair, seed, stored.settings["picked"]["source_only"])
    for method, adapted in (("source_only", False), ("adabn", True)):
        row = stored.where(method=method, seed=seed).rows[0]
        assert_near(measure(model, pair, seed, adapted=adapted), row)


def test_dann(script) -> None:
    module, stored = script("03_lambda"), results.load("03_lambda")
    seed = stored.seeds[0]
    (row,) = stored.where(schedule="short", seed=seed).rows
    pair = mnist_to_mnist_m(seed, development=False)
    assert_near(module.measured("short", row["lambda"], pair, seed, stored.settings), row)


def test_mmd_under_label_shift(script) -> None:
    module, stored = script("03_label_shift"), results.load("03_label_shift")
    seed = stored.seeds[0]
    (row,) = stored.where(method="mmd_short", seed=seed).rows
    assert_near(module.short(mnist_to_mnist_m(seed, development=False), seed, stored.settings), row)


@pytest.mark.parametrize("method", ["mmd", "coral"])
def test_other_pairs(script, method: str) -> None:
    module, stored = script("03_pairs"), results.load("03_pairs")
    seed = stored.seeds[0]
    (row,) = stored.where(method=f"{method}_short", seed=seed).rows
    assert_near(module.short(method, seed, stored.settings), row)


class TestParts:
    """実験の部品: 割合、分け方。"""

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
    @pytest.mark.parametrize("size", [1050, 210])
    def test_skewed_rows_have_the_shares(self, share: float, size: int) -> None:
        labels = torch.arange(10).repeat(400)
        rows = skewed_rows(labels, share, size, seed=3)
        assert len(rows) == len(rows.unique()) == size
        counts = labels[rows].bincount(minlength=10) / size
        assert counts[:3].sum().item() == pytest.approx(share)
        assert torch.allclose(counts, class_shares(share))
        assert len(labels[rows][:100].unique()) >= 3  # 並びがクラスの順ではない

    def test_too_many_of_a_digit_is_refused(self) -> None:
        with pytest.raises(ValueError, match="選べません"):
            skewed_rows(torch.arange(10).repeat(100), 0.9, 1050, seed=0)

    def test_disjoint_halves_share_no_digit(self) -> None:
        """学習の行番号を画像の代わりに運んで、どの数字がどちらへ行ったかを確かめる。"""
        whole = mnist_to_mnist_m(1, development=False)
        disjoint, shared = (mnist_m_halves(1, disjoint=flag) for flag in (True, False))
        assert len(disjoint.source) == len(disjoint.target) == len(whole.source) // 2
        assert torch.equal(disjoint.source, shared.source) and torch.equal(shared.source_labels, shared.target_labels)
        rows = {image.numpy().tobytes(): number for number, image in enumerate(whole.target)}
        theirs = {rows[image.numpy().tobytes()] for image in disjoint.target}
        ours = {rows[image.numpy().tobytes()] for image in shared.target}
        assert len(theirs) == len(ours) == len(whole.target) // 2 and not theirs & ours

    def test_tests_of_the_main_pair_are_never_trained_on(self) -> None:
        train, test = digit_regions()
        assert len(test) == 1000 and not set(train.tolist()) & set(test.tolist())


def test_no_seed_is_used_twice() -> None:
    names = ("dann_mnistm_dev", "dann_mnistm", "03_lambda", "03_label_shift", "03_pairs")
    seeds = [seed for name in names for seed in results.load(name).seeds]
    assert len(set(seeds)) == len(seeds)
