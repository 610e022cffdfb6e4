"""番号が二桁の演習（03-10）の採点: セルの割り当て、列の順、提出どうしの比較。"""

import csv
import io

from course_samples import code, notebook, text
from report_kit import PASSED, SIGN, entry

from tlkit.course.checks.registry import question
from tlkit.course.grading.assignment import Assignment, from_document
from tlkit.course.grading.model import Result
from tlkit.course.grading.report.as_csv import to_csv
from tlkit.course.grading.report.table import Report, build
from tlkit.course.grading.rows import Row

ORDER = ("03-1", "03-9", "03-10")
POINTS = {"03-1": 1, "03-9": 2, "03-10": 3}


def release() -> Assignment:
    cells = [text("# 演習", "c-title")]
    for name in ORDER:
        answers = question(name).answers
        stub = "\n\n".join(f"def {one}(*given):\n    raise NotImplementedError" for one in answers)
        cells += [code(stub, f"ex-{name}-answer"), code(f'check("{name}", {", ".join(answers)})', f"ex-{name}-check")]
    return from_document(notebook(*cells, questions=ORDER), "01_basics")


def one_student() -> Report:
    feedback = {name: PASSED if name == "03-10" else SIGN for name in ORDER}
    row = Row(entry("s1"), Result("graded", POINTS, 6, feedback, "", ()), {})
    return build([row], release())


def test_cells_belong_to_their_own_question() -> None:
    assignment = release()
    assert assignment.question_ids == ORDER
    for name in ORDER:
        for answer in question(name).answers:
            assert assignment.answer_cell(question(name), answer).id == f"ex-{name}-answer"


def test_columns_keep_the_order_of_the_release() -> None:
    head, row = csv.reader(io.StringIO(to_csv(one_student()).decode("utf-8-sig")))
    columns = [column for column in head if column.startswith("03-")]
    assert columns == [f"{name}（{question(name).points}点）" for name in ORDER]
    assert [row[head.index(column)] for column in columns] == ["1", "2", "3"]


def test_points_are_read_by_the_whole_id() -> None:
    (line,) = one_student().lines
    assert {name: line.answers[name].points for name in ORDER} == POINTS
