"""collect と decide。学習者のコードの失敗を記録し、プロセス全体の設定を元へ戻すこと。"""

import dataclasses
import json
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tlkit.course.checks.harness import SEED, Claim, collect, decide, evaluate, from_json, to_json
from tlkit.course.checks.plain import PlainError
from tlkit.course.checks.question import PASSED, Question, Verdict, wrong
from tlkit.course.checks.registry import all_questions
from tlkit.course.checks.trial import call, guard, trial

HINTS = ("方針", "式", "コード")


def make_question(probe: Callable[..., Any], judge: Any = None, inputs: Any = None, **more: Any) -> Question:
    return Question(
        id="99-1", points=1, title="見本", goal="確かめられる", minutes=1, difficulty=1, answers=("f",), hints=HINTS,
        make_inputs=inputs or (lambda seed: {"x": torch.arange(3.0), "seed": seed}), probe=probe,
        judge=judge or (lambda data, inputs: PASSED), **more,
    )  # fmt: skip


def code(answer: Any, probe: Any = lambda f, inputs: f(inputs["x"]), **more: Any) -> str:
    return evaluate(make_question(probe, **more), (answer,))[0].code


def test_judge_gets_plain_data_and_fresh_inputs() -> None:
    def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
        assert data == [2.0, 3.0, 4.0]
        assert inputs["seed"] == SEED
        return PASSED

    assert code(lambda x: x + 2, judge=judge) == "passed"


def test_claim_is_plain_json() -> None:
    causes: list[BaseException] = []
    claim = collect(make_question(lambda f, inputs: trial(f, inputs["x"])), (lambda x: 1 / 0,), 1, causes)
    assert from_json(to_json(claim)) == claim
    json.loads(to_json(claim))
    assert [type(error) for error in causes] == [ZeroDivisionError]
    assert claim.data["error"]["source"].startswith("claim = collect(")


@pytest.mark.parametrize("text", ["[]", "{}", '{"question": "01-1"}', "3"])
def test_forged_claims_are_refused(text: str) -> None:
    with pytest.raises(PlainError):
        from_json(text)


@pytest.mark.parametrize("item", all_questions(), ids=lambda item: item.id)
def test_inputs_depend_on_the_seed_only(item: Question) -> None:
    def marks(seed: int) -> str:
        return repr(dataclasses.asdict(item)["id"]) + _dump(item.make_inputs(seed))

    torch.manual_seed(3)
    first = marks(5)
    torch.manual_seed(4)
    assert marks(5) == first
    assert marks(6) != first


def _dump(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(key + _dump(item) for key, item in value.items())
    return repr(value.tolist()) if isinstance(value, torch.Tensor) else repr(value)


def test_errors_carry_the_learners_line() -> None:
    def answer(x: torch.Tensor) -> torch.Tensor:
        wide = torch.ones(7)
        return x @ wide

    verdict, claim, causes = evaluate(make_question(lambda f, inputs: f(inputs["x"])), (answer,))
    assert verdict.code == "raised"
    assert "RuntimeError" in verdict.message
    assert claim.error is not None
    assert claim.error["source"] == "return x @ wide"
    assert claim.error["line"] == answer.__code__.co_firstlineno + 2
    assert verdict.cause is not None
    assert isinstance(causes[verdict.cause], RuntimeError)


def test_keyboard_interrupt_passes_through() -> None:
    def answer(_x: Any) -> None:
        raise KeyboardInterrupt

    for probe in (lambda f, inputs: f(inputs["x"]), lambda f, inputs: trial(f, inputs["x"])):
        with pytest.raises(KeyboardInterrupt):
            code(answer, probe)
    assert sys.getprofile() is None


class Odd(BaseException):
    pass


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("文を作れない")


@pytest.mark.parametrize(
    "error", [SystemExit(0), Odd("x"), MuteError(), RecursionError(), MemoryError(), GeneratorExit()]
)
def test_any_other_exception_is_a_wrong_answer(error: BaseException) -> None:
    def answer(_x: Any) -> None:
        raise error

    assert code(answer) == "raised"


def test_probe_cannot_hide_an_untouched_answer() -> None:
    def probe(f: Any, inputs: dict[str, Any]) -> Any:
        try:
            return f(inputs["x"])
        except Exception:
            return 0

    def stub(_x: Any) -> None:
        raise NotImplementedError("ここを実装してください")

    assert code(stub, probe) == "untouched"


def test_methods_of_a_class_answer_can_be_stubs() -> None:
    class Half:
        def __init__(self) -> None:
            self.made = True

        def step(self, _x: Any) -> None:
            raise NotImplementedError

        def forget(self, x: Any) -> None:
            x + 1

    assert code(Half, lambda cls, inputs: call(cls().step, inputs["x"])) == "untouched"
    assert code(Half, lambda cls, inputs: call(cls().forget, inputs["x"])) == "returned-none"
    assert code(Half, lambda cls, inputs: guard(cls().forget)(inputs["x"])) == "returned-none"


def test_one_answer_done_and_one_untouched_is_untouched() -> None:
    def todo(_x: Any) -> None:
        raise NotImplementedError

    question = make_question(lambda f, g, inputs: [f(inputs["x"]), g(inputs["x"])])
    assert evaluate(question, (lambda x: x, todo))[0].code == "untouched"


def test_none_is_fine_where_the_question_says_so() -> None:
    def in_place(x: torch.Tensor) -> None:
        x.add_(1)

    assert code(in_place) == "argument-changed"
    assert code(in_place, none_ok=True, may_mutate=("x",)) == "passed"


@pytest.mark.parametrize(
    ("value", "change"),
    [
        (torch.ones(2, 2), lambda v: v.mul_(2)),
        (torch.ones(2), lambda v: v.resize_(1)),
        (torch.tensor(1.0, dtype=torch.bfloat16), lambda v: v.add_(1)),
        (np.ones(2), lambda v: v.fill(3)),
        ([1.0, [2.0]], lambda v: v[1].append(3.0)),
        ({"inner": [1, 2]}, lambda v: v["inner"].reverse()),
        ({"a": 1}, lambda v: v.clear()),
        (torch.nn.Linear(2, 1), lambda v: torch.nn.init.zeros_(v.weight)),
        (torch.nn.Dropout(), lambda v: v.eval()),
    ],
)
def test_changed_arguments_are_reported(value: Any, change: Any) -> None:
    def answer(x: Any) -> int:
        change(x)
        return 1

    import copy

    inputs = lambda seed: {"x": copy.deepcopy(value)}  # noqa: E731
    assert code(answer, inputs=inputs) == "argument-changed"
    assert code(lambda x: 1, inputs=inputs) == "passed"


def test_printed_text_is_kept_bounded_and_off_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    def answer(x: torch.Tensor) -> torch.Tensor:
        print("途中", x.shape)
        print("あ" * 10_000, file=sys.stderr)
        warnings.warn("注意", stacklevel=1)
        return x

    claim = collect(make_question(lambda f, inputs: f(inputs["x"])), (answer,), 1)
    assert claim.printed.startswith("途中 torch.Size([3])")
    assert len(claim.printed) < 1100
    assert claim.printed.endswith("（以下略）")
    assert capfd.readouterr() == ("", "")


def test_unusable_results_are_a_diagnosis() -> None:
    assert code(lambda x: object()) == "unusable"
    assert code(lambda x: torch.zeros(1).expand(10**12)) == "unusable"


def test_a_judge_that_trips_is_told_apart() -> None:
    verdict, _, causes = evaluate(make_question(lambda f, inputs: f(inputs["x"]), lambda d, i: d["no"]), (lambda x: 1,))
    assert verdict.code == "judge-error"
    assert isinstance(causes[verdict.cause or 0], TypeError)


def test_decide_needs_the_claim_only() -> None:
    question = make_question(lambda f, inputs: 0, lambda data, inputs: wrong("small", "小さい") if data < 1 else PASSED)
    assert decide(question, Claim("99-1", "done", 0.5), 1).code == "small"
    assert decide(question, Claim("99-1", "done", 2), 1) == PASSED
    assert decide(question, Claim("99-1", "done", 2, borrowed=["tlkit.losses.mmd.mmd2"]), 1).code == "borrowed"


def spoil(x: torch.Tensor) -> torch.Tensor:
    """設定という設定を書き換える答え。"""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")
    torch.autograd.set_detect_anomaly(True)
    torch.backends.cudnn.benchmark = True
    np.seterr(all="raise")
    warnings.simplefilter("error")
    sys.stdout = None  # type: ignore[assignment]
    return x


def settings() -> list[Any]:
    return [
        torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate(), torch.get_default_dtype(),
        torch.get_default_device(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(), torch.get_num_threads(),
        torch.get_float32_matmul_precision(), torch.is_anomaly_enabled(), torch.backends.cudnn.benchmark,
        np.geterr(), list(warnings.filters), sys.stdout, sys.stderr, sys.getprofile(),
    ]  # fmt: skip


@pytest.mark.parametrize("fails", [False, True])
def test_global_state_is_restored(fails: bool) -> None:
    def answer(x: torch.Tensor) -> torch.Tensor:
        spoil(x)
        if fails:
            raise ValueError("だめ")
        return x

    before = settings()
    assert code(answer) == ("raised" if fails else "passed")
    assert settings() == before


def test_the_learners_own_settings_do_not_change_the_verdict() -> None:
    def answer(x: torch.Tensor) -> torch.Tensor:
        return (x.clone().requires_grad_() * torch.ones(3)).sum()

    def judge(data: dict[str, Any], _inputs: Any) -> Verdict:
        return PASSED if data["dtype"] == "float32" and data["tracked"] else wrong("settings", str(data))

    def probe(f: Any, inputs: dict[str, Any]) -> Any:
        x = inputs["x"].clone().requires_grad_()
        return trial(lambda: (x * torch.ones(3)).sum() + 0 * f(x), wrt=(x,))

    try:
        torch.set_default_dtype(torch.float64)
        with torch.no_grad(), torch.device("meta"):
            assert code(answer, probe, judge=judge, inputs=lambda s: {"x": torch.arange(3.0)}) == "passed"
        with torch.inference_mode():
            assert code(answer, probe, judge=judge) == "passed"
    finally:
        torch.set_default_dtype(torch.float32)


def test_trial_describes_results() -> None:
    def records(f: Any, inputs: dict[str, Any]) -> Any:
        x = inputs["x"].clone().requires_grad_()
        return trial(f, x, wrt=(x, inputs["x"].clone().requires_grad_()))

    def seen(answer: Any) -> Any:
        return collect(make_question(records), (answer,), 1).data

    record = seen(lambda x: (x * x).sum())
    assert (record["kind"], record["dtype"], record["shape"], record["value"]) == ("tensor", "float32", [], 5.0)
    assert record["tracked"]
    assert record["grads"] == [[0.0, 2.0, 4.0], None]
    assert seen(lambda x: x.detach().sum())["tracked"] is False
    assert seen(lambda x: x.detach().numpy())["kind"] == "array"
    assert seen(lambda x: 1.5)["kind"] == "number"
    assert seen(lambda x: "文字")["kind"] == "other"
    assert seen(lambda x: object())["refused"]


def test_a_check_does_not_load_the_compiler() -> None:
    """torch._dynamo の読み込みは 1 秒以上かかる。最初の確認を待たせないこと。"""
    program = "import sys\nfrom tlkit.course.checks.harness import evaluate\nfrom tlkit.course.checks.registry import question\n"
    program += "evaluate(question('01-1'), (lambda x, y, s, e: (x.sum() + y.sum()) * 0,))\nprint('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "False\n"


def test_a_check_does_not_depend_on_the_one_before() -> None:
    def answer(x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand(3)

    question = make_question(lambda f, inputs: f(inputs["x"]))
    first = collect(question, (answer,), 1)
    torch.manual_seed(12345)
    collect(question, (spoil,), 2)
    assert collect(question, (answer,), 1) == first
