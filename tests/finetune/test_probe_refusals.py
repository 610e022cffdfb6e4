"""線形プローブが断るもの: 罰則、ラベル、特徴、分類の層の誤り。断ったとき、モデルは変わらない。"""

import copy
import math

import pytest
import scipy.optimize
import torch
import torch.nn.functional as F
from finetune_kit import Bare, blobs, moved
from torch import Tensor, nn
from torchvision.models import get_model

from tlkit.finetune import fit_head


@pytest.mark.parametrize("l2", [0.0, -1.0, math.nan, math.inf])
def test_wrong_l2_is_refused(l2: float) -> None:
    with pytest.raises(ValueError, match=rf"l2 に {l2!r} が渡されました。正の有限の値"):
        fit_head(Bare().double(), [blobs()], l2=l2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.arange(90) % 5, r"0 から 3 までの整数"),
        (torch.arange(90) % 4 - 1, r"0 から 3 までの整数"),
        ((torch.arange(90) % 4).double(), r"dtype が torch\.float64"),
        (torch.ones(90, dtype=torch.bool), r"dtype が torch\.bool"),
        (F.one_hot(torch.arange(90) % 4), r"形が \(90, 4\)"),
    ],
)
def test_wrong_labels_are_refused_and_nothing_changes(labels: Tensor, message: str) -> None:
    model = Bare().double()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        fit_head(model, [(blobs()[0], labels)])
    assert moved(before, model) == set()


def test_wrong_features_are_refused() -> None:
    x, y = blobs()
    with pytest.raises(ValueError, match="特徴は 4 次元ですが、分類の層の入力は 5 次元"):
        fit_head(Bare().double(), [(x[:, :4], y)])
    with pytest.raises(ValueError, match="特徴に NaN か無限大"):
        fit_head(Bare().double(), [(x.log(), y)])
    with pytest.raises(ValueError, match="loader が空です"):
        fit_head(Bare(), [])


def test_models_without_a_usable_head_are_refused() -> None:
    with pytest.raises(ValueError, match=r"classifier\.1 は Conv2d です.*TransferModel"):
        fit_head(get_model("squeezenet1_1", weights=None), [blobs()])
    with pytest.raises(ValueError, match=r"ResNet に features\(x\) がありません"):
        fit_head(get_model("resnet18", weights=None), [blobs()])
    with pytest.raises(ValueError, match="分類の層が見つかりません"):
        fit_head(nn.Sequential(nn.ReLU()), [blobs()])


def test_an_unfinished_search_is_told_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scipy.optimize.minimize

    def hasty(*args: object, options: dict, **kwargs: object) -> object:
        return whole(*args, options={**options, "maxiter": 2}, **kwargs)

    monkeypatch.setattr(scipy.optimize, "minimize", hasty)
    model = Bare().double()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"2 回の反復で.*l2 を大きく"):
        fit_head(model, [blobs()])
    assert moved(before, model) == set()
