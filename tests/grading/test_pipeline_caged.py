"""本物の檻と本物の演習で、流れの全体を確かめる。"""

import json

import pytest
from grading_kit import SECRET, make_class

from tlkit.course.grading import assignment
from tlkit.course.grading.executors import threads
from tlkit.course.grading.model import Limits
from tlkit.course.grading.pipeline import Setting, grade
from tlkit.course.grading.store import Store
from tlkit.course.paths import course_root

pytestmark = pytest.mark.linux
PATIENT = Limits(cell_seconds=240, probe_seconds=240, total_seconds=1200)  # 確かめるのは点数で、速さではない

# 章 → 正解をそのまま呼ぶ答え（問題の id、答えのセルに書くもの）
BORROWED = {
    "01_basics": (
        "01-1",
        "def mmd2(x, y, sigma, estimator):\n    return losses.mmd2(x, y, sigma, estimator=estimator)",
    ),
    "02_finetuning": (
        "02-1",
        "import tlkit.finetune\n\ndef freeze_backbone(model):\n    return tlkit.finetune.set_freeze(model, 'all')",
    ),
}


def notebook(kind, slug):
    return (course_root() / kind / f"{slug}.ipynb").read_bytes()


def with_answer(data, question, source):
    """解答のノートブックの、一つの答えを書き換えたもの。"""
    document = json.loads(data)
    cells = [cell for cell in document["cells"] if cell["id"] == f"ex-{question}-answer"]
    assert len(cells) == 1
    cells[0]["source"] = source
    return json.dumps(document).encode()


@pytest.mark.parametrize("slug", sorted(BORROWED))
def test_the_solution_gets_everything_and_the_stub_nothing(slug, tmp_path):
    release = assignment.load(slug)
    lent, source = BORROWED[slug]
    sources = {
        "s1": notebook("solutions", slug),
        "s2": notebook("exercises", slug),
        "s3": notebook("exercises", slug)[:-100],
        "s4": with_answer(notebook("solutions", slug), lent, source),
    }
    setting = Setting(release, SECRET, PATIENT)
    roster = make_class(tmp_path / "in", sources)
    with Store(tmp_path / "grades.sqlite") as store, threads(2) as pool:
        right, untouched, broken, borrower = grade(tmp_path / "in", roster, setting, store, pool)
    full = {question.id: question.points for question in release.questions}
    assert (right.result.state, right.result.points) == ("graded", full), right.result
    assert right.result.total == sum(full.values())
    assert (untouched.result.state, untouched.result.total) == ("graded", 0)
    assert {reply.code for reply in untouched.result.feedback.values()} == {"untouched"}
    assert (broken.result.state, broken.result.total) == ("needs_human", None)
    assert (borrower.result.state, borrower.result.points) == ("graded", full | {lent: 0})
    assert borrower.result.feedback[lent].code == "borrowed"
    assert "tlkit の関数を呼んでいます" in borrower.result.feedback[lent].message
