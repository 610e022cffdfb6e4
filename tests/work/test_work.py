"""作業フォルダの fill と update: 学習者が書いたものは、決して失われない。"""

import errno
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from course_samples import REL, code, edit, exercise, make_course, read, snapshot, write

from tlkit.course.errors import CourseError
from tlkit.course.work import files, fill, update


def test_fill_copies_everything_once(course, tmp_path):
    first, second = fill(), fill()
    assert sorted(first.copied) == ["chapters/00_start.ipynb", "chapters/01_basics.ipynb", REL]
    assert second.copied == []
    assert (tmp_path / "work" / REL).read_bytes() == (course / REL).read_bytes()
    assert (tmp_path / "work/.tlkit/original" / REL).read_bytes() == (course / REL).read_bytes()
    state = json.loads((tmp_path / "work/.tlkit/state.json").read_text(encoding="utf-8"))
    assert set(state["files"]) == set(first.copied)


def test_fill_never_overwrites_and_restores_a_deleted_notebook(work):
    edit(work / REL, 3, "私の答え")
    (work / "chapters/00_start.ipynb").unlink()
    before = (work / REL).read_bytes()
    assert fill().copied == ["chapters/00_start.ipynb"]
    assert (work / REL).read_bytes() == before


def test_fill_keeps_a_foreign_file_with_the_same_name(course, tmp_path):
    mine = tmp_path / "work" / REL
    mine.parent.mkdir(parents=True)
    mine.write_text("メモ", encoding="utf-8")
    fill()
    assert mine.read_text(encoding="utf-8") == "メモ"


def test_work_must_not_be_the_course_itself(course, monkeypatch):
    monkeypatch.setenv("TLKIT_WORK", str(course))
    before = snapshot(course)
    with pytest.raises(CourseError, match="教材のフォルダそのもの"):
        fill()
    assert snapshot(course) == before


def test_broken_course_notebook_is_told(course):
    (course / REL).write_text("<<<<<<< HEAD\n{}", encoding="utf-8")
    with pytest.raises(CourseError, match="git の衝突の印"):
        fill()


def test_untouched_notebook_is_replaced_with_a_backup(course, work):
    old = (work / REL).read_bytes()
    write(course / REL, exercise(note="直した問題文"))
    report = update()
    assert (work / REL).read_bytes() == (course / REL).read_bytes()
    [(rel, backup)] = report.replaced
    assert rel == REL
    assert backup.read_bytes() == old
    assert "を再読み込み」" in "\n".join(report.lines())
    assert report.unchanged == 2


def test_saved_outputs_and_an_added_empty_cell_are_not_an_edit(course, work):
    document = read(work / REL)
    document["cells"][1] |= {
        "execution_count": 3,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}],
    }
    document["cells"].append(code("", "empty"))
    document["metadata"]["language_info"] = {"name": "python", "version": "3.12.0"}
    write(work / REL, document)
    write(course / REL, exercise(note="直した問題文"))
    assert [rel for rel, _ in update().replaced] == [REL]
    assert (work / REL).read_bytes() == (course / REL).read_bytes()


def test_edited_notebook_stays_and_the_new_version_lies_beside_once(course, work):
    edit(work / REL, 3, "def mmd2(x, y):\n    return 0")
    mine = (work / REL).read_bytes()
    write(course / REL, exercise(note="直した問題文"))
    first, second = update(), update()
    beside = work / "exercises/01_basics（新版）.ipynb"
    assert (work / REL).read_bytes() == mine
    assert beside.read_bytes() == (course / REL).read_bytes()
    assert first.beside == [(REL, beside.name)]
    assert "あなたが書き換えている" in "\n".join(first.lines())
    assert (second.beside, second.replaced) == ([], [])
    assert sorted(p.name for p in (work / "exercises").iterdir()) == ["01_basics.ipynb", beside.name]


def test_next_version_replaces_the_untouched_copy_beside(course, work):
    edit(work / REL, 3, "私の答え")
    for note in ("二版", "三版"):
        write(course / REL, exercise(note=note))
        update()
    assert len(list((work / "exercises").iterdir())) == 2
    assert "三版" in (work / "exercises/01_basics（新版）.ipynb").read_text(encoding="utf-8")


def test_next_version_does_not_replace_an_edited_copy_beside(course, work):
    edit(work / REL, 3, "私の答え")
    write(course / REL, exercise(note="二版"))
    update()
    beside = work / "exercises/01_basics（新版）.ipynb"
    edit(beside, 3, "新版に書いた答え")
    kept = beside.read_bytes()
    write(course / REL, exercise(note="三版"))
    assert update().beside == [(REL, "01_basics（新版2）.ipynb")]
    assert beside.read_bytes() == kept


def test_new_version_never_lands_on_the_learners_own_file(course, work):
    own = work / "exercises/01_basics（新版）.ipynb"
    own.write_text("自分のメモ", encoding="utf-8")
    edit(work / REL, 3, "私の答え")
    write(course / REL, exercise(note="二版"))
    assert update().beside == [(REL, "01_basics（新版2）.ipynb")]
    assert own.read_text(encoding="utf-8") == "自分のメモ"


def test_ascii_name_where_the_file_system_refuses_japanese(course, work, monkeypatch):
    real = files.replace_bytes

    def refuse(path, data):
        if not path.name.isascii():
            raise OSError(errno.EILSEQ, "Invalid or incomplete multibyte character")
        real(path, data)

    monkeypatch.setattr("tlkit.course.work.updating.replace_bytes", refuse)
    edit(work / REL, 3, "私の答え")
    write(course / REL, exercise(note="二版"))
    assert update().beside == [(REL, "01_basics_new.ipynb")]
    assert update().beside == []


def test_only_outputs_changed_in_the_course_is_no_new_version(course, work):
    edit(work / REL, 3, "私の答え")
    document = exercise()
    document["cells"][4]["outputs"] = []
    write(course / REL, document)
    report = update()
    assert (report.beside, report.replaced, report.unchanged) == ([], [], 3)


def test_learner_who_caught_up_by_hand_needs_no_new_version(course, work):
    document = exercise(note="二版")
    write(course / REL, document)
    document["cells"][4]["outputs"] = []
    write(work / REL, document)
    mine = (work / REL).read_bytes()
    report = update()
    assert (report.beside, report.replaced, report.unchanged) == ([], [], 3)
    assert (work / REL).read_bytes() == mine


def test_removed_and_extra_files_stay(course, work):
    (course / "chapters/01_basics.ipynb").unlink()
    extra = work / "exercises/自分のメモ.ipynb"
    extra.write_text("壊れていてもよい", encoding="utf-8")
    report = update()
    assert report.removed == ["chapters/01_basics.ipynb"]
    assert (work / "chapters/01_basics.ipynb").is_file()
    assert extra.read_text(encoding="utf-8") == "壊れていてもよい"


def test_new_notebook_of_the_course_is_added(course, work):
    write(course / "chapters/02_finetuning.ipynb", exercise())
    assert update().added == ["chapters/02_finetuning.ipynb"]


def test_truncated_notebook_in_work_is_told_and_kept(course, work):
    broken = (work / REL).read_bytes()[:200]
    (work / REL).write_bytes(broken)
    write(course / REL, exercise(note="二版"))
    report = update()
    assert "途中で切れています" in report.problems[0]
    assert (work / REL).read_bytes() == broken
    assert report.beside == [(REL, "01_basics（新版）.ipynb")]


@pytest.mark.parametrize("damage", [None, "", "{", "[]", '{"files": {"a": 3}}', '{"files": {"a": {"zzz": 1}}}'])
def test_lost_or_broken_state_is_rebuilt_from_the_originals(course, work, damage):
    state = work / ".tlkit/state.json"
    state.unlink() if damage is None else state.write_text(damage, encoding="utf-8")
    edit(work / REL, 3, "私の答え")
    write(course / REL, exercise(note="二版"))
    write(course / "chapters/01_basics.ipynb", exercise())
    report = update()
    assert [rel for rel, _ in report.replaced] == ["chapters/01_basics.ipynb"]
    assert [rel for rel, _ in report.beside] == [REL]


def test_state_and_originals_lost_keeps_the_learners_file(course, work):
    shutil.rmtree(work / ".tlkit")
    edit(work / REL, 3, "私の答え")
    mine = (work / REL).read_bytes()
    report = update()
    assert (work / REL).read_bytes() == mine
    assert [rel for rel, _ in report.beside] == [REL]
    assert report.unchanged == 2


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, "-C", str(folder), *words], check=True, capture_output=True, timeout=60)


def test_edited_notebook_survives_git_pull_fill_and_update(tmp_path, monkeypatch):
    upstream = make_course(tmp_path / "upstream")
    (upstream / ".gitignore").write_text("/work/\n", encoding="utf-8")
    git(upstream, "init", "-q")
    git(upstream, "add", "-A")
    git(upstream, "commit", "-qm", "first")
    git(tmp_path, "clone", "-q", str(upstream), "learner")
    learner = tmp_path / "learner"
    monkeypatch.setenv("TLKIT_COURSE", str(learner))
    monkeypatch.delenv("TLKIT_WORK", raising=False)
    fill()
    edit(learner / "work" / REL, 3, "def mmd2(x, y):\n    return '私の答え'")
    mine = (learner / "work" / REL).read_bytes()

    write(upstream / REL, exercise(note="直した問題文"))
    write(upstream / "chapters/01_basics.ipynb", exercise(note="直した本文"))
    git(upstream, "commit", "-qam", "second")
    git(learner, "pull", "-q", "--ff-only")
    fill()
    report = update()

    assert (learner / "work" / REL).read_bytes() == mine
    assert [rel for rel, _ in report.beside] == [REL]
    assert [rel for rel, _ in report.replaced] == ["chapters/01_basics.ipynb"]
    status = subprocess.run(
        ["git", "-C", str(learner), "status", "--porcelain"], capture_output=True, text=True, check=True
    )
    assert status.stdout == ""
