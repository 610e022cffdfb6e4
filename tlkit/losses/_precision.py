"""損失の計算と結果の dtype。半精度の入力でも、和は float32 以上で求める（損失の内部部品）。"""

import torch
from torch import Tensor


def to_work(x: Tensor) -> Tensor:
    """計算に使う dtype へ移す。float16 と bfloat16 は float32 に、ほかはそのまま。"""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def returned(value: Tensor, like: Tensor) -> Tensor:
    """結果を入力の dtype に戻す。

    自動混合精度（autocast）の中では float32 のまま返す。float16 に戻すと、損失のスケーリングで無限大になるためである。
    PyTorch の損失も同じ扱いをする。
    """
    return value if torch.is_autocast_enabled(like.device.type) else value.to(like.dtype)


def require_floating(names: tuple[str, str], first: Tensor, second: Tensor) -> None:
    """どちらも浮動小数点で、同じ device にあることを確かめる。

    Raises:
        ValueError: 整数の dtype か、device が違うとき。
    """
    if not (first.is_floating_point() and second.is_floating_point()) or first.device != second.device:
        raise ValueError(
            f"{names[0]} は {first.dtype}（{first.device}）、{names[1]} は {second.dtype}（{second.device}）です。"
            "どちらも浮動小数点の dtype にし、同じ device に置いてください（例: x.float()、x.to(y.device)）。"
        )
