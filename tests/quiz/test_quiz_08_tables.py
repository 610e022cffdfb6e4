"""08 章のクイズのうち、表の問題と概念の問題を確かめる。数値の問題は test_quiz_08_claims.py、コードは test_quiz_08_code.py。"""

import pytest
import torch
import torch.nn.functional as F
from quiz_08_values import ITEMS, d, numbers, only_the_answer, table
from torch import Tensor, nn
from torch.func import functional_call

from tlkit.fewshot import ClassSplit, Episode
from tlkit.meta import MAML, MetaDistillation

Params = dict[str, Tensor]


def test_only_one_split_hides_the_letters_and_changes_the_typeface() -> None:
    def read(cell: str) -> tuple[set[str], set[str]]:
        """「漢字と仮名（明朝体）」から、字の種類と書体。"""
        letters, faces = cell.removesuffix("）").split("（")
        return set(letters.split("と")), set(faces.split("と"))

    found = []
    for _, *cells in table(ITEMS["q08-03"]):
        train, support, query = map(read, cells)
        assert support[0] == query[0]
        found.append((not train[0] & query[0], not support[1] & query[1]))
    assert only_the_answer(ITEMS["q08-03"], [all(both) for both in found])
    assert found == [(False, True), (True, True), (False, True), (True, False)]
    with pytest.raises(ValueError, match="2 回出てきます"):
        ClassSplit(train=(0, 1, 2), val=(), test=(2, 3))


SUPPORT14, MEAN14, VARIANCE14 = d(0, 2, 8, 10), 5, 17


def nearest(support: Tensor, query: Tensor) -> str:
    """正規化した値 (4,) と、クエリの一つから、最も近いプロトタイプのクラス。"""
    return "AB"[int((support.unflatten(0, (2, 2)).mean(1) - query).abs().argmin())]


def own(x: Tensor) -> Tensor:
    """渡した集合の統計で正規化する。"""
    return F.batch_norm(x[:, None], None, None, training=True, eps=1e-12)[:, 0]


def moving(x: Tensor) -> Tensor:
    return (x - MEAN14) / VARIANCE14**0.5


def test_companions_change_the_answer_only_with_their_own_statistics() -> None:
    item = ITEMS["q08-14"]
    assert (SUPPORT14.mean(), SUPPORT14.var(correction=0)) == (MEAN14, VARIANCE14)
    assert numbers(item.stem)[3:10] == [*SUPPORT14.tolist(), 8, MEAN14, VARIANCE14]  # 前の三つは、次元と γ と β
    queries = [d(8, *numbers(row[0])) for row in table(item)]
    assert sorted(queries[0].tolist()) == SUPPORT14.tolist() and queries[1].tolist() == [8, 10, 10, 10]
    by_own = [nearest(own(SUPPORT14), own(query)[0]) for query in queries]
    by_moving = [nearest(moving(SUPPORT14), moving(query)[0]) for query in queries]
    assert [by_own, by_moving] == [[row[1] for row in table(item)], [row[2] for row in table(item)]]
    swapped = nearest(moving(d(8, 6, 0, 2)), moving(queries[0])[0])  # サポートだけを替える
    labels_used = False  # own の引数に、ラベルはない
    prototypes_move = False  # own(SUPPORT14) は、クエリによらない
    claims = [labels_used, prototypes_move, len(set(by_own)) > 1, swapped == by_moving[0]]
    assert only_the_answer(item, claims) and len(set(by_moving)) == 1
    assert queries[1].mean() == 9.5 and own(queries[1])[0] < 0


def test_made_up_differences_are_consistent_and_support_one_claim() -> None:
    item = ITEMS["q08-20"]
    proto, distilled, between = ([numbers(cell) for cell in row[1:]] for row in table(item))
    for shots in range(2):
        assert distilled[shots][0] - proto[shots][0] == pytest.approx(between[shots][0])

    def verdict(interval: list[float]) -> int:
        mean, half = interval
        return 0 if abs(mean) <= half else 1 if mean > 0 else -1

    assert [[verdict(cell) for cell in row] for row in (proto, distilled, between)] == [[1, 0], [0, 1], [-1, 0]]
    one_shot_equal = sum(map(abs, distilled[0])) < 0.01  # 区間が、0 のごく近くに収まるか
    best = verdict(distilled[1]) == verdict(between[1]) == 1
    assert only_the_answer(item, [one_shot_equal, verdict(between[0]) == -1, verdict(proto[1]) == 1, best])
    assert distilled[0][0] - distilled[0][1] < 0 < 0.03 < sum(distilled[0])


def test_only_a_loss_without_curvature_makes_the_two_gradients_equal() -> None:
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0], [2.0, 0.3]], dtype=torch.float64)

    def curved(t: Tensor) -> Tensor:
        return (x @ t).tanh().square().mean()

    def bowl(t: Tensor) -> Tensor:
        return 0.4 * t.square().sum()

    def cut(t: Tensor) -> Tensor:
        return (x[:2] @ t).tanh().square().mean()

    equal, cosines = [], []
    for support, lr in ((bowl, 0.5), (curved, 0.5), (cut, 1e-2), (lambda t: (x @ t).sum(), 0.5)):
        theta = start.clone().requires_grad_()
        (inner,) = torch.autograd.grad(support(theta), theta, create_graph=True)
        slopes = [
            torch.autograd.grad(curved(theta - lr * g), theta, retain_graph=True)[0] for g in (inner, inner.detach())
        ]
        equal.append(torch.allclose(*slopes, rtol=1e-10, atol=0))
        cosines.append(F.cosine_similarity(*slopes, dim=0).item())
        assert support is not cut or support(theta - lr * inner) < support(theta)
    assert only_the_answer(ITEMS["q08-10"], equal)
    assert cosines[0] == pytest.approx(1) and cosines[1] < 0.9999


def episode(ways: int = 2) -> Episode:
    torch.manual_seed(0)
    y = torch.arange(8) % ways
    return Episode(*(part for _ in range(2) for part in (torch.randn(8, 3, dtype=torch.float64), y)))


def network(width: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2)).double()


def test_maml_moves_every_layer_and_anil_the_last() -> None:
    model = network(4, 0)
    moved = [MAML(0.1, 1, inner=inner).adapted(model, episode()).keys() for inner in (None, "2")]
    assert list(moved[0]) == ["0.weight", "0.bias", "2.weight", "2.bias"] and list(moved[1]) == ["2.weight", "2.bias"]
    named = [choice.split("、") for choice in ITEMS["q08-13"].choices]
    assert named[ITEMS["q08-13"].answer][:2] == ["MAML", "ANIL"]


def test_teacher_sees_the_support_and_the_adapted_student_is_scored() -> None:
    e, seen = episode(), []
    teacher, student = network(8, 1), network(4, 2)
    teacher.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method = MetaDistillation(teacher, student, inner_lr=0.5, inner_steps=3, temperature=2.0, alpha=0.5)
    loss = method(*e)
    fast = functional_call(student, method.adapted(e.support_x, e.support_y), (e.query_x,))
    scores_adapted = torch.isclose(loss, F.cross_entropy(fast, e.query_y)).item()
    scores_start = torch.isclose(loss, F.cross_entropy(student(e.query_x), e.query_y)).item()
    support_only = bool(seen) and all(torch.equal(x, e.support_x) for x in seen)
    assert scores_adapted != scores_start
    facts = (scores_adapted, support_only)
    found = [(choice.startswith("適応した"), choice.endswith("だけ")) == facts for choice in ITEMS["q08-16"].choices]
    assert only_the_answer(ITEMS["q08-16"], found)


def distilled(
    bug: int | None, lr: float, steps: int, temperature: float
) -> tuple[Tensor, Params, nn.Module, nn.Module]:
    """q08-18 の選択肢 bug の誤りを一つだけ入れたメタ蒸留。外側の損失、適応した重み、教師モデル、生徒モデル。"""
    e, teacher, student = episode(), network(8, 1), network(4, 2)
    p = (teacher(e.support_x) / temperature).softmax(1)
    start = fast = dict(student.named_parameters())
    for _ in range(steps):
        now = start if bug == 1 else fast
        s = functional_call(student, now, (e.support_x,))
        soft = temperature**2 * F.kl_div((s / temperature).log_softmax(1), p, reduction="batchmean")
        loss = 0.5 * (0 if bug == 3 else soft) + 0.5 * F.cross_entropy(s, e.support_y)
        slopes = torch.autograd.grad(loss, list(now.values()), create_graph=bug != 2)
        fast = {name: v - lr * g for (name, v), g in zip(fast.items(), slopes, strict=True)}
    query = functional_call(student, start if bug == 0 else fast, (e.query_x,))
    return F.cross_entropy(query, e.query_y), fast, teacher, student


def symptoms(bug: int | None) -> list[bool]:
    """表の行の順に、変わるか、違うか、変わるか、0 でないか、0 でないか。"""
    none, many = (int(n) for n in numbers(table(ITEMS["q08-18"])[0][0]))
    small, times, large, once = numbers(table(ITEMS["q08-18"])[1][0])
    assert (none, small * times) == (0, large * once)
    loss, _, teacher, student = distilled(bug, 0.1, many, 2.0)
    far = [distilled(bug, lr, int(steps), 2.0)[1] for lr, steps in ((small, times), (large, once))]
    changed = [
        not torch.isclose(loss, distilled(bug, *other)[0], rtol=1e-9) for other in ((0.1, none, 2.0), (0.1, many, 8.0))
    ]
    slopes = [
        torch.autograd.grad(loss, list(m.parameters()), allow_unused=True, materialize_grads=True, retain_graph=True)
        for m in (student, teacher)
    ]
    moves = [any(g.abs().max() > 0 for g in found) for found in slopes]
    return [changed[0], any(not torch.allclose(far[0][n], far[1][n]) for n in far[0]), changed[1], *moves]


def test_only_one_bug_has_the_symptoms_of_the_table() -> None:
    item = ITEMS["q08-18"]
    told = [{"変わる": True, "違う": True, "0でない": True, "ちょうど0": False}[row[1]] for row in table(item)]
    found = [symptoms(bug) for bug in range(4)]
    assert only_the_answer(item, [states == told for states in found])
    assert [states[4] for states in found] == [False, True, False, False]  # 教師モデルの勾配
    assert [found[0][0], found[1][1], found[3][2]] == [False, False, False]  # 理由に書かれた、合わない行
    assert symptoms(None) == [True] * 5
