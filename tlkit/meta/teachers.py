"""課題ごとに手本を見て答える教師モデル。ラベルの番号が課題ごとに変わるエピソードで、メタ蒸留に使う。"""

from torch import Tensor, nn

from tlkit.fewshot.prototypes import prototypes, prototypical_logits
from tlkit.nn import batch_statistics


class PrototypeTeacher(nn.Module):
    """サポートの平均（プロトタイプ）までの距離で、サポート自身に柔らかい確率を付ける教師モデル。

    出力は −s ‖f(x_i) − c_k‖² である。N-way 1-shot では、正解のクラスのロジットが 0、ほかは負になり、
    「どのクラスがどのクラスに似ているか」が柔らかい確率に残る。勾配は f と、両方のプロトタイプに流れる。

    エピソードでは、同じ文字が課題ごとに違う番号になる。入力だけを見る教師モデルは、その番号を知りようがない。
    `MetaDistillation` は、教師モデルに `task_logits` があれば、入力だけの forward の代わりにそれを呼ぶ。

    埋め込みの距離の 2 乗が数百になることは珍しくない。s = 1 のままでは、温度で割っても確率がほぼ 0 と 1 になり、
    柔らかい確率の意味も、教師モデルへの勾配も失われる。s ‖f(x_i) − c_k‖² / T が数程度になるように選ぶ。

    Args:
        embedding: 埋め込み f。(N, …) → (N, D)。
        scale: 距離に掛ける s > 0。数か、学習するテンソル（`nn.Parameter` なら、この部品のパラメータになる）。

    Raises:
        ValueError: scale が正でないとき。

    出典: プロトタイプは Snell et al. 2017。
    """

    def __init__(self, embedding: nn.Module, scale: float | Tensor = 1.0) -> None:
        super().__init__()
        value = float(scale.detach() if isinstance(scale, Tensor) else scale)
        if not value > 0:
            raise ValueError(f"scale に {value} が渡されました。正の数にしてください。")
        self.embedding, self.scale = embedding, scale

    def task_logits(self, support_x: Tensor, support_y: Tensor) -> Tensor:
        """サポートに対するロジット (N·K, N)。バッチ正規化は、サポートの統計を使う。

        Args:
            support_x: サポートの入力 (N·K, …)。
            support_y: サポートのラベル (N·K,)。0 から N − 1 がすべて出てくること。
        """
        with batch_statistics(self.embedding):
            embedded = self.embedding(support_x)
        return self.scale * prototypical_logits(embedded, prototypes(embedded, support_y))
