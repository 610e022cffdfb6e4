"""檻の中の進行: 上限を掛け、セルを順に動かし、答えがそろうたびに呼んで報告する。"""

import os
from typing import Any

from tlkit.course.grading.inside.capture import Capture
from tlkit.course.grading.inside.confine import confine
from tlkit.course.grading.inside.depth import bound_depth
from tlkit.course.grading.inside.frames import Channel, silence

_MEGABYTE = 1024 * 1024


def run(channel: Channel) -> None:
    """外から受け取った手順を、最後まで動かす。"""
    order = channel.receive()
    confine(order["limits"])
    bound_depth()
    prober = Prober(channel, order["questions"], order["limits"])
    printed = Capture(int(order["limits"]["printed_bytes"]))
    cells = _cells(printed)
    channel.send({"event": "start"})
    silence(2)
    for step in order["program"]:
        error = cells.run(step["source"])
        report = {"event": "cell", "id": step["id"], "ok": error is None, "error": error}
        channel.send({**report, "printed": printed.text, "cut": printed.cut})
        if step["question"] is not None:
            prober.probe(step["question"], cells.namespace)
    channel.send({"event": "done"})
    os._exit(0)  # 学習者が残したスレッドや後始末を待たない


def _cells(printed: Capture) -> Any:
    from tlkit.course.grading.inside.quiet import hush
    from tlkit.course.grading.inside.shell import Cells

    hush()
    return Cells(printed)


class Prober:
    """問題の定義を用意し、答えを呼ぶ。定義は、学習者のコードより前に読み込む。"""

    def __init__(self, channel: Channel, questions: dict[str, dict[str, Any]], limits: dict[str, Any]) -> None:
        self._channel = channel
        self._answers = {name: tuple(item["answers"]) for name, item in questions.items()}
        self._questions: dict[str, Any] = {}
        if questions:  # 問題のない手順（自己診断）では、torch を読み込まない
            from tlkit.course.checks import registry
            from tlkit.course.grading.inside.no_gpu import always_say_there_is_none
            from tlkit.course.grading.inside.probe import Bounds, probe
            from tlkit.course.grading.inside.processes import unshared

            self._call = probe
            always_say_there_is_none()
            self._questions = {name: registry.question(name) for name in questions}
            most, start = int(limits["memory_mb"]) * _MEGABYTE, unshared(os.getpid())
            self._bounds = {name: Bounds(float(item["seconds"]), most, start) for name, item in questions.items()}

    def probe(self, name: str, namespace: dict[str, Any]) -> None:
        """答えがそろっていれば呼び、そろっていなければそう報告する。"""
        if name not in self._questions:
            return
        try:
            answers = tuple(namespace[answer] for answer in self._answers[name])
        except KeyError:
            self._channel.send({"event": "claim", "question": name, "claim": None, "reason": "missing"})
            return
        self._channel.send(self._call(self._channel, self._questions[name], answers, self._bounds[name]))
