"""装置の選択と、使えない装置への日本語の案内。"""

import pytest
import torch

from tlkit.device import pick_device


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, want in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda value=cuda: value)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda value=mps: value)
        assert pick_device().type == want


def test_cpu_is_always_usable() -> None:
    assert pick_device("cpu") == torch.device("cpu")


def test_absent_device_points_to_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="tlkit doctor"):
        pick_device("cuda")


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'gpu'"):
        pick_device("gpu")


@pytest.mark.cuda
def test_cuda_is_picked_where_it_exists() -> None:
    assert pick_device().type == "cuda"
