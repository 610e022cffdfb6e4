"""学習者のセルを動かす IPython。マジックは取り除かず、檻の中で動かす。"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from tlkit.course.checks.frames import describe
from tlkit.course.grading.inside.capture import Capture


class CagedShell(InteractiveShell):
    """表示も履歴も残さない IPython。"""

    def ask_exit(self) -> None:
        """`exit()` と `quit()` は、そのセルだけを終える。"""
        raise SystemExit

    def showtraceback(self, *_args: Any, **_options: Any) -> None:
        """誤りは run の結果から知る。"""

    def showsyntaxerror(self, *_args: Any, **_options: Any) -> None:
        """同上。"""

    def _format_exception_for_storage(self, *_args: Any, **_options: Any) -> dict[str, Any]:
        """履歴に残す長い文は作らない。深い再帰の誤りでは、何十秒もかかる。"""
        return {}

    def enable_gui(self, gui: Any = None) -> None:
        """画面はない。"""

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:  # noqa: ARG002  IPython が決めた名前
        """IPython は印字の写しを履歴に溜め続けるので、何もしない。"""
        yield


class Cells:
    """セルを一つずつ動かす。"""

    def __init__(self, printed: Capture) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        config.InteractiveShell.cache_size = 100
        self._shell: Any = CagedShell.instance(config=config)
        self._printed = printed

    @property
    def namespace(self) -> dict[str, Any]:
        """学習者の変数。"""
        names: dict[str, Any] = self._shell.user_ns
        return names

    def run(self, source: str) -> dict[str, Any] | None:
        """セルを動かす。誤りがあれば、その記録（型、文、行番号）を返す。"""
        with self._printed.cell():
            try:
                result = self._shell.run_cell(source, store_history=True)
                error = result.error_before_exec or result.error_in_exec
                _close_figures()
            except BaseException as raised:  # IPython 自身が学習者に書き換えられたときも、次のセルへ進む
                error = raised
        return None if error is None else _describe(error)


def _close_figures() -> None:
    """開いたままの図を閉じる。ノートブックではセルごとに閉じるので、それに合わせる。"""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


def _describe(error: BaseException) -> dict[str, Any]:
    try:
        record = describe(error)
        return {"type": record["type"], "message": record["message"], "line": record["line"]}
    except BaseException:  # 例外のクラス自身が壊れている
        return {"type": "Exception", "message": "", "line": None}
