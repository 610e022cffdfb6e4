"""演習 02-4: 上の段から解凍する関数。問題と、答えの呼び方を置く。

段の並びは `unfreeze_stages.py`、判定は `unfreeze_judge.py` にある。
probe は、学習する段の数を増やしたり減らしたりしながら、モーメンタムと重み減衰のある SGD で実際に学習し、動いた段を記録する。
"""

from typing import Any

import torch
from torch import Tensor, nn

from tlkit.course.checks.c02.unfreeze_judge import judge
from tlkit.course.checks.c02.unfreeze_stages import BUILD, STEPS_PER_CALL, outputs
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

COUNTS = {
    "one": [1],
    "none": [0],
    "growing": [1, 2, 3, 4],
    "shrinking": [4, 2, 1],
    "beyond": [5],
    "to-none-and-back": [3, 0, 2],
    "bare": [1, 2, 3],
    "given-frozen": [2],
}


def make_inputs(seed: int) -> dict[str, Any]:
    """重みの種、画像、ラベル、場面ごとの count の並び。"""
    g = torch.Generator().manual_seed(seed)
    images = 2.0 + torch.randn(8, 1, 4, 4, generator=g)
    return {"seed": seed, "images": images, "labels": torch.arange(8) % 3, "counts": dict(COUNTS)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとに段を作り直し、count を変えながら学習する。"""
    return {name: trial(_observe, answer, inputs, name, counts) for name, counts in inputs["counts"].items()}


def _observe(answer: Any, inputs: dict[str, Any], name: str, counts: list[int]) -> list[dict[str, Any]]:
    torch.manual_seed(inputs["seed"])
    stages = BUILD["bare" if name == "bare" else "plain"]()
    optimizer = torch.optim.SGD(
        [value for stage in stages for value in stage.parameters()], lr=0.05, momentum=0.9, weight_decay=0.1
    )
    _steps(stages, optimizer, inputs)  # 凍結の前に全部を学習する。モーメンタムと勾配が残る
    if name == "given-frozen":
        for stage in stages:
            stage.requires_grad_(False).eval()
    return [_call(answer, stages, optimizer, inputs, count) for count in counts]


def _call(
    answer: Any, stages: list[nn.Module], optimizer: torch.optim.Optimizer, inputs: dict[str, Any], count: int
) -> dict[str, Any]:
    """学習の手順と同じに、すべてを train() にしてから一度呼び、その後の更新を見る。"""
    given = list(stages)
    for stage in given:
        stage.train()
    before, grads = [_values(stage) for stage in given], [_has_grads(stage) for stage in given]
    answer(stages, count)
    seen: dict[str, Any] = {
        "count": count,
        "given_kept": len(stages) == len(given) and all(a is b for a, b in zip(stages, given, strict=True)),
        "edited": [_moved(old, stage) for old, stage in zip(before, given, strict=True)],
        "trainable": [{name: value.requires_grad for name, value in stage.named_parameters()} for stage in given],
        "modes": [{name or "段": module.training for name, module in stage.named_modules()} for stage in given],
        "grads": [_grads(stage) for stage in given],
        "had_grads": grads,
    }
    stages[:] = given  # 並びが変わったことは記録した。次の呼び出しまで狂わせない
    before = [_values(stage) for stage in given]
    _steps(given, optimizer, inputs)
    return seen | {"moved": [_moved(old, stage) for old, stage in zip(before, given, strict=True)]}


def _steps(stages: list[nn.Module], optimizer: torch.optim.Optimizer, inputs: dict[str, Any]) -> None:
    """決まった回数の更新。勾配は消さずに 0 で埋める。最後の勾配は残す。"""
    for _ in range(STEPS_PER_CALL):
        optimizer.zero_grad(set_to_none=False)
        loss = nn.functional.cross_entropy(outputs(stages, inputs["images"]), inputs["labels"])
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _values(stage: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in (*stage.named_parameters(), *stage.named_buffers())}


def _moved(before: dict[str, Tensor], stage: nn.Module) -> dict[str, float]:
    """値の変わったものの名前と、変化の最大。"""
    after = _values(stage)
    gaps = {name: float((value - after[name]).abs().max()) for name, value in before.items()}
    return {name: gap for name, gap in gaps.items() if gap != 0}


def _grads(stage: nn.Module) -> dict[str, str]:
    """パラメータの .grad の様子。none、zero（0 で埋めた）、kept（残っている）。"""
    grads = {name: value.grad for name, value in stage.named_parameters()}
    return {
        name: "none" if grad is None else "kept" if bool(grad.abs().sum() > 0) else "zero"
        for name, grad in grads.items()
    }


def _has_grads(stage: nn.Module) -> bool:
    return any(state == "kept" for state in _grads(stage).values())


UNFREEZE_TOP = Question(
    id="02-4",
    points=10,
    title="上の段から順に解凍する",
    goal="段階的解凍の一歩を書き、凍結し直した段に残る勾配まで始末できる",
    minutes=20,
    difficulty=2,
    answers=("unfreeze_top",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("finetune.unfreeze", "finetune.freeze"),
    hints=(
        "どの段も、「学習する」か「凍結する」のどちらかに、毎回はっきり設定し直します。"
        "前に呼ばれたときの状態を当てにすると、数を減らしたときや、戻したときに誤ります。",
        "入力側から数えて i 番の段は、i >= len(stages) - count のときに学習します。"
        "この書き方なら、count が 0 でも、段の数より大きくても、場合分けが要りません。\n"
        "学習する段は requires_grad_(True) と train()、凍結する段は requires_grad_(False) と eval() です。\n"
        "凍結する段では、パラメータの .grad を None にします。",
        "for i, stage in enumerate(stages): の中で trains = i >= len(stages) - count とします。\n"
        "stage.train(trains) と stage.requires_grad_(trains) を呼びます。\n"
        "trains でなければ、for parameter in stage.parameters(): で parameter.grad = None とします。",
    ),
    none_ok=True,
)
