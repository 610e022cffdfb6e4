"""報告のファイル: JSON はいつも同じバイト列、CSV は式にならない、HTML は学習者の文字を動かさない。"""

import base64
import csv
import hashlib
import io
import json
import random
import re
import stat
import sys
from html.parser import HTMLParser

import pytest
from report_kit import EVIL_NAMES, evil_class, graded, limited, report, small_class, stopped

from tlkit.course.grading.report.as_csv import HEAD, to_csv
from tlkit.course.grading.report.as_html import to_html
from tlkit.course.grading.report.as_json import to_json
from tlkit.course.grading.report.clean import clean
from tlkit.course.grading.report.feedback_files import MARK, feedback_files
from tlkit.course.grading.report.writing import write
from tlkit.course.grading.rows import Override


class Tags(HTMLParser):
    """タグと属性と文字を集める。"""

    def __init__(self, data):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.ids, self.text = [], [], [], ""
        self.feed(data.decode("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.text += data


def table(data):
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def unsafe(cell):
    """読む側が、付けた ' を外す。"""
    return cell.removeprefix("'")


class TestJson:
    def test_shuffled_rows_give_the_same_bytes(self):
        rows = small_class() + evil_class() + [stopped("（名簿にない）x.ipynb", "needs_human", "別のもの")]
        want = to_json(report(rows))
        for seed in range(5):
            random.Random(seed).shuffle(rows)
            assert to_json(report(rows)) == want

    def test_keys_are_sorted_and_nothing_of_the_run_is_in_it(self):
        data = to_json(report())
        loaded = json.loads(data)
        assert (json.dumps(loaded, ensure_ascii=False, sort_keys=True, indent=1) + "\n").encode() == data
        assert not re.search(rb"\d{4}-\d\d-\d\dT|seconds|secret|seed|\"at\"|\"key\"", data)

    def test_points_and_states(self):
        students = {one["student"]: one for one in json.loads(to_json(report()))["students"]}
        assert students["s005"]["questions"]["01-1"] == {
            "points": 3, "code": "sign", "message": students["s005"]["questions"]["01-1"]["message"],
            "override": {"machine": 0, "why": "別解。途中まで正しい"},
        }  # fmt: skip
        assert [students[name]["total"] for name in ("s001", "s006", "s007", "s008", "s009", "s010")] == [
            10,
            *[None] * 5,
        ]
        assert students["s008"]["questions"]["01-1"]["points"] == 0  # 上限の前に判定できた問題は、参考として残る

    def test_a_change_of_one_point_changes_the_bytes(self):
        assert to_json(report([graded("s1", 5, 5)])) != to_json(report([graded("s1", 5, 0)]))


class TestCsv:
    def test_starts_with_bom_and_uses_crlf(self):
        data = to_csv(report())
        assert data.startswith(b"\xef\xbb\xbf")
        assert data.count(b"\r\n") == len(report().lines) + 1
        assert table(data)[0][:5] == list(HEAD)

    def test_no_row_without_a_grade_has_a_number(self):
        head, *rows = table(to_csv(report()))
        scores = [number for number, name in enumerate(head) if name == "合計" or name.startswith("01-")]
        assert len(scores) == 3
        for row in rows:
            cells = [row[number] for number in scores]
            if row[2] == "採点済み":
                assert all(cell.isdigit() for cell in cells)
            else:
                assert cells == ["", "", ""]
                assert row[head.index("理由")]

    def test_evil_names_round_trip_and_no_cell_begins_a_formula(self):
        head, *rows = table(to_csv(report(evil_class())))
        for row, line in zip(rows, report(evil_class()).lines, strict=True):
            assert len(row) == len(head)
            assert unsafe(row[1]) == line.name
            for cell in row:
                assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))
                assert not cell.startswith(("\t", "\r", "\n"))
        assert {unsafe(row[1]) for row in rows} == {clean(name) for name in EVIL_NAMES}

    def test_rows_keep_the_order_of_the_roster(self):
        rows = [graded(name) for name in ("s3", "s1", "s2")]
        assert [row[0] for row in table(to_csv(report(rows)))[1:]] == ["s3", "s1", "s2"]


class TestHtml:
    @pytest.mark.parametrize("rows", [small_class, evil_class, list], ids=["small", "evil", "empty"])
    def test_nothing_of_a_student_becomes_a_tag(self, rows):
        page = Tags(to_html(report(rows())))
        assert not {"script", "img", "iframe", "object", "link", "form", "input", "base"} & set(page.tags)
        assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
        assert {value[0] for name, value in page.attributes if name == "href"} == {"#"}
        assert not [value for name, value in page.attributes if name in ("src", "srcset", "action")]

    def test_evil_text_is_shown_as_text(self):
        text = Tags(to_html(report(evil_class()))).text
        for name in (
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "{{ 7*7 }}{% raw %}",
            "\\u202e逆向き",
        ):
            assert name in text
        assert "\x1b" not in text
        assert "名49" not in Tags(to_html(report([graded("s1", name="名{{ 7*7 }}")]))).text

    def test_policy_allows_only_this_style(self):
        data = to_html(report())
        text = data.decode("utf-8")
        style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
        assert policy.replace("&#39;", "'").split("; ") == [
            "default-src 'none'", f"style-src 'sha256-{digest}'", "base-uri 'none'", "form-action 'none'",
        ]  # fmt: skip
        assert text.index("Content-Security-Policy") < text.index("<style>")
        assert "url(" not in style
        assert "@import" not in style

    def test_anchors_exist_once(self):
        page = Tags(to_html(report()))
        assert len(page.ids) == len(set(page.ids))
        targets = {value[1:] for name, value in page.attributes if name == "href"}
        assert targets <= set(page.ids)

    def test_needs_human_comes_before_everything_else(self):
        text = Tags(to_html(report())).text
        places = [text.index("s006.ipynb は JSON として"), text.index("採点済み 6 人、平均"), text.index("多い診断")]
        assert places == sorted(places)

    def test_chart_has_a_text_alternative(self):
        text = to_html(report([graded("s1"), graded("s2", 0, 5)])).decode()
        assert 'role="img" aria-labelledby="chart-title chart-text"' in text
        assert "5点が1人、10点が1人。</desc>" in text
        assert text.count("<rect") == 11

    def test_bars_are_as_high_as_their_counts(self):
        text = to_html(report([graded("s1"), graded("s2"), graded("s3", 0, 5)])).decode()
        heights = [float(height) for height in re.findall(r'<rect [^>]*height="([\d.]+)"', text)]
        assert heights[5] * 2 == pytest.approx(heights[10], abs=0.2)
        assert heights[10] > 100
        assert sum(height > 0 for height in heights) == 2

    def test_a_class_without_grades_still_makes_a_page(self):
        text = Tags(to_html(report([stopped("s1", "missing", "提出がありません。")]))).text
        assert "採点済みの人がまだいません" in text
        assert "人が確かめる提出はありません" in text

    def test_same_rows_give_the_same_bytes(self):
        assert to_html(report()) == to_html(report())


class TestFeedback:
    def pages(self, rows):
        return dict(feedback_files(report(rows)))

    def test_every_student_with_a_submission_gets_one_page(self):
        assert sorted(self.pages(small_class())) == [f"s{n:03d}.html" for n in (1, 2, 3, 4, 5, 6, 8, 9, 11)]

    def test_a_page_shows_only_its_own_student(self):
        for name, data in self.pages(small_class()).items():
            others = {f"s{n:03d}" for n in range(1, 13)} - {name.removesuffix(".html")}
            assert not [other for other in others if other.encode() in data], name

    def test_notes_reasons_of_overrides_and_copies_are_not_told(self):
        page = self.pages(small_class())["s005.html"].decode()
        assert "pip" not in page
        assert "別解" not in page
        assert "教員が点数を付けました" in page
        assert "同じ" not in self.pages(small_class())["s001.html"].decode().replace("同じ入力", "")

    def test_a_stopped_submission_is_not_a_zero(self):
        page = Tags(self.pages([limited("s1")])["s1.html"]).text
        assert "0 点という意味ではありません" in page
        assert "時間が上限を超えました" in page
        assert "合計 0" not in page

    def test_a_reason_that_names_another_student_is_kept_back(self):
        rows = [
            stopped("s1", "needs_human", "s2.ipynb にも当てはまります。"),
            graded("s2"),
            stopped("s3", "needs_human", "壊れています。"),
        ]
        pages = self.pages(rows)
        assert "当てはまり" not in pages["s1.html"].decode()
        assert "壊れています" in pages["s3.html"].decode()
        assert "OSError" not in self.pages(small_class())["s009.html"].decode()

    @pytest.mark.parametrize("student", ["..", ".hidden", "CON", "com1", "a b", "s1.", "名" * 100])
    def test_odd_numbers_get_a_safe_name(self, student):
        (name,) = self.pages([graded(student)])
        assert re.fullmatch(r"student-[0-9a-f]{12}\.html|s1\.\.html", name)

    def test_names_never_collide(self):
        assert len({name.casefold() for name in self.pages([graded("S1"), graded("s1"), graded("ｓ1")])}) == 3


class TestWriting:
    def test_all_forms_are_written_and_private(self, tmp_path):
        paths = write(report(), tmp_path / "deep" / "out")
        assert [path.name for path in paths] == [
            "01_basics.html",
            "01_basics.csv",
            "01_basics.json",
            "01_basics-feedback",
        ]
        assert (tmp_path / "deep" / "out" / ".gitignore").read_text() == "*\n"
        if sys.platform != "win32":
            assert stat.S_IMODE((tmp_path / "deep" / "out").stat().st_mode) == 0o700

    def test_only_the_chosen_forms(self, tmp_path):
        write(report(), tmp_path, ["csv"])
        assert [path.name for path in tmp_path.iterdir()] == ["01_basics.csv"]

    def test_old_feedback_of_gone_students_is_removed_and_other_files_stay(self, tmp_path):
        write(report([graded("s1"), graded("s2")]), tmp_path)
        folder = tmp_path / "01_basics-feedback"
        (folder / "mine.html").write_text("教員のメモ", encoding="utf-8")
        write(report([graded("s2", 0, 0, overrides={"01-1": Override(1, "x")})]), tmp_path)
        assert sorted(path.name for path in folder.glob("*.html")) == ["mine.html", "s2.html"]
        assert (folder / "s2.html").read_bytes().startswith(MARK)
