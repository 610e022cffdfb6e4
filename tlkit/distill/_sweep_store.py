"""`sweep.py` の結果のファイル。1 行目は作り方の指紋、2 行目からは、終わった組の結果（1 組が JSON の 1 行）。

行は足すだけで、書き換えない。書くのは sweep を呼んだ一つのプロセスだけである。
"""

import json
import os
from pathlib import Path
from typing import IO, Any

FAR = 1 << 30  # Windows の鍵は、かけた場所をほかから読めなくする。中身から離れた場所にかける


def encode(key: str, result: Any) -> bytes:
    """一つの組の行。key は [設定, 種] の JSON。

    Raises:
        TypeError: result が JSON にできないとき。
    """
    setting, seed = json.loads(key)
    record = {"setting": setting, "seed": seed, "result": result}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


class SweepStore:
    """開いた結果のファイル。`with` の間、ほかのプロセスには使わせない。

    Attributes:
        results: [設定, 種] の JSON → 結果。
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._header = json.dumps({"tlkit_sweep": 1, "fingerprint": fingerprint}, ensure_ascii=False).encode() + b"\n"
        self.results: dict[str, Any] = {}

    def __enter__(self) -> "SweepStore":
        """開いて読む。書きかけの最後の行は捨てる。

        Raises:
            ValueError: 別の指紋のファイルか、壊れているか、使用中のとき。中身は変えない。
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab+")
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """閉じる。鍵も外れる。"""
        self._file.close()

    def add(self, line: bytes) -> None:
        """1 行を足し、ディスクに書き終わるのを待つ。"""
        self._append(line)
        self._remember(line)

    def _append(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())

    def _remember(self, line: bytes) -> None:
        record = json.loads(line)
        key = json.dumps([record["setting"], record["seed"]], ensure_ascii=False, sort_keys=True)
        self.results[key] = record["result"]

    def _load(self) -> None:
        if not _locked(self._file):
            self._refuse("は、ほかのプロセスが使っています。終わるのを待つか、")
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1  # ここから後は、書きかけの行
        lines = content[:whole].splitlines(keepends=True)
        if not (lines[0] == self._header if lines else self._header.startswith(content)):
            self._refuse("は、別のコードや設定で測った結果か、結果のファイルではありません。このファイルを移すか、")
        for number, line in enumerate(lines[1:], 2):
            try:
                self._remember(line)
            except (ValueError, KeyError, TypeError):
                self._refuse(f"の {number} 行目を読めません。その行を消す（その組だけを測り直します）か、")
        self._file.truncate(whole)
        if not lines:
            self._append(self._header)

    def _refuse(self, why: str) -> None:
        raise ValueError(f"{self._path} {why}別の store を指定してください。中身は変えていません。")


def _locked(file: IO[bytes]) -> bool:
    """このプロセスだけの鍵をかける。プロセスが死ねば、OS が外す。"""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
