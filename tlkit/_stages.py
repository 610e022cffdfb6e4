"""ネットワークを、入力側から出力側への段に分ける（`finetune/` や `models/` の内部部品）。

段は、凍結と層別学習率の単位である。最後の段は分類の層である。
どのパラメータも、ちょうど一つの段に入る。ただし、段の間で共有するものは、使う段のすべてに入る。
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

# この名前の部分は、中身の一つずつを段の候補にする（torchvision と、このコースのモデルの名前）
_CONTAINERS = frozenset({"backbone", "features", "encoder", "layers", "stages", "blocks", "trunk_output"})
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)


@dataclass(frozen=True)
class Stage:
    """一つの段。

    Attributes:
        name: 段の名前（先頭の部品の、モデルの中での名前）。
        modules: 段を作る部品。互いに重ならない。
        parameters: 段のパラメータ。部品に属さないもの（ViT のクラストークンなど）も含む。
    """

    name: str
    modules: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]


def find_head(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """分類の層の名前と本体。最後に登録された線形層、線形層がなければ最後の畳み込みとする。

    Raises:
        ValueError: どちらもないとき。
    """
    modules = list(model.named_modules())
    for name, module in reversed(modules):
        if isinstance(module, nn.Linear):
            return name, module
    for name, module in reversed(modules):
        if isinstance(module, nn.Conv2d):
            return name, module
    raise ValueError(
        f"{type(model).__name__} に、分類の層が見つかりません。線形層（nn.Linear）か畳み込みで終わるモデルが必要です。"
    )


def split_stages(model: nn.Module) -> list[Stage]:
    """段の一覧。入力側から順に並び、最後は分類の層だけの段である。

    二つ以上の重み層を持つ部品（残差ブロックの組など）が段を作り、間にある小さな部品は手前の段に入る。
    畳み込みの後に初めて現れる全結合層も、小さくても段を作る（GlyphCNN の head など）。
    そのような部品が二つ未満なら（VGG など）、重みのある部品の一つずつを段とする。

    Raises:
        ValueError: 分類の層が見つからないとき。
    """
    head_name, head = find_head(model)
    units = [unit for unit in _units(model, head, "") if unit[1] is not head]
    linear = next((index for index, (_, part) in enumerate(units) if _is_linear(part)), None)
    starts = [index for index, (name, part) in enumerate(units) if _starts_stage(name, part) or index == linear]
    if len(starts) < 2:
        starts = [
            index for index, (_, part) in enumerate(units) if isinstance(part, nn.Module) and _weight_layers(part)
        ]
    edges = sorted({0, *starts}) if units else []
    groups = [units[a:b] for a, b in zip(edges, [*edges[1:], len(units)], strict=True)]
    return [_stage(group) for group in groups] + [_stage([(head_name, head)])]


_Unit = tuple[str, nn.Module | nn.Parameter]


def _units(module: nn.Module, head: nn.Module, prefix: str) -> Iterator[_Unit]:
    """段の候補。分類の層を含む部品と、入れ物の名前を持つ部品は、中に入って数える。"""
    for name, parameter in module.named_parameters(recurse=False):
        yield prefix + name, parameter
    for name, child in module.named_children():
        holds_head = child is not head and any(part is head for part in child.modules())
        if holds_head or (name in _CONTAINERS and child is not head):
            yield from _units(child, head, f"{prefix}{name}.")
        elif any(True for _ in child.parameters()) or any(True for _ in child.buffers()):
            yield prefix + name, child


def _starts_stage(name: str, part: nn.Module | nn.Parameter) -> bool:
    return isinstance(part, nn.Module) and (name.split(".")[-2:-1] == ["stages"] or _weight_layers(part) >= 2)


def _is_linear(part: nn.Module | nn.Parameter) -> bool:
    return isinstance(part, nn.Module) and any(isinstance(inner, nn.Linear) for inner in part.modules())


def _weight_layers(module: nn.Module) -> int:
    return sum(isinstance(part, _WEIGHTED) for part in module.modules())


def _stage(units: list[_Unit]) -> Stage:
    modules = tuple(part for _, part in units if isinstance(part, nn.Module))
    loose = tuple(part for _, part in units if isinstance(part, nn.Parameter))
    inner = tuple(parameter for module in modules for parameter in module.parameters())
    return Stage(units[0][0], modules, loose + inner)
