"""エピソードの抽選: クラスも画像も漏れない、種で決まる、足りなければ知らせる。"""

import itertools
from collections import Counter

import pytest
import torch
from fewshot_kit import SPLIT, numbered, numbers, sampler
from torch import Tensor

from tlkit.fewshot import ClassSplit, Episode, EpisodeBatches, EpisodeSampler


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_only_the_classes_of_the_part_appear(part: str) -> None:
    _, labels = numbered()
    seen = set()
    for episode in sampler(part, episodes=60):
        seen |= set(labels[numbers(episode.support_x) + numbers(episode.query_x)].tolist())
    assert seen == set(SPLIT.classes(part))


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_images_of_other_parts_are_out_of_reach(part: str) -> None:
    _, labels = numbered()
    held = torch.cat(list(sampler(part).pools.images.values()))
    assert set(labels[held].tolist()) == set(SPLIT.classes(part))


def test_an_episode_has_the_promised_counts_and_true_labels() -> None:
    _, labels = numbered()
    for episode in sampler():
        assert episode.support_x.shape == (6, 1, 2, 2) and episode.query_x.shape == (9, 1, 2, 2)
        assert Counter(episode.support_y.tolist()) == {0: 2, 1: 2, 2: 2}
        assert Counter(episode.query_y.tolist()) == {0: 3, 1: 3, 2: 3}
        own = labels[numbers(episode.support_x) + numbers(episode.query_x)].tolist()
        pairs = set(zip(own, [*episode.support_y.tolist(), *episode.query_y.tolist()], strict=True))
        assert len(pairs) == 3  # 元のクラスと課題の中の番号が、1 対 1 に対応する


def test_no_image_is_used_twice_in_an_episode() -> None:
    for episode in sampler(episodes=50):
        used = numbers(episode.support_x) + numbers(episode.query_x)
        assert len(used) == len(set(used))


def test_every_image_and_every_labelling_is_used() -> None:
    """端の画像が引かれない、クラスの順がいつも同じ、といった偏りがないこと。"""
    _, labels = numbered()
    support, first = Counter(), Counter()
    for episode in sampler(episodes=400):
        support.update(numbers(episode.support_x))
        first.update(
            labels[[n for n, y in zip(numbers(episode.support_x), episode.support_y, strict=True) if y == 0]].tolist()
        )
    expected = 400 * 6 / 30  # 訓練の画像は 30 枚
    assert len(support) == 30 and all(abs(n - expected) < 5 * expected**0.5 for n in support.values())
    assert set(first) == set(SPLIT.train) and min(first.values()) > 100


def test_labels_come_in_a_mixed_order() -> None:
    episodes = list(sampler())
    assert any(e.support_y.tolist() != sorted(e.support_y.tolist()) for e in episodes)
    assert any(e.query_y.tolist() != sorted(e.query_y.tolist()) for e in episodes)


def same(a: Episode, b: Episode) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_seed_decides_every_episode() -> None:
    first, second, other = list(sampler(seed=5)), list(sampler(seed=5)), list(sampler(seed=6))
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert not any(same(a, b) for a, b in zip(first, other, strict=True))


def test_the_global_seed_has_no_say() -> None:
    torch.manual_seed(0)
    first = next(iter(sampler()))
    torch.manual_seed(1)
    assert same(first, next(iter(sampler())))


def test_fresh_rounds_differ_and_fixed_rounds_repeat() -> None:
    training, checking = sampler(), sampler(fresh=False)
    assert not same(next(iter(training)), next(iter(training)))
    assert all(same(a, b) for a, b in zip(checking, checking, strict=True))
    assert len(training) == len(list(training)) == 20


def test_the_state_of_the_generator_resumes_the_stream() -> None:
    one, two = sampler(), sampler(seed=99)
    list(one)
    two.generator.set_state(one.generator.get_state())
    assert same(next(iter(one)), next(iter(two)))


class TestGroups:
    """組（書体など）が、サポートとクエリで必ず違うこと。"""

    def data(self, drop: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        labels, groups = torch.arange(6).repeat_interleave(3), torch.arange(3).repeat(6)
        images = torch.arange(18.0).reshape(-1, 1, 1, 1)
        keep = torch.tensor([(c, g) != drop for c, g in zip(labels.tolist(), groups.tolist(), strict=True)])
        return images[keep], labels[keep], groups[keep]

    def make(self, drop: tuple[int, int] | None = None, **options: object) -> EpisodeSampler:
        images, labels, groups = self.data(drop)
        settings = {"ways": 4, "shots": 1, "queries": 1, "episodes": 200, "seed": 0, "groups": groups} | options
        return EpisodeSampler(images, labels, ClassSplit((0, 1, 2, 3, 4), (), (5,)), **settings)

    def test_each_side_has_one_group_and_they_differ(self) -> None:
        seen = set()
        for e in self.make():
            support, query = ({int(n) % 3 for n in numbers(x)} for x in (e.support_x, e.query_x))
            assert len(support) == len(query) == 1 and support != query
            seen.add((*support, *query))
        assert seen == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}

    def test_given_pairs_are_the_only_ones(self) -> None:
        for e in self.make(pairs=[(2, 0)]):
            assert {int(n) % 3 for n in numbers(e.support_x)} == {2}
            assert {int(n) % 3 for n in numbers(e.query_x)} == {0}

    def test_repeats_give_differently_changed_pictures_of_one_image(self) -> None:
        def change(images: Tensor, generator: torch.Generator) -> Tensor:
            return images + torch.rand(images.shape, generator=generator) * 0.5

        for e in self.make(shots=3, queries=4, repeat=True, transform=change, episodes=20):
            assert e.support_x.shape[0] == 12 and e.query_x.shape[0] == 16
            assert len(set(e.support_x.flatten().tolist())) == 12
            assert not set(numbers(e.support_x)) & set(numbers(e.query_x))

    def test_repeats_use_every_image_before_using_one_again(self) -> None:
        images, labels, groups = (torch.cat([part, part]) for part in self.data())
        images = torch.arange(36.0).reshape(-1, 1, 1, 1)
        made = EpisodeSampler(
            *(images, labels, ClassSplit((0, 1, 2), (), (5,))),
            **{"ways": 2, "shots": 3, "queries": 2, "episodes": 30, "seed": 0, "groups": groups},
            repeat=True,
            transform=lambda x, _: x,
        )
        for e in made:
            per_class = [
                Counter(n for n, y in zip(numbers(e.support_x), e.support_y, strict=True) if y == k) for k in (0, 1)
            ]
            assert all(sorted(counts.values()) == [1, 2] for counts in per_class)

    def test_a_class_absent_from_a_group_is_left_out_only_there(self) -> None:
        seen = Counter()
        for e in self.make(drop=(1, 2)):
            group = int(numbers(e.support_x)[0]) % 3
            classes = {int(n) // 3 for n in numbers(e.support_x)}
            assert not (group == 2 and 1 in classes)
            seen.update(classes)
        assert seen[1] > 0

    def test_too_few_classes_for_a_pair_are_named(self) -> None:
        with pytest.raises(
            ValueError, match=r"サポートの組 0、クエリの組 2 で.*4 個で、5 個必要.*クラス 1（組 2 に 1 枚必要、0 枚）"
        ):
            self.make(drop=(1, 2), ways=5, pairs=[(0, 2)])

    @pytest.mark.parametrize("pairs", [[(0, 0)], [(0, 5)], []])
    def test_wrong_pairs_are_refused(self, pairs: list) -> None:
        with pytest.raises(ValueError, match=r"pairs に|使える組み合わせ"):
            self.make(pairs=pairs)

    def test_one_group_is_not_enough(self) -> None:
        groups = self.data()[2]
        with pytest.raises(ValueError, match="2 種類以上"):
            self.make(groups=torch.zeros_like(groups))


class TestErrors:
    def test_too_few_images_are_counted_per_class(self) -> None:
        images, labels = numbered()
        labels = labels.clone()
        labels[(labels == 2).nonzero()[:3]] = 7
        with pytest.raises(ValueError, match="画像が足りないクラスが 1 個あります: クラス 2（5 枚必要、3 枚）"):
            EpisodeSampler(images, labels, SPLIT, ways=3, shots=2, queries=3, episodes=1, seed=0)

    def test_an_absent_class_counts_as_zero_images(self) -> None:
        images, labels = numbered()
        with pytest.raises(ValueError, match="クラス 50（2 枚必要、0 枚）"):
            EpisodeSampler(
                images, labels, ClassSplit((1, 50), (), (2,)), ways=2, shots=1, queries=1, episodes=1, seed=0
            )

    def test_too_few_classes(self) -> None:
        with pytest.raises(ValueError, match="使えるクラスが 3 個で、4 個必要"):
            sampler("val", ways=4)

    @pytest.mark.parametrize("name", ["ways", "shots", "queries", "episodes"])
    @pytest.mark.parametrize("value", [0, -1, 2.0, True])
    def test_sizes_must_be_positive_integers(self, name: str, value: object) -> None:
        with pytest.raises(ValueError, match=f"{name} に {value!r}"):
            sampler(**{name: value})

    def test_one_way_is_no_task(self) -> None:
        with pytest.raises(ValueError, match="2 以上"):
            sampler(ways=1)

    def test_arguments_that_need_each_other(self) -> None:
        images, labels = numbered()
        with pytest.raises(ValueError, match="transform と groups の両方"):
            sampler(repeat=True, transform=lambda x, _: x)
        with pytest.raises(ValueError, match="groups がありません"):
            sampler(pairs=[(0, 1)])
        with pytest.raises(ValueError, match="ラベルと同じ"):
            sampler(groups=torch.zeros(3).long())
        with pytest.raises(ValueError, match="画像が 71 枚、ラベルが 72 個"):
            EpisodeSampler(images[1:], labels, SPLIT, ways=2, shots=1, queries=1, episodes=1, seed=0)
        with pytest.raises(ValueError, match="整数にして"):
            EpisodeSampler(images, labels.float(), SPLIT, ways=2, shots=1, queries=1, episodes=1, seed=0)


class TestBatches:
    def test_groups_the_same_stream(self) -> None:
        batches = EpisodeBatches(sampler(), 4)
        found = list(batches)
        assert len(batches) == len(found) == 5 and all(len(batch) == 4 for batch in found)
        assert all(same(a, b) for a, b in zip(sampler(), itertools.chain(*found), strict=True))

    @pytest.mark.parametrize("size", [0, 3])
    def test_size_must_divide_the_round(self, size: int) -> None:
        with pytest.raises(ValueError, match=f"size に {size} .*20 を割り切る"):
            EpisodeBatches(sampler(), size)
