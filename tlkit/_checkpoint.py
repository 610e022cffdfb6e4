"""学習の途中経過の保存と再開（`training.py` の内部部品）。

保存するのは、モデル、最適化、学習率の予定、記録、そして乱数の状態である。
乱数まで戻すので、止めずに続けたときと同じ結果になる（同じ機械、同じ版、ワーカー 0 のとき）。
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from tlkit.training import History


@dataclass
class TrainingState:
    """学習の途中経過を作るもの一式。"""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    scaler: Any
    loader: DataLoader[Any]
    history: "History"

    def save(self, path: Path, done: int) -> None:
        """途中経過を書く。別名で書いてから置き換えるので、書く途中で止まっても前の経過が残る。"""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        state = {
            "done": done,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
            "scaler": self.scaler.state_dict(),
            "history": (self.history.epochs, self.history.best_epoch, self.history.best_state),
            "random": _random_state(self.loader),
        }
        torch.save(state, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> int:
        """途中経過があれば読み込み、済んだ更新の数を返す。なければ 0。

        Raises:
            ValueError: ファイルが壊れているか、別のモデルの経過のとき。
        """
        if not path.exists():
            return 0
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except Exception as error:
            raise ValueError(
                f"途中経過 {path} を読み込めません（{type(error).__name__}）。壊れているか、別のモデルのものです。"
                "別の名前を checkpoint に指定するか、このファイルを移してから、初めから学習してください。"
            ) from error
        if self.scheduler is not None and state["scheduler"] is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.history.epochs, self.history.best_epoch, self.history.best_state = state["history"]
        _restore_random(state["random"], self.loader)
        return int(state["done"])


def _random_state(loader: DataLoader[Any]) -> dict[str, Any]:
    generator = loader.generator
    kind, keys, position, gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (
            str(kind),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(gauss),
            float(cached),
        ),
        "loader": generator.get_state() if generator is not None else None,
    }


def _restore_random(state: dict[str, Any], loader: DataLoader[Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    if loader.generator is not None and state["loader"] is not None:
        loader.generator.set_state(state["loader"])
