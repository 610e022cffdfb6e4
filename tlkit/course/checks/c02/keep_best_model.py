"""演習 02-5 の小さなモデルと、答えに渡す train_epoch、validate。

train_epoch は、呼ばれるたびにパラメータをその場で動かし、BatchNorm の移動統計も進める（最適化手法と同じ動き方）。
validate は、台本の値を順に返す。どちらも、呼ばれたときのモードと勾配の設定を控える。判定は `keep_best_judge.py` にある。
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

MARGIN = 4  # epochs を越えて学習を続ける答えを、この回数で止める


class TooManyEpochsError(Exception):
    """epochs を越えて学習を続けた答えを止める合図。"""


class FrozenNorm(nn.BatchNorm1d):
    """凍結した BatchNorm。train() を呼んでも評価モードのままである（02-1 の凍結と同じ）。"""

    def train(self, mode: bool = True) -> "FrozenNorm":  # noqa: ARG002 もとの train() と同じ引数を受け取る
        """いつも評価モードにする。"""
        return super().train(False)


class SmallNet(nn.Module):
    """線形層、BatchNorm、線形層。load_state_dict に渡されたものが、自分のテンソルの別名かどうかを控える。"""

    def __init__(self, *, frozen: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.norm = FrozenNorm(4) if frozen else nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)
        self.loaded_alias: list[bool] = []
        if frozen:
            self.stem.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """ロジットを返す。(N, 3) → (N, 2)。"""
        logits: Tensor = self.head(self.norm(self.stem(x)).relu())
        return logits

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """もとの動作に、別名かどうかの控えを加える。"""
        own = self.state_dict()
        pairs = [(own[name], value) for name, value in state_dict.items() if name in own]
        self.loaded_alias.append(all(a.data_ptr() == b.data_ptr() for a, b in pairs))
        return super().load_state_dict(state_dict, strict, assign)


class Recorder:
    """モデルの学習と検証の台本。呼ばれた順、モード、エポックごとの重みの写しを控える。"""

    def __init__(self, scene: dict[str, Any], given: dict[str, Tensor]) -> None:
        self.scores, self.most = scene["scores"], scene["epochs"] + MARGIN
        self.inputs, self.moves = given["inputs"], given["moves"]
        self.model = SmallNet(frozen=scene["frozen"]).train(scene["training"])
        self.originals = list(self.model.parameters())
        self.flags = self._flags()
        self.saved = [self._copy()]
        self.calls: list[dict[str, Any]] = []

    def train_epoch(self, model: SmallNet) -> None:
        """1 エポック分の学習のまねをする。"""
        self._note("T", model)
        model(self.inputs)
        with torch.no_grad():
            for parameter, move in zip(model.parameters(), self.moves[len(self.saved)], strict=True):
                parameter.add_(move if parameter.requires_grad else 0)
        self.saved.append(self._copy())
        if len(self.saved) > self.most:
            raise TooManyEpochsError

    def validate(self, model: SmallNet) -> float:
        """台本の値を返す。同じエポックで何度呼んでも同じ値である。"""
        self._note("V", model)
        place = min(len(self.saved) - 2, len(self.scores) - 1)
        score: float = self.scores[place] if place >= 0 else 0.0
        return score

    def outcome(self, result: Any) -> dict[str, Any]:
        """答えを呼び終えた後の、モデルの状態。epochs は、どのエポックの重みと等しいか（0 は学習前）。"""
        state, parameters = self._copy(), {name for name, _ in self.model.named_parameters()}
        equal = [{name: torch.equal(state[name], old[name]) for name in state} for old in self.saved]
        return {
            "result": list(result) if isinstance(result, list | tuple) else None,
            "type": type(result).__name__[:60],
            "calls": self.calls,
            "trained": len(self.saved) - 1,
            "parameters": [all(same[name] for name in parameters) for same in equal],
            "buffers": [all(same[name] for name in same.keys() - parameters) for same in equal],
            "aliased": any(self.model.loaded_alias),
            "replaced": any(a is not b for a, b in zip(self.model.parameters(), self.originals, strict=True)),
            "flags_changed": self._flags() != self.flags,
        }

    def _note(self, kind: str, model: SmallNet) -> None:
        own = [module for module in model.modules() if not isinstance(module, FrozenNorm)]
        self.calls.append(
            {
                "kind": kind,
                "original": model is self.model,
                "training": sorted({module.training for module in own}),
                "frozen_awake": any(module.training for module in model.modules() if isinstance(module, FrozenNorm)),
                "grad": torch.is_grad_enabled(),
                "flags_changed": [parameter.requires_grad for parameter in model.parameters()] != self.flags,
            }
        )

    def _flags(self) -> list[bool]:
        return [parameter.requires_grad for parameter in self.model.parameters()]

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}
