"""演習 03-7 の答えに渡す学習器。区画（入力の 1 列め）ごとの、重みつきの多数決である。

どの区画でも最もよい答えを返すので、学習用での誤り率は、どんな分類器よりも小さい。何を渡されたかも数える。
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 20  # 記録する呼び出しの数
_SOURCE_TRAIN, _TARGET_TRAIN = 0, 2  # 入力の 2 列めの番号
_TEST = (1, 3)


class Learner:
    """fit を答えに渡す。fits は、渡された標本の記録。"""

    def __init__(self) -> None:
        self.fits: list[dict[str, float]] = []

    def fit(self, x: Any, y: Any, weight: Any = None) -> Callable[[Any], NDArray[Any]]:
        """学習し、予測する関数を返す。

        Raises:
            ValueError: 形や件数が合わないか、重みが負か、和が 0 のとき。
        """
        x, y = np.asarray(x), np.asarray(y)
        w = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=np.float64)
        if x.ndim != 2 or y.shape != (len(x),) or w.shape != (len(x),) or len(x) == 0:
            raise ValueError(
                f"fit に x {x.shape}、y {y.shape}、weight {w.shape} が渡されました。件数をそろえてください。"
            )
        if not (w >= 0).all() or not 0 < w.sum() < np.inf:
            raise ValueError("fit の weight は、0 以上の有限な数で、和を正にしてください。")
        self._note(x, w)
        return _majority(x, y, w)

    def _note(self, x: NDArray[Any], w: NDArray[np.float64]) -> None:
        if len(self.fits) < MOST:
            origin = x[:, 1].astype(int)
            share = {"source": _SOURCE_TRAIN, "target": _TARGET_TRAIN}
            noted = {name: float(w[origin == number].sum() / w.sum()) for name, number in share.items()}
            self.fits.append(noted | {"test_rows": int(np.isin(origin, _TEST).sum())})


def _majority(x: NDArray[Any], y: NDArray[Any], w: NDArray[np.float64]) -> Callable[[Any], NDArray[Any]]:
    labels, codes = np.unique(y, return_inverse=True)

    def best(rows: NDArray[np.bool_]) -> int:
        return int(np.argmax(np.bincount(codes[rows], weights=w[rows], minlength=len(labels))))

    fallback = best(np.ones(len(x), dtype=bool))  # 学習用にない区画では、全体の多数決
    votes = {cell: best(x[:, 0] == cell) for cell in np.unique(x[:, 0])}

    def predict(z: Any) -> NDArray[Any]:
        return np.asarray(labels[[votes.get(cell, fallback) for cell in np.asarray(z)[:, 0]]])

    return predict
