"""どの問題にも共通の診断の文。問題ごとの診断は、その問題の judge が持つ。"""

from typing import Any

from tlkit.course.checks.question import Verdict, wrong


def general(state: str, error: dict[str, Any] | None, borrowed: list[str], mutated: list[str]) -> Verdict | None:
    """共通の診断のうち、当てはまる最初のもの。どれも当てはまらなければ None（judge の出番）。"""
    if state == "untouched":
        return wrong(
            "untouched", "未着手です。ひな形の「ここを実装してください」を書き換えてから、もう一度実行してください。"
        )
    if borrowed:
        return _borrowed(borrowed)
    if mutated:
        return _mutated(mutated)
    if state == "returned-none":
        return wrong(
            state, "None が返りました。return を書きましたか。条件で分けた枝の片方だけ、書き忘れていることもあります。"
        )
    if state == "unfinished":
        return wrong(
            state,
            "途中まで動きましたが、ひな形のままの部分が残っています。すべての場合を実装してください。",
            _index(error),
        )
    if state == "unusable":
        return wrong(state, (error or {}).get("message", "返り値を扱えませんでした。"))
    if state != "done":
        return raised(error or {})
    return None


def raised(error: dict[str, Any], when: str = "") -> Verdict:
    """答えが例外で止まったときの診断。when は「N ≠ M のとき」のような場面。"""
    where = f"{error['line']}行目で" if error.get("line") else ""
    kind = error.get("type", "例外")
    if kind == "SystemExit":
        return wrong(
            "raised", "答えの中で exit が呼ばれました。関数は値を return して終わらせてください。", _index(error)
        )
    message = f"{when}答えの{where}例外が起きました: {kind}: {error.get('message', '')}"
    return wrong("raised", message.rstrip(": "), _index(error))


def _borrowed(names: list[str]) -> Verdict:
    module, _, name = names[0].rpartition(".")
    return wrong(
        "borrowed",
        f"tlkit の関数を呼んでいます（{name}、{module} の中）。この演習では、その中身を自分で実装してください。",
    )


def _mutated(names: list[str]) -> Verdict:
    listed = "、".join(names)
    return wrong(
        "argument-changed",
        f"呼び出しの前後で、引数 {listed} の中身が変わっています。呼んだ人のデータが黙って書き換わると、後の計算が狂います。"
        "`-=` や名前が `_` で終わる操作を、新しいテンソルを作る書き方に直してください。",
    )


def _index(error: dict[str, Any] | None) -> int | None:
    return None if error is None else error.get("index")
