"""漏れの検査。演習のどこに解答の文を植えても見つかり、ふつうの文では騒がないこと。"""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from build_course import ANSWER, code, draft, exercise, prose

from tlkit.course.build.leaks import allowed_of, find_leaks
from tlkit.course.errors import CourseError

RETURN = "return within(x) + within(y) - 2 * gram(x, y).mean()"
LOOP_ANSWER = """
def mmd2(x, y, sigma, estimator="biased"):
    ### BEGIN SOLUTION
    total = 0.0
    n = x.shape[0]
    for i in range(3):
        total += float((x[i] - y[i]).square().sum() / (2 * sigma**2))
        optimizer.step()
    return total
    ### END SOLUTION
"""


def leaks(tmp_path: Path, *cells: str, answer: str = ANSWER) -> list[str]:
    made = draft(tmp_path, exercise(*cells, answer=answer))
    return find_leaks(made.notebook, made.secrets)


def fenced(text: str, indent: str = "") -> str:
    return prose("\n".join(["説明", "", "```python", *[indent + line for line in text.split("\n")], "```"]))


def test_clean_exercise_has_no_leak(tmp_path: Path) -> None:
    assert leaks(tmp_path, code("z = torch.zeros(3)\nprint(len(z))")) == []


@pytest.mark.parametrize(
    "planted",
    [
        code(f"def other(x, y):\n    {RETURN}"),
        code(f"if True:\n    def other(x, y):\n        if x:\n            {RETURN}"),
        code("def other(p, q):\n    return inside(p) + inside(q) - 2 * kernel(p, q).mean()"),
        code("value = within( x )+(within(y)) -2*gram( x,y ).mean()"),
        code("print('答え', inside(a) + inside(b) - 2 * k(a, b).mean())"),
        code(f"# ヒント\n# {RETURN}\nx = 1"),
        code("# return inside(p) + inside(q) - 2 * kern(p, q).mean()\nx = 1"),
        code(f'"""\n説明\n\n    {RETURN}\n"""'),
        code("text = 'inner.sum() / n**2 と within(x) + within(y) - 2 * gram(x, y).mean() を返す'"),
        fenced(f"def other(x, y):\n    {RETURN}"),
        fenced(RETURN, indent="        "),
        fenced("return a(p) + a(q) - 2 * b(p, q).mean()"),
        prose(f"答えは`{RETURN}`です。"),
        prose("答えは`inside(p) + inside(q) - 2 * kern(p, q).mean()`です。"),
        prose(f"次のように書きます。\n\n    {RETURN}"),
        prose(f"> {RETURN}"),
        prose("答えは within(x) + within(y) - 2 * gram(x, y).mean() です。"),
        prose("```\nreturn (inner.sum()\n        - inner.diagonal().sum()) / (n * (n - 1))\n```"),
        prose('`if estimator == "biased":` で分けます。\n\n```\ninner, n = gram(z, z), len(z)\n```'),
        f'# %% note="{RETURN}"\nx = 1\n',
    ],
)
def test_canary_is_found_wherever_it_is_planted(tmp_path: Path, planted: str) -> None:
    found = leaks(tmp_path, planted)
    assert found
    assert all("solutions/01_basics.py:" in text for text in found)


def test_leak_in_the_answer_cell_outside_the_region_is_found(tmp_path: Path) -> None:
    answer = ANSWER.replace('"""MMD² を返す。"""', f'"""MMD² を返す。\n\n    {RETURN}\n    """')
    assert any(RETURN in text for text in leaks(tmp_path, answer=answer))


def test_leak_in_outputs_and_metadata_is_found(tmp_path: Path) -> None:
    made = draft(tmp_path, exercise())
    notebook = made.notebook
    data: Any = {"text/plain": "def f():", "text/html": f"<pre>{RETURN}</pre>"}
    notebook.cells[-1].outputs = [nbformat.v4.new_output("display_data", data=data)]
    assert any("の出力に" in text for text in find_leaks(notebook, made.secrets))
    notebook.cells[-1].outputs = []
    notebook.metadata["note"] = {"deep": [RETURN]}
    assert any("のメタデータに" in text for text in find_leaks(notebook, made.secrets))


@pytest.mark.parametrize(
    "innocent",
    [
        "total = 0.0",
        "m = z.shape[0]",
        "for i in range(3):\n    pass",
        "optimizer.step()",
        "def f(total):\n    return total",
        "d = (x[i] - y[i]).square()",
    ],
)
def test_common_phrases_are_not_leaks(tmp_path: Path, innocent: str) -> None:
    assert leaks(tmp_path, code(innocent), answer=LOOP_ANSWER) == []


def test_exact_short_statement_is_a_leak_but_renamed_is_not(tmp_path: Path) -> None:
    assert leaks(tmp_path, code("n = x.shape[0]"), answer=LOOP_ANSWER)
    assert not leaks(tmp_path, code("m = z.shape[0]"), answer=LOOP_ANSWER)


def test_statement_given_by_the_stub_is_not_a_leak(tmp_path: Path) -> None:
    answer = LOOP_ANSWER.replace(
        "    total = 0.0", "    ### STUB n = x.shape[0]\n    ### STUB return ...\n    total = 0.0"
    )
    assert leaks(tmp_path, code("n = x.shape[0]"), answer=answer) == []


def test_allowed_statement_is_printed_and_not_a_leak(tmp_path: Path) -> None:
    answer = LOOP_ANSWER.replace("    total = 0.0", "    ### ALLOW n=x.shape[ 0 ]\n    total = 0.0")
    made = draft(tmp_path, exercise(code("n = x.shape[0]"), answer=answer))
    assert find_leaks(made.notebook, made.secrets) == []
    (line,) = allowed_of(made.pieces)
    assert line.endswith("n=x.shape[ 0 ]")
    assert line.startswith("solutions/01_basics.py:")
    assert "ALLOW" not in "".join(c.source for c in made.notebook.cells)


@pytest.mark.parametrize("statement", ["n = x.shape[1]", "((", ""])
def test_stale_allow_is_refused(tmp_path: Path, statement: str) -> None:
    answer = LOOP_ANSWER.replace("    total = 0.0", f"    ### ALLOW {statement}\n    total = 0.0")
    with pytest.raises(CourseError, match="この範囲にありません"):
        draft(tmp_path, exercise(answer=answer))
