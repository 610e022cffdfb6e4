"""公式の配布形式（IDX、LIBSVM、MATLAB）の読み取り。照合の済んだバイト列を受け取り、NumPy の配列で返す。

ファイルの取得と照合は download.py にある。照合したバイト列そのものを読むので、照合のあとで中身が変わることはない。
"""

import bz2
import gzip
import io

import numpy as np

_IDX_UINT8 = 0x08


def read_idx(content: bytes) -> np.ndarray:
    """gzip で縮めた IDX 形式（MNIST、Fashion-MNIST）を読む。

    先頭 4 バイトは 0、0、型、次元の数。続いて各次元の大きさ（ビッグエンディアンの 32 ビット）、残りが値である。

    Returns:
        uint8 の配列。画像は (N, H, W)、ラベルは (N,)。

    Raises:
        ValueError: IDX 形式でないか、値が uint8 でないか、値の数が足りないとき。
    """
    raw = gzip.decompress(content)
    if len(raw) < 4 or raw[:3] != bytes((0, 0, _IDX_UINT8)):
        raise ValueError(f"先頭が {raw[:4].hex()} のデータが渡されました。uint8 の IDX 形式（先頭 000008）が必要です。")
    start = 4 + 4 * raw[3]
    shape = tuple(np.frombuffer(raw[4:start], ">u4").tolist())
    values = np.frombuffer(raw[start:], np.uint8)
    if len(shape) != raw[3] or values.size != np.prod(shape, dtype=int):
        raise ValueError(f"IDX の見出しの形は {shape} ですが、値は {values.size} 個です。途中で切れています。")
    return values.reshape(shape)


def read_usps(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """bz2 で縮めた LIBSVM 形式の USPS を読む。

    元の画素値は −1（背景）から 1（筆跡）、ラベルは 1 から 10（数字に 1 を足したもの）である。

    Returns:
        画像 (N, 16, 16) の float32（0 から 1 に直したもの）と、ラベル (N,) の int64（0 から 9）。
    """
    from sklearn.datasets import load_svmlight_file

    lines = io.BytesIO(bz2.decompress(content))
    pixels, labels = load_svmlight_file(lines, n_features=256, zero_based=False, dtype=np.float32)
    return (pixels.toarray().reshape(-1, 16, 16) + 1) / 2, labels.astype(np.int64) - 1


def read_svhn(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """MATLAB 形式の SVHN（32×32 に切り出したもの）を読む。元のラベルは、数字の 0 を 10 と書く。

    Returns:
        画像 (N, 3, 32, 32) の uint8 と、ラベル (N,) の int64（0 から 9）。
    """
    from scipy.io import loadmat

    table = loadmat(io.BytesIO(content))
    images = np.ascontiguousarray(table["X"].transpose(3, 2, 0, 1))  # 元の並びは (H, W, C, N)
    return images, table["y"].reshape(-1).astype(np.int64) % 10
