"""採点の記録の入れ物: SQLite のファイルを開き、表を用意し、ひとまとまりの書き込みを守る。

途中で電源が切れても、ひとまとまりの書き込みは全部残るか、全部残らないかのどちらかになる（WAL、synchronous=FULL）。
記録の意味は `store.py` にある。
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tlkit.course.errors import CourseError

_APPLICATION = 0x746C6B67  # "tlkg"
_VERSION = 2
_WAIT_SECONDS = 60.0
_TABLES = """
CREATE TABLE attempts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL CHECK (key <> ''),
  student TEXT NOT NULL,
  at TEXT NOT NULL
);
CREATE TABLE endings (
  attempt INTEGER PRIMARY KEY REFERENCES attempts (id),
  state TEXT NOT NULL,
  result TEXT NOT NULL,
  seconds REAL NOT NULL,
  peak_mb REAL NOT NULL,
  at TEXT NOT NULL
);
CREATE TABLE grades (
  key TEXT PRIMARY KEY,
  attempt INTEGER NOT NULL UNIQUE REFERENCES endings (attempt)
);
CREATE TABLE overrides (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  slug TEXT NOT NULL,
  student TEXT NOT NULL,
  question TEXT NOT NULL,
  points INTEGER CHECK (points >= 0),
  why TEXT NOT NULL CHECK (trim(why) <> ''),
  at TEXT NOT NULL
);
CREATE TABLE entries (
  slug TEXT NOT NULL,
  position INTEGER NOT NULL,
  student TEXT NOT NULL,
  name TEXT NOT NULL,
  file TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  key TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  notes TEXT NOT NULL,
  PRIMARY KEY (slug, position)
);
CREATE INDEX attempts_by_key ON attempts (key);
"""
_PACES = "CREATE TABLE paces (name TEXT PRIMARY KEY, pace TEXT NOT NULL, at TEXT NOT NULL)"  # 版 2 で足した
# 足すだけの表。書き換えや削除は、このプログラムの誤りでも起こらないようにする
_APPEND_ONLY = ("attempts", "endings", "overrides")


class Database:
    """開いた記録ファイル。"""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self.readable_errors():
            self._connection = self._open()
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """閉じる。何度呼んでもよい。"""
        self._connection.close()

    def all(self, query: str, *values: object) -> list[sqlite3.Row]:
        """問い合わせの結果をすべて返す。"""
        with self.readable_errors():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """ひとまとまりの書き込み。中で例外が出れば、何も書かなかったことになる。"""
        with self.readable_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """SQLite の誤りを、直し方の分かる文にする。"""
        try:
            yield
        except sqlite3.Error as error:
            raise CourseError(
                f"採点の記録 {self._path} を読み書きできません（{error}）。\n"
                "空き容量と、ファイルの権限を確かめてください。ネットワーク上のフォルダには置けません。"
                "直してから同じ命令をもう一度実行すると、続きから採点します。"
            ) from error

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # 成績なので、持ち主だけが読める形で作る
        except OSError as error:
            raise CourseError(f"採点の記録 {self._path} を作れません（{error.strerror}）。") from error
        connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return connection

    def _prepare(self) -> None:
        if self._pragma("user_version") in (0, 1):
            with self.transaction() as connection:  # 同時に開いた相手が、先に用意したかもしれないので、中で確かめ直す
                if self._pragma("user_version") == 0:
                    self._create(connection)
                elif self._pragma("user_version") == 1 and self._pragma("application_id") == _APPLICATION:
                    self._add_paces(connection)
        if self._pragma("application_id") != _APPLICATION or self._pragma("user_version") != _VERSION:
            raise CourseError(
                f"{self._path} は、この版の tlkit の採点の記録ではありません。`--store` で別の場所を指定してください。"
            )
        if self._pragma("journal_mode = WAL") != "wal":
            raise CourseError(f"{self._path} の場所では、記録を安全に書けません。手元のディスクに置いてください。")
        for setting in ("synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
            self._connection.execute(f"PRAGMA {setting}")

    def _create(self, connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise CourseError(
                f"{self._path} は、ほかのプログラムのデータベースです。`--store` で別の場所を指定してください。"
            )
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        for table in _APPEND_ONLY:
            _protect(connection, table)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        self._add_paces(connection)

    def _add_paces(self, connection: sqlite3.Connection) -> None:
        connection.execute(_PACES)
        _protect(connection, "paces")
        connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _pragma(self, name: str) -> object:
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]


def _protect(connection: sqlite3.Connection, table: str) -> None:
    """書き換えと削除を禁じる。"""
    for action in ("UPDATE", "DELETE"):
        connection.execute(
            f"CREATE TRIGGER {table}_{action.lower()} BEFORE {action} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
