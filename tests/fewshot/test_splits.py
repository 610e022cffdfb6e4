"""クラスの分け方: 漏れがなく、重なりがなく、種で決まること。"""

import pytest
import torch

from tlkit.fewshot import ClassSplit, split_classes


def test_every_class_is_in_exactly_one_part() -> None:
    labels = torch.arange(5, 45).repeat(3)
    split = split_classes(labels, val=7, test=9, seed=3)
    assert [len(part) for part in (split.train, split.val, split.test)] == [24, 7, 9]
    assert sorted([*split.train, *split.val, *split.test]) == list(range(5, 45))


def test_the_seed_decides_and_the_order_of_labels_does_not() -> None:
    labels = torch.arange(40)
    assert split_classes(labels, val=5, test=5, seed=1) == split_classes(labels.flip(0), val=5, test=5, seed=1)
    assert split_classes(labels, val=5, test=5, seed=1) != split_classes(labels, val=5, test=5, seed=2)


def test_classes_are_mixed() -> None:
    """番号の順に切ると、似たクラスが一つの部分に固まる。"""
    split = split_classes(range(100), val=20, test=20, seed=0)
    assert split.test != tuple(range(80, 100)) and split.test != tuple(range(20))


@pytest.mark.parametrize("parts", [((1, 2), (2,), (3,)), ((1, 2), (), (1,)), ((1, 1), (), (3,)), ((1,), (5, 5), (3,))])
def test_a_class_in_two_parts_is_refused(parts: tuple) -> None:
    with pytest.raises(ValueError, match="2 回出てきます"):
        ClassSplit(*parts)


def test_parts_by_name() -> None:
    split = ClassSplit([3, 1], torch.tensor([2]), range(7, 9))
    assert (split.classes("train"), split.classes("val"), split.classes("test")) == ((3, 1), (2,), (7, 8))
    with pytest.raises(ValueError, match="part に 'dev'"):
        split.classes("dev")
    with pytest.raises(ValueError, match="train に整数でない値"):
        ClassSplit((1.5,), (), (2,))


@pytest.mark.parametrize(("val", "test"), [(-1, 2), (0, 0), (3, 2), (0, 5)])
def test_impossible_sizes_are_refused(val: int, test: int) -> None:
    with pytest.raises(ValueError, match="クラスは 5 個"):
        split_classes(range(5), val=val, test=test, seed=0)
