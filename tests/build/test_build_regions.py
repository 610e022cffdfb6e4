"""解答の範囲の読み取りと、雛形への置き換え。"""

import ast

import pytest
from build_course import cell

from tlkit.course.build.regions import find_regions, marked_text, solution_text, stub_text
from tlkit.course.errors import CourseError

FUNCTION = '''
def f(x):
    """説明。"""
    n = len(x)
    ### BEGIN SOLUTION
    total = sum(x)
    return total / n
    ### END SOLUTION
'''


def test_function_body_becomes_not_implemented() -> None:
    made = cell(FUNCTION)
    expected = 'def f(x):\n    """説明。"""\n    n = len(x)\n    raise NotImplementedError("ここを実装してください")'
    assert stub_text(made, find_regions(made)) == expected


def test_solution_drops_marks_and_keeps_the_rest() -> None:
    made = cell(FUNCTION)
    text = solution_text(made, find_regions(made))
    assert "SOLUTION" not in text
    assert text.endswith("    total = sum(x)\n    return total / n")


def test_export_keeps_marks_but_not_author_notes() -> None:
    made = cell("### BEGIN SOLUTION\n### STUB a = None\n### ALLOW a = 1 + 1\na = 1 + 1\n### END SOLUTION")
    assert marked_text(made, find_regions(made)) == "### BEGIN SOLUTION\na = 1 + 1\n### END SOLUTION"


def test_value_region_becomes_ellipsis_for_each_name() -> None:
    made = cell("### BEGIN SOLUTION\na, (b, *c) = 1, (2, 3)\nd: int = 4\na = 5\n### END SOLUTION\nprint(a)")
    assert stub_text(made, find_regions(made)) == "a = ...\nb = ...\nc = ...\nd = ...\nprint(a)"


def test_author_stub_is_indented_like_the_region() -> None:
    made = cell(
        """
        def f(x):
            if x:
                ### BEGIN SOLUTION
                ### STUB for i in x:
                ### STUB     pass
                ### STUB
                ### STUB return ...
                return sum(x)
                ### END SOLUTION
        """
    )
    expected = "def f(x):\n    if x:\n        for i in x:\n            pass\n\n        return ..."
    assert stub_text(made, find_regions(made)) == expected


def test_mark_less_indented_than_its_body_still_works() -> None:
    made = cell("def f(x):\n### BEGIN SOLUTION\n    return x + 1\n### END SOLUTION")
    assert stub_text(made, find_regions(made)) == 'def f(x):\n    raise NotImplementedError("ここを実装してください")'


def test_mark_inside_a_string_is_not_a_mark() -> None:
    made = cell('text = """\n### BEGIN SOLUTION\n"""\nother = "### END SOLUTION"')
    assert find_regions(made) == []


def test_two_regions_in_one_cell_are_both_replaced() -> None:
    made = cell(FUNCTION + FUNCTION.replace("def f", "def g"))
    text = stub_text(made, find_regions(made))
    assert text.count("NotImplementedError") == 2
    assert "total" not in text
    ast.parse(text)


def test_method_and_else_branch_regions() -> None:
    made = cell(
        """
        class A:
            def f(self, x):
                if x:
                    y = 1
                else:
                    ### BEGIN SOLUTION
                    y = x * 2
                    ### END SOLUTION
                return y
        """
    )
    assert "else:\n            raise NotImplementedError" in stub_text(made, find_regions(made))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\n### BEGIN SOLUTION\ny = 2", 11, "閉じていません"),
        ("x = 1\n### END SOLUTION", 11, "対応する"),
        ("### BEGIN SOLUTION\nx = 1\n### BEGIN SOLUTION\ny = 2\n### END SOLUTION", 12, "入れ子"),
        ("x = 1  ### BEGIN SOLUTION\n### END SOLUTION", 10, "書き方が違います"),
        ("# BEGIN SOLUTION\nx = 1\n### END SOLUTION", 10, "書き方が違います"),
        ("### begin solution\nx = 1\n### END SOLUTION", 10, "書き方が違います"),
        ("### BEGIN SOLUTION:\nx = 1\n### END SOLUTION", 10, "書き方が違います"),
        ("### BEGIN SOLUTION\n# 何もない\n### END SOLUTION", 10, "文がありません"),
        ("### BEGIN SOLUTION\nprint(1)\n### END SOLUTION", 10, "雛形を決められません"),
        ("### BEGIN SOLUTION\na.b = 1\n### END SOLUTION", 10, "雛形を決められません"),
        ("### BEGIN SOLUTION\ndef f():\n    return 1\n### END SOLUTION", 10, "雛形を決められません"),
        ("### BEGIN SOLUTION\ndef f():\n    x = 1\n    ### END SOLUTION\n    return x", 10, "文の途中"),
        ("def f():\n    x = 1\n    ### BEGIN SOLUTION\n    y = 2\nz = 3\n### END SOLUTION", 12, "文の途中"),
        ("if a:\n    x = 1\n    ### BEGIN SOLUTION\nelse:\n    y = 2\n    ### END SOLUTION", 13, "文の途中"),
        ("### STUB x = 1\ny = 2", 10, "範囲の外"),
        (
            "def f():\n    ### BEGIN SOLUTION\n    ### STUB return (\n    return 1\n    ### END SOLUTION",
            11,
            "雛形に置き換えると",
        ),
    ],
)
def test_bad_marks_name_file_and_line(text: str, line: int, message: str) -> None:
    made = cell(text)
    with pytest.raises(CourseError, match=rf"solutions/01_basics\.py:{line}: .*{message}"):
        stub_text(made, find_regions(made))


def test_mark_in_markdown_is_refused() -> None:
    with pytest.raises(CourseError, match=r":11: .*markdown"):
        find_regions(cell("説明\n### BEGIN SOLUTION", "markdown"))
