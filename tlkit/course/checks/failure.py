"""不合格を知らせる例外。ノートブックでは、診断と、学習者自身のコードの行だけを見せる。"""

from tlkit.course.checks.frames import describe


class CheckFailed(Exception):  # noqa: N818 学習者の目に触れる名前。「確認に通らなかった」であって故障ではない
    """演習の確認に通らなかった。文には、何が起きたか、なぜいけないか、次に何を見るかが書いてある。"""

    def _render_traceback_(self) -> list[str]:
        """IPython が使う表示。check の内部のフレームは学習の役に立たないので出さない。"""
        return [*_origin(self.__cause__), f"{type(self).__name__}: {self}"]


def _origin(cause: BaseException | None) -> list[str]:
    """元になった例外と、学習者のコードの行。"""
    if cause is None:
        return []
    record = describe(cause)
    lines = []
    if record["line"] is not None:
        where = f"{record['function']} の中" if record["function"] not in ("", "<module>") else "セル"
        lines.append(f"----> あなたのコードの{record['line']}行目（{where}）: {record['source']}")
    return [*lines, f"{record['type']}: {record['message']}", ""]
