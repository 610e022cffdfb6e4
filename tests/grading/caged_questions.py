"""檻の検査だけで使う小さな問題。檻の中の写しにも、章 99 の問題として置かれる。"""

from tlkit.course.checks import weights
from tlkit.course.checks.question import PASSED, Question, wrong


def _make_inputs(seed):
    return {"x": float(seed)}


def _probe(answer, inputs):
    return {"value": answer(inputs["x"])}


def _judge(data, inputs):
    return PASSED if data["value"] == inputs["x"] * 2 else wrong("not-double", "2 倍になっていません。")


def _question(number):
    return Question(
        id=f"99-{number}",
        points=1,
        title="2 倍",
        goal="2 倍にできる。",
        minutes=1,
        difficulty=1,
        answers=(f"double{number}",),
        make_inputs=_make_inputs,
        probe=_probe,
        judge=_judge,
        hints=("方針", "式", "コード"),
    )


def _pack(answer, inputs):
    return {"weights": weights.pack(answer)}


def _judged_elsewhere(data, inputs):
    raise AssertionError("判定は檻の外の検査が持つ")


# 学習済みの重みを答えにする問題。隠した検査データと判定は、檻の写しに入らない検査のファイルにある
WEIGHTS = Question(
    id="99-11",
    points=5,
    title="学習した重み",
    goal="重みを出せる。",
    minutes=1,
    difficulty=1,
    answers=("weights",),
    make_inputs=_make_inputs,
    probe=_pack,
    judge=_judged_elsewhere,
    hints=("方針", "式", "コード"),
)
QUESTIONS = (*(_question(number) for number in range(1, 11)), WEIGHTS)
