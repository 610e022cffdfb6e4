"""解答例の時間で延びた上限が、本物の檻の中と外の両方で効くこと。"""

import dataclasses

import pytest
from cage_kit import SEEDS, SMALL, make_tree, run_answers

from tlkit.course.grading.model import Pace

pytestmark = pytest.mark.linux
SLEEPY = {"99-1": "import time\ndef double1(x):\n    time.sleep(1.0)\n    return x * 2"}
SHORT = dataclasses.replace(SMALL, probe_seconds=0.2)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("tree"))


def test_without_the_solution_the_least_limit_holds(tree):
    assert run_answers(tree, SLEEPY, SHORT).reasons == {"99-1": "timeout"}


def test_the_time_of_the_solution_makes_it_longer(tree):
    outcome = run_answers(tree, SLEEPY, dataclasses.replace(SHORT, pace=Pace(probes=(("99-1", 60.0),))))
    assert outcome.claims["99-1"].data == {"value": SEEDS["99-1"] * 2.0}
    assert outcome.probe_seconds["99-1"] >= 1.0
    assert outcome.cell_seconds["99-1"] > 0
