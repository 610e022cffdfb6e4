"""正弦波の回帰: 振幅と位相だけが違う課題の集まり。MAML を手で追える、いちばん小さな題材。"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tlkit.fewshot.episodes import Episode

AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, math.pi)  # [rad]
DOMAIN = (-5.0, 5.0)


class SineTasks:
    """y = A sin(x − φ) の課題を、T 個ずつ重ねて返す。`tlkit.training.fit` の loader に使える。

    A は 0.1 から 5、φ は 0 から π、x は −5 から 5 の一様分布で、どれも課題ごと、点ごとに引く。雑音はない。
    返す `Episode` の先頭の軸は課題である: support_x と support_y は (T, K, 1)、query_x と query_y は (T, Q, 1)。

    Args:
        tasks: 1 回に重ねる課題の数 T。
        shots: 課題ごとのサポートの点の数 K。
        queries: 課題ごとのクエリの点の数 Q。
        batches: 1 周に返す回数。
        seed: 乱数の種。同じ種なら、同じ課題が同じ順に出る。
        fresh: 周ごとに新しい課題を引くか。False（検証用）なら、何周しても同じ課題である。

    Raises:
        ValueError: 数が 1 に満たないとき。

    出典: Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017, 5.1 節。
    """

    def __init__(self, *, tasks: int, shots: int, queries: int, batches: int, seed: int, fresh: bool = True) -> None:
        if min(tasks, shots, queries, batches) < 1:
            raise ValueError(
                f"tasks={tasks}、shots={shots}、queries={queries}、batches={batches} が渡されました。"
                "どれも 1 以上の整数にしてください。"
            )
        self.tasks, self.shots, self.queries, self.batches = tasks, shots, queries, batches
        self.seed, self.fresh = seed, fresh
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """1 周に返す回数。"""
        return self.batches

    def __iter__(self) -> Iterator[Episode]:
        """1 周分の課題の束。"""
        generator = self.generator if self.fresh else torch.Generator().manual_seed(self.seed)
        for _ in range(self.batches):
            yield self.draw(generator)

    def draw(self, generator: torch.Generator) -> Episode:
        """T 個の課題を引く。"""

        def uniform(bounds: tuple[float, float], points: int) -> Tensor:
            return torch.empty(self.tasks, points, 1).uniform_(*bounds, generator=generator)

        amplitude, phase = uniform(AMPLITUDE, 1), uniform(PHASE, 1)
        x = uniform(DOMAIN, self.shots + self.queries)
        y = amplitude * (x - phase).sin()
        return Episode(x[:, : self.shots], y[:, : self.shots], x[:, self.shots :], y[:, self.shots :])


def sine_network(width: int = 40) -> nn.Sequential:
    """1 → width → width → 1 の全結合のネットワーク（ReLU）。入力と出力は (N, 1)。"""
    return nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
