"""学習の経過の表示（`training.py` の内部部品）。一行を書き換えるだけで、ウィジェットを使わない。

端末では同じ行を上書きし、ノートブックでは一つの表示を更新する。どちらでもなければ、何も表示しない。
"""

import os
import sys
import time
from typing import Any


class Progress:
    """経過の表示。`update` は 0.2 秒に一度だけ画面を書き換える。"""

    def __init__(self, total: int, *, enabled: bool) -> None:
        self.total, self.started, self.shown = total, time.monotonic(), 0.0
        self.handle: Any = _notebook_handle() if enabled and "TLKIT_BUILD" not in os.environ else None
        self.terminal = enabled and self.handle is None and sys.stdout.isatty()

    def update(self, step: int, loss: float) -> None:
        """Step 回目まで終わったことを表示する。"""
        now = time.monotonic()
        if (self.handle is None and not self.terminal) or (now - self.shown < 0.2 and step < self.total):
            return
        self.shown = now
        left = (now - self.started) / step * (self.total - step)
        filled = round(20 * step / self.total)
        self._write(f"{'█' * filled}{'░' * (20 - filled)} {step}/{self.total} 損失 {loss:.4f} 残り {left:.0f} 秒")

    def close(self) -> None:
        """表示を終える。"""
        if self.terminal:
            sys.stdout.write("\r\033[K")
        elif self.handle is not None:
            seconds = time.monotonic() - self.started
            self._write(f"学習を終えました（{seconds:.1f} 秒）")

    def _write(self, text: str) -> None:
        if self.terminal:
            sys.stdout.write("\r\033[K" + text)
            sys.stdout.flush()
        else:
            self.handle.update({"text/plain": text}, raw=True)


def _notebook_handle() -> Any:
    """Jupyter の中なら、書き換えのできる表示を返す。"""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import DisplayHandle

    handle = DisplayHandle()  # type: ignore[no-untyped-call]
    handle.display({"text/plain": "学習を始めます"}, raw=True)  # type: ignore[no-untyped-call]
    return handle
