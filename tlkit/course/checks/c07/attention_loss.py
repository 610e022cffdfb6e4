"""演習 07-5: 注意転移の損失。問題と入力、答えの呼び方を置く。

入力の多くは、値のあいだの関係が手で分かる組である。たとえば、地図を正の数倍しても、値は変わらない。
判定は `attention_loss_judge.py`、値の性質は `attention_loss_properties.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c07.attention_loss_judge import Case, judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    g = torch.Generator().manual_seed(seed)
    cases = _related(g) | _dark(g) | _others(g)
    gradients = {name: cases[name] for name in ("base", "channels", "dark-one")}
    return {"cases": cases, "refused": _refused(g), "gradients": gradients}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。勾配の場合では、両方の地図の写しで微分もする。"""
    gradients = {}
    for name, case in inputs["gradients"].items():
        maps = [case[key].clone().requires_grad_() for key in ("student", "teacher")]
        gradients[name] = trial(answer, *maps, wrt=maps)
    return {
        "values": {name: trial(answer, case["student"], case["teacher"]) for name, case in inputs["cases"].items()},
        "refused": {name: trial(answer, case["student"], case["teacher"]) for name, case in inputs["refused"].items()},
        "gradients": gradients,
    }


def _case(student: Tensor, teacher: Tensor) -> Case:
    return {"student": student.clone(), "teacher": teacher.clone()}


def _maps(g: torch.Generator, *shape: int) -> Tensor:
    """正に偏った float64 の地図 (N, C, H, W)。"""
    return torch.randn(shape, generator=g, dtype=torch.float64) + 0.4


def _related(g: torch.Generator) -> dict[str, Case]:
    """base の地図の動かし方と、値の変わり方。"""
    s, t = _maps(g, 3, 4, 4, 5), 1.5 * _maps(g, 3, 4, 4, 5)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64)).Q
    uneven = torch.tensor([0.4, 1.5, 6.0], dtype=torch.float64).reshape(3, 1, 1, 1)
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64).reshape(4, 1, 1)
    step = 1e-3 * _maps(g, 3, 4, 4, 5)
    return {
        "base": _case(s, t),
        "scaled": _case(3 * s, t),
        "faint": _case(0.02 * s, 0.02 * t),
        "scaled-each": _case(uneven * s, t),
        "teacher-scaled-each": _case(s, uneven * t),
        "negated": _case(signs * s, t),
        "rotated": _case(torch.einsum("dc,nchw->ndhw", turn, s), t),
        "near": _case(t + step, t),
        "nearer": _case(t + step / 2, t),
        "twice": _case(s.repeat(2, 1, 1, 1), t.repeat(2, 1, 1, 1)),
        "tiled": _case(_tiled(s), _tiled(t)),
    }


def _tiled(maps: Tensor) -> Tensor:
    """どの位置も 2×2 個に増やした地図。"""
    return maps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def _dark(g: torch.Generator) -> dict[str, Case]:
    """活性がすべて 0 の地図を含む場合。"""
    s, t = _maps(g, 3, 2, 4, 3), _maps(g, 3, 5, 4, 3)
    first = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64).reshape(3, 1, 1, 1)
    return {
        "dark-teacher": _case(s, 0 * t),
        "dark-student": _case(0 * s, t),
        "dark-both": _case(0 * s, 0 * t),
        "dark-one": _case(first * s, t),
    }


def _others(g: torch.Generator) -> dict[str, Case]:
    """手で計算できる例、チャネル数の違う例、float32 の例。"""
    hand = torch.tensor([[[[1.0, 2.0]]], [[[2.0, 1.0]]]], dtype=torch.float64)
    teacher = _maps(g, 2, 3, 3, 4)
    return {
        "hand": _case(hand[:1], hand[1:]),
        "channels": _case(_maps(g, 3, 2, 4, 5), _maps(g, 3, 6, 4, 5)),
        "same-attention": _case(0.5 * torch.cat([teacher, -teacher], dim=1), teacher),
        "single": _case(_maps(g, 1, 1, 2, 2), _maps(g, 1, 4, 2, 2)),
        "float32": _case(_maps(g, 4, 3, 3, 3).float(), _maps(g, 4, 2, 3, 3).float()),
    }


def _refused(g: torch.Generator) -> dict[str, Case]:
    """断るべき形の組。並べると長さが同じになる組と、ブロードキャストで通ってしまう組を含む。"""
    shapes = {
        "larger": ((2, 3, 4, 5), (2, 3, 8, 10)),
        "same-length": ((2, 3, 4, 6), (2, 3, 3, 8)),
        "one-row": ((2, 3, 4, 5), (2, 3, 1, 5)),
        "one-place": ((2, 3, 4, 5), (2, 3, 1, 1)),
        "batch": ((3, 2, 4, 5), (1, 2, 4, 5)),
    }
    return {name: _case(_maps(g, *a), _maps(g, *b)) for name, (a, b) in shapes.items()}


ATTENTION_LOSS = Question(
    id="07-5",
    points=10,
    title="注意転移の損失を書く",
    goal="中間層の出力から、チャネル数によらない注意の地図を作り、教師モデルに近づける損失を実装できる",
    minutes=20,
    difficulty=2,
    answers=("attention_loss",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("losses.attention_transfer",),
    hints=(
        "比べるのは活性そのものでなく、どの位置が強いかという地図です。チャネルの次元を先につぶすので、チャネル数は違ってもかまいません。"
        "正規化は標本ごとに、縦と横を合わせた全位置で行います。教師モデルの地図は、動かない目標として扱います。",
        "A_i(h, w) = Σ_c f_i(c, h, w)²、Q_i = A_i / ‖A_i‖₂（H·W 次元のベクトルとみなす）\n"
        "損失は、(Q^S − Q^T)² の N·H·W 個の要素の平均です。\n"
        "‖A_i‖₂ = 0 の標本で 0/0 にならないよう、分母を小さな正の数で下から抑えます。",
        "形を比べ、N、H、W のどれかが違えば ValueError を起こします（チャネル数は比べません）。\n"
        "def attention(maps):\n"
        "    （maps の二乗を dim=1 で足し、flatten(1) で (N, H·W) に並べ、F.normalize で dim=1 を長さ1にする）\n"
        "attention(student_maps) と、detach した attention(teacher_maps) の、差の二乗の mean() を返します。",
    ),
)
