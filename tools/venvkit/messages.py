"""画面に出す言葉と進み具合。ほかの部品はここを通して話す。"""

import sys
import time
from typing import TextIO


class BootstrapError(Exception):
    """用意できなかった理由。何が起き、どうすればよいかを日本語で書く。"""


def say(text: str) -> None:
    """一行を、すぐ見えるように出す。"""
    print(text, flush=True)


class Progress:
    """`[3/17] torch …` の行。端末では同じ行を書き直し、端末でなければ始めと終わりだけを出す。"""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total = total
        self.stream = stream or sys.stdout
        self.number = 0
        self._label = ""
        self._shown = 0.0

    def begin(self, label: str) -> None:
        """次の段へ進む。"""
        self.number += 1
        self._label = f"[{self.number}/{self.total}] {label}"
        self._started = time.monotonic()
        self._write(self._label + " …", end="" if self.stream.isatty() else "\n")

    def detail(self, text: str) -> None:
        """段の途中のようす。端末でだけ、0.2 秒に一度まで出す。"""
        now = time.monotonic()
        if self.stream.isatty() and now - self._shown > 0.2:
            self._shown = now
            self._write(f"\r\x1b[K{self._label} … {text[:60]}", end="")

    def end(self, result: str = "") -> None:
        """段の終わり。かかった秒数を添える。"""
        seconds = time.monotonic() - self._started
        lead = "\r\x1b[K" if self.stream.isatty() else ""
        self._write(f"{lead}{self._label} {result or '完了'}（{seconds:.0f} 秒）")

    def _write(self, text: str, end: str = "\n") -> None:
        print(text, end=end, file=self.stream, flush=True)
