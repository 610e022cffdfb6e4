"""学習者のノートブックを、まっさらなカーネルで上から順に動かす。途中のセルで誤りが出ても先へ進む。

合否は、`check` が記録ファイルに書いた行だけから知ります。画面に印字された文字は読みません。
判定の読み方は `notebook.py` にあります。
"""

import json
import logging
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbclient.util import run_sync
from nbformat import NotebookNode

from tlkit.course.errors import CourseError
from tlkit.course.kernel import ONE_THREAD, new_kernel

_STARTUP_SECONDS = 120
_INTERRUPT_GRACE_SECONDS = 10
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_CELL_LINE = re.compile(r"Cell In\[(\d+)\], line (\d+)")
_STATES = ("passed", "failed", "untouched")

FaultKind = Literal["error", "timeout", "dead"]


@dataclass(frozen=True)
class CellFault:
    """1 つのセルで起きた誤り。`number` は上から数えたセルの番号（1 から）。"""

    number: int
    kind: FaultKind
    message: str


@dataclass
class Run:
    """実行の記録。

    Attributes:
        records: `check` が書いた記録を、問題の番号ごとに最後の 1 件。
        faults: 誤りの出たセル。上から順。
        reached: 実行を終えた（または誤りで終わった）最後のセルの番号。ここより下は動いていない。
    """

    records: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: list[CellFault] = field(default_factory=list)
    reached: int = 0


def run_notebook(document: dict[str, Any], folder: Path, timeout: int) -> Run:
    """ノートブックを `folder` で動かす。ファイルには何も書き戻さない。

    Args:
        document: 読んだノートブック。
        folder: カーネルの作業フォルダ。
        timeout: 1 つのセルにかけてよい時間 [秒]。
    """
    run = Run()
    with tempfile.TemporaryDirectory(prefix="tlkit-check-", ignore_cleanup_errors=True) as scratch:
        log = Path(scratch) / "check.jsonl"
        client = _client(document, timeout, Path(scratch))
        env = {**os.environ, **ONE_THREAD, "TLKIT_CHECK": "soft", "TLKIT_CHECK_LOG": str(log)}
        try:
            with client.setup_kernel(cwd=str(folder), env=env, cleanup_kc=True):
                _run_cells(client, run, timeout)
        except (RuntimeError, OSError) as error:
            if run.reached == 0 and not run.faults:
                raise CourseError(
                    f"Python のカーネルを始められませんでした: {error}\n`tlkit doctor` で環境を確かめてください。"
                ) from error
        run.records = _read_log(log)
    return run


class _QuietClient(NotebookClient):
    """出力をためないクライアント。大量の印字があっても、こちらのメモリを使わない。"""

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: str | None, cell_index: int) -> None:
        """出力は捨てる。誤りは、実行の返事（execute_reply）から知る。"""


def _client(document: dict[str, Any], timeout: int, scratch: Path) -> NotebookClient:
    logger = logging.getLogger("tlkit.check")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False  # nbclient の英語のログは、学習者に見せない
    return _QuietClient(
        _as_node(document),
        km=new_kernel(scratch),
        timeout=timeout,
        startup_timeout=_STARTUP_SECONDS,
        allow_errors=True,
        record_timing=False,
        shutdown_kernel="immediate",
        extra_arguments=["--HistoryManager.hist_file=:memory:", "--IPKernelApp.log_level=40"],
        log=logger,
    )


def _as_node(value: dict[str, Any]) -> NotebookNode:
    node: NotebookNode = nbformat.from_dict(value)  # type: ignore[no-untyped-call]
    return node


def _run_cells(client: NotebookClient, run: Run, timeout: int) -> None:
    shown: dict[int, int] = {}  # In[n] の n → 上から数えたセルの番号
    client.on_cell_executed = lambda cell, cell_index, execute_reply: _note_reply(  # noqa: ARG005
        run, shown, cell_index + 1, execute_reply["content"]
    )
    for index, cell in enumerate(client.nb.cells):
        alive = True
        try:
            client.execute_cell(cell, index)
        except CellTimeoutError:
            run.faults.append(CellFault(index + 1, "timeout", f"{timeout} 秒で終わりませんでした"))
            alive = _interrupted(client)
        except DeadKernelError:
            run.faults.append(CellFault(index + 1, "dead", "Python が終了しました（os._exit、メモリ不足など）"))
            alive = False
        run.reached = index + 1
        if not alive:
            return


def _note_reply(run: Run, shown: dict[int, int], number: int, reply: dict[str, Any]) -> None:
    if isinstance(reply.get("execution_count"), int):
        shown[reply["execution_count"]] = number
    if reply.get("status") == "error":
        run.faults.append(CellFault(number, "error", _describe(reply, shown)))


def _describe(reply: dict[str, Any], shown: dict[int, int]) -> str:
    text = _ANSI.sub("", "\n".join(map(str, reply.get("traceback", []))))
    first = (str(reply.get("evalue", "")).strip().splitlines() or [""])[0]
    summary = f"{reply.get('ename', '誤り')}: {first[:200]}"
    places = _CELL_LINE.findall(text)
    if not places:
        return summary
    count, line = map(int, places[-1])
    return f"{summary}（{shown.get(count, '?')} 番目のセルの {line} 行目）"


def _interrupted(client: NotebookClient) -> bool:
    """時間切れのセルを中断する。カーネルがまた返事をすれば True。"""
    manager: Any = client.km
    old: Any = client.kc
    run_sync(manager.interrupt_kernel)()
    old.stop_channels()  # 時間切れの後の受信口は返事を取りこぼすので、つなぎ直す
    client.kc = new = manager.client()
    new.start_channels()
    new.allow_stdin = False
    try:
        run_sync(new.wait_for_ready)(timeout=_INTERRUPT_GRACE_SECONDS)
    except RuntimeError:
        return False
    return True


def _read_log(log: Path) -> dict[str, dict[str, str]]:
    records: dict[str, dict[str, str]] = {}
    with suppress(OSError):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            entry = _entry(line)
            if entry:
                records[entry["question"]] = entry
    return records


def _entry(line: str) -> dict[str, str] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or entry.get("state") not in _STATES:
        return None
    return {key: str(entry.get(key, "")) for key in ("question", "state", "code", "message")}
