"""組み立てたノートブックを、新しいカーネルで最初から最後まで動かす。

出力に問題があれば、作り直さずに CourseError で止める（失敗の跡は決して書き込まない）。
隣: カーネルの起動は `tlkit/course/kernel.py`、環境変数は `kernel.py`、出力の検査は `outputs.py`、漏れの検査は `leaks.py`。
"""

import atexit
import copy
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tlkit.course.build.assemble import Draft
from tlkit.course.build.fingerprint import input_fingerprint, output_fingerprint
from tlkit.course.build.kernel import kernel_environment
from tlkit.course.build.leaks import find_leaks
from tlkit.course.build.outputs import count_problems, join_streams, output_problems
from tlkit.course.build.writer import explain
from tlkit.course.errors import CourseError
from tlkit.course.kernel import DirectKernel, new_kernel

CELL_TIMEOUT = 600
STARTUP_TIMEOUT = 120
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_TAIL = 1500


class StoppedError(Exception):
    """利用者が止めたので、実行をやめた。"""


class Runner:
    """ノートブックを動かし、途中で止める。いくつものスレッドから同時に使える。"""

    def __init__(self) -> None:
        self._kernels: set[DirectKernel] = set()
        self._lock = threading.Lock()
        self.stopped = threading.Event()

    def run(self, draft: Draft) -> Any:
        """下書きを動かし、刻印まで入ったノートブックを返す。

        Raises:
            CourseError: セルが失敗したとき、出力に問題があるとき。
            StoppedError: 途中で止められたとき。
        """
        try:
            with _scratch() as scratch:
                notebook = self._execute(draft, scratch)
        except OSError as error:
            raise explain(Path(tempfile.gettempdir()), error) from error
        if self.stopped.is_set():
            raise StoppedError
        return _finish(draft, notebook, scratch)

    def stop(self) -> None:
        """動いているカーネルをすべて終わらせ、新しい実行を始めさせない。"""
        self.stopped.set()
        with self._lock:
            kernels = list(self._kernels)
        for kernel in kernels:
            _kill(kernel)

    def _execute(self, draft: Draft, scratch: Path) -> Any:
        notebook = copy.deepcopy(draft.notebook)
        kernel = new_kernel(scratch)
        client = _client(notebook, kernel, self._refuse_when_stopped)
        folder = scratch / "cwd"
        folder.mkdir()
        environment = kernel_environment(scratch)
        with (
            self._registered(kernel),
            (scratch / "kernel.log").open("wb") as log,
            _explained(draft, client, self, scratch),
        ):
            # カーネル自身の断り書き（通信の方式など）は記録へ。セルの標準エラーは通信路で届くので、隠れない。
            client.execute(cleanup_kc=True, env=environment, cwd=str(folder), stdout=log, stderr=log)
        return notebook

    def _refuse_when_stopped(self, **_: Any) -> None:
        """止めた後に起動し終えたカーネルで、セルを動かさない。"""
        if self.stopped.is_set():
            raise StoppedError

    @contextmanager
    def _registered(self, kernel: DirectKernel) -> Iterator[None]:
        with self._lock:
            if self.stopped.is_set():
                raise StoppedError
            self._kernels.add(kernel)
        try:
            yield
        finally:
            _kill(kernel)
            with self._lock:
                self._kernels.discard(kernel)


def _client(notebook: Any, kernel: DirectKernel, before_cell: Callable[..., None]) -> Any:
    from nbclient import NotebookClient

    return NotebookClient(
        notebook,
        km=kernel,
        timeout=CELL_TIMEOUT,
        startup_timeout=STARTUP_TIMEOUT,
        iopub_timeout=60,
        raise_on_iopub_timeout=True,
        record_timing=False,
        store_widget_state=False,
        shutdown_kernel="immediate",
        on_cell_execute=before_cell,
    )


def _kill(kernel: DirectKernel) -> None:
    process = getattr(kernel.provisioner, "process", None)
    if process is not None:
        with suppress(OSError):
            process.kill()


def _finish(draft: Draft, notebook: Any, scratch: Path) -> Any:
    notebook.metadata = copy.deepcopy(draft.notebook.metadata)
    for cell, planned in zip(notebook.cells, draft.notebook.cells, strict=True):
        cell.metadata = copy.deepcopy(planned.metadata)
        if cell.cell_type == "code":
            cell.outputs = join_streams(cell.outputs)
    problems = output_problems(draft, notebook, (scratch,)) + find_leaks(notebook, draft.secrets)
    problems += [f"{draft.target.output_name}: {text}" for text in count_problems(notebook)]
    if problems:
        raise CourseError("\n".join(problems))
    stamp = {**input_fingerprint(notebook, draft.target), "outputs": output_fingerprint(notebook)}
    notebook.metadata["tlkit"]["fingerprint"] = stamp
    return notebook


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tlkit-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _explained(draft: Draft, client: Any, runner: Runner, scratch: Path) -> Iterator[None]:
    """nbclient の例外を、場所と直し方の分かる日本語に変える。"""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        yield
    except Exception as error:
        if runner.stopped.is_set():
            raise StoppedError from error
        place = draft.where(_running_cell(draft, client))
        if isinstance(error, CellExecutionError):
            raise CourseError(f"{place}: セルが例外で止まりました。\n{_trace(error)}") from error
        if isinstance(error, CellTimeoutError):
            text = f"セルが {CELL_TIMEOUT} 秒で終わりませんでした。計算を軽くするか、セルを分けてください。"
            raise CourseError(f"{place}: {text}") from error
        if isinstance(error, DeadKernelError | RuntimeError | TimeoutError):
            text = "カーネルが途中で終わりました。メモリの不足や、os._exit の呼び出しがないか確かめてください。"
            raise CourseError(f"{place}: {text}\n{_log_tail(scratch)}".rstrip()) from error
        raise
    finally:
        atexit.unregister(client._cleanup_kernel)  # nbclient は、起動に失敗したとき自分では外さない


def _running_cell(draft: Draft, client: Any) -> str:
    """例外のとき動いていたセルの id。"""
    current = max(int(client.code_cells_executed) - 1, 0)  # 送った時点で 1 増える
    ids = [cell.id for cell in draft.notebook.cells if cell.cell_type == "code"]
    return ids[min(current, len(ids) - 1)] if ids else "-"


def _trace(error: Any) -> str:
    text = _ANSI.sub("", str(error)).strip()
    return text if len(text) <= _TAIL else "…" + text[-_TAIL:]


def _log_tail(scratch: Path) -> str:
    log = scratch / "kernel.log"
    return log.read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip() if log.is_file() else ""
