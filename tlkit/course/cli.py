"""`tlkit` コマンドの入口。各コマンドは薄く、仕事は呼び先の 1 つの関数にある。

重い部品（torch、jupyter）はコマンドの中で読み込み、`tlkit --help` を速く保ちます。
終了コード: 0 = 成功、1 = 不合格やずれがある、2 = 使い方や環境の誤り、130 = 中断。誤りの表示は `cli_errors.py` です。
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tlkit.course.cli_errors import run_safely
from tlkit.course.grading.grade_cli import app as grade_app

_PANEL, _OPTIONS, _ARGUMENTS = "コマンド", "オプション", "引数"

app = typer.Typer(
    name="tlkit",
    help="転移学習の教材を動かすコマンドです。\n\n例: tlkit lab … 教材を開く / tlkit check work/exercises/01_basics.ipynb … 答え合わせ",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.command(rich_help_panel=_PANEL)
def lab(
    port: Annotated[
        int | None, typer.Option(help="使うポート番号。省くと空いている番号。", rich_help_panel=_OPTIONS)
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="ブラウザを開かず、アドレスだけを表示する。", rich_help_panel=_OPTIONS)
    ] = False,
) -> int:
    """教材を JupyterLab で開きます。

    作業フォルダ work に、まだ無いノートブックを写してから開きます。書き換えたノートブックは上書きしません。

    例: tlkit lab / tlkit lab --no-browser --port 8890
    """
    from tlkit.course.lab import launch

    return launch(port, not no_browser) or 0


@app.command(rich_help_panel=_PANEL)
def check(
    file: Annotated[Path, typer.Argument(help="演習のノートブック。", rich_help_panel=_ARGUMENTS)],
    timeout: Annotated[
        int, typer.Option(min=1, help="1 つのセルにかけてよい時間 [秒]。", rich_help_panel=_OPTIONS)
    ] = 600,
) -> int:
    """演習のノートブックを最初から動かし、合否と診断の表を出します。

    ノートブックは書き換えません。すべて合格なら終了コードは 0、そうでなければ 1 です。

    例: tlkit check work/exercises/01_basics.ipynb
    """
    from tlkit.course.checks.notebook import check_notebook
    from tlkit.course.checks.notebook_table import print_result

    result = check_notebook(file, timeout=timeout)
    print_result(result)
    return result.exit_code


@app.command(rich_help_panel=_PANEL)
def update() -> int:
    """教材が新しくなったとき、作業フォルダ work を追いつかせます。

    書き換えていないノートブックは新しい版に替え、書き換えたものはそのまま残して、横に新しい版を置きます。

    例: git pull のあとで tlkit update
    """
    from tlkit.course.work import update as update_work

    report = update_work()
    print("\n".join(report.lines()))
    if report.problems:
        print("\n".join(report.problems), file=sys.stderr)
        return 2
    return 0


@app.command(rich_help_panel=_PANEL)
def reset(
    target: Annotated[
        str, typer.Argument(metavar="ID", help="演習の番号か、ノートブックの名前。", rich_help_panel=_ARGUMENTS)
    ],
) -> int:
    """演習 1 問、またはノートブック 1 冊を、配られたときの状態に戻します。

    今の内容は work/backup に残ります。

    例: tlkit reset 01-1 / tlkit reset 01_basics / tlkit reset chapters/01_basics
    """
    from tlkit.course.work import reset as reset_work

    print("\n".join(reset_work(target).lines()))
    return 0


@app.command(rich_help_panel=_PANEL)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="結果を JSON で出す。", rich_help_panel=_OPTIONS)] = False,
) -> int:
    """この環境で教材が動くかを調べ、直し方を示します。

    例: tlkit doctor
    """
    from tlkit.course.doctor import run

    return run(as_json=as_json)


@app.command(rich_help_panel=_PANEL)
def build(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="元の .py。省くとすべて。", rich_help_panel=_ARGUMENTS),
    ] = None,
    check_only: Annotated[
        bool, typer.Option("--check", help="書き換えず、元の .py とのずれだけを調べる。", rich_help_panel=_OPTIONS)
    ] = False,
    nbgrader: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="nbgrader 用の元のノートブックを書き出す。", rich_help_panel=_OPTIONS),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="同時に動かす数。省くと CPU の数から決める。", rich_help_panel=_OPTIONS)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="変わっていなくても作り直す。", rich_help_panel=_OPTIONS)
    ] = False,
) -> int:
    """（教材の作者向け）元の .py からノートブックを作り、実行します。

    例: tlkit build / tlkit build solutions/01_basics.py / tlkit build --check
    """
    from tlkit.course.build import build as build_notebooks

    report = build_notebooks(paths or None, check=check_only, nbgrader=nbgrader, jobs=jobs, force=force)
    found = f"ずれ {len(report.problems)} 件" if check_only else f"作成 {len(report.built)} 冊"
    print(f"{found}、変更なし {len(report.skipped)} 冊（{report.seconds:.1f} 秒）")
    for line in report.allowed:
        print(f"許可された文: {line}")
    for line in report.problems:
        print(line, file=sys.stderr)
    return 1 if report.problems else 0


@app.command(rich_help_panel=_PANEL)
def release(
    assignment: Annotated[
        str, typer.Option(metavar="SLUG", help="演習の名前。例 01_basics。", rich_help_panel=_OPTIONS)
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="書く場所。", rich_help_panel=_OPTIONS)],
    as_zip: Annotated[
        bool, typer.Option("--zip", help="フォルダではなく、一つの zip にする。", rich_help_panel=_OPTIONS)
    ] = False,
) -> int:
    """（教員向け）学生に配る一式を作ります。解答、採点用の部品、クイズの答えは入りません。

    例: tlkit release --assignment 01_basics --out handout --zip
    """
    from tlkit.course.grading.release import release as make_release

    print("\n".join(make_release(assignment, out, as_zip=as_zip).lines()))
    return 0


app.add_typer(grade_app, rich_help_panel=_PANEL)


def main() -> None:
    """コマンドを動かし、終了コードで終わる。"""
    sys.exit(run_safely(app))
