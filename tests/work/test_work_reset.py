"""作業フォルダの reset: セルをどう並べ替えていても 1 問だけを戻し、前の内容は控えに残す。"""

from pathlib import Path

import pytest
from course_samples import REL, STUB, backups, code, edit, exercise, read, snapshot, source_of, text, write

from tlkit.course.errors import CourseError
from tlkit.course.work import reset, update


def answer_cells(path: Path) -> list[str]:
    return [source_of(cell) for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def assert_restored(path: Path) -> None:
    sources = answer_cells(path)
    assert sources.count(STUB) == 1
    assert sources.index(STUB) < sources.index('check("01-1", mmd2)')
    assert sum("def mmd2" in source for source in sources) == 1
    by_id = {cell["id"]: cell for cell in read(path)["cells"]}
    for cell_id in ("ex-01-1-answer", "ex-01-1-check"):
        assert by_id[cell_id]["outputs"] == []
        assert by_id[cell_id]["execution_count"] is None


def test_reset_restores_one_answer_and_nothing_else(work):
    edit(work / REL, 3, "def mmd2(x, y):\n    return 1")
    edit(work / REL, 6, "sigma = 3.0")
    edit(work / REL, 2, "問題文に書いたメモ")
    before = (work / REL).read_bytes()
    report = reset("01-1")
    assert_restored(work / REL)
    cells = read(work / REL)["cells"]
    assert [source_of(cells[i]) for i in (2, 6)] == ["問題文に書いたメモ", "sigma = 3.0"]
    assert report.backup.read_bytes() == before
    assert "を再読み込み」" in "\n".join(report.lines())


def reshape(path: Path, change) -> bytes:
    document = read(path)
    change(document["cells"])
    write(path, document)
    return path.read_bytes()


def split_keeping_id_first(cells):
    cells[3]["source"] = "def mmd2(x, y):\n    n = len(x)"
    cells.insert(4, code("    m = len(y)", "new-1"))
    cells.insert(5, code("    return n - m", "new-2"))


def split_keeping_id_last(cells):
    cells[3:4] = [
        code("def mmd2(x, y):\n    n = len(x)", "new-1"),
        code("    m = len(y)", "new-2"),
        code("    return n - m", "ex-01-1-answer"),
    ]


def deleted(cells):
    del cells[3]


def deleted_with_check(cells):
    del cells[3:5]


def duplicated_with_new_id(cells):
    cells.insert(4, code("def mmd2(x, y):\n    return 5", "copy"))


def duplicated_with_same_id(cells):
    cells.insert(4, code("def mmd2(x, y):\n    return 5", "ex-01-1-answer"))


def renamed_id(cells):
    cells[3] = code("def mmd2(x, y:\n    書きかけ", "other")


def turned_to_markdown(cells):
    cells[3] = text("def mmd2(x, y): return 3", "ex-01-1-answer")


def moved_below_check(cells):
    cells[3], cells[4] = cells[4], cells[3]


def check_pasted_under_another_id(cells):
    cells[4]["id"] = "pasted"


@pytest.mark.parametrize(
    "change",
    [
        split_keeping_id_first, split_keeping_id_last, deleted, deleted_with_check, duplicated_with_new_id,
        duplicated_with_same_id, renamed_id, turned_to_markdown, moved_below_check, check_pasted_under_another_id,
    ],
)  # fmt: skip
def test_reset_survives_rearranged_cells(work, change):
    before = reshape(work / REL, change)
    report = reset("01-1")
    assert_restored(work / REL)
    assert report.backup.read_bytes() == before
    sources = answer_cells(work / REL)
    assert not [source for source in sources if source.startswith("    ")]
    assert sources[-2:] == ["sigma = ...", 'check("01-2", sigma)']
    order = [cell["id"] for cell in read(work / REL)["cells"]]
    assert order == [
        "c-title",
        "c-setup",
        "c-q1",
        "ex-01-1-answer",
        "ex-01-1-check",
        "c-q2",
        "ex-01-2-answer",
        "ex-01-2-check",
    ]


def test_reset_keeps_the_learners_scratch_cells(work):
    def scratch(cells):
        cells.insert(4, code("%timeit mmd2(1, 2)\nprint('試し')", "scratch"))
        cells.append(code("def mmd2_test(): pass", "tail"))

    reshape(work / REL, scratch)
    report = reset("01-1")
    assert report.restored.removed == 0
    assert {"scratch", "tail"} <= {cell["id"] for cell in read(work / REL)["cells"]}


def test_deleted_answer_comes_back_right_above_its_check(work):
    def scratch_instead_of_answer(cells):
        cells[3] = code("print('試し')", "scratch")

    reshape(work / REL, scratch_instead_of_answer)
    assert reset("01-1").restored.inserted == 1
    order = [cell["id"] for cell in read(work / REL)["cells"]]
    assert order[2:6] == ["c-q1", "scratch", "ex-01-1-answer", "ex-01-1-check"]


def test_reset_twice_keeps_both_backups(work):
    for source in ("答え 1", "答え 2"):
        edit(work / REL, 3, source)
        reset("01-1")
    kept = sorted("答え 1" in path.read_text(encoding="utf-8") for path in backups(work))
    assert kept == [False, True]


def test_reset_goes_back_to_the_version_that_was_handed_out(course, work):
    edit(work / REL, 3, "私の答え")
    document = exercise()
    document["cells"][3]["source"] = "def mmd2(a, b): ..."
    write(course / REL, document)
    update()
    reset("01-1")
    assert_restored(work / REL)


def test_reset_whole_notebook(course, work):
    edit(work / REL, 3, "私の答え")
    before = (work / REL).read_bytes()
    chapter = (work / "chapters/01_basics.ipynb").read_bytes()
    report = reset("01_basics")
    assert (work / REL).read_bytes() == (course / REL).read_bytes()
    assert report.backup.read_bytes() == before
    assert "tlkit reset chapters/01_basics" in report.note
    assert (work / "chapters/01_basics.ipynb").read_bytes() == chapter
    edit(work / "chapters/01_basics.ipynb", 0, "書き込み")
    reset("chapters/01_basics")
    assert (work / "chapters/01_basics.ipynb").read_bytes() == chapter


def test_reset_of_a_truncated_notebook_is_told_and_the_whole_reset_works(course, work):
    broken = (work / REL).read_bytes()[:300]
    (work / REL).write_bytes(broken)
    with pytest.raises(CourseError, match=r"途中で切れています(.|\n)*tlkit reset exercises/01_basics"):
        reset("01-1")
    assert (work / REL).read_bytes() == broken
    assert reset("exercises/01_basics").backup.read_bytes() == broken
    assert (work / REL).read_bytes() == (course / REL).read_bytes()


@pytest.mark.parametrize(("target", "told"), [("99-9", "ある演習: 01-1、01-2"), ("nothing", "exercises/01_basics"), ("", "ありません"), ("../x", "ありません")])  # fmt: skip
def test_unknown_reset_target(work, target, told):
    before = snapshot(work)
    with pytest.raises(CourseError, match=told):
        reset(target)
    assert snapshot(work) == before
