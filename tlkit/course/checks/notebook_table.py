"""`tlkit check` の結果を、端末の表にする。"""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tlkit.course.checks.notebook import NotebookResult, State

_MARKS: dict[State, str] = {
    "passed": "✅ 合格",
    "failed": "❌ 不合格",
    "untouched": "⏳ 未着手",
    "missing": "❌ 確認セルなし",
    "replaced": "❌ 差し替え",
    "stopped": "❌ 途中で停止",
    "timeout": "❌ 時間切れ",
    "dead": "❌ カーネル停止",
}


def print_result(result: NotebookResult) -> None:
    """表と、合格した数を印字する。"""
    console = Console(highlight=False)
    table = Table("問題", "結果", "診断", box=box.ROUNDED, show_lines=True)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for row in result.rows:
        table.add_row(escape(row.question), _MARKS[row.state], escape(row.detail))
    console.print(escape(str(result.path)), soft_wrap=True)
    console.print(table)
    passed = sum(row.state == "passed" for row in result.rows)
    console.print(f"{len(result.rows)} 問のうち {passed} 問に合格しました。")
