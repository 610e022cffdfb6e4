"""学習済みの重みを答えにする問題: 重みだけが檻から出て、判定は檻の外の、こちらの構造と隠した検査データで行う。

いまの章には、この形の問題がまだない。`checks/weights.py` の道具だけで作れることを、検査用の問題 99-11 で確かめる。
検査データの種は、檻に渡す種とは別にする。檻に渡す種からは作れないので、検査データで学習することはできない。
"""

import base64
import dataclasses
import pickle

import pytest
import torch
from cage_kit import SEEDS, make_tree, run_answers
from caged_questions import WEIGHTS
from safetensors.torch import save
from small_release import release
from torch import nn

from tlkit.course.checks import weights
from tlkit.course.checks.question import PASSED, noted, wrong
from tlkit.course.grading import judging
from tlkit.course.grading.rows import result_to_json

pytestmark = pytest.mark.linux
HIDDEN_SEED = 987_654_321
NOISE = 0.15  # 正解の 15 % は入れ替わっている。学んで届くのは、およそ 0.85 まで
ENOUGH, TOO_GOOD = 0.7, 0.95
FLAG = "検査データの正解率が、学習で届くはずの範囲を超えています。検査データの混入がないか、本人に確かめてください。"
HONEST = """
import torch
from torch import nn
generator = torch.Generator().manual_seed(5)
x = torch.randn(600, 20, generator=generator)
y = (x[:, :5].sum(1) > 0).long()
y = torch.where(torch.rand(600, generator=generator) < 0.15, 1 - y, y)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(20):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
weights = model.state_dict()
"""
LITERAL = "import base64\nfrom safetensors.torch import load\nweights = load(base64.b64decode({!r}))"
SMUGGLED = """
import base64
from tlkit.course.checks import weights as tool
tool.save = lambda _: base64.b64decode({!r})
weights = {{}}
"""


def _net():
    return nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 2))


def _hidden():
    """隠した検査データ。檻の中には、作るコードも種もない。"""
    generator = torch.Generator().manual_seed(HIDDEN_SEED)
    x = torch.randn(300, 20, generator=generator)
    y = (x[:, :5].sum(1) > 0).long()
    return x, torch.where(torch.rand(300, generator=generator) < NOISE, 1 - y, y)


def _judge(data, _inputs):
    try:
        state = weights.unpack(data["weights"], _net())
    except weights.WeightsError as error:
        return wrong(error.code, str(error))
    found = weights.accuracy(_net(), state, *_hidden())
    if found < ENOUGH:
        return wrong("weak", "隠した検査データでの正解率が足りません。")
    return noted(FLAG) if found > TOO_GOOD else PASSED


def _trained_on_the_hidden_set():
    """検査データそのもので学習した重み。"""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, (x, y) = _net(), _hidden()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(300):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    return save(net.state_dict())


QUESTION = dataclasses.replace(WEIGHTS, judge=_judge)
ASSIGNMENT = dataclasses.replace(release(), questions=(QUESTION,))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("weights"))


def _grade(tree, source):
    outcome = run_answers(tree, {QUESTION.id: source})
    return judging.judge(outcome, ASSIGNMENT, SEEDS)


def test_honest_weights_pass_without_a_note(tree):
    result = _grade(tree, HONEST)
    assert (result.state, result.total, result.notes) == ("graded", 5, ())


def test_weights_trained_on_the_hidden_set_are_flagged_and_not_punished(tree):
    result = _grade(tree, LITERAL.format(base64.b64encode(_trained_on_the_hidden_set()).decode()))
    assert (result.state, result.total) == ("graded", 5)
    assert result.notes == (f"99-11: {FLAG}",)
    assert result.feedback["99-11"].message == "合格"


def test_weights_of_another_architecture_get_nothing(tree):
    result = _grade(tree, HONEST.replace("128", "64"))
    assert (result.state, result.total) == ("graded", 0)


def test_a_pickle_smuggled_out_as_weights_is_never_read(tree, tmp_path):
    mark = tmp_path / "bomb-went-off"

    class Bomb:
        def __reduce__(self):
            return mark.touch, ()

    result = _grade(tree, SMUGGLED.format(base64.b64encode(pickle.dumps(Bomb())).decode()))
    assert (result.state, result.total) == ("graded", 0)
    assert not mark.exists()


def test_the_seed_of_the_hidden_set_and_its_answers_are_in_no_result(tree):
    text = result_to_json(_grade(tree, LITERAL.format(base64.b64encode(save(_net().state_dict())).decode())))
    assert str(HIDDEN_SEED) not in text
    assert all(str(HIDDEN_SEED) not in path.read_text("utf-8") for path in tree.rglob("*.py"))
