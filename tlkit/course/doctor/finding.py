"""診断の結果 1 件の形。

各 probe（調べる関数）は `Finding` を一つ返す。まとめて表にするのは `report.py`。
fault は「このままでは教材が動かない」、note は「動くが、知っておくとよい」。
"""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """診断 1 件。

    Attributes:
        name: 調べた項目（表の見出し）。
        state: "ok" / "note" / "fault"。
        seen: 見えたもの。ok のときも書く（質問するときに役立つ）。
        fix: 直し方。打つコマンドがあればそのまま書く。ok のときは空。
    """

    name: str
    state: State
    seen: str
    fix: str = ""


def ok(name: str, seen: str) -> Finding:
    """異常なし。"""
    return Finding(name, "ok", seen)


def note(name: str, seen: str, fix: str) -> Finding:
    """動くが、知っておくとよいこと。"""
    return Finding(name, "note", seen, fix)


def fault(name: str, seen: str, fix: str) -> Finding:
    """このままでは動かないこと。"""
    return Finding(name, "fault", seen, fix)
