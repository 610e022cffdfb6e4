"""報告の検査に使う、十数人の学級の行。学習者が決めた、ひどい文字列を含む。"""

import hashlib

from grading_kit import ASSIGNMENT

from tlkit.course.grading.model import Feedback, Result
from tlkit.course.grading.report.table import build
from tlkit.course.grading.rows import Entry, Override, Row

SLUG, QUESTIONS = ASSIGNMENT.slug, ASSIGNMENT.question_ids
PASSED = Feedback("passed", "合格")
SIGN = Feedback("sign", "符号が逆です。`2 * x` になるか確かめてください。")
UNTOUCHED = Feedback("untouched", "まだ手を付けていません。")
EVIL_NAMES = (  # 名前と提出のファイル名として届きうるもの
    '=HYPERLINK("http://example.invalid","押す")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    "＝1+1",
    "'引用",
    " =1+1",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "{{ 7*7 }}{% raw %}",
    "\x1b[31m赤\x1b[0m",
    "\x1b]8;;http://example.invalid\x07link\x1b]8;;\x07",
    "名前\x00\x07\x08",
    "改行\nあり",
    'a,b;"c"',
    "\u202e逆向き",
    "か\u3099くせい",  # NFD の濁点
    "👩‍🔬🎓",
    "\udc80片割れ",
    "長" * 255,
    "ex (1).ipynb",
    "髙﨑 𠮷野",
    "NULL",
    "0012",
)


def entry(student, name="", **options):
    given = {
        "file": f"{student}.ipynb",
        "sha256": hashlib.sha256(student.encode("utf-8", "replace")).hexdigest(),
        "key": f"k-{student}",
    } | options
    return Entry(student, name, **given)


def graded(student, one=5, two=5, name="", replies=None, overrides=None, notes=(), **options):
    replies = replies or {"01-1": PASSED if one else SIGN, "01-2": PASSED if two else SIGN}
    result = Result("graded", {"01-1": one, "01-2": two}, one + two, replies, "", notes)
    return Row(entry(student, name, **options), result, overrides or {})


def stopped(student, state, reason, name="", overrides=None, **result):
    return Row(entry(student, name, key=""), Result(state, reason=reason, **result), overrides or {})


def limited(student, reason="時間が上限を超えました。"):
    replies = {"01-1": SIGN, "01-2": Feedback("timeout", "終わりませんでした。")}
    return Row(entry(student, "上限"), Result("limit", {"01-1": 0, "01-2": None}, None, replies, reason))


def small_class():
    """状態を一とおり。"""
    return [
        graded("s001", 5, 5, "山田花子", sha256="a" * 64),
        graded("s002", 0, 5, "佐藤次郎", sha256="a" * 64),
        graded("s003", 0, 0, "鈴木", replies={"01-1": UNTOUCHED, "01-2": UNTOUCHED}, sha256="b" * 64),
        graded("s004", 0, 0, "高橋", replies={"01-1": UNTOUCHED, "01-2": UNTOUCHED}, sha256="b" * 64),
        graded(
            "s005", 0, 5, "田中", overrides={"01-1": Override(3, "別解。途中まで正しい")}, notes=("pip を試みました。",)
        ),
        stopped("s006", "needs_human", "s006.ipynb は JSON として途中で切れています（1204 バイト目）。", "渡辺"),
        stopped("s007", "missing", "提出がありません。", "伊藤"),
        limited("s008"),
        stopped("s009", "infra_error", "採点の途中で OSError が起きました。", "小林"),
        Row(entry("s010", "加藤"), Result("infra_error", reason="まだ採点していません。"), {}, pending=True),
        stopped(
            "s011",
            "needs_human",
            "違う中身の提出が 2 個あります。",
            "中村",
            {"01-1": Override(5, "見た"), "01-2": Override(4, "見た")},
        ),
        stopped("（名簿にない）x.ipynb", "needs_human", "だれの提出か分かりません。"),
    ]


def evil_class():
    """名前、ファイル名、診断、知らせ、理由のすべてが、ひどい文字列の人たち。"""
    rows = []
    for number, text in enumerate(EVIL_NAMES):
        replies = {"01-1": Feedback("sign", text), "01-2": PASSED}
        rows.append(graded(f"e{number:03d}", 0, 5, text, replies, notes=(text,), file=text))
        rows.append(stopped(f"h{number:03d}", "needs_human", text, text, {"01-1": Override(1, text or "x")}))
    return rows


def report(rows=None, **options):
    return build(small_class() if rows is None else rows, ASSIGNMENT, **options)
