"""ソースとターゲットの組: 長いほうを 1 周、短いほうの引き直し、ラベルを捨てること、乱数の保存、断り方。"""

import pytest
import torch
from adapt_kit import DEVICES
from torch.utils.data import DataLoader, TensorDataset

from tlkit.adapt import PairLoader
from tlkit.adapt.pairs import inputs_of


def numbered(n: int, batch: int, *, seed: int | None = 0, start: int = 0, labelled: bool = True) -> DataLoader:
    """値がそのまま番号になるデータ。seed が None なら並べ替えない。"""
    x = torch.arange(start, start + n)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    data = TensorDataset(x, 10 * x) if labelled else x
    return DataLoader(data, batch_size=batch, shuffle=seed is not None, generator=generator)


def walk(pairs: PairLoader) -> tuple[list[list[int]], list[list[int]]]:
    """1 周したときの、バッチごとの番号。ラベルが入力に付いたままかも確かめる。"""
    sources, targets = [], []
    for (x, y), t in pairs:
        assert torch.equal(y, 10 * x)
        sources.append(x.tolist())
        targets.append(t.tolist())
    return sources, targets


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize(("n", "m"), [(50, 12), (12, 50), (20, 20), (21, 4), (3, 40), (40, 36)])
def test_the_longer_is_covered_exactly_once_and_never_truncated(n: int, m: int) -> None:
    pairs = PairLoader(numbered(n, 4), numbered(m, 4, seed=1, start=1000))
    assert len(pairs) == max(-(-n // 4), -(-m // 4))
    for _ in range(3):
        sources, targets = walk(pairs)
        assert len(sources) == len(targets) == len(pairs)
        longer, size, start = (sources, n, 0) if n >= m else (targets, m, 1000)
        assert sorted(flat(longer)) == list(range(start, start + size))


@pytest.mark.parametrize("short_is_target", [True, False])
def test_the_shorter_is_shuffled_again_each_time_it_runs_out(short_is_target: bool) -> None:
    long, short = numbered(60, 4), numbered(12, 4, seed=1)
    pairs = PairLoader(long, short) if short_is_target else PairLoader(short, long)
    batches = walk(pairs)[int(short_is_target)]
    rounds = [tuple(flat(batches[start : start + 3])) for start in range(0, 15, 3)]
    assert all(sorted(one) == list(range(12)) for one in rounds)
    assert len(set(rounds)) == 5, "短いほうが、同じ順でくり返されています"


def test_every_pass_starts_both_loaders_anew() -> None:
    pairs = PairLoader(numbered(20, 4, seed=None), numbered(12, 4, seed=None, start=100))
    first, second = walk(pairs), walk(pairs)
    assert first == second
    assert [batch[0] for batch in first[0]] == [0, 4, 8, 12, 16]
    assert [batch[0] for batch in first[1]] == [100, 104, 108, 100, 104]
    shuffled = PairLoader(numbered(20, 4), numbered(12, 4, seed=1))
    one, two = walk(shuffled), walk(shuffled)
    assert one[0] != two[0] and one[1][:3] != two[1][:3]


def test_unequal_batch_sizes_and_incomplete_batches() -> None:
    sources, targets = walk(PairLoader(numbered(10, 4), numbered(9, 2, seed=1)))
    assert [len(batch) for batch in sources] == [4, 4, 2, 4, 4]
    assert [len(batch) for batch in targets] == [2, 2, 2, 2, 1]
    assert sorted(flat(targets)) == list(range(9))


@pytest.mark.parametrize("labelled", [True, False])
def test_the_labels_of_the_target_never_come_out(labelled: bool) -> None:
    for pair in PairLoader(numbered(8, 4), numbered(8, 4, seed=1, start=100, labelled=labelled)):
        assert isinstance(pair, tuple) and len(pair) == 2 and len(pair[0]) == 2
        assert isinstance(pair[1], torch.Tensor)
        assert pair[1].min() >= 100 and pair[1].max() < 108  # ラベルなら 1000 以上


def test_same_seeds_same_pairs() -> None:
    def run(seed: int) -> list:
        pairs = PairLoader(numbered(20, 4, seed=seed), numbered(12, 4, seed=seed + 1))
        return [walk(pairs), walk(pairs)]

    assert run(0) == run(0) != run(5)


@pytest.mark.parametrize("shared", [True, False])
def test_the_random_state_can_be_taken_and_put_back(shared: bool) -> None:
    source, target = numbered(20, 4), numbered(12, 4, seed=1)
    if shared:
        target = DataLoader(target.dataset, batch_size=4, shuffle=True, generator=source.generator)
    pairs = PairLoader(source, target)
    walk(pairs)
    state = pairs.generator.get_state()
    assert len(state) == (1 if shared else 2)
    following = walk(pairs)
    assert walk(pairs) != following
    pairs.generator.set_state(state)
    assert walk(pairs) == following


def test_loaders_without_their_own_randomness_have_an_empty_state() -> None:
    pairs = PairLoader(numbered(8, 4, seed=None), numbered(8, 4, seed=None))
    state = pairs.generator.get_state()
    assert len(state) == 0
    pairs.generator.set_state(state)


def test_a_state_of_other_loaders_is_refused() -> None:
    state = PairLoader(numbered(8, 4), numbered(8, 4, seed=1)).generator.get_state()
    with pytest.raises(ValueError, match=r"乱数生成器 2 個の状態.*0 個あります.*同じ作り方"):
        PairLoader(numbered(8, 4, seed=None), numbered(8, 4, seed=None)).generator.set_state(state)


@pytest.mark.parametrize("empty", ["source", "target"])
def test_empty_loaders_are_refused(empty: str) -> None:
    full, nothing = numbered(8, 4), DataLoader(torch.zeros(3), batch_size=4, drop_last=True)
    arguments = (nothing, full) if empty == "source" else (full, nothing)
    with pytest.raises(ValueError, match=f"{empty} のローダーが空です.*drop_last"):
        PairLoader(*arguments)


@pytest.mark.parametrize(
    ("data", "given"), [(torch.arange(8), "Tensor"), (TensorDataset(*[torch.arange(8)] * 3), "3 個の組")]
)
def test_a_source_without_labels_is_refused(data: object, given: str) -> None:
    pairs = PairLoader(DataLoader(data, batch_size=4), numbered(8, 4))
    with pytest.raises(ValueError, match=rf"source のローダーが {given}を返しました。（入力, ラベル）"):
        next(iter(pairs))


@pytest.mark.parametrize("device", DEVICES)
def test_inputs_of_any_batch(device: str) -> None:
    x, y = torch.arange(3, device=device), torch.arange(4, device=device)
    for batch in (x, (x, y), [x, y], (x,)):
        assert inputs_of(batch) is x
