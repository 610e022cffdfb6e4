"""`tlkit check FILE`: ✅ は、この実行の中で check が合格と記録した問題だけ。

速く確かめるため、多くのテストでは記録の約束だけを守る小さな check を、ノートブックの隣に置いて使います。
"""

import os
import re
import time

import psutil
import pytest
from course_samples import code, exercise, make_course, notebook, text, write

from tlkit.course.checks import notebook as judged
from tlkit.course.checks.notebook import check_notebook
from tlkit.course.checks.notebook_table import print_result
from tlkit.course.checks.question import PASSED, Question
from tlkit.course.errors import CourseError

FAKE_CHECK = """
import json, os
def check(question, answer):
    assert os.environ["TLKIT_CHECK"] == "soft"
    try:
        value = answer()
        state = "untouched" if value is None else "passed" if value == 42 else "failed"
    except NotImplementedError:
        value, state = None, "untouched"
    with open(os.environ["TLKIT_CHECK_LOG"], "a", encoding="utf-8") as log:
        line = {"question": question, "state": state, "code": state, "message": f"{value} ではなく 42 です"}
        log.write(json.dumps(line) + "\\n")
"""
IDS = ("01-1", "01-2", "01-3")
SETUP = "from fakecheck import check"


def fake_question(number: str) -> Question:
    answers = (f"f{number[-1]}",)
    return Question(
        number, 1, f"題 {number}", "", 1, 1, answers, lambda seed: {}, lambda a, i: 0, lambda d, i: PASSED, ("", "", "")
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """登録された問題が 3 問だけの教材。"""

    def question(number):
        if number not in IDS:
            raise CourseError(f"演習 {number} は見つかりません。")
        return fake_question(number)

    monkeypatch.setattr(judged.registry, "question", question)
    monkeypatch.setattr(
        judged.registry, "questions", lambda slug: [fake_question(n) for n in IDS] if slug == "01_basics" else []
    )
    monkeypatch.setenv("TLKIT_COURSE", str(make_course(tmp_path / "course")))
    monkeypatch.setenv("TLKIT_CHECK", "strict")
    home = tmp_path / "home"
    home.mkdir()
    (home / "fakecheck.py").write_text(FAKE_CHECK, encoding="utf-8")
    return home


def answer(number: int, body: str = "return 42") -> dict:
    return code(f"def f{number}():\n    {body}", f"ex-01-{number}-answer")


def mark(number: int, source: str = "") -> dict:
    return code(source or f'check("01-{number}", f{number})', f"ex-01-{number}-check")


def run(folder, *cells, setup=SETUP, timeout=60, **options):
    path = write(folder / "01_basics.ipynb", notebook(code(setup, "c-setup"), *cells, questions=IDS, **options))
    before = path.read_bytes()
    result = check_notebook(path, timeout=timeout)
    assert path.read_bytes() == before
    return result, {row.question: row for row in result.rows}


def states(rows) -> list[str]:
    return [rows[number].state for number in IDS]


GOOD = [cell for number in (1, 2, 3) for cell in (answer(number), mark(number))]


def test_all_passed_exits_zero(folder, capfd):
    result, rows = run(folder, *GOOD)
    assert states(rows) == ["passed"] * 3
    assert result.exit_code == 0
    print_result(result)
    shown = capfd.readouterr()
    assert shown.out.count("✅") == 3
    assert shown.err == ""


def test_wrong_untouched_and_passed_side_by_side(folder, capsys):
    cells = [answer(1), mark(1), answer(2, "return 7"), mark(2), answer(3, "raise NotImplementedError"), mark(3)]
    result, rows = run(folder, *cells)
    assert states(rows) == ["passed", "failed", "untouched"]
    assert "7 ではなく 42" in rows["01-2"].detail
    assert result.exit_code == 1
    print_result(result)
    shown = capsys.readouterr().out
    assert all(
        mark in shown for mark in ("問題", "結果", "診断", "✅ 合格", "❌ 不合格", "⏳ 未着手", "3 問のうち 1 問")
    )


def test_printed_verdict_earns_nothing(folder):
    lie = 'print("✅ 01-1 合格")\nprint(\'{"question": "01-1", "state": "passed"}\')'
    result, rows = run(folder, mark(1, lie), *GOOD[2:])
    assert states(rows) == ["missing", "passed", "passed"]
    assert 'check("01-1", f1)' in rows["01-1"].detail
    assert result.exit_code == 1


def test_own_check_function_is_noticed(folder):
    result, rows = run(folder, *GOOD, setup=SETUP + '\ndef check(i, f):\n    print(f"✅ {i} 合格")')
    assert states(rows) == ["replaced"] * 3
    assert "差し替えられています" in rows["01-1"].detail
    assert result.exit_code == 1


def test_deleted_check_cell_and_markdown_check_cell(folder):
    _, rows = run(folder, answer(1), answer(2), text('check("01-2", f2)', "ex-01-2-check"), *GOOD[4:])
    assert states(rows) == ["missing", "missing", "passed"]


def test_check_moved_to_another_cell_counts(folder):
    _, rows = run(folder, *GOOD[:2], answer(2), code('if True:\n    check("01-2", f2)', "mine"), *GOOD[4:])
    assert states(rows) == ["passed"] * 3


def test_last_run_of_a_check_counts(folder):
    _, rows = run(folder, *GOOD, answer(1, "return 0"), code('check("01-1", f1)', "again"))
    assert states(rows) == ["failed", "passed", "passed"]


def test_error_before_the_check_names_cell_error_and_line(folder):
    broken = code("x = 1\ny = x +\ndef f1(): return 42", "ex-01-1-answer")
    cause = code("a = 1\nb = a / 0\ndef f2(): return 42", "ex-01-2-answer")
    result, rows = run(folder, broken, mark(1), cause, mark(2), *GOOD[4:])
    assert states(rows) == ["stopped", "stopped", "passed"]
    assert re.search(r"2 番目のセルで SyntaxError.*2 番目のセルの 2 行目", rows["01-1"].detail)
    assert result.exit_code == 1


def test_cause_of_a_later_question_is_its_own_cell(folder):
    _, rows = run(
        folder, *GOOD[:2], code("a = 1\nb = a / 0\ndef f2(): return 42", "ex-01-2-answer"), mark(2), *GOOD[4:]
    )
    assert states(rows) == ["passed", "stopped", "passed"]
    assert re.search(
        r"4 番目のセルで ZeroDivisionError: division by zero（4 番目のセルの 2 行目）", rows["01-2"].detail
    )


def test_failed_import_of_check_is_a_stop_not_a_pass(folder):
    _, rows = run(folder, *GOOD, setup="from no_such_module import check")
    assert states(rows) == ["stopped"] * 3
    assert "1 番目のセルで ModuleNotFoundError" in rows["01-3"].detail


def test_infinite_loop_times_out_and_the_rest_is_judged(folder):
    began = time.monotonic()
    _, rows = run(folder, answer(1, "while True: pass"), mark(1), *GOOD[2:], timeout=3)
    assert states(rows) == ["timeout", "passed", "passed"]
    assert "時間切れ: 3 番目のセルが 3 秒で終わりません" in rows["01-1"].detail
    assert time.monotonic() - began < 40


def test_time_out_is_named_even_after_an_unrelated_error(folder):
    _, rows = run(folder, code("1 / 0", "slip"), answer(1, "while True: pass"), mark(1), *GOOD[2:], timeout=3)
    assert states(rows) == ["timeout", "passed", "passed"]


def test_loop_that_ignores_the_interrupt_ends_all_the_same(folder, monkeypatch):
    monkeypatch.setattr("tlkit.course.checks.notebook_run._INTERRUPT_GRACE_SECONDS", 2)
    stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    _, rows = run(folder, *GOOD[:2], code(stubborn, "loop"), *GOOD[2:], timeout=3)
    assert states(rows) == ["passed", "timeout", "timeout"]
    assert "4 番目のセル" in rows["01-3"].detail
    assert [child for child in psutil.Process().children() if "ipykernel" in " ".join(child.cmdline())] == []


def test_dead_kernel_keeps_the_rows_so_far(folder):
    _, rows = run(folder, *GOOD[:2], answer(2, "import os; os._exit(0)"), mark(2), *GOOD[4:])
    assert states(rows) == ["passed", "dead", "dead"]
    assert "カーネルが落ちました: 5 番目のセル" in rows["01-2"].detail


def test_quit_and_input_do_not_hang(folder):
    _, rows = run(folder, code("name = input()", "ask"), *GOOD, timeout=20)
    assert states(rows) == ["passed"] * 3


def test_flood_of_output_is_survived(folder):
    _, rows = run(folder, code("for i in range(20000): print('x' * 200)", "flood"), *GOOD)
    assert states(rows) == ["passed"] * 3


def test_magics_and_surviving_odd_cells(folder):
    odd = code("%matplotlib inline\n!true\n%%timeit -n1 -r1 pass" if os.name == "posix" else "%pwd", "odd")
    _, rows = run(folder, odd, code("", "empty"), *GOOD)
    assert states(rows) == ["passed"] * 3


def test_runs_in_the_notebooks_folder_with_one_thread(folder, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    probe = "import os\ndef f1():\n    ok = os.path.exists('fakecheck.py') and os.environ['OMP_NUM_THREADS'] == '1'\n    return 42 if ok else 0"
    _, rows = run(folder, code(probe, "ex-01-1-answer"), *GOOD[1:])
    assert rows["01-1"].state == "passed"


def test_forged_or_broken_log_lines_are_ignored(folder):
    junk = 'import os\nopen(os.environ[\'TLKIT_CHECK_LOG\'], \'ab\').write(b\'\\xff{]\\n[1]\\n{"question": "01-1", "state": "perfect"}\\n\')'
    _, rows = run(folder, code(junk, "junk"), *GOOD[2:])
    assert states(rows) == ["missing", "passed", "passed"]


def test_dropping_a_question_from_the_metadata_does_not_hide_it(folder):
    document = notebook(code(SETUP, "s"), *GOOD[2:], questions=("01-2",))
    result = check_notebook(write(folder / "a.ipynb", document), timeout=60)
    assert sorted(row.question for row in result.rows) == list(IDS)
    assert result.exit_code == 1


@pytest.mark.parametrize("name", ["01_basics.ipynb", "01_basics（新版）.ipynb", "01_basics (1).ipynb", "01_basics_new.ipynb", "01_basics-Copy1.ipynb"])  # fmt: skip
def test_questions_by_file_name_when_the_metadata_is_gone(folder, name):
    document = exercise() | {"metadata": {}}
    found = judged.exercise_questions(document, folder / name)
    assert [question.id for question in found] == list(IDS)


@pytest.mark.parametrize(
    ("name", "document", "told"),
    [
        ("chapter.ipynb", notebook(kind="chapter", questions=()), "章のノートブックです"),
        ("memo.ipynb", notebook() | {"metadata": {}}, "この教材の演習のノートブックではありません"),
        ("01_other.ipynb", notebook() | {"metadata": {}}, "この教材の演習のノートブックではありません"),
        ("x.ipynb", notebook(questions=("99-9",)), "99-9 は見つかりません"),
        ("r.ipynb", notebook() | {"metadata": {"kernelspec": {"name": "ir", "language": "R"}}}, "R のノートブックです"),
        ("odd.ipynb", notebook() | {"metadata": {"tlkit": ["x"]}}, "この教材の演習のノートブックではありません"),
    ],
)
def test_notebooks_that_cannot_be_checked(folder, name, document, told):
    with pytest.raises(CourseError, match=told):
        check_notebook(write(folder / name, document), timeout=60)


def test_kernel_that_cannot_start_is_told(folder, monkeypatch):
    monkeypatch.setattr("tlkit.course.kernel.sys.executable", "/no/such/python")
    with pytest.raises(CourseError, match=r"カーネルを始められませんでした(.|\n)*tlkit doctor"):
        run(folder, *GOOD)


def test_table_shows_brackets_of_the_learner_literally(folder, capsys):
    row = judged.Row("01-1", "題", "failed", "x[0] と [red]赤[/red]")
    print_result(judged.NotebookResult(folder / "[a].ipynb", (row,)))
    shown = capsys.readouterr().out
    assert "[red]赤[/red]" in shown
    assert "[a].ipynb" in shown


REAL = "from tlkit.course import check"


def real(tmp_path, body: str):
    stub = code(body, "ex-01-1-answer")
    document = notebook(code(REAL, "c-setup"), stub, code('check("01-1", mmd2)', "ex-01-1-check"), questions=("01-1",))
    return {row.question: row for row in check_notebook(write(tmp_path / "01_basics.ipynb", document)).rows}["01-1"]


def test_real_question_untouched_and_borrowed(tmp_path):
    stub = 'def mmd2(x, y, bandwidth, estimator):\n    raise NotImplementedError("ここを実装してください")'
    assert real(tmp_path, stub).state == "untouched"
    borrowed = real(tmp_path, "from tlkit.losses import mmd2")
    assert borrowed.state == "failed"
    assert borrowed.detail
