"""最後に示す表。端末でなくても、同じものを色なしで書く。"""

from rich.console import Console
from rich.table import Table

from pipeline.outcome import Outcome, Run


def show(run: Run, console: Console | None = None) -> None:
    """段階の表、省いたものの表、合否、最後の 1 行を書く。最後の 1 行は、必ず単独で最後に置く。"""
    console = console or Console(width=None if Console().is_terminal else 120, highlight=False)
    console.print(_stages(run))
    if run.left_out:
        console.print(_left_out(run))
    for outcome in run.outcomes:
        for note in outcome.notes:
            console.print(f"  {outcome.stage}: {note}", markup=False, soft_wrap=True)
    faults = run.faults()
    for fault in faults:
        console.print(f"❌ {fault}", markup=False, soft_wrap=True)
    console.print("すべての段階が通りました。" if not faults else "通っていません。", markup=False)
    console.print(run.closing_line(), markup=False, soft_wrap=True)


def _stages(run: Run) -> Table:
    table = Table("段階", "結果", title="段階ごとの結果")
    table.add_column("秒", justify="right")
    table.add_column("合格／失敗／省略", justify="right")
    if run.preparation:
        table.add_row("準備", "済み", f"{run.preparation:.1f}", "")
    for outcome in run.outcomes:
        table.add_row(outcome.stage, _verdict(outcome), f"{outcome.seconds:.1f}", _counts(outcome))
    table.add_section()
    table.add_row("合計", "", f"{run.seconds:.1f}", run.closing_line())
    return table


def _verdict(outcome: Outcome) -> str:
    if not outcome.ok:
        return "失敗"
    return "合格" if outcome.ran else "省略"


def _counts(outcome: Outcome) -> str:
    numbers = (outcome.passed, outcome.failed, outcome.skipped)
    return "／".join(map(str, numbers)) if any(numbers) else ""


def _left_out(run: Run) -> Table:
    table = Table("省いたもの", "理由", "CI", title="省いたもの")
    for item in run.left_out:
        table.add_row(item.what, item.why.replace("[", r"\["), "可" if item.allowed_in_ci else "不可")
    return table
