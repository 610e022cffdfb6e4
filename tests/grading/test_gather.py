"""提出フォルダの読み取り: 名前、zip、リンク、特別なファイル、何度もの提出。"""

import io
import os
import re
import shutil
import stat
import sys
import unicodedata
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_release import RIGHT1, hand_in, release, release_document, submission, to_bytes

from tlkit.course.errors import CourseError
from tlkit.course.grading import archive, candidates
from tlkit.course.grading.archive import ArchiveError, read_archive
from tlkit.course.grading.filenames import order_of, owners
from tlkit.course.grading.gather import STRANGER, gather
from tlkit.course.grading.matching import match
from tlkit.course.grading.model import Submission
from tlkit.course.grading.roster import Student
from tlkit.course.grading.shown import shown
from tlkit.course.intake import parse_notebook

ANN, BOB = Student("s001", "山田 花子"), Student("s002", "髙橋 太郎")
CLASS = (ANN, BOB)
GOOD = to_bytes(submission())
OTHER = to_bytes(submission(one=RIGHT1 + "  # 直した"))
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠]")


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, data in members:
            made.writestr(name, data)
    return stream.getvalue()


def place(folder, name: str, data: bytes = GOOD) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def rows(folder, students=CLASS, **options) -> dict[str, Submission]:
    found = gather(folder, students, **options)
    assert len({row.student for row in found}) == len(found)
    for row in found:
        assert row.state in ("graded", "needs_human", "missing")
        assert bool(row.reason) == (row.state != "graded")
        assert bool(row.data) == (row.state == "graded")
        for line in (row.reason, row.file, *row.notes):
            assert line.encode() is not None
            assert not set(line) & set("\n\r\x1b\u202e")
        assert not row.reason or JAPANESE.search(row.reason)
    return {row.student: row for row in found}


def ann(folder, **options) -> Submission:
    return rows(folder, **options)["s001"]


def refused(folder, *told: str, **options) -> Submission:
    row = ann(folder, **options)
    assert row.state == "needs_human"
    assert all(one in row.reason for one in told), row.reason
    return row


@pytest.mark.parametrize(
    "name",
    [
        "s001.ipynb",
        "S001.IPYNB",
        "ｓ００１.ipynb",
        "s001/ex (1).ipynb",
        "s001/01_basics/01_basics.ipynb",
        "yamada_LATE_12345_s001_01_basics.ipynb",
        "学籍番号s001山田.ipynb",
        "s001_山田花子/提出 \u202e最終\n版.ipynb",
        "s001/「引用」'\"🧑\u200d🎓.ipynb",
        "s001/" + unicodedata.normalize("NFD", "がぎぐげご.ipynb"),
        "s001/" + "あ" * 80 + "aaaaaaaaa.ipynb",
        "山田花子_98765_assignsubmission_file_/01_basics.ipynb",
        "山田 花子.ipynb",
    ],
)
def test_every_usual_name_finds_its_student(tmp_path, name):
    place(tmp_path, name)
    found = rows(tmp_path)
    assert found["s001"].state == "graded", found["s001"].reason
    assert (found["s001"].data, found["s001"].name) == (GOOD, "山田 花子")
    assert found["s002"] == Submission("s002", "髙橋 太郎", state="missing", reason="提出がありません。")
    assert [*found] == ["s001", "s002"]


def test_longest_name_of_the_file_system(tmp_path):
    name = "s001_" + "a" * 244 + ".ipynb"
    assert len(name) == 255
    place(tmp_path, name)
    assert ann(tmp_path).data == GOOD


@pytest.mark.skipif(sys.platform != "linux", reason="UTF-8 でない名前を作れない OS")
def test_name_that_is_not_utf8(tmp_path):
    (tmp_path / "s001").mkdir()
    place(tmp_path, os.fsdecode(b"s001/\x93\xfa.ipynb"))
    assert ann(tmp_path).file == "s001/\\x93\\xfa.ipynb"


def test_number_inside_another_number_does_not_match(tmp_path):
    students = (Student("1"), Student("11"), Student("1-1"))
    place(tmp_path, "a_11_b.ipynb")
    place(tmp_path, "a_1-1_b.ipynb", OTHER)
    found = rows(tmp_path, students)
    assert [found[one].state for one in ("1", "11", "1-1")] == ["missing", "graded", "graded"]
    assert found["1-1"].data == OTHER


def test_file_naming_two_students_is_given_to_neither(tmp_path):
    place(tmp_path, "s001_s002.ipynb")
    place(tmp_path, "s001.ipynb")
    found = rows(tmp_path)
    assert [row.state for row in found.values()] == ["needs_human", "needs_human"]
    assert "二人以上" in found["s002"].reason


def test_students_with_one_name_are_not_guessed():
    twins = (Student("s1", "山田花子"), Student("s2", "山田花子"))
    assert owners("山田花子.ipynb", twins) == [*twins]


def test_strangers_are_listed_not_dropped(tmp_path):
    place(tmp_path, "s999.ipynb")
    place(tmp_path, "だれか/a.ipynb")
    place(tmp_path, "roster.csv", "学籍番号,氏名".encode())
    place(tmp_path, ".DS_Store", b"x")
    found = rows(tmp_path)
    assert [*found] == ["s001", "s002", STRANGER + "s999.ipynb", STRANGER + "だれか"]
    assert "だれの提出か" in found[STRANGER + "だれか"].reason


def test_without_a_roster_names_become_students(tmp_path):
    place(tmp_path, "ann.ipynb")
    place(tmp_path, "bob/x.ipynb")
    assert {name: row.state for name, row in rows(tmp_path, ()).items()} == {"ann": "graded", "bob": "graded"}


def test_folder_itself_must_exist(tmp_path):
    with pytest.raises(CourseError, match="ありません"):
        gather(tmp_path / "none", CLASS)


def test_empty_folder_is_missing_and_other_files_need_a_human(tmp_path):
    (tmp_path / "s001").mkdir()
    place(tmp_path, "s001/.ipynb_checkpoints/a-checkpoint.ipynb")
    place(tmp_path, "s002/report.docx", b"PK\x03\x04")
    found = rows(tmp_path)
    assert found["s001"].state == "missing"
    assert found["s002"].state == "needs_human"
    assert "report.docx" in found["s002"].reason


BAD = {
    "empty": (b"", "空のファイル"),
    "truncated": (GOOD[:200], "途中で切れて"),
    "bom": (b"\xef\xbb\xbf" + GOOD, "BOM"),
    "utf16": (GOOD.decode().encode("utf-16"), "UTF-16"),
    "shift_jis": (GOOD.decode().encode("cp932"), "Shift_JIS"),
    "garbage": (bytes(range(256)), "バイナリ"),
    "docx": (zipped(("word/document.xml", b"<a/>")), "zip"),
    "pdf": (b"%PDF-1.7\n", "PDF"),
    "list": (b"[]", "ノートブックではありません"),
    "nested": (b"[" * 99_999, "深すぎ"),
    "nbformat3": (GOOD.replace(b'"nbformat": 4', b'"nbformat": 3'), "nbformat 3）です。JupyterLab で開き"),
    "worksheets": (b'{"metadata": {}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": []}]}', "保存し直す"),
    "nbformat99": (GOOD.replace(b'"nbformat": 4', b'"nbformat": 99'), "nbformat 99"),
    "duplicate_key": (GOOD.replace(b'"source":', b'"source": "x", "source":', 1), "二度"),
    "source_number": (GOOD.replace(b'"source": "import math"', b'"source": 5'), "文字列ではありません"),
    "r_kernel": (GOOD.replace(b'"language": "python"', b'"language": "R"'), "R のノートブック"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_unreadable_notebooks_need_a_human_and_say_why(tmp_path, name):
    data, told = BAD[name]
    place(tmp_path, "s001.ipynb", data)
    place(tmp_path, "s002.ipynb")
    refused(tmp_path, told, "s001.ipynb")
    assert rows(tmp_path)["s002"].data == GOOD


def test_huge_file_is_refused_before_reading(tmp_path):
    with (tmp_path / "s001.ipynb").open("wb") as stream:
        stream.truncate(200 * 1024**2)
    refused(tmp_path, "大きすぎます", "200 MB")


def test_deep_attachments_never_raise(tmp_path):
    states = []
    for depth in [300, *range(800, 1_010)]:  # JSON としては読めても、書き戻せない深さがある
        deep = b'{"a": ' * depth + b"1" + b"}" * depth
        place(tmp_path, "s001.ipynb", GOOD.replace(b'"metadata": {}', b'"metadata": {}, "attachments": ' + deep, 1))
        states.append(ann(tmp_path, assignment=release()).state)
    assert (states[0], states[-1]) == ("graded", "needs_human")


def test_document_too_deep_to_hash_is_still_a_submission(tmp_path, monkeypatch):
    def too_deep(_document):
        raise RecursionError

    monkeypatch.setattr(candidates, "sources_hash", too_deep)  # 深さの上限は Python の版で変わる
    place(tmp_path, "s001.ipynb")
    assert ann(tmp_path, assignment=release()).state == "graded"


@pytest.mark.skipif(sys.platform == "win32", reason="リンクに管理者権限が要る")
def test_links_are_never_followed(tmp_path):
    place(tmp_path, "outside/secret.ipynb")
    folder = tmp_path / "class"
    place(folder, "s002/a.ipynb")
    (folder / "s001").mkdir()
    (folder / "s001" / "a.ipynb").symlink_to(tmp_path / "outside" / "secret.ipynb")
    refused(folder, "シンボリックリンク")
    (folder / "s001" / "a.ipynb").unlink()
    (folder / "s001" / "loop").symlink_to(folder / "s002")
    refused(folder, "シンボリックリンク")
    shutil.rmtree(folder / "s001")
    (folder / "s001").symlink_to(folder / "s002")
    refused(folder, "シンボリックリンク")
    assert rows(folder)["s002"].state == "graded"
    (folder / "s001").unlink()
    os.link(folder / "s002" / "a.ipynb", folder / "s001.ipynb")
    refused(folder, "ハードリンク")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFO のない OS")
@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_special_files_are_never_opened(tmp_path, kind):
    path = tmp_path / "s001" / "a.ipynb"
    path.parent.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero: 終わりのない中身
        except PermissionError:
            pytest.skip("装置ファイルを作る権限がない")
    refused(tmp_path, "ふつうのファイルではありません（FIFO、デバイスなど）")


def test_bottomless_and_crowded_folders(tmp_path):
    place(tmp_path, "s001/" + "d/" * 12 + "a.ipynb")
    refused(tmp_path, "深すぎます")
    for number in range(2_050):
        place(tmp_path, f"s002/{number}.txt", b"")
    assert "多すぎます" in rows(tmp_path)["s002"].reason


def test_identical_files_are_one_submission(tmp_path):
    place(tmp_path, "s001/a.ipynb")
    place(tmp_path, "s001/a (1).ipynb")
    place(tmp_path, "s001.zip", zipped(("a.ipynb", GOOD)))
    row = ann(tmp_path)
    assert row.data == GOOD
    assert "3 個" in row.notes[0]


def test_different_files_need_a_human(tmp_path):
    place(tmp_path, "s001/a.ipynb")
    place(tmp_path, "s001/a (1).ipynb", OTHER)
    refused(tmp_path, "2 個", "a (1).ipynb", "一つだけを残して")
    place(tmp_path, "s002/a.ipynb")
    place(tmp_path, "s002/b.ipynb", b"{")
    assert "読めません" in rows(tmp_path)["s002"].reason


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("s001_attempt_1.ipynb", "s001_attempt_10.ipynb"),
        ("s001_attempt_2026-11-09-23-59-00_a.ipynb", "s001_attempt_2026-11-10-00-10-00_a.ipynb"),
        ("s001/20261109T2359.ipynb", "s001/20261110T0010.ipynb"),
        ("s001_2026-11-09.ipynb", "s001_2026-12-01.ipynb"),
        ("s001_9回目/z.ipynb", "s001_10回目/a.ipynb"),
    ],
)
def test_last_attempt_is_taken_when_the_names_say_so(tmp_path, early, late):
    place(tmp_path, late, OTHER)
    place(tmp_path, early)
    row = ann(tmp_path)
    assert (row.data, row.file) == (OTHER, late)
    assert "最も新しい" in row.notes[0]
    refused(tmp_path, "2 個", policy="human")


def test_last_attempt_that_cannot_be_read_is_not_replaced_by_an_older_one(tmp_path):
    place(tmp_path, "s001_attempt_1.ipynb")
    place(tmp_path, "s001_attempt_2.ipynb", b"{")
    refused(tmp_path, "attempt_2", "途中で切れて")


def test_returning_to_the_first_version_counts_as_the_last_attempt(tmp_path):
    for number, data in enumerate((GOOD, OTHER, GOOD), start=1):
        place(tmp_path, f"s001_attempt_{number}.ipynb", data)
    assert ann(tmp_path).data == GOOD


def test_marks_that_do_not_order_all_files_decide_nothing(tmp_path):
    place(tmp_path, "s001_attempt_1.ipynb")
    place(tmp_path, "s001.ipynb", OTHER)
    refused(tmp_path, "2 個")
    place(tmp_path, "s002_attempt_2/a.ipynb")
    place(tmp_path, "s002_attempt_2/b.ipynb", OTHER)
    assert rows(tmp_path)["s002"].state == "needs_human"
    assert order_of("20261109_x.ipynb", "20261109") is None  # 学籍番号は日付ではない
    assert order_of("第2回.ipynb", "s") is None
    assert order_of("2026-13-30.ipynb", "s") is None


def test_other_chapters_and_pristine_copies_are_set_aside(tmp_path):
    chapter, finetuning = submission(), submission()
    chapter["metadata"]["tlkit"]["kind"] = "chapter"
    finetuning["metadata"]["tlkit"]["slug"] = "02_finetuning"
    names = {
        "chapters/01_basics": chapter,
        "exercises/02_finetuning": finetuning,
        "backup/1/01_basics": submission("x"),
    }
    names |= {"exercises/01_basics": submission(), "exercises/01_basics（新版）": release_document()}
    place(tmp_path, "s001.zip", zipped(*[(f"home/{name}.ipynb", to_bytes(one)) for name, one in names.items()]))
    row = ann(tmp_path, assignment=release())
    assert row.file == "s001.zip/home/exercises/01_basics.ipynb"
    assert len(row.notes) == 3
    refused(tmp_path, "5 個")


def test_only_another_exercise_still_reaches_the_matcher(tmp_path):
    finetuning = submission()
    finetuning["metadata"]["tlkit"]["slug"] = "02_finetuning"
    hand_in(tmp_path / "s001.ipynb", finetuning)
    hand_in(tmp_path / "s002.ipynb", release_document())
    found = rows(tmp_path, assignment=release())
    assert [row.state for row in found.values()] == ["graded", "graded"]


def link_in_zip() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("a.ipynb")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def encrypted() -> bytes:
    data = bytearray(zipped(("a.ipynb", GOOD)))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def lying(size: int) -> bytes:
    """展開後の大きさを小さく偽った zip。"""
    data = bytearray(zipped(("a.ipynb", b" " * 30 * 1024**2)))
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = size.to_bytes(4, "little")
    return bytes(data)


ZIPS = {
    "broken": (b"PK\x03\x04" + b"x" * 50, "壊れています"),
    "not_a_zip": (GOOD, "壊れています"),
    "cut": (zipped(("a.ipynb", GOOD))[:-30], "壊れています"),
    "parent": (zipped(("../a.ipynb", GOOD)), "外を指す名前"),
    "inner_parent": (zipped(("a/../../b.txt", GOOD), ("a.ipynb", GOOD)), "外を指す名前"),
    "absolute": (zipped(("/etc/passwd", b"x"), ("a.ipynb", GOOD)), "外を指す名前"),
    "drive": (zipped(("C:\\a.ipynb", GOOD)), "外を指す名前"),
    "backslash_parent": (zipped(("..\\a.ipynb", GOOD)), "外を指す名前"),
    "link": (zipped((link_in_zip(), b"/etc/passwd")), "リンクや特別なファイル"),
    "nested": (zipped(("b.zip", zipped(("a.ipynb", GOOD)))), "また圧縮"),
    "encrypted": (encrypted(), "暗号化"),
    "bzip2": (zipped(("a.ipynb", GOOD), method=zipfile.ZIP_BZIP2), "圧縮方法"),
    "lzma": (zipped(("a.ipynb", GOOD), method=zipfile.ZIP_LZMA), "圧縮方法"),
    "bomb": (zipped(("a.ipynb", b" " * 30 * 1024**2)), "展開すると大きすぎます"),
    "lying_bomb": (lying(100), "壊れています"),
    "many_notebooks": (zipped(*[(f"{n}.ipynb", b"") for n in range(51)]), "多すぎます"),
    "many_entries": (zipped(*[(f"{n}.txt", b"") for n in range(5_001)]), "多すぎます"),
    "no_notebook": (zipped(("a.py", b"")), "a.py"),
}  # fmt: skip


@pytest.mark.parametrize("name", ZIPS)
def test_bad_zips_need_a_human_and_say_why(tmp_path, name):
    data, told = ZIPS[name]
    place(tmp_path, "s001.zip", data)
    refused(tmp_path, told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s001.zip"]


def test_bombs_stop_at_the_limit_not_after_it(monkeypatch):
    monkeypatch.setattr(archive, "MAX_TOTAL", 5_000)
    members = [(f"{n}.ipynb", b" " * 2_000) for n in range(3)]
    with pytest.raises(ArchiveError, match=r"2\.ipynb"):
        read_archive(zipped(*members))
    assert len(read_archive(zipped(*members[:2]))[0]) == 2


@pytest.mark.parametrize("codec", ["utf-8", "cp932"])
def test_japanese_names_in_old_zips(tmp_path, codec):
    raw = "演習.ipynb".encode(codec)
    data = zipped(("x" * len(raw), GOOD)).replace(b"x" * len(raw), raw)
    place(tmp_path, "s001.zip", data)
    assert ann(tmp_path).file == "s001.zip/演習.ipynb"


def test_mac_zip_and_other_archives(tmp_path):
    place(tmp_path, "s001.zip", zipped(("a.ipynb", GOOD), ("__MACOSX/._a.ipynb", b"x"), ("data.zip", b"x")))
    place(tmp_path, "s002.7z", b"7z")
    found = rows(tmp_path)
    assert found["s001"].data == GOOD
    assert "この圧縮形式は開けません" in found["s002"].reason


def test_gathering_twice_gives_the_same_and_writes_nothing(tmp_path):
    place(tmp_path, "s001/a.ipynb")
    place(tmp_path, "s002.zip", zipped(("a.ipynb", GOOD)))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert gather(tmp_path, CLASS) == gather(tmp_path, CLASS)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_shown_keeps_letters_and_hides_controls():
    assert shown("か\u3099🧑\u200d🎓 \u202ex\n") == "が🧑\u200d🎓 \\u202ex\\u000a"
    assert len(shown("長" * 999)) < 120
    assert shown("\udc93\ud800") == "\\x93\\ud800"


MUTATED = st.builds(
    lambda data, at, patch: data[: at % len(data)] + patch + data[at % len(data) + len(patch) :],
    st.sampled_from([GOOD, zipped(("a.ipynb", GOOD)), zipped(("a.ipynb", b"x"), ("b.ipynb", GOOD))]),
    st.integers(0, 10_000),
    st.binary(max_size=12),
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=80), MUTATED), st.sampled_from(["s001.ipynb", "s001.zip"]))
def test_any_bytes_end_in_a_row_with_a_reason(tmp_path, data, name):
    for old in tmp_path.iterdir():
        old.unlink()
    place(tmp_path, name, data)
    place(tmp_path, "s002.ipynb")
    found = rows(tmp_path, assignment=release())
    assert found["s001"].state in ("graded", "needs_human")
    assert found["s002"].data == GOOD
    if found["s001"].data:
        matched = match(parse_notebook(found["s001"].data, "x"), release())
        assert bool(matched.human) != bool(matched.program)
