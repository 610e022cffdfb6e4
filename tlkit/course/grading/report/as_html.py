"""教員用の報告を、1 枚の HTML にする。外のものは何も読み込まず、スクリプトも持たない。

文字は jinja2 がすべて文字として書き出すので、学習者の HTML が働くことはない。さらに CSP で、
この頁の様式（SHA-256 で名指し）のほかは何も許さない。ひな形は `templates/` にある。
"""

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tlkit.course.grading.report import figures
from tlkit.course.grading.report.clean import code_parts
from tlkit.course.grading.report.table import ATTENTION, LABELS, Line, Report

_WIDTH, _HEIGHT, _TOP, _BOTTOM, _LEFT = 360, 190, 18, 34, 8


@dataclass(frozen=True)
class Column:
    """分布の図の棒の位置。"""

    x: float
    y: float
    width: float
    height: float
    label: str
    count: int

    @property
    def middle(self) -> float:
        """棒の中央。"""
        return round(self.x + self.width / 2, 1)


def to_html(report: Report) -> bytes:
    """教員用の報告。"""
    anchors = {id(line): f"s{number}" for number, line in enumerate(report.lines, 1)}
    spread = figures.distribution(report)
    return render(
        "class.html.j2",
        report=report,
        anchor=lambda line: anchors[id(line)],
        counts={LABELS[state]: count for state, count in figures.counts(report).items() if count},
        attention=report.of(*ATTENTION),
        spread=spread,
        columns=columns(spread.bars) if spread else (),
        chart={"width": _WIDTH, "height": _HEIGHT, "base": _HEIGHT - _BOTTOM},
        questions=figures.by_question(report),
        identical=figures.identical_files(report),
        override=lambda line: _override(report, line),
        changed=[line for line in report.lines if line.overridden],
    )


def render(template: str, **values: Any) -> bytes:
    """ひな形から作る。値はすべて文字として書き出される。"""
    text = _environment().get_template(template).render(policy=_policy(), **values)
    return text.encode("utf-8")


def columns(bars: Sequence[figures.Bar]) -> tuple[Column, ...]:
    """棒を図の座標に置く。"""
    step = (_WIDTH - 2 * _LEFT) / len(bars)
    highest = max(1, *(bar.count for bar in bars))
    room = _HEIGHT - _TOP - _BOTTOM
    found = []
    for number, bar in enumerate(bars):
        height = round(room * bar.count / highest, 1)
        place = round(_LEFT + number * step + 1.5, 1)
        found.append(
            Column(place, round(_TOP + room - height, 1), round(step - 3, 1), height, _short(bar.label), bar.count)
        )
    return tuple(found)


def _short(label: str) -> str:
    """狭い図に収まる目盛り。範囲は、低いほうの点だけを書く。"""
    low, dash, _ = label.partition("–")
    return f"{low}–" if dash else low


def _override(report: Report, line: Line) -> str:
    """手で点数を付けるときに写して使える命令。"""
    question = next((name for name, answer in line.answers.items() if answer.points is None), "問題")
    student = shlex.quote(line.student)
    return f'tlkit grade override {student} {question} 点数 --exercise {report.slug} --why "理由"'


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tlkit.course.grading.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: Mapping[str, Any] = {"code_parts": code_parts}
    environment.filters.update(filters)
    return environment


@cache
def _policy() -> str:
    """この頁の様式だけを、その SHA-256 で許す。"""
    style = _environment().get_template("style.css").render().encode("utf-8")
    allowed = base64.b64encode(hashlib.sha256(style).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
