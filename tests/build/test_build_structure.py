"""演習の形、答えの守り、セルの id とタグ。"""

from pathlib import Path

import pytest
from build_course import ANSWER, SETUP, USE, code, draft, exercise, prose

from tlkit.course.errors import CourseError

CHECK = code('check("01-1", mmd2)')


def test_exercise_and_solution_share_all_but_the_answer(tmp_path: Path) -> None:
    source = exercise(code(USE))
    stub, solved = (draft(tmp_path, source, kind).notebook for kind in ("exercise", "solution"))
    different = [a.id for a, b in zip(stub.cells, solved.cells, strict=True) if a.source != b.source]
    assert different == ["ex-01-1-answer"]
    assert [c.id for c in stub.cells] == [c.id for c in solved.cells]


def test_box_shows_the_question(tmp_path: Path) -> None:
    from tlkit.course.checks import registry

    text = draft(tmp_path, exercise()).notebook.cells[1].source
    question = registry.question("01-1")
    assert question.goal in text
    assert f"{question.minutes}分" in text
    assert f"{question.points}点" in text
    assert 'hint("01-1")' in text
    assert "<!--" not in text


def test_only_check_cells_carry_the_nbval_tag(tmp_path: Path) -> None:
    cells = draft(tmp_path, exercise(code(USE))).notebook.cells
    tagged = {c.id: c.metadata["tags"] for c in cells if c.metadata.get("tags")}
    assert tagged == {"ex-01-1-check": ["nbval-check-output"]}


def test_ids_repeat_with_numbers_and_depend_only_on_text(tmp_path: Path) -> None:
    source = exercise(
        code("x = 1"), code("x = 1"), answer=ANSWER + "\n# %%\n### BEGIN SOLUTION\nscale = 2\n### END SOLUTION"
    )
    ids = [c.id for c in draft(tmp_path, source).notebook.cells]
    assert ids == [c.id for c in draft(tmp_path, source).notebook.cells]
    assert ids[2:5] == ["ex-01-1-answer", "ex-01-1-answer-2", "ex-01-1-check"]
    assert ids[-1] == ids[-2] + "-2"
    assert ids[-2].startswith("c-")
    assert len(ids[-2]) == 10


def test_notebook_metadata_has_no_versions(tmp_path: Path) -> None:
    metadata = draft(tmp_path, exercise()).notebook.metadata
    assert metadata.kernelspec.name == "python3"
    assert "version" not in metadata.language_info
    assert "jupytext" not in metadata
    wanted = {"source": "solutions/01_basics.py", "kind": "exercise", "slug": "01_basics", "questions": ["01-1"]}
    assert metadata.tlkit == wanted


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (exercise(box="<!-- exercise: 01-9 -->"), r"\.py:9: .*01-9(.|\n)*例: \"01-\d\""),
        (code(SETUP) + prose("<!-- exercise: 01-1 -->") + CHECK, "解答の範囲のあるセルがありません"),
        (code(SETUP) + prose("<!-- exercise: 01-1 -->") + code(ANSWER), "確認のセルがありません"),
        (code(SETUP) + code(ANSWER) + CHECK, "より前に"),
        (exercise(CHECK), "確認のセルが 2 つ"),
        (exercise(prose("<!-- exercise: 01-1 -->")), "箱が 2 つ"),
        (exercise(prose("<!-- exercise: 01-1 -->\n<!-- exercise: 01-1 -->")), "箱が 2 つ"),
        (exercise(code(ANSWER)), "より後に、答えのセル"),
        (exercise(code('check("01-9", mmd2)')), "01-9"),
        (exercise().replace('check("01-1", mmd2)', 'check("01-1", mmd)'), "定義"),
        (exercise().replace('check("01-1", mmd2)', 'check("01-1", mmd2)\nprint(1)'), "1 つだけ"),
        (exercise().replace('check("01-1", mmd2)', "check(name, mmd2)"), "文字列で書いて"),
        (exercise(answer=ANSWER.replace("def mmd2", "def mmd3")), "定義されていません"),
        (exercise(code('hint("99-1")')), "99-1"),
        (exercise(code('if ready("99-1"):\n    pass')), "99-1"),
        (exercise(code("# NBVAL_SKIP\nx = 1")), "NBVAL_SKIP"),
        (exercise('# %% tags=["raises-exception"]\nx = 1\n'), "raises-exception"),
        (exercise('# %% tags=["nbval-skip"]\nx = 1\n'), "nbval-skip"),
        (exercise(prose("<!-- quiz -->")), "章だけ"),
        (exercise("# %%\n\n" + code("x = 1")), "空のコードセル"),
    ],
)
def test_broken_exercises_are_refused(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(CourseError, match=message):
        draft(tmp_path, source)


def test_chapter_refuses_regions_and_boxes(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="章には解答の範囲"):
        draft(tmp_path, code("### BEGIN SOLUTION\nx = 1\n### END SOLUTION"), "chapter")
    with pytest.raises(CourseError, match="章には演習の箱"):
        draft(tmp_path, prose("<!-- exercise: 01-1 -->"), "chapter")


@pytest.mark.parametrize(
    "use",
    [
        "mmd2(x, y, 1.0)",
        'print(f"{mmd2(x, y, 1.0)}")',
        "def g():\n    return mmd2",
        "def g(f=mmd2):\n    return f",
        "class A:\n    def g(self):\n        return [mmd2(a, a, 1.0) for a in self.x]",
        'if ready("01-1"):\n    pass\nelse:\n    mmd2(x, y, 1.0)',
        'if not ready("01-1"):\n    mmd2(x, y, 1.0)',
        'if ready("01-1") or True:\n    mmd2(x, y, 1.0)',
        "mmd2 += 1",
        "del mmd2",
        "values = [f(x) for f in (mmd2,)]",
        'if ready("01-1"):\n    pass\nmmd2(x, y, 1.0)',
    ],
)
def test_unguarded_use_is_refused_with_its_line(tmp_path: Path, use: str) -> None:
    source = exercise(code("x = y = torch.zeros(2, 1)\n" + use))
    first = source[: source.index("x = y")].count("\n") + 1
    with pytest.raises(CourseError, match=r"守りなし") as caught:
        draft(tmp_path, source)
    line = int(str(caught.value).split(":")[1])
    assert "mmd2" in source.split("\n")[line - 1]
    assert line > first


@pytest.mark.parametrize(
    "use",
    [
        USE,
        'if ready("01-1") and True:\n    mmd2(1, 2, 3)',
        'if ready("01-1"):\n    def g():\n        return mmd2',
        "def g(mmd2):\n    return mmd2",
        "values = [mmd2 for mmd2 in range(3)]",
        "g = lambda mmd2: mmd2",
        'name = "mmd2"',
    ],
)
def test_guarded_or_unrelated_use_is_accepted(tmp_path: Path, use: str) -> None:
    assert len(draft(tmp_path, exercise(code(use))).notebook.cells) == 5


def test_guard_before_the_check_is_refused(tmp_path: Path) -> None:
    source = code(SETUP) + prose("<!-- exercise: 01-1 -->") + code(ANSWER) + code(USE) + CHECK
    with pytest.raises(CourseError, match="いつも False"):
        draft(tmp_path, source)


def test_rebinding_an_answer_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="定義し直して"):
        draft(tmp_path, exercise(code("from tlkit.losses import mmd2")))
