"""プロトタイプネットワーク: サポートの平均をプロトタイプとし、クエリを最も近いクラスに入れる。"""

from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.fewshot.episodes import Episode
from tlkit.fewshot.prototypes import prototypes, prototypical_logits
from tlkit.nn import batch_statistics

SetBatchNorm = Literal["per_set", "joint", "running"]


def embed_episode(model: nn.Module, episode: Episode, batchnorm: SetBatchNorm = "per_set") -> tuple[Tensor, Tensor]:
    """サポートとクエリの埋め込み。バッチ正規化の統計を、どの集合で測るかを選ぶ。

    - "per_set": サポートとクエリを別々に正規化する。MAML と同じ条件になる。移動統計は変わらない。
    - "joint": 二つを一つのバッチにして正規化する。移動統計は変わらない。
    - "running": モデルの状態のまま。`eval()` なら移動統計を使い、クエリは互いに影響しない。`train()` なら、別々に測って移動統計を更新する。

    "per_set" と "joint" は、クエリの集まりの統計を使う（トランスダクティブ）。クエリのクラスの割合が偏ると、結果も変わる。
    この選び方だけで手法の順位が入れかわることがあるので、比べるときは必ずそろえて、書き添える。

    Args:
        model: (N, …) → (N, D) のモデル。
        episode: 課題。
        batchnorm: 上の三つのどれか。

    Returns:
        サポートの埋め込み (N·K, D) と、クエリの埋め込み (N·Q, D)。

    Raises:
        ValueError: batchnorm が不正なとき。
    """
    if batchnorm not in ("per_set", "joint", "running"):
        raise ValueError(
            f'batchnorm に {batchnorm!r} が渡されました。"per_set"、"joint"、"running" のどれかにしてください。'
        )
    with nullcontext() if batchnorm == "running" else batch_statistics(model):
        if batchnorm == "joint":
            both = model(torch.cat([episode.support_x, episode.query_x]))
            return both[: len(episode.support_x)], both[len(episode.support_x) :]
        return model(episode.support_x), model(episode.query_x)


class ProtoNet:
    """プロトタイプネットワークの、ロジットと損失。どちらも、モデルと課題を受け取る。

    損失はクエリの交差エントロピー L = −(1/|Q|) Σ log softmax_k(−‖z − c_k‖²) である。
    `tlkit.training.fit(model, sampler, ProtoNet().loss, …)` で学習し、`episode_accuracies(ProtoNet().logits, …)` で測る。

    Args:
        batchnorm: `embed_episode` を見よ。

    出典: Snell et al. 2017, アルゴリズム 1。
    """

    def __init__(self, batchnorm: SetBatchNorm = "per_set") -> None:
        self.batchnorm: SetBatchNorm = batchnorm

    def logits(self, model: nn.Module, episode: Episode) -> Tensor:
        """クエリのロジット (N·Q, N)。"""
        support, query = embed_episode(model, episode, self.batchnorm)
        return prototypical_logits(query, prototypes(support, episode.support_y))

    def loss(self, model: nn.Module, episode: Episode) -> dict[str, Tensor]:
        """クエリの交差エントロピー "loss" と、正解率 "accuracy"。"""
        logits = self.logits(model, episode)
        accuracy = (logits.argmax(1) == episode.query_y).to(logits.dtype).mean()
        return {"loss": F.cross_entropy(logits, episode.query_y), "accuracy": accuracy}
