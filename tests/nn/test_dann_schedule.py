"""λ の予定: 式との一致、端の値、桁、断り方。"""

import itertools
import math
from decimal import Decimal, localcontext

import pytest

from tlkit.nn import dann_lambda


def exact(progress: float, gamma: float) -> float:
    """2 / (1 + exp(−γp)) − 1 を 60 桁で。"""
    with localcontext() as context:
        context.prec = 60
        return float(2 / (1 + (-Decimal(gamma) * Decimal(progress)).exp()) - 1)


@pytest.mark.parametrize("gamma", [0.1, 1.0, 5.0, 10.0, 40.0])
def test_equals_the_formula_at_many_points(gamma: float) -> None:
    for step in range(1001):
        p = step / 1000
        assert dann_lambda(p, gamma) == pytest.approx(exact(p, gamma), rel=1e-14, abs=0)


def test_default_gamma_and_the_ends() -> None:
    assert dann_lambda(0.0) == 0.0 and dann_lambda(0) == 0.0
    assert dann_lambda(0.5) == pytest.approx(0.98661429815143, abs=1e-14)
    assert dann_lambda(1.0) == pytest.approx(0.99990920426259, abs=1e-14) and dann_lambda(1) < 1


def test_rises_all_the_way_and_faster_for_a_larger_gamma() -> None:
    values = [dann_lambda(step / 500) for step in range(501)]
    assert all(a < b for a, b in itertools.pairwise(values))
    assert all(dann_lambda(p, 5.0) < dann_lambda(p, 10.0) for p in (0.01, 0.1, 0.5, 0.9))
    assert dann_lambda(0.3, 1.0) == pytest.approx(dann_lambda(1.0, 0.3), rel=1e-15)  # 積 γp だけで決まる


def test_keeps_its_digits_near_zero_and_never_overflows() -> None:
    assert dann_lambda(1e-12) == pytest.approx(5e-12, rel=1e-14)  # 式のままだと、引き算で 4 桁しか残らない
    assert dann_lambda(1e-300) == pytest.approx(5e-300, rel=1e-14)
    assert dann_lambda(1.0, 1e308) == 1.0 and dann_lambda(0.0, 1e308) == 0.0


@pytest.mark.parametrize("progress", [-1e-9, 1 + 1e-9, 100, math.nan, math.inf])
def test_progress_outside_zero_to_one_is_refused(progress: float) -> None:
    with pytest.raises(ValueError, match=r"progress に .* が渡されました。0 以上 1 以下.*総ステップ数"):
        dann_lambda(progress)


@pytest.mark.parametrize("gamma", [0.0, -10.0, math.nan, math.inf])
def test_bad_gamma_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match=r"gamma に .* が渡されました。正の有限な数"):
        dann_lambda(0.5, gamma)
