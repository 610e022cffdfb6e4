"""答えを呼ぶ側（collect）と判定する側（decide）。

collect は学習者のコードを動かし、素の値だけの `Claim` を作る。採点では、これが檻の中で動く。
decide は Claim だけを見て判定する。採点では、これが檻の外で動く。学習者のオブジェクトには触れない。
その場の確認 `evaluate` は、二つを同じプロセスで続けて行う。例外そのものは Claim に入れず、causes に渡す。
"""

import contextlib
import hashlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch

from tlkit.course.checks import stub, trial
from tlkit.course.checks.borrowed import handed_in, watch
from tlkit.course.checks.diagnoses import general
from tlkit.course.checks.plain import PlainError, seal, unseal
from tlkit.course.checks.question import Question, Verdict, wrong
from tlkit.course.checks.state import preserved

SEED = 20240 + 1  # その場の確認の種。採点では秘密の種を使う
MAX_PRINTED = 1000


@dataclass(frozen=True)
class Claim:
    """答えを呼んで分かったこと。素の値だけからなる。

    Attributes:
        question: 問題の id。
        state: "done"、または途中で終わった理由（"untouched" など `diagnoses.py` の名前）。
        data: probe の返り値（state が "done" のとき）。
        error: 例外の記録（型、文、行番号、その行、index）。
        borrowed: 呼ばれた tlkit の関数の名前。
        mutated: 呼び出しの前後で中身が変わった入力の名前。
        printed: 答えの中で print された文字（長ければ途中まで）。
    """

    question: str
    state: str
    data: Any = None
    error: dict[str, Any] | None = None
    borrowed: list[str] = field(default_factory=list)
    mutated: list[str] = field(default_factory=list)
    printed: str = ""


_FIELDS = tuple(item.name for item in fields(Claim))


def to_json(claim: Claim) -> str:
    """Claim を JSON にする。"""
    return seal({name: getattr(claim, name) for name in _FIELDS})  # asdict は、テンソルの写しを作るので遅い


def from_json(text: str) -> Claim:
    """`to_json` の逆。形が違うものは断る。"""
    loaded = unseal(text)
    if not isinstance(loaded, dict) or loaded.keys() != set(_FIELDS):
        raise PlainError("確認の記録の形が違います。")
    return Claim(**loaded)


def collect(
    question: Question, answers: tuple[Any, ...], seed: int, causes: list[BaseException] | None = None
) -> Claim:
    """学習者の答えを呼び、分かったことを Claim にする。causes には元の例外が順に入る。

    JSON を往復させ、採点する側が見るものと同じにする。
    """
    return from_json(sealed(question, answers, seed, causes))


def sealed(question: Question, answers: tuple[Any, ...], seed: int, causes: list[BaseException] | None = None) -> str:
    """`collect` と同じことをして、Claim の JSON を返す。"""
    claim = _call(question, answers, seed, causes)
    try:
        return to_json(claim)
    except PlainError as refusal:
        record = {"type": "PlainError", "message": str(refusal)}
        return to_json(replace(claim, state="unusable", data=None, error=record))


def _call(question: Question, answers: tuple[Any, ...], seed: int, causes: list[BaseException] | None) -> Claim:
    run = trial.Run(question.none_ok, [] if causes is None else causes)
    if any(stub.is_placeholder(answer) or stub.is_empty_class(answer) for answer in answers):
        return Claim(question.id, "untouched")
    if lent := [name for answer in answers if (name := handed_in(answer, question.borrow_ok))]:
        return Claim(question.id, "done", borrowed=lent)
    with preserved(seed):
        inputs = question.make_inputs(seed)
        before = _fingerprints(inputs)
        with _exit_raises(), _captured() as printed, watch(question.borrow_ok) as borrowed:
            state, data, error = _probe(question, answers, inputs, run)
        after = _fingerprints(inputs)
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    mutated = sorted({name for name in changed if name not in question.may_mutate})
    return Claim(question.id, state, data, error, borrowed, mutated, printed.text())


def decide(question: Question, claim: Claim, seed: int, causes: list[BaseException] | None = None) -> Verdict:
    """Claim から判定を選ぶ。どの問題にも共通の診断が先、問題ごとの judge が後。"""
    verdict = general(claim.state, claim.error, claim.borrowed, claim.mutated)
    if verdict is not None:
        return verdict
    with preserved(seed):
        inputs = question.make_inputs(seed)
        try:
            return question.judge(claim.data, inputs)
        except Exception as error:
            if causes is not None:
                causes.append(error)
            kind = type(error).__name__
            index = None if causes is None else len(causes) - 1
            return wrong("judge-error", f"答えの返した形が想定と違い、判定できませんでした（{kind}）。", index)


def evaluate(
    question: Question, answers: tuple[Any, ...], seed: int = SEED
) -> tuple[Verdict, Claim, list[BaseException]]:
    """その場の確認。判定、Claim、元の例外を返す。"""
    causes: list[BaseException] = []
    claim = collect(question, answers, seed, causes)
    return decide(question, claim, seed, causes), claim, causes


def _probe(
    question: Question, answers: tuple[Any, ...], inputs: dict[str, Any], run: trial.Run
) -> tuple[str, Any, dict[str, Any] | None]:
    token = trial.current.set(run)
    try:
        return "done", question.probe(*map(trial.guard, answers), inputs), None
    except trial.Stop as stop:
        return stop.code, None, stop.error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit も答えの誤りとして扱い、カーネルを終わらせない
        return "untouched" if stub.is_stub_error(error) and not run.finished else "raised", None, run.keep(error)
    finally:
        trial.current.reset(token)


@contextlib.contextmanager
def _exit_raises() -> Iterator[None]:
    """ノートブックの exit() は例外を投げずにカーネルを止める。確認の間だけ、ふつうの SystemExit にする。"""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        yield
        return
    shell.ask_exit = _raise_exit
    try:
        yield
    finally:
        del shell.ask_exit


def _raise_exit() -> None:
    raise SystemExit


class _Bounded(io.TextIOBase):
    """先頭だけを残す出力先。"""

    def __init__(self) -> None:
        self._kept = ""
        self._cut = False

    def write(self, text: str) -> int:
        room = MAX_PRINTED - len(self._kept)
        self._kept += text[:room]
        self._cut |= len(text) > room
        return len(text)

    def writable(self) -> bool:
        return True

    def text(self) -> str:
        return self._kept + ("…（以下略）" if self._cut else "")


@contextlib.contextmanager
def _captured() -> Iterator[_Bounded]:
    out = _Bounded()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        yield out


def _fingerprints(value: Any, name: str = "") -> dict[str, str]:
    """入力の中身の指紋を、名前ごとに求める。名前は、いちばん内側の dict のキーとする。"""
    marks: dict[str, list[str]] = {}
    _walk(value, name, marks)
    return {key: hashlib.blake2b("\n".join(parts).encode()).hexdigest() for key, parts in marks.items()}


def _walk(value: Any, name: str, marks: dict[str, list[str]]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _walk(item, str(key), marks)
    elif isinstance(value, list | tuple):
        marks.setdefault(name, []).append(f"list:{len(value)}")
        for item in value:
            _walk(item, name, marks)
    elif isinstance(value, torch.nn.Module):
        parts = [f"{key}:{_digest(item)}" for key, item in value.state_dict().items() if isinstance(item, torch.Tensor)]
        marks.setdefault(name, []).extend([*parts, f"training:{value.training}"])
    else:
        marks.setdefault(name, []).append(_digest(value))


def _digest(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    elif isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value)
    else:
        return repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return f"{value.dtype}{tuple(value.shape)}{hashlib.blake2b(data.tobytes()).hexdigest()}"
