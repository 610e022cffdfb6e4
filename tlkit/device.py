"""計算装置の選択。すべてのモデルと損失は、選ばれた装置の上でそのまま動く。"""

import torch


def pick_device(name: str = "auto") -> torch.device:
    """使う装置を返す。"auto" なら CUDA、MPS、CPU の順に、使えるものを選ぶ。

    Args:
        name: "auto"、"cpu"、"cuda"、"cuda:0"、"mps" など。

    Raises:
        ValueError: 名前が不正か、その装置がこの機械で使えないとき。
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f'device に {name!r} が渡されました。"auto"、"cpu"、"cuda"、"mps" などを指定してください。'
        ) from error
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if not usable.get(device.type, False):
        raise ValueError(
            f'{name!r} はこの機械では使えません。device="auto" にすれば、使える装置を選びます。'
            "GPU があるはずなのに使えないときは、`tlkit doctor` で理由を調べてください。"
        )
    return device


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
