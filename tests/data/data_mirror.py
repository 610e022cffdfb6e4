"""公式の形式の小さなファイルと、それを配るループバックのサーバー（途中で切ることもできる）。"""

import bz2
import gzip
import hashlib
import io
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets

COUNT = 12


def idx_gz(values: np.ndarray) -> bytes:
    """uint8 の配列を gzip で縮めた IDX にする。"""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes())


def usps_bz2(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """(N, 256) の −1〜1 の画素と 0〜9 のラベルを、USPS の配布形式にする。"""
    lines = (
        f"{label + 1} " + " ".join(f"{place}:{value:.4f}" for place, value in enumerate(row, start=1))
        for row, label in zip(pixels, labels, strict=True)
    )
    return bz2.compress(("\n".join(lines) + "\n").encode("ascii"))


def svhn_mat(images: np.ndarray, labels: np.ndarray) -> bytes:
    """(N, 3, 32, 32) の画像と 0〜9 のラベルを、SVHN の配布形式にする（0 は 10 と書く）。"""
    buffer = io.BytesIO()
    written = np.where(labels == 0, 10, labels).astype(np.uint8)
    savemat(buffer, {"X": images.transpose(2, 3, 1, 0), "y": written[:, None]}, do_compression=True)
    return buffer.getvalue()


class Mirror:
    """配布元の代わり。

    Attributes:
        files: ファイル名 → 配る中身。
        arrays: (データ集合の名前, 分け方) → 元の画像とラベル。
        cut: 半分だけ送って接続を切るファイル名。
        requests: 求められたファイル名の記録。
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.arrays: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
        self.cut: set[str] = set()
        self.requests: list[str] = []
        self._make_files()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> "Mirror":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def md5(self, name: str) -> str:
        """配るファイルの正しい md5。"""
        return hashlib.md5(self.files[name]).hexdigest()

    def stand_in_for_the_official_ones(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """torchvision の配布元と照合値の表を、このサーバーのものに替える。"""
        for kind, prefix in (("MNIST", "mnist"), ("FashionMNIST", "fashion")):
            names = [name for name, _ in datasets.MNIST.resources]
            monkeypatch.setattr(
                getattr(datasets, kind), "resources", [(name, self.md5(f"{prefix}/{name}")) for name in names]
            )
            monkeypatch.setattr(getattr(datasets, kind), "mirrors", [f"{self.url}{prefix}/"])
        for kind in ("USPS", "SVHN"):
            table = {
                split: [self.url + name, name, self.md5(name)]
                for split, (_, name, _) in getattr(datasets, kind).split_list.items()
                if split != "extra"
            }
            monkeypatch.setattr(getattr(datasets, kind), "split_list", table)

    def _make_files(self) -> None:
        random = np.random.default_rng(0)
        labels = np.arange(COUNT) % 10
        for split, prefix in (("train", "train"), ("test", "t10k")):
            for name, folder in (("mnist", "mnist"), ("fashion_mnist", "fashion")):
                images = random.integers(0, 256, (COUNT, 28, 28)).astype(np.uint8)
                self.arrays[name, split] = images[:, None] / np.float32(255), labels
                self.files[f"{folder}/{prefix}-images-idx3-ubyte.gz"] = idx_gz(images)
                self.files[f"{folder}/{prefix}-labels-idx1-ubyte.gz"] = idx_gz(labels.astype(np.uint8))
            pixels = random.uniform(-1, 1, (COUNT, 256)).round(4)
            pixels[:, :7] = (-1, 1, 0, 0, 0.5, -0.5, 1)
            self.arrays["usps", split] = (pixels.reshape(COUNT, 1, 16, 16) + 1) / 2, labels
            self.files["usps.bz2" if split == "train" else "usps.t.bz2"] = usps_bz2(pixels, labels)
            colours = random.integers(0, 256, (COUNT, 3, 32, 32)).astype(np.uint8)
            self.arrays["svhn", split] = colours / np.float32(255), labels
            self.files[f"{split}_32x32.mat"] = svhn_mat(colours, labels)

    def _handler(mirror) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - 内側のクラスに self がある
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.lstrip("/")
                mirror.requests.append(name)
                if name not in mirror.files:
                    self.send_error(404)
                    return
                content = mirror.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if name in mirror.cut else content)

            def log_message(self, *details: object) -> None:
                pass

        return Handler
