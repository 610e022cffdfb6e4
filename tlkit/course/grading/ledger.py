"""一つの提出の記録帳: 檻からの報告を受け、順序と一度きりを守って書きとめる。

見張りそのものは `supervise.py`、報告の形の確かめは `claims.py` にある。
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tlkit.course.checks.harness import Claim
from tlkit.course.grading import allowance, claims
from tlkit.course.grading.model import Limits, Outcome, Step

LONG_OUTPUT = "出力が長すぎます。途中から先は捨てました。"
_MOST_NOTES = 20
_FORGIVE_SECONDS = 3.0  # 止めたプロセスの記憶が返るまで待つ時間
_PROBE_SPARE = 5.0  # 答えの時間は、まず檻の中で計る。外は少し長く待つ


def order(program: Sequence[Step], answers: Mapping[str, Sequence[str]], limits: Limits) -> bytes:
    """檻に渡す手順の 1 行。時間の上限は、解答例の時間で延ばした後の数にする。"""
    amounts = asdict(limits) | {"total_seconds": allowance.total(limits).seconds}
    del amounts["pace"]
    frame = {
        "program": [asdict(step) for step in program],
        "questions": {
            name: {"answers": list(names), "seconds": allowance.probe(limits, name).seconds}
            for name, names in answers.items()
        },
        "limits": amounts,
    }
    return json.dumps(frame).encode("ascii") + b"\n"


class Ledger:
    """報告の記録。"""

    def __init__(self, program: Sequence[Step], seeds: Mapping[str, int], limits: Limits) -> None:
        self._steps = [step.id for step in program]
        self._places = {step.question: place for place, step in enumerate(program) if step.question is not None}
        self._seeds = seeds
        self._limits = limits
        self._next = 0
        self._asked: set[str] = set()
        self._claims: dict[str, Claim] = {}
        self._reasons: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        self._notes: list[str] = []
        self._cell_seconds: dict[str, float] = {}
        self._probe_seconds: dict[str, float] = {}
        self._began = self._since = 0.0
        self._probing: str | None = None  # いま答えを呼んでいる問題
        self._forgiven: dict[str, tuple[str, float]] = {}
        self._limit: str | None = None
        self._detail = ""
        self.started = False
        self.ended = False

    def hear(self, line: bytes, now: float) -> bytes | None:
        """報告を一つ聞く。返事があれば返す。"""
        frame = claims.frame(line)
        handlers = {
            "start": self._start,
            "cell": self._cell,
            "ready": self._ready,
            "claim": self._claim,
            "done": self._done,
        }
        event = frame.get("event") if frame is not None else None
        handler = handlers.get(event) if isinstance(event, str) else None
        if frame is None or handler is None:
            self.note("檻から、形の違う報告が届きました（捨てました）。")
            return None
        return handler(frame, now)

    def stop(self, limit: str, detail: str) -> None:
        """途中で止める。"""
        if not self.ended:
            self._limit, self._detail, self.ended = limit, detail, True

    def forgive(self, limit: str, now: float) -> bool:
        """上限を超えたのが答えを呼ぶ間なら、その問題だけを失ったことにする。止めても収まらなければ False。"""
        name = self._probing
        if name is None or limit not in ("memory", "processes"):
            return False
        _, first = self._forgiven.setdefault(name, (limit, now))
        return now - first < _FORGIVE_SECONDS

    def note(self, text: str) -> None:
        """採点者への知らせを残す。同じ文は一度だけ。"""
        if text not in self._notes and len(self._notes) < _MOST_NOTES:
            self._notes.append(text)

    def check_time(self, now: float) -> None:
        """時間の上限を確かめる。"""
        total = allowance.total(self._limits)
        if now - self._began > total.seconds:
            self.stop("wall", f"全体の時間が、{total.said}を超えました。")
        elif self._probing is not None:
            allowed = allowance.probe(self._limits, self._probing)
            if now - self._since > allowed.seconds + _PROBE_SPARE:
                self.stop("wall", f"{self._probing} の答えを呼ぶ時間が、{allowed.said}を超えました。")
        else:
            allowed = allowance.cell(self._limits, self._current())
            if now - self._since > allowed.seconds:
                self.stop("wall", f"セル {self._current()} の時間が、{allowed.said}を超えました。")

    def outcome(self, seconds: float, peak_mb: float) -> Outcome:
        """記録をまとめる。"""
        reasons = {name: self._reasons.get(name, self._lost(name)) for name in self._seeds if name not in self._claims}
        return Outcome(
            claims={name: self._claims[name] for name in self._seeds if name in self._claims},
            reasons=reasons,
            limit=self._limit,
            detail=self._detail,
            errors=dict(self._errors),
            notes=tuple(self._notes),
            seconds=seconds,
            peak_mb=peak_mb,
            cell_seconds=dict(self._cell_seconds),
            probe_seconds=dict(self._probe_seconds),
        )

    def _lost(self, question: str) -> str:
        """記録も理由も届かなかった問題の理由。"""
        if self._limit is not None:
            return "not-reached"
        return "refused" if question in self._asked else "missing"

    def _reached(self, question: str) -> bool:
        """その問題のセルまで動いたか。"""
        return self._next > self._places.get(question, len(self._steps))

    def _current(self) -> str:
        return self._steps[self._next] if self._next < len(self._steps) else "なし"

    def _start(self, _frame: dict[str, Any], now: float) -> None:
        if not self.started:
            self.started, self._began, self._since = True, now, now

    def _cell(self, frame: dict[str, Any], now: float) -> None:
        if self._next >= len(self._steps) or frame.get("id") != self._steps[self._next]:
            self.note("セルの報告の順が違います（捨てました）。")
            return
        self._cell_seconds[self._steps[self._next]] = now - self._since
        self._next += 1
        self._since, self._probing = now, None
        if frame.get("ok") is not True:
            self._errors[self._steps[self._next - 1]] = claims.error_text(frame.get("error"))
        if frame.get("cut") is True:
            self.note(LONG_OUTPUT)

    def _ready(self, frame: dict[str, Any], now: float) -> bytes | None:
        name = frame.get("question")
        if not isinstance(name, str) or name not in self._seeds or name in self._asked or not self._reached(name):
            self.note("種を二度求めるなど、受け付けられない求めがありました（捨てました）。")
            return None
        self._asked.add(name)
        self._since, self._probing = now, name
        return json.dumps({"seed": self._seeds[name]}).encode("ascii") + b"\n"

    def _claim(self, frame: dict[str, Any], now: float) -> None:
        name = frame.get("question")
        if not isinstance(name, str) or name not in self._seeds or name in self._claims or name in self._reasons:
            self.note("答えの記録が二度届くなど、受け取れないものがありました（捨てました）。")
            return
        self._probe_seconds[name] = now - self._since
        self._since, self._probing = now, None
        reason = self._forgiven[name][0] if name in self._forgiven else claims.reason(frame.get("reason"))
        if reason is not None:
            self._reasons[name] = reason
            return
        if name not in self._asked:
            self.note(f"{name} の記録が、種を渡す前に届きました（捨てました）。")
            return
        found = claims.claim(frame.get("claim"), name)
        if found is None:
            self._reasons[name] = "refused"
            self.note(f"{name} の記録は、形が違うので受け取りませんでした。")
        else:
            self._claims[name] = found

    def _done(self, _frame: dict[str, Any], _now: float) -> None:
        """終わりの報告。動いていないセルが残っていれば、答えがなかったのか、届かなかったのか分からない。"""
        if self._next < len(self._steps):
            self.stop("crash", "最後のセルまで動かないうちに、終わりの報告が届きました。")
        self.ended = True
