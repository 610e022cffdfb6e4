"""檻の内と外の間の通信: 長さを限った JSON を 1 行に一つずつ。

檻の中から出る行は、学習者のコードが自由に書ける。だから外側（`../supervise.py`）は、どの行も言い分として扱う。
学習者が json や os を書き換えても動くように、使う関数は読み込みのときに控えておく。
"""

import os
from dataclasses import dataclass, field
from json import dumps, loads
from os import read, write
from typing import Any

MAX_FRAME = 8 * 1024 * 1024  # 1 行の長さ [バイト]
_CHUNK = 1 << 16


@dataclass
class Channel:
    """外との通り道。

    Attributes:
        commands: 外からの行を読む口。
        reports: 外への行を書く口。
    """

    commands: int
    reports: int
    _rest: bytearray = field(default_factory=bytearray)

    def send(self, frame: dict[str, Any]) -> None:
        """1 行を送る。"""
        write_all(self.reports, dumps(frame, ensure_ascii=True).encode("ascii") + b"\n")

    def receive(self) -> dict[str, Any]:
        """1 行を受け取る。外が口を閉じていたら EOFError。"""
        while b"\n" not in self._rest:
            chunk = read(self.commands, _CHUNK)
            if not chunk:
                raise EOFError("採点の外側が、通り道を閉じました。")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        frame: dict[str, Any] = loads(line)
        return frame


def write_all(descriptor: int, data: bytes) -> None:
    """全部を書き終えるまで書く。"""
    view = memoryview(data)
    while view:
        view = view[write(descriptor, view) :]


def take_over() -> Channel:
    """標準入力と標準出力を通り道として取り、学習者のコードには空の口を残す。子のコマンドにも通り道は渡らない。"""
    channel = Channel(os.dup(0), os.dup(1))
    silence(0, 1)
    return channel


def silence(*descriptors: int) -> None:
    """口を空（/dev/null）につなぎ替える。"""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)
