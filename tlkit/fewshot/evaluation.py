"""エピソードごとの正解率。平均と区間は `tlkit.stats.mean_ci` で求める。"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from tlkit._modes import evaluating
from tlkit.fewshot.episodes import Episode

Logits = Callable[[nn.Module, Episode], Tensor]


def episode_accuracies(logits: Logits, model: nn.Module, episodes: Iterable[Episode]) -> np.ndarray:
    """課題ごとに、クエリの正解率を求める。

    エピソードが独立に引かれていれば、`mean_ci(episode_accuracies(…))` が、課題の分布についての平均と 95% 信頼区間になる。
    この区間は、学習のやり直し（種）によるばらつきを含まない。種のばらつきは、学習を何度もやり直して測る。

    モデルの訓練・評価の状態は、部品ごとに元へ戻す。測る間は評価モードにする（ドロップアウトは働かない）。
    勾配は記録しない。内側で微分する手法（MAML）は、その間だけ自分で記録する。`torch.inference_mode` の中でも呼べる。

    Args:
        logits: （モデル, 課題）→ クエリのロジット (N·Q, N)。
        model: モデル。装置は、最初のパラメータに合わせる。
        episodes: 課題の並び。`EpisodeSampler(…, fresh=False)` なら、いつ測っても同じ課題である。

    Returns:
        (課題の数,) の float64。0 から 1。

    Raises:
        ValueError: 課題が一つもないか、ロジットの件数がクエリと違うとき。
    """
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    with evaluating(model), torch.inference_mode(False), torch.no_grad():
        scores = [_score(logits, model, Episode(*(part.to(device) for part in e))) for e in episodes]
    if not scores:
        raise ValueError("課題が一つもありません。エピソードの数を 1 以上にしてください。")
    return np.array(scores)


def _score(logits: Logits, model: nn.Module, episode: Episode) -> float:
    found = logits(model, episode).detach()
    if found.ndim != 2 or len(found) != len(episode.query_y):
        raise ValueError(
            f"形 {tuple(found.shape)} のロジットが返されました。クエリ {len(episode.query_y)} 件に対する (件数, N) が必要です。"
        )
    return float((found.argmax(1) == episode.query_y).double().mean())
