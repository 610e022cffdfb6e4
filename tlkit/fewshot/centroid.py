"""最近傍重心: ふつうの分類で学習した特徴の上で、サポートの平均に最も近いクラスを選ぶ。単純だが強い比較相手。"""

import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.fewshot.episodes import Episode
from tlkit.fewshot.protonet import SetBatchNorm, embed_episode
from tlkit.fewshot.prototypes import prototypes, prototypical_logits


class NearestCentroid:
    """特徴を中心化し、長さを 1 にそろえてから、最も近い重心を選ぶ。課題ごとの学習はない。

    z = (f(x) − μ) / ‖f(x) − μ‖。μ は元のクラス（メタ訓練）の特徴の平均で、あらかじめ測って渡す。
    ロジットは −‖z − c_k‖²（c_k は長さをそろえたサポートの平均）である。

    Args:
        mean: μ (D,)。None なら引かない。
        batchnorm: `embed_episode` を見よ。既定の "running" では、クエリどうしが影響しない。

    出典: Wang et al., "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning",
        arXiv:1911.04623, 3 節（CL2N）。
    """

    def __init__(self, mean: Tensor | None = None, batchnorm: SetBatchNorm = "running") -> None:
        self.mean, self.batchnorm = mean, batchnorm

    def logits(self, model: nn.Module, episode: Episode) -> Tensor:
        """クエリのロジット (N·Q, N)。

        Args:
            model: 入力を特徴 (N, D) に変えるモデル。分類の層は `nn.Identity()` に替えておく。
            episode: 課題。
        """
        support, query = (self._normalized(z) for z in embed_episode(model, episode, self.batchnorm))
        return prototypical_logits(query, prototypes(support, episode.support_y))

    def _normalized(self, features: Tensor) -> Tensor:
        return F.normalize(features if self.mean is None else features - self.mean, dim=1)
