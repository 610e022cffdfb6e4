"""ノートブックの入口: 壊れたファイルや別物を、理由の分かる日本語で断る。"""

import errno
import hashlib
import json
import os
import re
import sys

import pytest
from course_samples import code, exercise, notebook, text, write

from tlkit.course.intake import IntakeError, parse_notebook, read_notebook, require_python

GOOD = json.dumps(exercise(), ensure_ascii=False).encode("utf-8")
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠]")


def with_cells(cells) -> bytes:
    return json.dumps(exercise() | {"cells": cells}).encode()


def with_version(major) -> bytes:
    return json.dumps(exercise() | {"nbformat": major}).encode()


BAD = {
    "empty": (b"", "empty", "空のファイル"),
    "blank": (b" \n\n", "empty", "空のファイル"),
    "truncated": (GOOD[: len(GOOD) // 2], "json", r"途中で切れています（1 行 \d+ 列"),
    "cut_between_values": (b'{"cells": [', "json", "途中で切れています"),
    "broken_in_the_middle": (GOOD.replace(b":", b"=", 1), "json", "JSON として壊れています"),
    "conflict": (b'{\n<<<<<<< HEAD\n "a": 1\n=======\n', "json", "git の衝突の印"),
    "python_source": (b"import torch\n", "json", "ノートブック（JSON）ではありません"),
    "list": (b"[]", "not-notebook", "ノートブックではありません"),
    "dict": (b"{}", "not-notebook", "ノートブックではありません"),
    "number": (b"3", "json-or-shape", "ノートブック"),
    "no_cells": (b'{"nbformat": 4}', "not-notebook", "cells"),
    "cells_not_list": (with_cells({"a": 1}), "not-notebook", "cells"),
    "metadata_list": (json.dumps(exercise() | {"metadata": []}).encode(), "not-notebook", "metadata"),
    "utf16": (GOOD.decode().encode("utf-16"), "encoding", "UTF-16"),
    "utf16_without_mark": (GOOD.decode().encode("utf-16-le"), "encoding", "UTF-16"),
    "shift_jis": (GOOD.decode().replace("⏳", "済").encode("cp932"), "encoding", "Shift_JIS"),
    "bom": (b"\xef\xbb\xbf" + GOOD, "encoding", "BOM"),
    "bad_utf8": (GOOD + b"\xff\xfd", "encoding", r"\d+ バイト目"),
    "nbformat3": (with_version(3), "version", "古い形式（nbformat 3）"),
    "nbformat99": (with_version(99), "version", "知らない形式（nbformat 99）"),
    "nbformat_text": (with_version("4"), "version", "整数ではありません"),
    "nbformat_true": (with_version(True), "version", "整数ではありません"),
    "nested": (b"[" * 100_000 + b"]" * 100_000, "nesting", "入れ子が深すぎます"),
    "nested_in_cell": (with_cells([]).replace(b'"cells": []', b'"cells": [' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"]"), "nesting", "入れ子"),
    "huge_integer": (b'{"nbformat": ' + b"4" * 5000 + b"}", "json", "けた数"),
    "zip": (b"PK\x03\x04\x14\x00", "binary", "zip"),
    "pdf": (b"%PDF-1.7\n", "binary", "PDF"),
    "garbage": (bytes(range(256)) * 4, "binary", "バイナリ"),
    "garbage_without_nul": (b"\x89\xf0\xff\xfe" * 50, "binary", "文字のファイルではありません"),
    "cell_is_text": (with_cells(["x"]), "cell", "上から 1 番目のセル"),
    "cell_type": (with_cells([text("a", "a"), {"cell_type": "heading", "source": ""}]), "cell", "上から 2 番目のセル"),
    "source_number": (with_cells([code("", "a") | {"source": 5}]), "cell", "文字列ではありません"),
    "source_mixed": (with_cells([code("", "a") | {"source": ["a", 5]}]), "cell", "文字列ではありません"),
    "surrogate": (with_cells([code("x = '\ud800'", "a")]), "cell", "サロゲート"),
    "outputs_text": (with_cells([code("", "a") | {"outputs": "x"}]), "cell", "出力が壊れています"),
    "cell_metadata": (with_cells([code("", "a") | {"metadata": 3}]), "cell", "metadata が壊れています"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes_are_refused_with_a_reason(tmp_path, name):
    data, reason, told = BAD[name]
    path = tmp_path / "提出.ipynb"
    path.write_bytes(data)
    with pytest.raises(IntakeError, match=told) as caught:
        read_notebook(path)
    assert caught.value.code == reason or reason == "json-or-shape"
    assert str(path) in str(caught.value)
    assert JAPANESE.search(str(caught.value))
    assert path.read_bytes() == data


def test_good_notebook_is_read_without_change(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_bytes(GOOD)
    intake = read_notebook(path)
    assert intake.document == exercise()
    assert intake.data == GOOD
    assert intake.sha256 == hashlib.sha256(GOOD).hexdigest()


def test_old_minor_version_gets_ids_and_joined_sources():
    cell = {"cell_type": "code", "source": ["a = 1\n", "b = 2"], "metadata": {}, "outputs": [], "execution_count": None}
    document = parse_notebook(
        json.dumps({"cells": [cell, dict(cell)], "nbformat": 4, "nbformat_minor": 2}).encode(), "x"
    )
    assert [one["source"] for one in document["cells"]] == ["a = 1\nb = 2"] * 2
    assert len({one["id"] for one in document["cells"]}) == 2
    assert (document["nbformat_minor"], document["metadata"]) == (5, {})


def told(path, code_name, **options) -> str:
    with pytest.raises(IntakeError) as caught:
        read_notebook(path, **options)
    assert caught.value.code == code_name
    return str(caught.value)


def test_missing_file_directory_and_bad_names(tmp_path):
    assert "ファイルがありません" in told(tmp_path / "none.ipynb", "missing")
    assert "フォルダです" in told(tmp_path, "directory")
    assert "長すぎ" in told(tmp_path / ("あ" * 300), "missing")
    assert "開けません" in told(tmp_path / "a\0b", "unreadable")


@pytest.mark.skipif(sys.platform == "win32", reason="シンボリックリンクに管理者権限が要る")
def test_symlink_loop_and_refused_links(tmp_path):
    (tmp_path / "a.ipynb").symlink_to("b.ipynb")
    (tmp_path / "b.ipynb").symlink_to("a.ipynb")
    assert "輪になっている" in told(tmp_path / "a.ipynb", "symlink")
    real = write(tmp_path / "real.ipynb", exercise())
    (tmp_path / "link.ipynb").symlink_to(real)
    assert read_notebook(tmp_path / "link.ipynb").document == exercise()
    assert "シンボリックリンク" in told(tmp_path / "link.ipynb", "symlink", follow_symlinks=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFO のない OS")
def test_fifo_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.ipynb")
    assert "ふつうのファイルではありません" in told(tmp_path / "pipe.ipynb", "special")


def test_huge_file_is_refused_before_reading(tmp_path):
    path = tmp_path / "huge.ipynb"
    with path.open("wb") as stream:
        stream.truncate(3 * 1024**3)  # 中身のない 3 GB。読み込めば時間とメモリで分かる
    assert "上限は 50 MB" in told(path, "too-large")


def test_unreadable_file(tmp_path, monkeypatch):
    path = write(tmp_path / "a.ipynb", exercise())

    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)  # 権限を無視できる利用者（root）でも確かめられるように
    assert "読む権限" in told(path, "permission")


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"kernelspec": {"name": "ir", "language": "R"}}, "R"),
        ({"language_info": {"name": "julia"}}, "julia"),
        ({"kernelspec": {"name": "julia-1.9"}}, "Julia"),
    ],
)
def test_other_languages_are_refused(metadata, language):
    with pytest.raises(IntakeError, match=f"{language} のノートブック"):
        require_python(exercise() | {"metadata": metadata}, "a.ipynb")


@pytest.mark.parametrize(
    "metadata", [{}, {"kernelspec": None}, {"kernelspec": {"name": "conda-env-x", "language": "python"}}]
)
def test_python_or_unknown_language_is_accepted(metadata):
    require_python(notebook() | {"metadata": metadata}, "a.ipynb")


@pytest.mark.skipif(not hasattr(os, "link"), reason="ハードリンクのない OS")
def test_hard_links_are_refused_only_for_submissions(tmp_path):
    real = write(tmp_path / "real.ipynb", exercise())
    os.link(real, tmp_path / "other.ipynb")
    assert read_notebook(tmp_path / "other.ipynb").document == exercise()
    assert "ハードリンク" in told(tmp_path / "other.ipynb", "hardlink", follow_symlinks=False)


def test_repeated_key_is_refused_anywhere(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_bytes(GOOD.replace(b'"source":', b'"source": "x", "source":', 1))
    assert "同じキー 'source' が二度" in told(path, "duplicate-key")


def test_reason_is_kept_without_the_name(tmp_path):
    with pytest.raises(IntakeError) as caught:
        read_notebook(tmp_path / "none.ipynb")
    assert str(tmp_path) not in caught.value.reason
    assert caught.value.reason in str(caught.value)
