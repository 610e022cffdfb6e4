"""報告の中身と集計: 点数のあるのは採点済みの人だけ。"""

import dataclasses
import random

import pytest
from grading_kit import ADD, ASSIGNMENT, DOUBLE, TRIPLE, make_class
from report_kit import PASSED, SIGN, UNTOUCHED, entry, evil_class, graded, limited, report, small_class, stopped
from small_release import STUB2

from tlkit.course.grading.gather import gather
from tlkit.course.grading.model import Feedback, Result
from tlkit.course.grading.report import figures
from tlkit.course.grading.report.alike import identical_answers
from tlkit.course.grading.report.clean import clean, code_parts
from tlkit.course.grading.report.table import ATTENTION, LABELS, build
from tlkit.course.grading.rows import Override, Row


def lines(*rows):
    return {line.student: line for line in report(list(rows)).lines}


class TestLines:
    def test_only_graded_lines_have_a_total(self):
        made = report()
        assert {line.state for line in made.lines} == set(LABELS)
        assert all((line.total is not None) == (line.state == "graded") for line in made.lines)

    def test_overrides_are_laid_over_and_the_machine_points_are_kept(self):
        line = lines(graded("s1", 0, 5, overrides={"01-1": Override(3, "別解")}))["s1"]
        assert (line.total, line.overridden) == (8, True)
        assert (line.answers["01-1"].points, line.answers["01-1"].machine, line.answers["01-1"].why) == (3, 0, "別解")
        assert line.answers["01-2"].why == ""

    def test_a_needs_human_line_is_graded_once_every_question_has_points(self):
        both = {"01-1": Override(5, "見た"), "01-2": Override(4, "見た")}
        found = lines(
            stopped("s1", "needs_human", "壊れ", "", both),
            stopped("s2", "needs_human", "壊れ", "", {"01-1": both["01-1"]}),
        )
        assert (found["s1"].state, found["s1"].total, found["s1"].reason) == ("graded", 9, "")
        assert (found["s2"].state, found["s2"].total, found["s2"].answers["01-1"].points) == ("needs_human", None, 5)

    def test_a_total_without_the_state_graded_is_never_shown(self):
        row = Row(entry("s1"), Result("limit", {"01-1": 5, "01-2": 5}, 10, {}, "時間切れ"))
        assert lines(row)["s1"].total is None

    def test_a_pending_line_is_not_an_error_of_the_grader(self):
        assert next(line for line in report().lines if line.student == "s010").state == "pending"

    def test_attention_comes_in_the_order_of_urgency_then_of_the_roster(self):
        assert [line.student for line in report().of(*ATTENTION)] == [
            "s006",
            "（名簿にない）x.ipynb",
            "s009",
            "s008",
            "s010",
        ]

    def test_title_comes_from_the_release(self):
        assert report().title == "演習"


class TestClean:
    @pytest.mark.parametrize(
        ("raw", "want"),
        [
            ("\x1b[31m赤\x1b[0m", "赤"),
            ("\\u001b[31m赤\\u001b[0m", "赤"),
            ("\x1b]0;題名\x07後", "後"),
            ("a\x00b\x08c\x7f\x9b31md\x85e", "abcde"),
            ("一\r\n二\r三\t四", "一\n二\n三\t四"),
            ("\u202eab", "\\u202eab"),
            ("\udc80", "\\x80"),
            ("か\u3099", "が"),
            ("👩‍🔬", "👩‍🔬"),
        ],
    )
    def test_escapes_and_controls_go_and_hidden_marks_show(self, raw, want):
        assert clean(raw) == want

    def test_every_text_of_a_report_can_be_written(self):
        for line in report(evil_class()).lines:
            texts = [line.student, line.name, line.reason, line.file, *line.notes]
            texts += [answer.message + answer.why for answer in line.answers.values()]
            for text in texts:
                text.encode("utf-8")
                assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in text)

    def test_a_long_text_is_shortened(self):
        assert len(clean("あ" * 10**6)) < 5000

    def test_code_marks_are_split_in_pairs_only(self):
        assert code_parts("a`b`c") == [(False, "a"), (True, "b"), (False, "c")]
        assert code_parts("a`b") == [(False, "a`b")]


class TestFigures:
    def test_distribution_counts_graded_students_once(self):
        spread = figures.distribution(report())
        totals = [line.total for line in report().lines if line.total is not None]
        assert spread.count == len(totals) == sum(bar.count for bar in spread.bars)
        assert (spread.low, spread.high, spread.mean) == (min(totals), max(totals), sum(totals) / len(totals))

    @pytest.mark.parametrize("points", [1, 5, 6, 7, 40, 333])
    def test_bars_cover_every_score_once(self, points):
        questions = tuple(dataclasses.replace(question, points=points) for question in ASSIGNMENT.questions)
        made = build([graded("s1")], dataclasses.replace(ASSIGNMENT, questions=questions))
        covered = [score for bar in figures.distribution(made).bars for score in range(bar.low, bar.high + 1)]
        assert covered == list(range(2 * points + 1))

    def test_no_graded_student_means_no_distribution(self):
        assert figures.distribution(report([stopped("s1", "missing", "提出がありません。")])) is None

    def test_questions_come_worst_first_with_their_common_diagnosis(self):
        axis = Feedback("axis", "向き")
        rows = [
            graded(f"s{n}", 0, 5, replies={"01-1": reply, "01-2": PASSED}) for n, reply in enumerate([SIGN, axis, SIGN])
        ]
        rows += [
            graded("s8", 0, 0, replies={"01-1": UNTOUCHED, "01-2": UNTOUCHED}),
            limited("s9"),
            stopped("t", "missing", ""),
        ]
        first, second = figures.by_question(report(rows))
        assert (first.question.id, first.judged, first.passed, first.untouched, first.percent) == ("01-1", 5, 0, 1, 0)
        assert [(one.code, one.count) for one in first.diagnoses] == [("sign", 3), ("axis", 1)]
        assert first.diagnoses[0].message == SIGN.message
        assert (second.question.id, second.judged, second.passed, second.percent) == (
            "01-2",
            4,
            3,
            75,
        )  # 上限で止めた人は数えない

    def test_same_bytes_are_found_and_untouched_copies_are_not(self):
        assert figures.identical_files(report()) == [("s001", "s002")]


class TestIdenticalAnswers:
    def test_spaces_and_comments_do_not_hide_a_copy_and_stubs_do_not_count(self, tmp_path):
        spaced = "# 私の答え\n\n" + DOUBLE.replace("2 * x", "2*x   # 倍")
        roster = make_class(
            tmp_path / "in",
            {
                "s1": (DOUBLE, ADD),
                "s2": (spaced, STUB2),
                "s3": (TRIPLE, STUB2),
                "s4": None,
                "s5": b"{broken",
                "s6": ("def mmd2(:", ADD),
            },
        )
        found = identical_answers(gather(tmp_path / "in", roster, ASSIGNMENT), ASSIGNMENT)
        assert found["01-1"] == (("s1", "s2"),)
        assert found["01-2"] == (("s1", "s6"),)

    def test_order_of_submissions_does_not_matter(self, tmp_path):
        roster = make_class(tmp_path / "in", {f"s{n}": (DOUBLE, ADD if n % 2 else TRIPLE) for n in range(6)})
        submissions = gather(tmp_path / "in", roster, ASSIGNMENT)
        want = identical_answers(submissions, ASSIGNMENT)
        random.Random(1).shuffle(submissions)
        assert identical_answers(submissions, ASSIGNMENT) == want
        assert want["01-1"] == (tuple(f"s{n}" for n in range(6)),)


def test_enrolled_tells_strangers_apart():
    assert [line.student for line in report().lines if not line.enrolled] == ["（名簿にない）x.ipynb"]
    assert len(small_class()) == 12
    assert entry("s1").student == "s1"
