from dataclasses import replace

import pytest

from tlkit.course.grading import allowance
from tlkit.course.grading.model import Limits, Pace

LIMITS = Limits(cell_seconds=30, probe_seconds=20, total_seconds=100)
PACED = replace(LIMITS, pace=Pace((("train", 30.0), ("quick", 5.9)), (("01-1", 12.5), ("01-2", 0.1))))


@pytest.mark.parametrize(
    ("found", "seconds", "said"),
    [
        (allowance.cell(LIMITS, "train"), 30, "上限の 30 秒"),
        (allowance.cell(PACED, "train"), 150, "上限の 150 秒（解答例の 30 秒の 5 倍）"),
        (allowance.cell(PACED, "quick"), 30, "上限の 30 秒（最低の上限。解答例の 5 倍は、これより短い）"),
        (allowance.cell(PACED, "by-the-learner"), 150, "上限の 150 秒（解答例で最も長いセルの 30 秒の 5 倍）"),
        (allowance.probe(PACED, "01-1"), 62.5, "上限の 62.5 秒（解答例の 12.5 秒の 5 倍）"),
        (allowance.probe(PACED, "01-2"), 20, "上限の 20 秒（最低の上限。解答例の 5 倍は、これより短い）"),
        (allowance.probe(LIMITS, "01-1"), 20, "上限の 20 秒"),
        (allowance.total(PACED), 242.5, "上限の 242.5 秒（解答例の 48.5 秒の 5 倍）"),
        (allowance.total(LIMITS), 100, "上限の 100 秒"),
    ],
)
def test_the_longer_of_the_least_and_five_times_the_solution(found, seconds, said):
    assert (found.seconds, found.said) == (seconds, said)


def test_a_short_time_that_wavers_does_not_change_the_sentence():
    paces = [Pace((("quick", seconds),)) for seconds in (0.1, 1.7, 6.0)]
    assert len({allowance.cell(replace(LIMITS, pace=pace), "quick") for pace in paces}) == 1
