"""演習 03-5 の小さなモデルと場面。呼ばれ方（どの入力か、λ、モード、勾配の設定）を控える。

線形の特徴抽出器に、分類器とドメイン識別器がつながる。勾配の反転は、特徴につけた hook で行う。
probe は `dann_step.py`、判定は `dann_step_judge.py`、損失の項ごとの勾配は `dann_step_terms.py` にある。
"""

from typing import Any

import torch
from torch import Tensor, nn

Scene = dict[str, Any]
DIMS, WIDTH, CLASSES = 7, 8, 3  # 入力の次元、特徴の次元、クラスの数
MOST = 12  # 控える呼び出しの数の上限
RATES = {"extractor": 0.05, "heads": 0.3}  # 学習率は、部分ごとに変える


class SmallDANN(nn.Module):
    """`model(x, lambda_)` → （クラスのロジット (N, 3), ドメインのロジット (N, 2)）。"""

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self.extractor = nn.Linear(DIMS, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH) if scene["norm"] else nn.Identity()
        self.label_classifier = nn.Linear(WIDTH, CLASSES)
        self.domain_classifier = nn.Linear(WIDTH, 2)
        self.double()
        with torch.no_grad():
            for name, value in scene["weights"].items():
                self.get_parameter(name).copy_(value)
        self.inputs = {"source": scene["source_x"], "target": scene["target_x"]}
        self.calls: list[dict[str, Any]] = []
        self.steps = 0  # 済んだ更新の回数。probe が数える

    def forward(self, x: Tensor, lambda_: Any = None) -> tuple[Tensor, Tensor]:
        """呼ばれ方を控えてから計算する。lambda_ を省くと 1 になる。"""
        self._note(x, lambda_)
        strength = 1.0 if lambda_ is None else float(lambda_)
        features = self.norm(self.extractor(x))
        to_domain = features.clone()
        if to_domain.requires_grad:
            to_domain.register_hook(lambda grad: -strength * grad)
        return self.label_classifier(features), self.domain_classifier(to_domain)

    def _note(self, x: Tensor, lambda_: Any) -> None:
        if len(self.calls) < MOST:
            self.calls.append(
                {
                    "given": self._name(x),
                    "lambda": None if lambda_ is None else float(lambda_),
                    "training": all(module.training for module in self.modules()),
                    "grad": torch.is_grad_enabled(),
                    "steps": self.steps,
                }
            )

    def _name(self, x: Tensor) -> str:
        """渡された入力の名前。"""
        known = self.inputs | {
            "both": torch.cat([self.inputs["source"], self.inputs["target"]]),
            "reversed": torch.cat([self.inputs["target"], self.inputs["source"]]),
        }
        names = [name for name, value in known.items() if value.shape == x.shape and torch.equal(value, x.to(value))]
        return {"reversed": "both"}.get(names[0], names[0]) if names else "other"


def optimizer_for(model: SmallDANN) -> torch.optim.Optimizer:
    """特徴抽出器と、二つの出力の部分とで、学習率の違う SGD。"""
    inner = [*model.extractor.parameters(), *model.norm.parameters()]
    heads = [*model.label_classifier.parameters(), *model.domain_classifier.parameters()]
    return torch.optim.SGD(
        [{"params": inner, "lr": RATES["extractor"]}, {"params": heads, "lr": RATES["heads"]}], lr=0.1
    )


def scenes(seed: int) -> dict[str, Scene]:
    """重みと、ソース (N, 7) とラベル、ターゲット (M, 7)、λ に、名前をつけて並べる。"""
    g = torch.Generator().manual_seed(seed)

    def data(sources: int, targets: int) -> Scene:
        return {
            "source_x": torch.randn(sources, DIMS, generator=g, dtype=torch.float64),
            "source_y": torch.randperm(sources, generator=g) % CLASSES,
            "target_x": 0.7 + 1.3 * torch.randn(targets, DIMS, generator=g, dtype=torch.float64),
        }

    plain = {"weights": _weights(g), "lambda": 0.7, "norm": False, "stale": False, **data(6, 6)}
    return {
        "plain": plain,
        "strong": plain | {"lambda": 1.9},
        "zero": plain | {"lambda": 0.0},
        "unequal": plain | data(8, 5) | {"lambda": 0.4},
        "stale": plain | {"stale": True},
        "norm": plain | data(6, 6) | {"norm": True},
    }


def _weights(g: torch.Generator) -> dict[str, Tensor]:
    shapes = {"extractor": (WIDTH, DIMS), "label_classifier": (CLASSES, WIDTH), "domain_classifier": (2, WIDTH)}
    values = {f"{name}.weight": torch.randn(shape, generator=g) / shape[1] ** 0.5 for name, shape in shapes.items()}
    values |= {f"{name}.bias": 0.3 * torch.randn(shape[0], generator=g) for name, shape in shapes.items()}
    return {name: value.double() for name, value in values.items()}
