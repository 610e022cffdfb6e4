"""セルの中身を調べる道具のうち、「よそから読む名前」。ここに漏れがあると、正しい答えが人に回る。"""

import pytest

from tlkit.course.grading.snippets import facts


@pytest.mark.parametrize(
    "body",
    [
        "def score(z):\n        return z\n    return score(x)",
        "class score:\n        size = 1\n    return score.size",
        "import numpy as score\n    return score.mean(x)",
        "from math import sqrt as score\n    return score(x)",
        "try:\n        pass\n    except ValueError as score:\n        return score.args",
        "score = 1\n    return score",
        "return [score for score in x]",
        "return (lambda score: score)(x)",
        "match x:\n        case [score, *_]:\n            return score",
        "match x:\n        case [_, *score]:\n            return score",
        "match x:\n        case {1: _, **score}:\n            return score",
        "if (score := x):\n        return score",
    ],
)
def test_names_made_inside_a_function_are_not_read_from_elsewhere(body):
    assert facts(f"def answer(x):\n    {body}\n").reads <= {"ValueError"}


def test_a_name_nobody_makes_is_read_from_elsewhere():
    assert facts("def answer(x):\n    return x + score\n").reads == {"score"}
    assert facts("def answer(x):\n    score.append(x)\n").reads == {"score"}
