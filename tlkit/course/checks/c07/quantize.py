"""演習 07-8: 重みの int8 の量子化。問題と入力を置き、答えを呼ぶ。

整数に直す例と、整数から戻す例を、別々に渡す。片方の誤りが、もう片方の診断を変えないようにするためである。
判定は `quantize_judge.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c07.quantize_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

Case = dict[str, Any]
PARTS = ("q", "scale", "zero_point")


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    g = torch.Generator().manual_seed(seed)
    return {"weights": _whole(g) | _edges(g) | _symmetric(g) | _channels(g), "integers": _integers(g)}


def _whole(g: torch.Generator) -> dict[str, Case]:
    """テンソル全体で、非対称。base は負の側が広い。"""
    base = _spread((5, 8), g) - 0.4
    return {
        "base": _case(base),
        "conv": _case(_spread((3, 2, 3, 3), g) + 0.3),
        "float64": _case(_spread((4, 6), g).double() + 0.2),
        "parameter": _case(_spread((3, 5), g).requires_grad_()),
    }


def _edges(g: torch.Generator) -> dict[str, Case]:
    """0 を含まない範囲、幅のない範囲、丸めが端を越える範囲。ties は s = 1 で、最大値がちょうど 127.5 になる。"""
    positive = 2 + torch.rand(4, 5, generator=g)
    ties = torch.tensor([[-101.5, 0.0, 20.25, 153.5]])
    return {
        "positive": _case(positive),
        "negative": _case(-positive.flip(0)),
        "zeros": _case(torch.zeros(3, 4)),
        "constant": _case(torch.full((3, 4), 0.3 + float(torch.rand((), generator=g)))),
        "ties": _case(ties),
    }


def _symmetric(g: torch.Generator) -> dict[str, Case]:
    """対称。絶対値の最大は、below では負の側、above では正の側にある。"""
    below = _spread((5, 6), g) - 0.7
    return {
        "symmetric-below": _case(below, symmetric=True),
        "symmetric-above": _case(-below.flip(0), symmetric=True),
        "symmetric-zeros": _case(torch.zeros(2, 3), symmetric=True),
    }


def _channels(g: torch.Generator) -> dict[str, Case]:
    """出力チャネルごと。チャネルの大きさは 1 万倍違い、一つは 0 だけである。入力の数は出力の数と同じにしない。"""
    sizes = torch.tensor([0.01, 1.0, 0.0, 100.0])
    flat = _spread((4, 6), g) * sizes[:, None]
    conv = (_spread((4, 3, 2, 2), g) + 0.3) * sizes[:, None, None, None]
    conv[1] = conv[1].abs() + 0.5
    return {
        "channel-symmetric": _case(flat, symmetric=True, per_channel=True),
        "channel-conv": _case(conv, symmetric=True, per_channel=True),
        "channel-affine": _case(conv, per_channel=True),
        "channel-square": _case(_spread((4, 4), g) * sizes[:, None], per_channel=True),
    }


def _integers(g: torch.Generator) -> dict[str, Case]:
    """戻す例。near は差が int8 に収まり、far は収まらない。zero_point は、どの例でも整数の一つとして現れる。"""
    q = torch.randint(-60, 60, (3, 5), generator=g, dtype=torch.int8)
    wide = torch.tensor([[-128, -100, -60], [-28, 50, 127]], dtype=torch.int8)
    zero = torch.tensor(-28, dtype=torch.int8)
    size = 0.01 + 0.02 * torch.rand(3, 1, generator=g)
    centre = torch.tensor([[0], [9], [-14]], dtype=torch.int8)
    q[:, 0] = centre[:, 0]
    return {
        "centred": _integer_case(q, size[0, 0], centre[0, 0]),
        "near": _integer_case(q, size[1, 0], centre[1, 0]),
        "far": _integer_case(wide, size[2, 0], zero),
        "channel": _integer_case(q, size, centre),
        "float64": _integer_case(wide, size[0, 0].double(), zero),
    }


def _spread(shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    """−1 と 1 の間の乱数。両端の近くの値を必ず含む。"""
    values = 1.8 * torch.rand(shape, generator=g) - 0.9
    values.view(len(values), -1)[:, 0], values.view(len(values), -1)[:, 1] = -0.97, 0.93
    return values


def _case(w: Tensor, *, symmetric: bool = False, per_channel: bool = False) -> Case:
    return {"w": w, "symmetric": symmetric, "per_channel": per_channel}


def _integer_case(q: Tensor, scale: Tensor, zero_point: Tensor) -> Case:
    return {"q": q, "scale": scale.clone(), "zero_point": zero_point.clone()}


def probe(quantize: Any, dequantize: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で、二つの答えを呼ぶ。"""
    return {
        "weights": {name: trial(_quantized, quantize, case) for name, case in inputs["weights"].items()},
        "integers": {name: trial(dequantize, *case.values()) for name, case in inputs["integers"].items()},
    }


def _quantized(quantize: Any, case: Case) -> dict[str, Any]:
    """返り値を分け、一つずつ種類、dtype、形、値を記録する。"""
    found = quantize(case["w"], symmetric=case["symmetric"], per_channel=case["per_channel"])
    if not isinstance(found, tuple | list) or len(found) != len(PARTS):
        count = len(found) if isinstance(found, tuple | list) else 0
        return {"count": count, "type": type(found).__name__[:60]}
    return {"count": len(PARTS)} | {name: _described(part) for name, part in zip(PARTS, found, strict=True)}


def _described(part: Any) -> dict[str, Any]:
    if type(part) not in (Tensor, torch.nn.Parameter):
        return {"tensor": False, "type": type(part).__name__[:60]}
    about = {"dtype": str(part.dtype).removeprefix("torch."), "shape": list(part.shape), "tracked": part.requires_grad}
    return {"tensor": True, "value": part.detach(), **about}


QUANTIZE = Question(
    id="07-8",
    points=10,
    title="重みをint8に量子化し、元に戻す",
    goal="scaleとゼロ点を計算して重みをint8に丸め、誤差をscaleの半分以内に収めて元に戻すことができる",
    minutes=25,
    difficulty=2,
    answers=("quantize", "dequantize"),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("distill.quantization",),
    hints=(
        "まず、丸める範囲を決めます。範囲には0を必ず含めます。次に、範囲の幅を段の数で割ってscaleを、"
        "範囲の下の端が−128に移るようにゼロ点を決めます。対称なら、ゼロ点は0です。戻すときは、引き算の前にint8から浮動小数点数へ直します。",
        "a = min(0, min w)、b = max(0, max w)\n"
        "非対称: s = (b − a)/255、z = round(−128 − a/s)。対称: s = max|w|/127、z = 0。\n"
        "q = clip(round(w/s) + z, −128, 127)、ŵ = (q − z)·s",
        "最小と最大は w.amin(軸の組, keepdim=per_channel) のように求めます。\n"
        "軸の組は、per_channel なら tuple(range(1, w.ndim))、そうでなければ tuple(range(w.ndim)) です。\n"
        "0を含めるには、最小に .clamp(max=0)、最大に .clamp(min=0) を付けます。\n"
        "scale が0の所は1に替えてから割ります。最後に .clamp(-128, 127).to(torch.int8) とします。",
    ),
)
