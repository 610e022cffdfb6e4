"""出力の検査。"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from build_course import draft, exercise

from tlkit.course.build.outputs import count_problems, join_streams, output_problems


def stream(text: str, name: str = "stdout") -> Any:
    return nbformat.v4.new_output("stream", name=name, text=text)


def shown(**data: str) -> Any:
    return nbformat.v4.new_output("display_data", data={key.replace("_", "/"): value for key, value in data.items()})


def problems(tmp_path: Path, *outputs: Any) -> list[str]:
    made = draft(tmp_path, exercise(), "solution")
    notebook = made.notebook
    notebook.cells[0].outputs = list(outputs)
    notebook.cells[-1].outputs = [stream("✅ 01-1 合格\n")]
    return output_problems(made, notebook, (Path("/scratch/one"),))


def test_ordinary_outputs_are_accepted(tmp_path: Path) -> None:
    fine = [
        stream("平均 0.123\n0x12 は 18\n/ で割る\n"),
        shown(text_plain="tensor([1.])", image_png=f"{Path.home()}/ 0x7f0000000000 at 0x7f0000000000"),
    ]
    assert problems(tmp_path, *fine) == []


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (stream("UserWarning: x", "stderr"), "標準エラー"),
        (nbformat.v4.new_output("error", ename="ValueError", evalue="悪い値", traceback=[]), "例外で止まりました"),
        (stream("<object at 0x7f1234567890>\n"), "番地"),
        (shown(text_html="<b>at 0x7f1234567890</b>"), "番地"),
        (stream(f"保存先 {Path.home()}/a.png\n"), "フォルダの名前"),
        (stream(f"{tempfile.gettempdir()}/x\n"), "フォルダの名前"),
        (stream(f"{sys.prefix}/lib/python3/site-packages/torch/x.py:1\n"), "フォルダの名前"),
        (stream("cwd=/scratch/one\n"), "フォルダの名前"),
        (shown(text_plain=f"PosixPath('{Path.cwd()}')"), "フォルダの名前"),
        (
            nbformat.v4.new_output(
                "display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "a"}}
            ),
            "ウィジェット",
        ),
    ],
)
def test_machine_dependent_or_failed_outputs_are_found(tmp_path: Path, output: Any, message: str) -> None:
    (found,) = problems(tmp_path, output)
    assert message in found
    assert found.startswith("solutions/01_basics.py:2（solutions/01_basics.ipynb のセル c-")


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("solution", []),
        ("solution", [stream("⏳ 01-1 未着手\n")]),
        ("solution", [stream("✅ 01-1 合格\nおまけ\n")]),
        ("solution", [stream("✅ 01-10 合格\n")]),
        ("exercise", [stream("✅ 01-1 合格\n")]),
        ("exercise", [stream("❌ 01-1 符号\n")]),
        ("exercise", [stream("⏳ 01-1 未着手\n"), shown(text_plain="3")]),
    ],
)
def test_check_cell_must_print_exactly_its_line(tmp_path: Path, kind: Any, outputs: list[Any]) -> None:
    made = draft(tmp_path, exercise(), kind)
    made.notebook.cells[-1].outputs = outputs
    (found,) = output_problems(made, made.notebook)
    assert "だけでなければなりません" in found


def test_streams_are_joined_without_passing_over_figures() -> None:
    joined = join_streams([stream("a\n"), stream("b\n"), shown(text_plain="図"), stream("c\n"), stream("d", "stderr")])
    assert ["".join(o.get("text", "図")) for o in joined] == ["a\nb\n", "図", "c\n", "d"]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2, 3, 4], None),
        ([1, None, 3, 4], "実行していない"),
        ([1, 2, 4, 5], "順に並んで"),
        ([2, 1, 3, 4], "順に並んで"),
    ],
)
def test_execution_counts(counts: list[int | None], message: str | None) -> None:
    cells = [nbformat.v4.new_code_cell("x", execution_count=count) for count in counts]
    found = count_problems(nbformat.v4.new_notebook(cells=cells))
    assert found == [] if message is None else message in found[0]
