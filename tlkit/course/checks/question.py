"""演習 1 問の定義。その場の確認（check）と採点（grade）が、同じ定義を使う。

- `make_inputs(seed)` は入力を作る。確認では固定の種、採点では秘密の種を渡す。
- `probe(answer, inputs)` は学習者の答えを呼ぶ側。正解を知らず、素の値だけを返す。
- `judge(data, inputs)` は正解を知る側。学習者のオブジェクトには一切触れない。

隣: 呼び出しの仕方は `harness.py` と `trial.py`、学習者が使う関数は `session.py`、各章の問題は `cNN.py`。
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """判定。

    Attributes:
        passed: 合格なら True。
        code: 診断の名前（英小文字とハイフン）。合格は "passed"、知らせのある合格は "noted"。検査と集計が使う。
        message: 学習者が読む日本語。どの性質が破れたか、次に何を見るか。
        cause: 診断のもとになった例外の番号（`trial` の記録の error["index"]）。なければ None。
    """

    passed: bool
    code: str
    message: str
    cause: int | None = None


PASSED = Verdict(passed=True, code="passed", message="合格")


def noted(message: str) -> Verdict:
    """合格だが、採点者に知らせることがある判定を作る。文は採点者だけが読む。隠した入力から計算した値を含めないこと。"""
    return Verdict(True, "noted", message)


def wrong(code: str, message: str, cause: int | None = None) -> Verdict:
    """不合格の判定を作る。"""
    return Verdict(False, code, message, cause)


@dataclass(frozen=True)
class Question:
    """演習 1 問。

    Attributes:
        id: 「章-番号」。例 "01-1"。
        points: 配点。
        title: 問題の名前。
        goal: 目標（〜できる、の形の一文）。
        minutes: 目安時間 [分]。
        difficulty: 難易度 1（易）〜 3（難）。
        answers: 答えの名前（関数や変数）。`check(id, *answers)` の順。
        make_inputs: 種 → probe と judge に渡す入力。
        probe: （答え…, 入力）→ 素の値（数・文字列・真偽・None とその list / dict）。
        judge: （probe の返り値, 入力）→ 判定。
        hints: 方針、式、ほぼコード、の 3 段階のヒント。
        borrow_ok: 答えの中で呼んでよい tlkit の関数やモジュールの名前（例 "data"、"losses.mmd2"）。
        may_mutate: 答えが書き換えてよい入力の名前。ほかの入力が変わると不合格になる。
        none_ok: 答えの関数が None を返してよいなら True（引数を書き換えるのが仕事の関数など）。
        reference: 正解の実装がある tlkit のモジュールの名前（例 "losses.mmd"）。採点の間は中身を除き、使えなくする。
    """

    id: str
    points: int
    title: str
    goal: str
    minutes: int
    difficulty: int
    answers: tuple[str, ...]
    make_inputs: Callable[[int], dict[str, Any]]
    probe: Callable[..., Any]
    judge: Callable[[Any, dict[str, Any]], Verdict]
    hints: tuple[str, str, str]
    borrow_ok: tuple[str, ...] = ()
    may_mutate: tuple[str, ...] = ()
    none_ok: bool = False
    reference: tuple[str, ...] = ()
