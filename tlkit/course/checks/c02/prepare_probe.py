"""演習 02-8 の答えの呼び方。手法を順に用意し、その間に本当に学習し、最後に用意した後の様子を素の値にする。

正解は知らない。何が学習され、何が動き、train() の下で各段がどう振る舞うかを、そのまま記録する。
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.course.checks.c02.prepare_model import TinyGlyph, keys, numbered, stages_of

Record = dict[str, Any]
STEPS = 2


def observe(answer: Any, given: Record, scene: Record) -> Record:
    """手法を順に呼ぶ。最後の呼び出しの前後と、その後の学習を記録する。"""
    model = TinyGlyph()
    model.load_state_dict(given[scene.get("weights", "weights")])
    model.train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # 元の課題の学習の名残
    *earlier, last = scene["methods"]
    for method in earlier:
        _train(model, _listed(answer(model, method, scene["base_lr"], scene["decay"])), given)
    before = _values(model)
    torch.default_generator.manual_seed(given["draw"] + scene.get("shift", 0))
    groups = _listed(answer(model, last, scene["base_lr"], scene["decay"]))
    after = _values(model)
    record = {
        "groups": _groups(model, groups),
        "before": before,
        "after": after,
        "trainable": numbered(name for name, value in model.named_parameters() if value.requires_grad),
        "graded": numbered(name for name, value in model.named_parameters() if value.grad is not None),
    }
    return record | _behaviour(model, given) | {"moved": _moved(model, groups, given)}


def _values(model: nn.Module) -> list[Any]:
    """名前の並び（`keys`）の順の値。"""
    state = model.state_dict()
    return [state[name].tolist() if name in state else None for name in keys()]


def _listed(groups: Any) -> Any:
    """model.parameters() のような、一度しか回せない params を list に直す。"""
    if not isinstance(groups, list | tuple) or not all(isinstance(group, dict) for group in groups):
        return groups
    return [{**group, "params": _parameters(group.get("params"))} for group in groups]


def _parameters(given: Any) -> list[Any] | None:
    if isinstance(given, Tensor):
        return [given]
    if isinstance(given, set | str) or not isinstance(given, Iterable):
        return None
    return [item[1] if isinstance(item, tuple) and len(item) == 2 else item for item in given]


def _groups(model: nn.Module, groups: Any) -> Record:
    """返り値の組。パラメータは名前に直し、モデルにないものは "?" とする。"""
    if not isinstance(groups, list | tuple):
        return {"kind": type(groups).__name__[:60], "rows": []}
    if not all(isinstance(group, dict) for group in groups):
        return {"kind": f"dict でないものの {type(groups).__name__}", "rows": []}
    names = {id(value): name for name, value in model.named_parameters()}
    return {"kind": "groups", "rows": [_row(group, names) for group in groups]}


def _row(group: Record, names: dict[int, str]) -> Record:
    parameters, rate = group["params"], group.get("lr")
    return {
        "names": None if parameters is None else numbered(names.get(id(value), "?") for value in parameters),
        "lr": float(rate) if isinstance(rate, int | float) else None,
    }


def _usable(rows: list[Record]) -> bool:
    """Optimizer に渡せる組か。"""
    if any(row["names"] is None or row["lr"] is None for row in rows):
        return False
    listed = [name for row in rows for name in row["names"]]
    return bool(listed) and -1 not in listed and len(set(listed)) == len(listed)


def _train(model: nn.Module, groups: Any, given: Record) -> bool:
    """用意された組で、SGD で STEPS 回学習する。組が使えなければ False。"""
    if not _usable(_groups(model, groups)["rows"]):
        return False
    optimizer = torch.optim.SGD([dict(group) for group in groups], lr=0.0)
    model.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(given["images"]), given["labels"])
        if not loss.requires_grad:
            return False
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return True


def _moved(model: nn.Module, groups: Any, given: Record) -> list[int] | None:
    """学習で値の変わったパラメータと移動統計の番号。学習できなければ None。"""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if not _train(model, groups, given):
        return None
    return _differences(before, model)


def _differences(before: dict[str, Tensor], model: nn.Module) -> list[int]:
    return numbered(name for name, value in model.state_dict().items() if not torch.equal(value, before[name]))


def _behaviour(model: nn.Module, given: Record) -> Record:
    """eval() と train() の後の振る舞い。モデルの値は元へ戻す。"""
    chained = model.eval() is model and model.train() is model
    model.eval()
    awake = [name or "model" for name, module in model.named_modules() if module.training]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    reference = TinyGlyph().eval()
    reference.load_state_dict(state)
    model.train()
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        stage.register_forward_hook(lambda _, args, out, name=name: seen.update({name: (args[0], out)}))
        for name, stage in stages_of(model).items()
    ]
    with torch.no_grad():
        model(given["images"])
        acts = {
            name: not torch.allclose(stages_of(reference)[name](x), out, atol=1e-5) for name, (x, out) in seen.items()
        }
    for hook in hooks:
        hook.remove()
    stirred = _differences(state, model)
    model.load_state_dict(state)
    return {"chained": chained, "awake": awake[:3], "acts": acts, "stirred": stirred}
