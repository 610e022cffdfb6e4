"""`compression.py` が測るモデル。組ごとに、元のモデルと、それを小さくしたモデルを作る。

int8 は、活性化をそのつど量子化し、全結合を整数で計算する（動的量子化）。作り方は二つある。
torch.ao は廃止の予定で、警告が出るが、PyTorch 2.15 ではまだ動く。後を継ぐ torchao は別のパッケージである。
torchao は、torch.compile（C++ のコンパイラが要る）と組み合わせて速くする設計なので、しない場合とする場合の両方を測る。
"""

import copy
import importlib.util
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tlkit.distill.pruning import forget_masks, prune_magnitude, remove_channels
from tlkit.models import DigitMLP, GlyphCNN, Student, Teacher

TEACHER, STUDENT = "教師モデル", "生徒モデル"
LEGACY, AO, COMPILED = "int8（torch.ao）", "int8（torchao）", "int8（torchao、compile）"
SPARSE, NARROW = "枝刈り（非構造化 80 %）", "枝刈り（構造化、幅 1/4）"
SPARSITY = 0.8


@dataclass(frozen=True)
class Variant:
    """測るモデルの一つ。

    Attributes:
        name: 表での名前。
        model: 評価モードのモデル。
        against: 時間の比を取る相手の名前。空なら、その組の元のモデル。
        arithmetic: 全結合の積和に使う数。
        counted_as: パラメータと計算量を数えるモデルの名前。空なら自分。
        same_function: 相手と同じ出力になるはずか（丸めの誤差を除く）。
    """

    name: str
    model: nn.Module
    against: tuple[str, ...] = ()
    arithmetic: str = "float32"
    counted_as: str = ""
    same_function: bool = False


@dataclass(frozen=True)
class Group:
    """同じ入力を受け取るモデルの組。"""

    name: str
    shape: tuple[int, ...]
    make: Callable[[bool], list[Variant]]


def variants(group: Group, *, tiny: bool) -> list[Variant]:
    """組のモデル。どれも評価モードで返す。"""
    found = group.make(tiny)
    for variant in found:
        variant.model.eval()
    return found


def left_out(*, tiny: bool) -> dict[str, str]:
    """この機械で測らない作り方と、その理由。"""
    reasons = {}
    if not hasattr(torch.ao, "quantization"):
        reasons[LEGACY] = "この版の PyTorch には torch.ao.quantization がない"
    if importlib.util.find_spec("torchao") is None:
        reasons[AO] = reasons[COMPILED] = "torchao が入っていない"
    elif tiny or shutil.which("c++") is None:
        reasons[COMPILED] = "--tiny では測らない" if tiny else "C++ のコンパイラがない"
    return reasons


def _digits(tiny: bool) -> list[Variant]:
    teacher, student = GlyphCNN(10, 8 if tiny else 16).eval(), DigitMLP(8 if tiny else 64).eval()
    return [
        Variant(TEACHER, teacher),
        Variant(STUDENT, student, (TEACHER,)),
        *_quantised(student, STUDENT, (STUDENT, TEACHER), tiny=tiny),
        _sparse(teacher),
        Variant(NARROW, remove_channels(teacher, 2 if tiny else 4), (TEACHER,)),
    ]


def _wide(tiny: bool) -> list[Variant]:
    wide = DigitMLP(16 if tiny else 1200).eval()
    return [Variant("幅の広いMLP", wide), *_quantised(wide, "幅の広いMLP", ("幅の広いMLP",), tiny=tiny)]


def _colour(tiny: bool) -> list[Variant]:
    teacher = Student().eval() if tiny else Teacher().eval()
    return [Variant(TEACHER, teacher), Variant(STUDENT, Student(), (TEACHER,)), _sparse(teacher)]


def _sparse(teacher: nn.Module) -> Variant:
    """0 の重みを入れただけの、同じ形のモデル。"""
    return Variant(SPARSE, forget_masks(prune_magnitude(teacher, SPARSITY)), (TEACHER,))


def _quantised(model: nn.Module, name: str, against: tuple[str, ...], *, tiny: bool) -> list[Variant]:
    makers = {LEGACY: _legacy, AO: _torchao, COMPILED: lambda m: torch.compile(_torchao(m), dynamic=False)}
    skipped = left_out(tiny=tiny)
    return [
        Variant(f"{name} {kind}", make(model), against, "int8", name, same_function=True)
        for kind, make in makers.items()
        if kind not in skipped
    ]


def _legacy(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 廃止の予定の警告（README.md に書いてある）
        quantised: nn.Module = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, torch.qint8)
    return quantised


def _torchao(model: nn.Module) -> nn.Module:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantised = copy.deepcopy(model)
    quantize_(quantised, Int8DynamicActivationInt8WeightConfig())
    return quantised


GROUPS = (
    Group("数字（GlyphCNN、DigitMLP）", (1, 28, 28), _digits),
    Group("幅 1200 の DigitMLP", (1, 28, 28), _wide),
    Group("カラー 32 画素（Teacher、Student）", (3, 32, 32), _colour),
)
