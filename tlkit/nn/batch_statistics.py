"""バッチ正規化を、渡した集合の統計だけで動かす。移動統計は、読みも書きもしない。

少数ショット学習（`tlkit/fewshot/`）とメタ学習（`tlkit/meta/`）は、課題ごとに集合が替わるので、どちらもこれを使う。
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def batch_statistics(*models: nn.Module) -> Iterator[None]:
    """この中では、バッチ正規化が、forward に渡した集合の平均と分散を使う。

    y = γ (h − μ_B) / √(σ_B² + ε) + β。μ_B と σ_B² は渡した集合（軸 N、H、W）の平均と、偏りのある分散である。
    `eval()` の状態でも同じ値になり、移動平均、移動分散、その回数は変わらない。ほかの層（ドロップアウトなど）には触れない。
    抜けるときに、途中で例外が起きても、層の状態を元へ戻す。

    集合の中の件数と、クラスの割合が、出力に影響する。クエリをまとめて渡せば、クエリどうしが互いを使う（トランスダクティブ）。

    Args:
        *models: モデル。バッチ正規化の層がなければ、何も起きない。
    """
    layers = [layer for model in models for layer in model.modules() if isinstance(layer, _BatchNorm)]
    kept = [(layer, layer.training, layer.track_running_stats) for layer in layers]
    try:
        for layer in layers:
            # training と、移動統計を持たない指定の組にすると、PyTorch は移動統計を渡さずに正規化する
            layer.training, layer.track_running_stats = True, False
        yield
    finally:
        for layer, training, tracked in kept:
            layer.training, layer.track_running_stats = training, tracked
