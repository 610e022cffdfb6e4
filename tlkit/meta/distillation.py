"""メタ蒸留: 教師モデルから蒸留して適応した生徒モデルが、クエリで良くなるように、生徒モデルの初めの重みと教師モデルを学ぶ。"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.losses import DistillationLoss, DistillationTerms
from tlkit.meta.adapt import Params, adapt
from tlkit.meta.functional import call_with, inner_parameters


class MetaDistillation(nn.Module):
    r"""内側で蒸留し、外側で、適応した生徒モデルのクエリの損失を返す。

        内側  θ_{j+1} = θ_j − η_in ∇_θ [α T² KL(教師_φ ‖ 生徒_θ) + (1 − α) CE(生徒_θ, y_s)]   サポートの上で
        外側  L(θ_0, φ) = CE(生徒_{θ_steps}(x_q), y_q)                                     クエリの上で

    外側の損失は、**適応した後**の生徒モデルで測る。適応する前の重みで測ると、内側の計算は結果に効かず、
    教師モデルの勾配は必ず 0 になる。勾配は、生徒モデルの初めの重み θ_0 と、教師モデルの重み φ に流れる。
    φ への勾配は、内側の勾配が教師モデルのロジットで変わること（混合の二階微分）による。
    だから α = 0 か first_order=True では、φ の勾配は 0 である（first_order は、二階の項をすべて捨てる）。

    バッチ正規化は、どちらのモデルでも、渡した集合の統計を使う。`eval()` でも同じで、移動統計は読みも書きもしない。
    一つの呼び出しが一つの課題である。課題の組の勾配は、`mean_over_tasks` か、課題ごとの `backward()` で足す。

    Args:
        teacher: 教師モデル (N, …) → (N, C)。学習しないなら requires_grad を False にしておく。
            `task_logits(support_x, support_y)` を持つもの（`PrototypeTeacher`）は、手本のラベルも見る。
        student: 生徒モデル (N, …) → (N, C)。requires_grad が False のパラメータは、内側でも動かない。
        inner_lr: 内側学習率 η_in。数か、学習するテンソル（`nn.Parameter` なら、この部品のパラメータになる）。
        inner_steps: 内側の回数。
        temperature: 蒸留の温度 T。
        alpha: ソフトターゲットの項の重み α。0 から 1。
        first_order: 二階の項を捨てるか。

    Raises:
        ValueError: 温度、α、内側の設定が不正なとき。

    出典: 内側と外側は Finn et al., ICML 2017。教師モデルを「生徒モデルの成績」で学ぶ考えは
        Zhou et al., "BERT Learns to Teach: Knowledge Distillation with Meta Learning", ACL 2022, 3 節。
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        inner_lr: float | Tensor,
        inner_steps: int,
        temperature: float,
        alpha: float,
        first_order: bool = False,
    ) -> None:
        super().__init__()
        self.teacher, self.student = teacher, student
        self.inner_lr, self.inner_steps, self.first_order = inner_lr, inner_steps, first_order
        self.distillation = DistillationLoss(temperature=temperature, alpha=alpha)

    def adapted(self, support_x: Tensor, support_y: Tensor) -> Params:
        """サポートの上で蒸留した、生徒モデルのパラメータ。θ_0 と φ の関数である。

        Args:
            support_x: サポートの入力 (N·K, …)。
            support_y: サポートのラベル (N·K,)。
        """
        taught = self._taught(support_x, support_y)  # 教師モデルの出力は、内側の間は変わらない

        def inner_loss(params: Params) -> Tensor:
            terms: DistillationTerms = self.distillation(call_with(self.student, params, support_x), taught, support_y)
            return terms.total

        start = inner_parameters(self.student)
        return adapt(start, inner_loss, lr=self.inner_lr, steps=self.inner_steps, first_order=self.first_order)

    def _taught(self, support_x: Tensor, support_y: Tensor) -> Tensor:
        sees_labels: Callable[[Tensor, Tensor], Tensor] | None = getattr(self.teacher, "task_logits", None)
        return call_with(self.teacher, {}, support_x) if sees_labels is None else sees_labels(support_x, support_y)

    def predict(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """適応した生徒モデルの、クエリのロジット (N·Q, C)。"""
        return call_with(self.student, self.adapted(support_x, support_y), query_x)

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor) -> Tensor:
        """適応した生徒モデルの、クエリの交差エントロピー（0 次元）。"""
        return F.cross_entropy(self.predict(support_x, support_y, query_x), query_y)
