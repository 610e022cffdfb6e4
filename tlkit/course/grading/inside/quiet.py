"""檻の中の check・ready・hint・quiz・doctor。何も調べず、何も印字しない。

採点は、セルのあとに答えを直に呼んで行う。学習者のノートブックにある確認は、飛ばしてよい。
"""

from typing import Any

import tlkit.course as course


def hush() -> None:
    """`from tlkit.course import check` で得られるものを、静かなものに替える。"""
    vars(course).update(dict.fromkeys(("check", "hint", "quiz", "doctor"), _nothing), ready=_not_ready)


def _nothing(*_args: Any, **_options: Any) -> None:
    """何もしない。"""


def _not_ready(*_args: Any, **_options: Any) -> bool:
    """答えを使う実験は動かさない。"""
    return False
