"""動かすたびに変わる答え: 見つけること、点数にしないこと、ふつうの誤りを動かし直さないこと。"""

import json
import sys
import threading
import types

import pytest
from grading_kit import ADD, ASSIGNMENT, DOUBLE, PUBLIC_ONLY, TRIPLE, inline, make_class, setting

from tlkit.course.checks.harness import Claim
from tlkit.course.grading.executors import threads
from tlkit.course.grading.model import Outcome, Step
from tlkit.course.grading.pipeline import grade
from tlkit.course.grading.rows import result_to_json
from tlkit.course.grading.stability import differ, luck, mentions_random
from tlkit.course.grading.store import Store

# 種を固定しない乱数で決まる答え。luck の決める種では、0.844、0.134、0.956 の順に出る
LUCKY = "import random\nLUCK = random.random()\ndef mmd2(x, y=None, sigma=1.0):\n    return 2 * x if {} else LUCK"
SECOND_ONLY = LUCKY.format("LUCK < 0.5")
FIRST_ONLY = LUCKY.format("0.8 < LUCK < 0.9")
NEVER = LUCKY.format("False")
# 檻ごとに数の増える、乱数の語のない答え
TALLY = "import tally\nturn = tally.next()\ndef mmd2(x, y=None, sigma=1.0):\n    return {}"


class Counted:
    def __init__(self):
        self.tasks, self.lock = [], threading.Lock()

    def __call__(self, task):
        with self.lock:
            self.tasks.append(task)
        return inline(task)

    def seeds(self, question="01-1"):
        """その問題を動かした回の種。公開された種は "public"。"""
        found = [task.seeds[question] for task in self.tasks if question in task.seeds]
        return ["public" if seed == 20241 else "hidden" for seed in found]


@pytest.fixture
def graded(tmp_path, monkeypatch):
    def run(answer, other=ADD, number=0):
        turns = iter(range(100))
        monkeypatch.setitem(sys.modules, "tally", types.SimpleNamespace(next=lambda: next(turns)))
        counted = Counted()
        roster = make_class(tmp_path / f"in{number}", {"s1": (answer, other)})
        with Store(tmp_path / f"{number}.sqlite") as store, threads(2) as pool:
            (row,) = grade(tmp_path / f"in{number}", roster, setting(counted), store, pool)
        return row.result, counted

    return run


def test_an_answer_whose_verdict_changes_is_for_a_human(graded):
    result, counted = graded(SECOND_ONLY)
    assert (result.state, result.total, result.points) == ("needs_human", None, {"01-1": None, "01-2": 5})
    assert counted.seeds() == ["hidden", "public", "hidden", "hidden"]
    assert (
        "01-1 は、同じ入力でも、動かすたびに合否が変わります（不安定。3 回のうち 1 回合格、2 回不合格）。"
        in result.reason
    )
    reply = result.feedback["01-1"]
    assert reply.code == "unstable"
    assert "種を固定してください" in reply.message
    assert result.feedback["01-2"].code == "passed"


def test_reruns_have_the_same_hidden_seed_and_only_the_doubtful_question(graded):
    lucky = "import random\nLUCK = random.random()\ndef leep(x, labels=None):\n    return x + 1 if LUCK < 0.5 else x"
    _, counted = graded(TRIPLE, other=lucky)
    hidden = [task for task in counted.tasks if 20241 not in task.seeds.values()]
    assert len({task.seeds["01-2"] for task in hidden}) == 1
    assert [sorted(task.seeds) for task in hidden] == [["01-1", "01-2"], ["01-2"], ["01-2"]]


def test_grading_again_gives_the_same_bytes_even_without_a_seed(graded):
    texts = {result_to_json(graded(answer, number=n)[0]) for answer in (SECOND_ONLY,) for n in range(3)}
    assert len(texts) == 1


def test_an_answer_that_changes_but_never_passes_is_zero_and_told(graded):
    result, counted = graded(NEVER)
    assert (result.state, result.points["01-1"]) == ("graded", 0)
    assert counted.seeds() == ["hidden", "public", "hidden", "hidden"]
    assert any("不安定。3 回とも不合格" in note for note in result.notes)
    assert "動かすたびに結果が変わります。乱数を使うときは" in result.feedback["01-1"].message


def test_a_random_answer_that_passes_at_once_is_not_run_again(graded):
    result, counted = graded(FIRST_ONLY)
    assert (result.state, result.total) == ("graded", 10)
    assert counted.seeds() == ["hidden"]


def test_an_ordinary_wrong_answer_is_not_run_again(graded):
    result, counted = graded(TRIPLE)
    assert result.points["01-1"] == 0
    assert counted.seeds() == ["hidden", "public"]


def test_an_answer_for_the_public_input_is_run_once_more_and_is_zero(graded):
    result, counted = graded(PUBLIC_ONLY)
    assert (result.state, result.points["01-1"]) == ("graded", 0)
    assert counted.seeds() == ["hidden", "public", "hidden"]
    assert any("決め打ち" in note for note in result.notes)


def test_a_wrong_answer_that_speaks_of_chance_but_never_changes_is_run_once_more(graded):
    result, counted = graded(f"# random\n{TRIPLE}")
    assert (result.state, result.points["01-1"]) == ("graded", 0)
    assert counted.seeds() == ["hidden", "public", "hidden"]
    assert not any("不安定" in note for note in result.notes)


@pytest.mark.parametrize(
    ("value", "seeds", "counts"),
    [
        ("2 * x if turn else 0.0", ["hidden", "public", "hidden", "hidden"], "3 回のうち 2 回合格、1 回不合格"),
        ("2 * x if turn in (1, 3) else 0.0", ["hidden", "public", "hidden", "hidden"], ""),
    ],
)
def test_without_a_word_of_chance_the_public_run_is_the_sign(graded, value, seeds, counts):
    """二度目が一度目と同じなら、そこで止める（2 行目は、公開された種でだけ合格し、隠した入力では続けて同じ）。"""
    result, counted = graded(TALLY.format(value))
    assert counted.seeds() == (seeds if counts else seeds[:3])
    assert (result.state == "needs_human") == bool(counts)
    assert counts in result.reason


def test_an_answer_that_is_only_sometimes_defined_is_unstable(graded):
    defined = TALLY.format("2 * x").replace("def mmd2", "if turn == 0: raise ValueError(turn)\ndef mmd2")
    result, _ = graded(defined)
    assert (result.state, result.points["01-1"]) == ("needs_human", None)
    assert "3 回のうち 2 回合格、1 回不合格" in result.reason


def test_a_rerun_that_is_stopped_leaves_no_points(tmp_path):
    def run(task):
        outcome = inline(task)
        if len(run.hidden) and 20241 not in task.seeds.values():
            return Outcome({}, dict.fromkeys(task.seeds, "crash:SIGSEGV"))
        run.hidden += [task] if 20241 not in task.seeds.values() else []
        return outcome

    run.hidden = []
    roster = make_class(tmp_path / "in", {"s1": (PUBLIC_ONLY, ADD)})
    with Store(tmp_path / "g.sqlite") as store, threads(1) as pool:
        (row,) = grade(tmp_path / "in", roster, setting(run), store, pool)
    assert (row.result.state, row.result.total, row.result.points["01-1"]) == ("needs_human", None, None)
    assert "1 回不合格、2 回上限で停止" in row.result.reason


def test_nothing_of_the_hidden_runs_is_told(graded):
    leaky = LUCKY.format("LUCK < 0.5").replace("else LUCK", "else f'CANARY{x}'")
    result, counted = graded(leaky)
    hidden = next(task.seeds["01-1"] for task in counted.tasks)
    text = result_to_json(result)
    assert result.state == "needs_human"
    assert "CANARY" not in text and str(hidden) not in text
    assert "0.8" not in text and "0.9" not in text


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("import random", True),
        ("rng = np.random.default_rng()", True),
        ("perm = torch.randperm(5)", True),
        ("import time; time.sleep(1)", True),
        ("x.mean(0) - y.mean(0)", False),
        ("sometimes = 1", False),
    ],
)
def test_words_of_chance(source, want):
    program = (Step("a", "pass"), Step("b", source, "01-1"), Step("c", "import random", "01-2"))
    assert mentions_random(program, "01-1", ASSIGNMENT) is want
    assert mentions_random(program, "01-2", ASSIGNMENT)


@pytest.mark.parametrize(
    ("answer", "want"),
    [("def f(x): return x", False), ("def f(x): return shake(x)", True), ("def f(x): return again(x)", True)],
)
def test_another_answer_counts_only_when_it_is_used(answer, want):
    program = (
        Step("a", "import random\ndef shake(x): return x + random.random()", "01-1"),
        Step("b", "def again(x): return shake(x)", "01-2"),
        Step("c", answer, "01-3"),
    )
    assert mentions_random(program, "01-3", ASSIGNMENT) is want


def test_cells_of_the_release_do_not_count_as_words_of_chance():
    (setup, *_) = [cell for cell in ASSIGNMENT.cells if cell.role == "setup"]
    program = (Step("s", setup.source), Step("a", DOUBLE, "01-1"))
    assert not mentions_random(program, "01-1", ASSIGNMENT)


def test_every_run_has_its_own_luck_and_the_same_one_next_time():
    code = "import random, numpy, torch\nfound = [random.random(), numpy.random.rand(), torch.rand(()).item()]"
    seen = []
    for number in (0, 1, 0):
        space = {}
        exec(luck(number).source, space)
        exec(code, space)
        seen.append(json.dumps(space["found"]))
    assert seen[0] == seen[2] != seen[1]


def test_text_and_errors_are_no_difference_but_values_are():
    def outcome(claim):
        return Outcome({"01-1": claim})

    base = Claim("01-1", "done", {"value": 1.0}, printed="a")
    assert not differ("01-1", [outcome(base), outcome(Claim("01-1", "done", {"value": 1.0}, printed="b"))])
    assert differ("01-1", [outcome(base), outcome(Claim("01-1", "done", {"value": 1.5}))])
    assert differ("01-1", [outcome(base), Outcome({}, {"01-1": "timeout"})])
    assert not differ("01-1", [outcome(base), Outcome({}, {"01-2": "timeout"})])
    nan = outcome(Claim("01-1", "done", {"value": float("nan")}))
    assert not differ("01-1", [nan, outcome(Claim("01-1", "done", {"value": float("nan")}))])
