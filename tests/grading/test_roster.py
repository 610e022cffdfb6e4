"""名簿の読み取り: 文字コード、見出し、行番号つきの誤り。"""

import unicodedata

import pytest

from tlkit.course.errors import CourseError
from tlkit.course.grading.roster import MAX_BYTES, Student, read_roster

HANAKO = Student("s001", "山田花子")
TARO = Student("s002", "髙橋 太郎")  # はしご高は cp932 にあるが、JIS X 0208 にはない
BODY = "学籍番号,氏名\ns001,山田花子\n\ns002,髙橋 太郎\n"


def read(tmp_path, data: bytes | str) -> tuple[Student, ...]:
    path = tmp_path / "名簿.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_roster(path)


def told(tmp_path, data: bytes | str) -> str:
    with pytest.raises(CourseError) as caught:
        read(tmp_path, data)
    return str(caught.value)


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "cp932"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_excel_encodings_and_newlines(tmp_path, codec, newline):
    assert read(tmp_path, BODY.replace("\n", newline).encode(codec)) == (HANAKO, TARO)


def test_columns_are_found_by_their_heading(tmp_path):
    assert read(tmp_path, "番号,氏名,学籍番号\n1,山田花子,s001\n") == (HANAKO,)
    assert read(tmp_path, "学籍番号\t氏名\ns001\t山田花子\n") == (HANAKO,)
    assert read(tmp_path, "学籍番号\ns001\n") == (Student("s001", ""),)
    assert read(tmp_path, '学籍番号,氏名\ns001,"山田,\n花子"\ns002\n') == (
        Student("s001", "山田,\n花子"),
        Student("s002"),
    )


def test_names_are_normalised_and_digits_are_kept(tmp_path):
    body = unicodedata.normalize("NFD", "学籍番号,氏名\n 007 ,がぎぐ \n")
    assert read(tmp_path, body) == (Student("007", "がぎぐ"),)


@pytest.mark.parametrize(
    ("body", "line", "why"),
    [
        ("学籍番号,氏名\ns001,a\nS001,b\n", 3, "2 行目と重なって"),
        ("学籍番号,氏名\ns001,a\n\nｓ００１,b\n", 4, "2 行目と重なって"),
        ("学籍番号,氏名\n,山田\n", 2, "学籍番号が空です（氏名 山田）"),
        ("学籍番号,氏名\n../x,山田\n", 2, "使えない文字"),
        ("学籍番号,氏名\ns\u202e1,山田\n", 2, "使えない文字"),
        (f"学籍番号,氏名\n{'9' * 65},山田\n", 2, "64 文字"),
        ("ID,name\ns001,a\n", 1, "今の見出し: ID、name"),
        ("学籍番号,学籍番号\ns001,a\n", 1, "一つ必要"),
        ("", 1, "空のファイル"),
        ('学籍番号,氏名\ns001,"' + "a" * 200_000 + '"\n', 2, "CSV として読めません"),
    ],
)
def test_errors_name_the_line(tmp_path, body, line, why):
    message = told(tmp_path, body)
    assert f"{line} 行目" in message
    assert why in message
    assert "\u202e" not in message


def test_unreadable_rosters(tmp_path):
    assert "一人もいません" in told(tmp_path, "学籍番号,氏名\n")
    assert "UTF-16" in told(tmp_path, BODY.encode("utf-16"))
    assert "文字コードが分かりません" in told(tmp_path, b"\x81\xff\xfe\x00" * 9)
    assert "大きすぎます" in told(tmp_path, b"a" * (MAX_BYTES + 1))
    with pytest.raises(CourseError, match="ファイルがありません"):
        read_roster(tmp_path / "none.csv")
