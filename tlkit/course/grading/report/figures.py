"""報告に載せる集計: 得点の分布、問題ごとの出来と多い診断、中身の同じ提出。

点数の集計は、状態が graded の人だけで行う。ほかの状態の人を 0 点として数えることはない。
"""

import itertools
import statistics
from collections import Counter
from dataclasses import dataclass

from tlkit.course.grading.report.table import LABELS, Heading, Report, Shown

MAX_BARS = 12
_COMMON = 3
UNTOUCHED = "untouched"


@dataclass(frozen=True)
class Bar:
    """分布の棒。low 点以上 high 点以下の人数。"""

    low: int
    high: int
    count: int

    @property
    def label(self) -> str:
        """範囲の表し方。"""
        return str(self.low) if self.low == self.high else f"{self.low}–{self.high}"


@dataclass(frozen=True)
class Distribution:
    """得点の分布。

    Attributes:
        bars: 棒。低い点から。
        count: 採点済みの人数。
        mean: 平均。
        median: 中央値。
        low: 最低点。
        high: 最高点。
    """

    bars: tuple[Bar, ...]
    count: int
    mean: float
    median: float
    low: int
    high: int


@dataclass(frozen=True)
class Diagnosis:
    """多い診断。message は、その診断で最も多かった文。"""

    code: str
    count: int
    message: str


@dataclass(frozen=True)
class QuestionFigure:
    """一つの問題の出来。

    Attributes:
        question: 問題。
        judged: 判定できた人数。
        passed: 合格の人数（機械の判定）。
        untouched: 未着手の人数。
        diagnoses: 不合格の診断。多い順。
    """

    question: Heading
    judged: int
    passed: int
    untouched: int
    diagnoses: tuple[Diagnosis, ...]

    @property
    def percent(self) -> int | None:
        """合格の割合 [%]。判定できた人がいなければ None。"""
        return round(100 * self.passed / self.judged) if self.judged else None


def counts(report: Report) -> dict[Shown, int]:
    """状態 → 人数。LABELS の順。"""
    return {state: sum(line.state == state for line in report.lines) for state in LABELS}


def distribution(report: Report) -> Distribution | None:
    """得点の分布。採点済みの人がいなければ None。"""
    totals = [line.total for line in report.lines if line.total is not None]
    if not totals:
        return None
    bars = tuple(Bar(low, high, sum(low <= total <= high for total in totals)) for low, high in _ranges(report.full))
    mean, median = statistics.fmean(totals), statistics.median(totals)
    return Distribution(bars, len(totals), mean, float(median), min(totals), max(totals))


def by_question(report: Report) -> list[QuestionFigure]:
    """問題ごとの出来。できなかった問題から並べる。"""
    figures = [_question(report, question) for question in report.questions]
    order = {question.id: place for place, question in enumerate(report.questions)}
    return sorted(figures, key=lambda one: (_rate(one), order[one.question.id]))


def identical_files(report: Report) -> list[tuple[str, ...]]:
    """中身が 1 バイトも違わない提出の組。配られたまま（すべて未着手）の提出は数えない。"""
    groups: dict[str, list[str]] = {}
    for line in report.lines:
        untouched = bool(line.answers) and all(answer.code == UNTOUCHED for answer in line.answers.values())
        if line.sha256 and not untouched:
            groups.setdefault(line.sha256, []).append(line.student)
    return sorted(tuple(sorted(students)) for students in groups.values() if len(students) > 1)


def _ranges(full: int) -> list[tuple[int, int]]:
    """満点だけは、一本の棒に分ける。"""
    if full < MAX_BARS:
        return [(point, point) for point in range(full + 1)]
    edges = [round(full * step / 10) for step in range(11)]
    return [(low, high - 1) for low, high in itertools.pairwise(edges)] + [(full, full)]


def _rate(figure: QuestionFigure) -> float:
    return figure.passed / figure.judged if figure.judged else 2.0


def _question(report: Report, question: Heading) -> QuestionFigure:
    answers = [line.answers[question.id] for line in report.lines]
    judged = [answer for answer in answers if answer.machine is not None and answer.code]
    failed = [answer for answer in judged if answer.code not in ("passed", UNTOUCHED)]
    common = Counter(answer.code for answer in failed)
    ranked = sorted(common.items(), key=lambda item: (-item[1], item[0]))[:_COMMON]
    diagnoses = tuple(
        Diagnosis(code, count, _commonest([answer.message for answer in failed if answer.code == code]))
        for code, count in ranked
    )
    return QuestionFigure(
        question,
        len(judged),
        sum(answer.code == "passed" for answer in judged),
        sum(answer.code == UNTOUCHED for answer in judged),
        diagnoses,
    )


def _commonest(messages: list[str]) -> str:
    return min(Counter(messages).items(), key=lambda item: (-item[1], item[0]))[0]
