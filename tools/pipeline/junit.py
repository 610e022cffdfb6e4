"""pytest の結果（junitxml）を読む。数と、省いた検査の理由を取り出す。"""

import xml.etree.ElementTree as ET  # 読むのは自分たちの pytest が書いたものだけ
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.outcome import LeftOut


@dataclass
class Counts:
    """検査の数と、省いた理由。"""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    left_out: list[LeftOut] = field(default_factory=list)


def read(path: Path) -> Counts | None:
    """junitxml を読む。書かれていない・壊れているときは None（pytest が途中で止まった）。"""
    try:
        cases = list(ET.parse(path).iter("testcase"))
    except (OSError, ET.ParseError):
        return None
    skips = [found for case in cases if (found := case.find("skipped")) is not None]
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    reasons = Counter(_reason(skip) for skip in skips)
    left_out = [LeftOut(f"検査 {n} 件", why) for why, n in sorted(reasons.items())]
    return Counts(len(cases) - failed - len(skips), failed, len(skips), left_out)


def _reason(skip: ET.Element) -> str:
    """省いた理由の 1 行。期待した失敗（xfail）も、省いたものとして扱う。"""
    message = " ".join((skip.get("message") or "理由なし").split())
    return f"期待した失敗: {message}" if skip.get("type") == "pytest.xfail" else message
