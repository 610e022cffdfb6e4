"""`tlkit grade` の引数と説明。仕事は `commands.py` にある。

`tlkit grade DIR …` は `tlkit grade run DIR …` の略。重い部品は命令の中で読み込み、`tlkit --help` を速く保つ。
"""

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from tlkit.course.errors import CourseError

DEFAULT = "run"
STORE = Path("grading") / "grades.sqlite"
_PANEL, _OPTIONS, _ARGUMENTS = "コマンド", "オプション", "引数"

HELP = """学級の提出を採点します。

初めてのときは、tlkit grade sample sample-class で試す学級を作り、一通り動かしてみてください。

1. 提出を一つのフォルダに集め、名簿（学籍番号,氏名 の CSV）を用意します。

2. tlkit grade selftest … この機械で、提出を安全に動かせるかを確かめます。

3. tlkit grade 提出フォルダ --exercise 01_basics --roster roster.csv … 採点します。途中で止めても、同じ命令で続きから進みます。

4. tlkit grade report --exercise 01_basics … 教員用の HTML、CSV、JSON と、学生への返却を書きます。

5. 「要確認」の提出を読み、tlkit grade override で点数を付けます。機械が勝手に 0 点にすることはありません。

終了コード: 0 = 提出のあった全員を採点した、3 = 人が確かめるものがある、1 = 採点側の故障、2 = 使い方の誤り。

例: tlkit grade submissions --exercise 01_basics --roster roster.csv

くわしくは docs/grading.md（採点ガイド）を見てください。"""


class DefaultGroup(TyperGroup):
    """知らない言葉で始まるときは、run の引数とみなす。"""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """先頭が命令でなければ、run を補う。命令の打ち間違いらしいものは、そのまま誤りにする。"""
        if args and args[0] not in {*self.commands, "--help"} and not self._mistyped(args[0]):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def _mistyped(self, word: str) -> bool:
        near = difflib.get_close_matches(word, list(self.commands), n=1, cutoff=0.75)
        return bool(near) and not Path(word).exists()


app = typer.Typer(
    name="grade",
    cls=DefaultGroup,
    help=HELP,
    short_help="（教員向け）学級の提出を採点する。",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="提出を置いたフォルダ。何も書き込まない。", rich_help_panel=_ARGUMENTS)
]
Roster = Annotated[Path, typer.Option(metavar="CSV", help="名簿。見出しは 学籍番号,氏名。", rich_help_panel=_OPTIONS)]
Exercise = Annotated[str, typer.Option(metavar="SLUG", help="演習の名前。例 01_basics。", rich_help_panel=_OPTIONS)]
Known = Annotated[
    str | None,
    typer.Option("--exercise", metavar="SLUG", help="演習の名前。記録に一つだけなら省ける。", rich_help_panel=_OPTIONS),
]
StoreFile = Annotated[
    Path, typer.Option("--store", metavar="FILE", help="採点の記録。手元のディスクに置く。", rich_help_panel=_OPTIONS)
]
Secret = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="隠した入力の秘密。なければ作る。省くと、記録の隣の secret。", rich_help_panel=_OPTIONS
    ),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="同時に動かす数。省くと CPU の数。", rich_help_panel=_OPTIONS)]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="dask のスケジューラ。ほかの機械でも動かす。", rich_help_panel=_OPTIONS),
]
Several = Annotated[
    Literal["last", "best", "human"],
    typer.Option(
        help="中身の違う提出がいくつもあるとき、LMS の日時か回数が最後のもの（last）か、全部を採点して点数の最も高いもの（best）を採るか、人に回す（human）か。",
        rich_help_panel=_OPTIONS,
    ),
]
NoSolution = Annotated[
    bool,
    typer.Option(
        "--no-solution", help="解答例を先に動かして時間の上限を決めることを、しない。", rich_help_panel=_OPTIONS
    ),
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", help="提出ごとに新しい Python を始める。遅いが、結果は同じ。", rich_help_panel=_OPTIONS),
]


@app.command(DEFAULT, rich_help_panel=_PANEL)
def run(  # noqa: PLR0913 オプションの数だけ引数が要る
    folder: Folder,
    exercise: Exercise,
    roster: Roster,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    secret: Secret = None,
    store: StoreFile = STORE,
    several: Several = "last",
    no_solution: NoSolution = False,
    fresh: Fresh = False,
) -> int:
    """提出を採点します（run は省けます）。もう採点した提出は、中身と版が同じなら動かしません。

    例: tlkit grade submissions --exercise 01_basics --roster roster.csv --jobs 2
    """
    from tlkit.course.grading import commands

    order = commands.Order(folder, exercise, roster, store, secret, jobs, scheduler, several)
    return commands.run(replace(order, use_solution=not no_solution, fresh=fresh))


@app.command(rich_help_panel=_PANEL)
def regrade(  # noqa: PLR0913 オプションの数だけ引数が要る
    folder: Folder,
    exercise: Exercise,
    roster: Roster,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    secret: Secret = None,
    store: StoreFile = STORE,
    several: Several = "last",
    no_solution: NoSolution = False,
    fresh: Fresh = False,
    student: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="この学生だけを動かす。くり返し書ける。", rich_help_panel=_OPTIONS),
    ] = None,
) -> int:
    """全員（--student があれば、その学生だけ）を、もう一度動かして採点します。手で直した点数は残ります。

    例: tlkit grade regrade submissions --exercise 01_basics --roster roster.csv --student s001
    """
    from tlkit.course.grading import commands

    order = commands.Order(folder, exercise, roster, store, secret, jobs, scheduler, several, again=True)
    return commands.run(replace(order, students=tuple(student or ()), use_solution=not no_solution, fresh=fresh))


@app.command(rich_help_panel=_PANEL)
def status(exercise: Known = None, store: StoreFile = STORE) -> int:
    """状態ごとの人数と、確かめることを示します。採点の途中でも使えます。

    例: tlkit grade status
    """
    from tlkit.course.grading import commands

    return commands.status(store, exercise)


@app.command(rich_help_panel=_PANEL)
def report(  # noqa: PLR0913 オプションの数だけ引数が要る
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", help="提出を置いたフォルダ。渡すと、同じ答えも調べる。", rich_help_panel=_ARGUMENTS
        ),
    ] = None,
    roster: Annotated[
        Path | None, typer.Option(metavar="CSV", help="名簿。DIR を渡すときに要る。", rich_help_panel=_OPTIONS)
    ] = None,
    exercise: Known = None,
    store: StoreFile = STORE,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="書く場所。省くと、記録の隣の report。", rich_help_panel=_OPTIONS)
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="教員用の HTML。", rich_help_panel=_OPTIONS)] = False,
    csv: Annotated[bool, typer.Option("--csv", help="表計算ソフト用の CSV。", rich_help_panel=_OPTIONS)] = False,
    json: Annotated[bool, typer.Option("--json", help="ほかのプログラム用の JSON。", rich_help_panel=_OPTIONS)] = False,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="学生への返却（一人 1 枚）。", rich_help_panel=_OPTIONS)
    ] = False,
) -> int:
    """報告を書きます。形を選ばなければ、四つとも書きます。

    例: tlkit grade report --exercise 01_basics / tlkit grade report --csv --out report
    """
    from tlkit.course.grading import commands
    from tlkit.course.grading.report.writing import FORMS

    if (folder is None) != (roster is None):
        raise CourseError("同じ答えを調べるには、提出のフォルダと --roster の両方を渡してください。")
    chosen = [form for form, wanted in zip(FORMS, (html, csv, json, feedback), strict=True) if wanted]
    source = None if folder is None or roster is None else (folder, roster)
    return commands.report(store, exercise, out, chosen or FORMS, source)


@app.command(rich_help_panel=_PANEL)
def override(
    student: Annotated[str, typer.Argument(metavar="ID", help="学籍番号。", rich_help_panel=_ARGUMENTS)],
    question: Annotated[str, typer.Argument(metavar="Q", help="問題。例 01-1。", rich_help_panel=_ARGUMENTS)],
    points: Annotated[
        int | None, typer.Argument(metavar="POINTS", help="付ける点数。", rich_help_panel=_ARGUMENTS)
    ] = None,
    why: Annotated[str, typer.Option(help="理由。記録と報告に残る。", rich_help_panel=_OPTIONS)] = "",
    undo: Annotated[bool, typer.Option("--undo", help="手で直した点数を取り消す。", rich_help_panel=_OPTIONS)] = False,
    exercise: Known = None,
    store: StoreFile = STORE,
) -> int:
    """点数を手で直します。採点し直しても残ります。

    例: tlkit grade override s001 01-1 10 --why "別解を確かめた" / tlkit grade override s001 01-1 --undo --why "取り消し"
    """
    from tlkit.course.grading import commands

    if (points is None) != undo:
        raise CourseError("点数か --undo の、どちらか一つを渡してください。")
    return commands.override(store, exercise, student, question, points, why)


@app.command(rich_help_panel=_PANEL)
def selftest() -> int:
    """檻から出ようとする試みを動かし、この機械で止まるかを確かめます。

    例: tlkit grade selftest
    """
    from tlkit.course.grading import commands

    return commands.selftest()


@app.command(rich_help_panel=_PANEL)
def sample(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="作る場所。ない名前か、空のフォルダ。", rich_help_panel=_ARGUMENTS)
    ],
) -> int:
    """採点を試すための、12 人分の提出と名簿を作ります。正しいもの、壊れたもの、悪意のあるものが入ります。

    例: tlkit grade sample sample-class
    """
    from tlkit.course.grading import commands

    return commands.sample(folder)
