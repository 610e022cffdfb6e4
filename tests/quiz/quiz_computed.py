"""`computed_by` の式を評価し、選択肢に書かれた数値と照らし合わせる。"""

import math
import re
import runpy
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.course.quiz.schema import LETTERS, QuizItem

NAMESPACE = {**runpy.run_path(str(Path(__file__).resolve().parents[1] / "quiz_math.py")), "math": math, "np": np}
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?"


def problems_of(item: QuizItem) -> list[str]:
    """計算した値が、正しい選択肢だけと合っていなければ、その説明。"""
    if item.computed_by is None:
        return [f"{item.id}: 計算の問題には computed_by が要ります"] if item.skill == "計算" else []
    try:
        result = eval(item.computed_by, dict(NAMESPACE))
    except Exception as error:
        return [f"{item.id}: computed_by を評価できません（{type(error).__name__}: {error}）"]
    fitting = [letter for letter, choice in zip(LETTERS, item.choices, strict=True) if fits(result, choice)]
    return (
        []
        if fitting == [item.letter]
        else [f"{item.id}: 計算値 {result} と合うのは {fitting}、answer は {item.letter}"]
    )


def fits(result: Any, choice: str) -> bool:
    """計算値が選択肢の数値と合うか。文字列の値は、選択肢そのものと比べる。"""
    if isinstance(result, str):
        return _plain(result) == _plain(choice)
    values = np.asarray(result, dtype=float).ravel().tolist()
    written = numbers_in(choice)
    return len(values) == len(written) and all(
        abs(value - number) <= half for value, (number, half) in zip(values, written, strict=True)
    )


def numbers_in(text: str) -> list[tuple[float, float]]:
    """選択肢に書かれた数と、書かれた桁から決まる許容差（整数と分数と √ は 0 に近い）。"""
    text = _plain(text)
    text = re.sub(rf"({NUMBER})(?:\\times|×)10\^\{{?([-+]?\d+)\}}?", r"\1e\2", text)
    text = re.sub(rf"\\[dt]?frac\{{({NUMBER})\}}\{{({NUMBER})\}}", r"\1/\2", text)
    text = re.sub(rf"\\sqrt\{{({NUMBER})\}}|√({NUMBER})", lambda m: _exact(math.sqrt(_value(m[1] or m[2]))), text)
    text = re.sub(rf"({NUMBER})/({NUMBER})", lambda m: _exact(_value(m[1]) / _value(m[2])), text)
    return [(_value(found), _half_unit(found)) for found in re.findall(rf"(?:(?<![\w.)])-)?{NUMBER}", text)]


def _exact(value: float) -> str:
    """分数と √ の値。桁を多く書き、許容差を 0 に近くする（0.2 と書くと、0.25 まで許してしまう）。"""
    return f"{value:.17e}"


def _plain(text: str) -> str:
    """全角を半角に、数学のマイナスをハイフンにそろえ、空白と飾りを除く。"""
    narrow = re.sub(r"[²³]", "", text)
    return re.sub(r"[\s$`]", "", unicodedata.normalize("NFKC", narrow).replace("−", "-"))


def _value(text: str) -> float:
    return float(text.replace(",", ""))


def _half_unit(text: str) -> float:
    mantissa, _, exponent = text.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return max(0.5 * 10.0 ** (int(exponent or 0) - decimals) * (1 + 1e-9) if decimals else 0.0, 1e-9)
