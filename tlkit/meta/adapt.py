"""内側の勾配降下。結果が元のパラメータの関数になるので、その先の損失を、初めの値で微分できる。"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Params = dict[str, Tensor]


def adapt(
    params: Mapping[str, Tensor],
    loss: Callable[[Params], Tensor],
    *,
    lr: float | Tensor,
    steps: int,
    first_order: bool = False,
) -> Params:
    """勾配降下 θ_{j+1} = θ_j − η_in ∇L(θ_j) を steps 回くり返した結果を返す。渡した値は変えない。

    1 回のとき、外側の損失 L_q の勾配は (I − η_in ∇²L(θ))ᵀ ∇L_q(θ′) である。∇²L が二階の項で、first_order=True では 0 とみなす
    （FOMAML）。このときも、θ′ は θ に恒等写像でつながるので、∇L_q(θ′) が θ の勾配になる。

    `deepcopy` と `param.data -= …` で書くと、θ′ が θ とつながらず、初めの値の勾配がなくなる。

    Args:
        params: パラメータの名前から値へ。適応させたいものだけを渡す（ANIL なら最後の層だけ）。
        loss: パラメータ → 0 次元の損失 L。`functional.call_with` でモデルを呼ぶとよい。何度も呼ばれる。
        lr: 内側学習率 η_in。数、0 次元のテンソル、または回ごとの値 (steps,) のテンソル。テンソルには勾配が流れる（学習できる）。
        steps: 回数。0 なら、渡した値をそのまま返す。
        first_order: 二階の項を捨てるか。記憶と時間が減る。lr の勾配は、捨てても流れる。

    Returns:
        同じ名前の、新しい値。勾配を記録する状態で呼べば、first_order でなければ、何階でも微分できる。
        `torch.no_grad()` の中でも動く（値だけが要る評価のとき。内側の勾配は、その間だけ記録する）。
        損失に出てこないパラメータは、動かない。

    Raises:
        ValueError: params が空、steps が負、lr の形が違う、損失が 0 次元でないか、どのパラメータにもよらないとき。

    出典: Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017, 式 (1) と 5.2 節。
        回ごとの学習率は Antoniou et al., "How to train your MAML", ICLR 2019, 4 節。
    """
    rates = _rates(lr, steps)
    if not params:
        raise ValueError("params が空です。適応させるパラメータを、名前と値の辞書で渡してください。")
    current = dict(params)
    second_order = not first_order and torch.is_grad_enabled()
    for rate in rates:
        gradients = _gradients(current, loss, second_order)
        moved = zip(current.items(), gradients, strict=True)
        current = {name: value if g is None else value - rate * g for (name, value), g in moved}
    return current


def _gradients(current: Params, loss: Callable[[Params], Tensor], second_order: bool) -> tuple[Tensor | None, ...]:
    recording = torch.is_grad_enabled()
    with torch.enable_grad():
        # 記録しない状態で作った値は、requires_grad の表示にかかわらず元の値とつながらない。その場で求められるようにする
        inputs = {
            name: v if recording and v.requires_grad else v.detach().requires_grad_() for name, v in current.items()
        }
        value = loss(inputs)
        gradients = _of(value, list(inputs.values()), second_order)
    if all(gradient is None for gradient in gradients):
        raise ValueError(
            f"損失が、形 {tuple(value.shape)}、requires_grad={value.requires_grad} のテンソルを返しました。"
            "渡されたパラメータから計算した、0 次元のテンソルを返してください。"
        )
    return gradients


def _of(value: Tensor, inputs: list[Tensor], second_order: bool) -> tuple[Tensor | None, ...]:
    if value.ndim != 0 or not value.requires_grad:
        return (None,) * len(inputs)
    return torch.autograd.grad(value, inputs, create_graph=second_order, allow_unused=True)


def _rates(lr: float | Tensor, steps: int) -> list[float | Tensor]:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps に {steps!r} が渡されました。0 以上の整数にしてください。")
    if isinstance(lr, Tensor) and lr.ndim > 0:
        if lr.shape != (steps,):
            raise ValueError(
                f"lr の形が {tuple(lr.shape)} です。数、0 次元のテンソル、または回ごとの ({steps},) にしてください。"
            )
        return list(lr.unbind())
    return [lr] * steps
