"""演習 07-7 で答えに渡す executor。プロセスもスレッドも使わず、決めた順に一つずつ終える。

仕事が進むのは、答えが結果を待ったときだけである（`result`、`done`、`as_completed`、`wait` など）。待つたびに一つ終わるので、
「終わった結果を、次が終わる前に書き入れたか」が、時間によらずに分かる。場面は `run_grid.py`、判定は `run_grid_judge.py` にある。
"""

import functools
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

Pair = tuple[Any, int]  # （設定, 種）
MOST_POLLS = 50  # 一つの Future だけを調べ続ける答えも、この回数で進める


class EndlessWaitError(BaseException):
    """動くものがないのに待つ答えを止める合図。答えの `except Exception` に捕まらないよう BaseException とする。"""


class SteppedExecutor(Executor):
    """仕事を、決めた順に終える executor。

    Attributes:
        sent: 送られた仕事ごとの、{"pair": （設定, 種）か None, "plain": evaluate そのものか, "after": それまでに終えた数}。
        late: 終わったのに、次が終わるまでに finished に入らなかった組。
        direct: executor を通さずに呼ばれた evaluate の回数。
        closed: 閉じられたか。
    """

    def __init__(
        self, values: dict[Pair, float], broken: set[Pair], rank: list[Pair], finished: dict[Any, Any]
    ) -> None:
        self.values, self.broken, self.finished = values, broken, finished
        self.rank = {pair: place for place, pair in enumerate(rank)}
        self.sent: list[dict[str, Any]] = []
        self.late: list[Pair] = []
        self.errors: list[Exception] = []
        self.direct = 0
        self.closed = False
        self._queue: list[tuple[Future[Any], Callable[[], Any], Pair | None]] = []
        self._ended: list[Pair] = []
        self._steps = self._polls = 0
        self._unseen: set[Future[Any]] = set()  # 終わったのに、答えがまだ結果を受け取っていないもの
        self._working = False

    def evaluate(self, setting: Any, seed: int) -> float:
        """答えに渡す関数。"""
        self.direct += not self._working
        if (setting, seed) not in self.values:
            raise ValueError(
                f"evaluate({setting!r}, {seed!r}) が呼ばれました。evaluate(設定, 種) の順で渡してください。"
            )
        if (setting, seed) in self.broken:
            self.errors.append(ZeroDivisionError("測れない設定です"))
            raise self.errors[-1]
        return self.values[setting, seed]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """仕事を受け取る。まだ動かさない。"""
        future = _SteppedFuture(self)
        plain, given = self._unwrapped(fn, args, kwargs)
        pair = next((known for known in self.rank if known == given), None)
        self.sent.append({"pair": pair, "plain": plain, "after": self._steps})
        self._queue.append((future, functools.partial(fn, *args, **kwargs), pair))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """閉じる。"""
        self.closed = True
        while wait and not cancel_futures and self._queue:
            self.step()

    def step(self) -> None:
        """残りのうち、順が最も早い一つを終える。"""
        self.late += [pair for pair in self._ended if pair not in self.finished and pair not in self.late]
        if not self._queue:
            raise EndlessWaitError
        job = min(self._queue, key=lambda job: 0 if job[2] is None else self.rank[job[2]])
        self._queue.remove(job)
        if job[0].set_running_or_notify_cancel():
            self._steps += 1
            self._polls = 0
            self._unseen.add(job[0])
            self._work(*job)

    def poll(self) -> None:
        """終わったかを調べて回る答えのために進める。前に終わったものを、答えが受け取るまでは進めない。"""
        self._polls += 1
        if not self._unseen or self._polls > MOST_POLLS:
            self.step()

    def see(self, future: Future[Any]) -> None:
        """結果か例外を、答えが受け取った。"""
        self._unseen.discard(future)

    def _work(self, future: Future[Any], work: Callable[[], Any], pair: Pair | None) -> None:
        self._working = True
        try:
            result = work()
        except Exception as error:
            self._working = (
                False  # 結果を渡すと、答えの callback が動く。そこから evaluate を呼ぶのは、直に呼ぶのと同じ
            )
            future.set_exception(error)
            return
        self._working = False
        if pair is not None:
            self._ended.append(pair)
        future.set_result(result)

    def _unwrapped(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, Any]:
        """Evaluate そのものか、その partial なら、（真, （設定, 種））。"""
        while isinstance(fn, functools.partial):
            fn, args, kwargs = fn.func, (*fn.args, *args), {**fn.keywords, **kwargs}
        given = (*args, *(kwargs[name] for name in ("setting", "seed") if name in kwargs))
        return fn == self.evaluate, tuple(given)


class _SteppedFuture(Future[Any]):
    """待たれると、仕事を進める Future。"""

    def __init__(self, executor: SteppedExecutor) -> None:
        super().__init__()
        self._executor = executor
        self._waiters: list[Any] = _Waiters(executor)

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002 時間では待たない
        """終わるまで進めて、結果を返す。"""
        self._finish()
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:  # noqa: ARG002 時間では待たない
        """終わるまで進めて、例外を返す。"""
        self._finish()
        return super().exception(0)

    def done(self) -> bool:
        """終わったか。終わっていなければ、一つ進めてから調べる（くり返し調べる答えが、終わるように）。"""
        if not super().done():
            self._executor.poll()
        return super().done()

    def _finish(self) -> None:
        while not super().done():
            self._executor.step()
        self._executor.see(self)


class _Waiters(list[Any]):
    """Future を待つ印の一覧。as_completed と wait は、ここに印を置いてから、印の event を待つ。"""

    def __init__(self, executor: SteppedExecutor) -> None:
        super().__init__()
        self._executor = executor

    def append(self, waiter: Any) -> None:
        """印の event を、待たれると仕事を進めるものに取り替える。"""
        if not isinstance(waiter.event, _SteppingEvent):
            waiter.event = _SteppingEvent(waiter.event, self._executor)
        super().append(waiter)


class _SteppingEvent:
    """待たれると、立つまで仕事を進める event。"""

    def __init__(self, event: Any, executor: SteppedExecutor) -> None:
        self._event, self._executor = event, executor
        self.set, self.clear, self.is_set = event.set, event.clear, event.is_set

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 時間では待たない
        """立つまで進める。"""
        while not self._event.is_set():
            self._executor.step()
        return True
