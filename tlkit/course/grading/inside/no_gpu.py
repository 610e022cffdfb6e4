"""GPU のない檻で GPU を使おうとしたときの誤りを、いつも同じ、読める文にする。

torch の文は、fork の前に GPU の有無を調べたかどうかや、機械に GPU があるかどうかで変わる。学習者には訳が分からない。
"""

from typing import NoReturn

import torch

MESSAGE = (
    "採点では GPU を使えません（torch.cuda.is_available() は False です）。"
    '.cuda() や "cuda" と決め打ちせず、渡されたテンソルと同じ device で計算してください。'
)


def always_say_there_is_none() -> None:
    """GPU を使い始めるところで、いつも同じ誤りにする。"""
    torch.cuda._lazy_init = _refuse


def _refuse() -> NoReturn:
    raise RuntimeError(MESSAGE)
