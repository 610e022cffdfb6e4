"""檻の検査だけで使う小さな問題。檻の中の写しにも、章 99 の問題として置かれる。"""

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


QUESTIONS = tuple(_question(number) for number in range(1, 11))
