"""教師モデルのロジットの前計算: 順、状態、断り方。"""

import pytest
import torch
from distill_kit import DEVICES, data, loader, snapshot, tiny, unchanged
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler

from tlkit.distill import WithTeacherLogits, teacher_logits


@pytest.mark.parametrize("device", DEVICES)
def test_rows_follow_the_loader_and_the_last_partial_batch_is_used(device: str) -> None:
    model, dataset = tiny(1, dropout=0.5), data(37)
    before = snapshot(model)
    rows = teacher_logits(model, loader(dataset, shuffle=False), device=device)
    assert rows.shape == (37, 3) and rows.device.type == "cpu" and not rows.is_inference() and not rows.requires_grad
    with torch.no_grad():
        want = model.cpu().eval()(dataset.tensors[0])
    torch.testing.assert_close(rows, want, rtol=1e-4, atol=1e-5)
    assert unchanged(model, before)


def test_modes_are_put_back_part_by_part() -> None:
    model = tiny(1).train()
    model[1].eval()
    teacher_logits(model, loader(shuffle=False))
    assert model.training and model[0].training and not model[1].training


def test_dtype_is_that_of_the_model() -> None:
    batches = [(x.double(), y) for x, y in loader(shuffle=False)]
    assert teacher_logits(tiny(1).double(), batches).dtype == torch.float64


def test_loaders_that_lose_the_order_are_refused() -> None:
    subset = DataLoader(data(), sampler=SubsetRandomSampler(range(40)))
    for wrong in (loader(shuffle=True), subset, DataLoader(data(), batch_size=7, drop_last=True)):
        with pytest.raises(ValueError, match=r"shuffle=True.*drop_last=True"):
            teacher_logits(tiny(1), wrong)


def test_empty_loaders_and_other_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="loader が空"):
        teacher_logits(tiny(1), [])
    with pytest.raises(ValueError, match=r"教師モデルが \(8, 2, 2\) を返しました.*\(8, C\)"):
        teacher_logits(nn.Unflatten(1, (2, 2)), loader(shuffle=False))
    with pytest.raises(ValueError, match="教師モデルが tuple を返しました"):
        teacher_logits(TwoOutputs(), loader(shuffle=False))


class TwoOutputs(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_each_image_keeps_its_own_logits_after_shuffling() -> None:
    dataset = data(30)
    rows = torch.cat([dataset.tensors[0].sum(1, keepdim=True)] * 3, dim=1)
    joined = WithTeacherLogits(dataset, rows)
    assert len(joined) == 30
    for x, y, z in loader(joined):
        torch.testing.assert_close(z[:, 0], x.sum(1))
        assert y.dtype == torch.int64


@pytest.mark.parametrize("rows", [torch.zeros(29, 3), torch.zeros(30)])
def test_logits_of_another_dataset_are_refused(rows: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"30 件.*teacher_logits"):
        WithTeacherLogits(data(30), rows)
