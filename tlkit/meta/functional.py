"""モデルを、パラメータの辞書の関数として呼ぶ。"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.func import functional_call

from tlkit.nn import batch_statistics


def call_with(model: nn.Module, params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """パラメータを差し替えたモデルの出力。params にない名前には、モデル自身の値を使う。モデルは変わらない。

    バッチ正規化は、x の統計で正規化する。`eval()` でも同じで、移動統計は読みも書きもしない（`batch_statistics`）。
    移動統計を使うと、内側の更新のたびに、違う課題の統計が混ざるためである。MAML の著者の実装も、同じ扱いである。
    訓練・評価の状態は、ドロップアウトなど、ほかの層にだけ効く。

    Args:
        model: モデル。
        params: 差し替えるパラメータ。
        x: 入力 (N, …)。
    """
    with batch_statistics(model):
        output: Tensor = functional_call(model, dict(params), (x,))
    return output


def inner_parameters(model: nn.Module, inner: str | None = None) -> dict[str, Tensor]:
    """内側で適応させるパラメータ。requires_grad が False のものは入らない。

    Args:
        model: モデル。
        inner: None ならすべて（MAML）。部品の名前（"classifier" など）なら、その下だけ（ANIL）。

    Raises:
        ValueError: 当てはまるパラメータがないとき。
    """
    found: dict[str, Tensor] = {
        name: value
        for name, value in model.named_parameters()
        if value.requires_grad and (inner is None or name == inner or name.startswith(f"{inner}."))
    }
    if not found:
        parts = "、".join(name for name, _ in model.named_children())
        raise ValueError(
            f"inner={inner!r} に当てはまる、学習できるパラメータがありません。"
            f"None（すべて）か、部品の名前（{parts}）を指定してください。"
        )
    return found
