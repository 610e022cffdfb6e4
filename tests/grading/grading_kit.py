"""採点の流れの検査の道具: 檻の代わりに、その場で動かす速い runner と、小さな演習。

検査が自分で書いた提出だけを動かす。答えは「x を 2 倍する」「x に 1 を足す」関数で、x は種から決まる隠した数である。
"""

import dataclasses
import threading
import time

from small_release import release, submission, to_bytes

from tlkit.course.checks.harness import collect
from tlkit.course.checks.question import PASSED, Question, wrong
from tlkit.course.grading.model import Outcome
from tlkit.course.grading.pipeline import Setting
from tlkit.course.grading.roster import Student

SECRET = b"s" * 32
DOUBLE = "def mmd2(x, y=None, sigma=1.0):\n    return 2 * x"
ADD = "def leep(x, labels=None):\n    return x + 1"
TRIPLE = "def mmd2(x, y=None, sigma=1.0):\n    return 3 * x"
PUBLIC_ONLY = "def mmd2(x, y=None, sigma=1.0):\n    return 2 * x if x == 20241.0 else 0.5"
HANG = "HANG = True"
_ALONE = threading.Lock()


def _make_inputs(seed):
    return {"x": float(seed)}


def _probe(answer, inputs):
    return {"value": answer(inputs["x"])}


def _question(number, answer, want):
    def judge(data, inputs):
        good = want(inputs["x"])
        if data["value"] == good:
            return PASSED
        return wrong("value-mismatch", f"x = {inputs['x']} のとき {good} になるはずが {data['value']} です。")

    return Question(number, 5, "題", "目標", 1, 1, (answer,), _make_inputs, _probe, judge, ("方針", "式", "コード"))


QUESTIONS = (_question("01-1", "mmd2", lambda x: 2 * x), _question("01-2", "leep", lambda x: x + 1))
BY_ID = {question.id: question for question in QUESTIONS}
ASSIGNMENT = dataclasses.replace(release(), questions=QUESTIONS)


def inline(task):
    """檻の代わり。HANG という名前のあるセルで、時間切れのふりをする。"""
    claims, reasons, errors, namespace = {}, {}, {}, {"ready": lambda _: False}
    limit, detail = None, ""
    with _ALONE:  # collect は、プロセス全体の設定を使う
        for step in task.program:
            try:
                exec(step.source, namespace)
            except Exception as error:
                errors[step.id] = f"{type(error).__name__}: {error}"
            if "HANG" in namespace:
                limit, detail = "wall", "セルの時間が上限を超えました。"
                break
            if step.question in task.seeds:
                question = BY_ID[step.question]
                if question.answers[0] in namespace:
                    answers = (namespace[question.answers[0]],)
                    claims[question.id] = collect(question, answers, task.seeds[question.id])
                else:
                    reasons[question.id] = "missing"
    left = set(task.seeds) - set(claims) - set(reasons)
    reasons |= dict.fromkeys(left, "not-reached")
    return Outcome(claims, reasons, limit, detail, errors, (), time.monotonic(), 1.0)


def slow(task):
    """少しだけ時間のかかる runner（途中で止める検査に使う）。"""
    time.sleep(0.03)
    return inline(task)


def setting(run=inline, **changes):
    return dataclasses.replace(Setting(ASSIGNMENT, SECRET, run=run), **changes)


def make_class(folder, sources):
    """学籍番号 → (01-1 の答え, 01-2 の答え) か bytes か None から、提出と名簿を作る。"""
    folder.mkdir(parents=True, exist_ok=True)
    for student, source in sources.items():
        if source is not None:
            data = source if isinstance(source, bytes) else to_bytes(submission(*source))
            (folder / f"{student}.ipynb").write_bytes(data)
    return tuple(Student(student, f"氏名{student}") for student in sources)


def mixed_class(count):
    """正しい・誤り・公開の入力だけ・止まる、が交じった学級。"""
    kinds = [(DOUBLE, ADD), (TRIPLE, ADD), (PUBLIC_ONLY, ADD), (DOUBLE, f"{HANG}\n{ADD}"), ("1 / 0", ADD)]
    return {f"s{number:03d}": kinds[number % len(kinds)] for number in range(count)}
