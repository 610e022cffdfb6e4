"""`tlkit grade`: 引数の形、終了コード、書かれるもの。檻の代わりに、その場で動かす。"""

import contextlib
import csv
import io
import json
import re
import shlex
import sys
from types import SimpleNamespace

import pytest
from grading_kit import ADD, ASSIGNMENT, DOUBLE, TRIPLE, inline, make_class
from small_release import submission, to_bytes

from tlkit.course import cli
from tlkit.course.cli_errors import run_safely
from tlkit.course.grading import commands, escapes
from tlkit.course.grading.available import Availability
from tlkit.course.grading.drivers import Driver
from tlkit.course.grading.executors import Pool
from tlkit.course.grading.progress import Progress
from tlkit.course.grading.screen import ProgressLine, duration, progress_text

SLUG = ASSIGNMENT.slug
COMMANDS = ("run", "regrade", "status", "report", "override", "selftest", "sample")
ENGLISH = re.compile(r"(?i)no such|missing|invalid|should be|unexpected|try '|error|traceback")
CLASS = {"s1": (DOUBLE, ADD), "s2": (TRIPLE, ADD), "s3": None}


@pytest.fixture
def tlkit(tmp_path, monkeypatch, capsys):
    """命令を動かし、（終了コード, 出力, 誤り）を返す。"""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands.assignment, "load", lambda slug, root=None: ASSIGNMENT)
    monkeypatch.setattr(commands.tasks, "caged", inline)
    monkeypatch.setattr(commands.available, "require", lambda: None)
    monkeypatch.setattr(commands.calibration, "find", lambda slug: b"")

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["tlkit", *map(str, words)])
        code = run_safely(cli.app)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def graded(tlkit, tmp_path):
    """採点を一回終えたところ。"""

    def make(sources=CLASS, *words):
        roster(tmp_path, sources)
        return tlkit("grade", "in", "--exercise", SLUG, "--roster", "roster.csv", *words)

    return make


def roster(folder, sources):
    students = make_class(folder / "in", sources)
    lines = ["学籍番号,氏名", *(f"{student.id},{student.name}" for student in students)]
    (folder / "roster.csv").write_text("\n".join(lines), encoding="utf-8-sig")


class TestHelp:
    def test_group_help_teaches_the_whole_way(self, tlkit):
        code, out, _ = tlkit("grade", "--help")
        assert code == 0
        assert all(name in out for name in COMMANDS)
        words = out.replace("\n", "").replace(" ", "")
        for word in ("--roster", "selftest", "要確認", "override", "終了コード", "docs/grading.md"):
            assert word in words

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_an_example(self, tlkit, command):
        code, out, _ = tlkit("grade", command, "--help")
        assert code == 0
        assert "tlkit grade" in out.split("例:")[1]

    def test_bare_grade_shows_the_help(self, tlkit):
        code, out, err = tlkit("grade")
        assert (code, err) == (2, "")
        assert "selftest" in out


class TestWords:
    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("grade", "in"), "--exercise が必要です"),
            (("grade", "in", "--exercise", SLUG), "--roster が必要です"),
            (("grade", "--exercise", SLUG), "引数"),
            (("grade", "statsu"), "「statsu」というコマンドはありません"),
            (("grade", "override", "s1", "01-1"), "どちらか一つ"),
            (("grade", "override", "s1", "01-1", "3", "--undo"), "どちらか一つ"),
            (("grade", "report", "in"), "両方を渡してください"),
            (("grade", "in", "--exercise", SLUG, "--roster", "r.csv", "--jobs", "0"), "1 以上の整数"),
        ],
    )
    def test_usage_errors_are_japanese(self, tlkit, words, told):
        code, out, err = tlkit(*words)
        assert (code, out) == (2, "")
        assert told in err
        assert not ENGLISH.search(err)

    @pytest.mark.parametrize(
        "words", [("in", "--exercise", SLUG), ("run", "in", "--exercise", SLUG), ("--exercise", SLUG, "in")]
    )
    def test_run_may_be_left_out_and_options_may_come_first(self, tlkit, tmp_path, words):
        roster(tmp_path, {"s1": (DOUBLE, ADD)})
        assert tlkit("grade", *words, "--roster", "roster.csv")[0] == 0

    def test_a_folder_named_like_a_slip_of_a_command_is_a_folder(self, tlkit, tmp_path):
        roster(tmp_path, {"s1": (DOUBLE, ADD)})
        (tmp_path / "in").rename(tmp_path / "reports")
        assert tlkit("grade", "reports", "--exercise", SLUG, "--roster", "roster.csv")[0] == 0


class TestRun:
    @pytest.mark.parametrize(
        ("sources", "want"),
        [
            (CLASS, 0),
            (CLASS | {"s4": b"{broken"}, 3),
            (CLASS | {"s4": (DOUBLE, f"HANG = True\n{ADD}")}, 3),
            ({"s1": None, "s2": None}, 3),
        ],
    )
    def test_exit_code_tells_whether_somebody_must_look(self, graded, sources, want):
        assert graded(sources)[0] == want

    def test_a_fault_of_the_grader_is_one(self, graded, monkeypatch):
        def broken(task):
            raise OSError("檻の故障")

        monkeypatch.setattr(commands.tasks, "caged", broken)
        code, out, _ = graded()
        assert code == 1
        assert "採点側の故障 2" in out

    def test_summary_names_what_to_look_at_and_what_to_do_next(self, graded):
        _, out, err = graded(CLASS | {"s4": b"{broken"})
        assert "採点済み 2" in out
        assert "平均 7.5 点" in out
        assert re.search(r"s4 氏名s4 \[要確認\] .+", out)
        assert "0 点ではありません" in out
        assert f"tlkit grade report in --roster roster.csv --exercise {SLUG}" in out
        assert "採点 4/4" in err

    def test_the_next_command_works_as_it_is_printed(self, graded, tlkit, tmp_path):
        _, out, _ = graded(CLASS, "--store", "my grades/g.sqlite")
        (words,) = re.findall(r"次は: tlkit (.*)", out)
        assert tlkit(*shlex.split(words))[0] == 0
        assert (tmp_path / "my grades" / "report" / f"{SLUG}.html").is_file()

    def test_an_empty_folder_is_told(self, graded):
        assert "提出が一つも見つかりません" in graded({"s1": None})[1]

    def test_files_stay_out_of_the_submissions_and_are_private(self, graded, tmp_path):
        graded()
        assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["s1.ipynb", "s2.ipynb"]
        assert {"grades.sqlite", "secret", ".gitignore"} <= {path.name for path in (tmp_path / "grading").iterdir()}
        assert (tmp_path / "grading" / "secret").stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize("option", ["--store", "--secret"])
    def test_store_and_secret_inside_the_submissions_are_refused(self, graded, tmp_path, option):
        code, _, err = graded(CLASS, option, "in/x")
        assert code == 2
        assert "提出のフォルダ" in err
        assert not (tmp_path / "in" / "x").exists()

    def test_a_second_run_uses_the_results_and_regrade_does_not(self, graded, tlkit, monkeypatch):
        graded()
        called = []
        monkeypatch.setattr(commands.tasks, "caged", lambda task: called.append(task) or inline(task))
        words = ("in", "--exercise", SLUG, "--roster", "roster.csv")
        code, _, err = tlkit("grade", *words)
        assert (code, called) == (0, [])
        assert "前回の結果 2" in err
        assert tlkit("grade", "regrade", *words)[0] == 0
        assert len(called) >= 2

    def test_regrade_of_one_student_leaves_the_class_alone(self, graded, tlkit, monkeypatch):
        graded(CLASS | {"s4": (DOUBLE, f"HANG = True\n{ADD}"), "s5": (TRIPLE, ADD)})
        called = []
        monkeypatch.setattr(commands.tasks, "caged", lambda task: called.append(task) or inline(task))
        words = ("regrade", "in", "--exercise", SLUG, "--roster", "roster.csv")
        assert tlkit("grade", *words, "--student", "s4")[0] == 3
        assert len(called) == 2 and all("HANG" in repr(task.program) for task in called)  # 二度目は、一つだけで動かす
        assert tlkit("grade", *words, "--student", "s1", "--student", "s5")[0] == 3
        assert len(called) == 5
        code, out, err = tlkit("grade", *words, "--student", "s9")
        assert (code, out) == (2, "")
        assert "s9" in err and "名簿" in err

    def test_several_best_counts_the_better_one(self, graded, tlkit, tmp_path):
        roster(tmp_path, {"s1": (TRIPLE, ADD)})
        (tmp_path / "in" / "s1_new.ipynb").write_bytes(to_bytes(submission(DOUBLE, ADD)))
        words = ("grade", "in", "--exercise", SLUG, "--roster", "roster.csv")
        code, out, _ = tlkit(*words)
        assert (code, "違う中身の提出" in out) == (3, True)
        code, out, _ = tlkit(*words, "--several", "best")
        assert (code, "平均 10.0 点" in out) == (0, True)

    def test_the_report_compares_the_attempt_that_counted(self, graded, tlkit, tmp_path):
        roster(tmp_path, {"s1": (TRIPLE, ADD), "s2": (DOUBLE, ADD)})
        (tmp_path / "in" / "s1_new.ipynb").write_bytes(to_bytes(submission(DOUBLE, ADD)))
        tlkit("grade", "in", "--exercise", SLUG, "--roster", "roster.csv", "--several", "best")
        tlkit("grade", "report", "in", "--roster", "roster.csv", "--json", "--out", "x")
        found = json.loads((tmp_path / "x" / f"{SLUG}.json").read_text(encoding="utf-8"))
        assert found["identical_answers"] == {"01-1": [["s1", "s2"]], "01-2": [["s1", "s2"]]}

    def test_the_solution_sets_the_time_unless_it_is_refused(self, graded, tlkit, monkeypatch):
        wrong = to_bytes(submission(TRIPLE, ADD))
        monkeypatch.setattr(commands.calibration, "find", lambda slug: wrong)
        code, _, err = graded()
        assert code == 2
        assert "満点になりません" in err and "--no-solution" in err
        assert tlkit("grade", "in", "--exercise", SLUG, "--roster", "roster.csv", "--no-solution")[0] == 0

    def test_ctrl_c_says_what_is_left_and_how_to_go_on(self, graded, tlkit, monkeypatch):
        def stop(task):
            raise KeyboardInterrupt

        here = SimpleNamespace(submit=lambda run, task: run(task))
        monkeypatch.setattr(commands, "_pool", lambda order: contextlib.nullcontext(Pool(here, 1)))
        monkeypatch.setattr(commands.tasks, "caged", stop)
        code, out, err = graded()
        assert (code, out) == (130, "")
        assert "残り 2 人" in err and "同じ命令をもう一度実行すると、続きから採点します" in err

    def test_without_a_cage_nothing_is_graded_and_nothing_is_made(self, graded, tmp_path, monkeypatch):
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(commands.assignment, "load", lambda slug, root=None: ASSIGNMENT)
        refusal = "bubblewrap がありません。"
        monkeypatch.setattr(commands.available, "available", lambda: Availability(ok=False, reason=refusal))
        code, _, err = graded()
        assert (code, err.strip()) == (2, refusal)
        assert not (tmp_path / "grading").exists()

    def test_an_unknown_scheduler_is_refused_before_anything_runs(self, graded):
        code, _, err = graded(CLASS, "--scheduler", "tcp://127.0.0.1:9")
        assert code == 2
        assert "dask" in err


class TestAfterwards:
    def test_status_tells_the_same_as_the_run(self, graded, tlkit):
        graded(CLASS | {"s4": b"{broken"})
        code, out, _ = tlkit("grade", "status")
        assert code == 3
        assert "採点済み 2" in out
        assert "[要確認]" in out

    @pytest.mark.parametrize("words", [("status",), ("report",), ("override", "s1", "01-1", "3", "--why", "x")])
    def test_without_a_store_it_says_what_to_do_and_makes_none(self, tlkit, tmp_path, words):
        code, _, err = tlkit("grade", *words)
        assert code == 2
        assert "先に tlkit grade で採点" in err
        assert list(tmp_path.iterdir()) == []

    def test_an_exercise_that_was_not_graded_is_told(self, graded, tlkit):
        graded()
        code, _, err = tlkit("grade", "status", "--exercise", "99_none")
        assert code == 2
        assert SLUG in err

    def test_report_writes_every_form(self, graded, tlkit, tmp_path):
        graded(CLASS | {"s4": b"{broken"})
        code, out, _ = tlkit("grade", "report")
        folder = tmp_path / "grading" / "report"
        assert code == 3
        assert {path.name for path in folder.iterdir()} >= {f"{SLUG}.{form}" for form in ("html", "csv", "json")}
        assert sorted(path.name for path in (folder / f"{SLUG}-feedback").glob("*.html")) == [
            "s1.html",
            "s2.html",
            "s4.html",
        ]
        assert str(folder / f"{SLUG}.html") in out.replace("\n", "") or f"{SLUG}.html" in out
        rows = list(csv.reader(io.StringIO((folder / f"{SLUG}.csv").read_text("utf-8-sig"))))
        assert [row[3] for row in rows] == ["合計", "10", "5", "", ""]

    def test_report_writes_only_the_chosen_form_where_it_is_told(self, graded, tlkit, tmp_path):
        graded()
        assert tlkit("grade", "report", "--json", "--out", "x")[0] == 0
        assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [".gitignore", f"{SLUG}.json"]

    def test_report_finds_identical_answers_when_it_sees_the_submissions(self, graded, tlkit, tmp_path):
        graded(CLASS)
        tlkit("grade", "report", "in", "--roster", "roster.csv", "--json", "--out", "x")
        found = json.loads((tmp_path / "x" / f"{SLUG}.json").read_text(encoding="utf-8"))
        assert found["identical_answers"] == {"01-2": [["s1", "s2"]]}
        assert [one["total"] for one in found["students"]] == [10, 5, None]

    def test_two_reports_have_the_same_bytes(self, graded, tlkit, tmp_path):
        graded()
        for name in ("x", "y"):
            tlkit("grade", "report", "--out", name)
        for form in ("json", "html", "csv"):
            assert (tmp_path / "x" / f"{SLUG}.{form}").read_bytes() == (tmp_path / "y" / f"{SLUG}.{form}").read_bytes()

    def test_override_survives_a_regrade_and_can_be_undone(self, graded, tlkit):
        graded()
        code, out, _ = tlkit("grade", "override", "s2", "01-1", 3, "--why", "別解")
        assert code == 0
        assert "合計 8 / 10 点" in out
        assert "別解" in out
        tlkit("grade", "regrade", "in", "--exercise", SLUG, "--roster", "roster.csv")
        assert "平均 9.0 点" in tlkit("grade", "status")[1]
        assert "合計 5 / 10 点" in tlkit("grade", "override", "s2", "01-1", "--undo", "--why", "取り消し")[1]

    def test_override_finishes_a_submission_for_a_human(self, graded, tlkit):
        graded({"s1": b"{broken"})
        assert "合計なし" in tlkit("grade", "override", "s1", "01-1", 5, "--why", "見た")[1]
        assert "合計 9 / 10 点" in tlkit("grade", "override", "s1", "01-2", 4, "--why", "見た")[1]
        assert tlkit("grade", "status")[0] == 0

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("s1", "01-1", "6", "--why", "x"), "0 から 5"),
            (("s1", "09-9", "1", "--why", "x"), "ありません"),
            (("nobody", "01-1", "1", "--why", "x"), "名簿にいません"),
            (("s1", "01-1", "1"), "--why"),
        ],
    )
    def test_wrong_overrides_are_refused(self, graded, tlkit, words, told):
        graded()
        code, _, err = tlkit("grade", "override", *words)
        assert code == 2
        assert told in err


@pytest.mark.parametrize("blocked", [True, False])
def test_selftest_lists_the_attempts_and_fails_when_one_gets_out(tlkit, monkeypatch, blocked):
    attempts = [escapes.Trial("読む", True, "何も"), escapes.Trial("書く", blocked, "書けました")]
    monkeypatch.setattr(escapes, "selftest", lambda driver: iter(attempts))
    monkeypatch.setattr(commands.available, "require", lambda: Driver("podman", escapes.run, "/usr/bin/podman"))
    code, out, _ = tlkit("grade", "selftest")
    assert "podman（/usr/bin/podman）" in out
    assert code == (0 if blocked else 1)
    assert ("❌ 止められない 書く: 書けました" in out) is not blocked
    assert f"2 個の試みのうち {2 if blocked else 1} 個" in out


class TestProgressLine:
    def test_text_has_counts_and_time_left(self):
        text = progress_text(Progress(57, 200, 3, {"graded": 50, "needs_human": 7}, 81.0))
        assert text == "採点 57/200（採点済み 50、要確認 7、うち前回の結果 3） 残り約 1 分 21 秒"
        assert progress_text(Progress(0, 5, 0, {}, None)) == "採点 0/5（準備中）"

    @pytest.mark.parametrize(("seconds", "want"), [(0.4, "約 0 秒"), (59.6, "約 1 分 0 秒"), (3700, "約 1 時間 1 分")])
    def test_duration(self, seconds, want):
        assert duration(seconds) == want

    def test_a_file_gets_few_lines_and_a_terminal_one(self):
        clock = iter(range(1000)).__next__
        plain, live = io.StringIO(), io.StringIO()
        live.isatty = lambda: True
        for stream in (plain, live):
            line = ProgressLine(stream, clock)
            for done in range(51):
                line(Progress(done, 50, 0, {"graded": done}, 1.0))
        assert 2 <= plain.getvalue().count("\n") < 20
        assert plain.getvalue().splitlines()[-1].startswith("採点 50/50")
        assert "\x1b" not in plain.getvalue()
        assert live.getvalue().count("\n") == 1
