"""公式のファイルを 1 つ、取りに行き、照合し、置き場所に収める。

torchvision の取得関数は、途中で切れたファイルを本来の名前で残し、接続の待ち時間に上限がない。
そこで取得だけを自前で行う。受け取りはメモリの上で済ませ、md5 が合ったものだけをディスクに置く。
"""

import errno
import hashlib
import queue
import ssl
import sys
import threading
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tlkit.data.errors import DataCorruptedError, DataUnavailableError
from tlkit.data.files import atomic_file

OPEN_SECONDS = 6.0  # 返事が始まるまで待つ時間。配布元がいくつかあれば、等分する
STALL_SECONDS = 20.0  # 受け取りの途中で、何も届かないまま待つ時間

_NOT_ALLOWED = "書き込みが許されていない"
_DISK_REASONS = {
    errno.ENOSPC: "ディスクに空きがない",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EROFS: "読み取り専用の場所である",
}


@dataclass(frozen=True)
class RemoteFile:
    """公式に配布されているファイル。

    Attributes:
        name: 置き場所でのファイル名。
        urls: 配布元。前から順に試す。
        md5: 公式の照合値（16 進 32 文字）。
    """

    name: str
    urls: tuple[str, ...]
    md5: str


def obtain(remote: RemoteFile, folder: Path, *, download: bool = True) -> bytes:
    """ファイルの中身を、照合してから返す。無ければ取りに行く。

    手元に正しいものがあれば、ネットワークには触れない。壊れていれば、名前を変えて取っておき、例外で知らせる。

    Args:
        remote: 取りに行くファイル。
        folder: 置き場所。無ければ作る。
        download: False なら、取りに行かない。

    Raises:
        DataUnavailableError: 手元に無く、取りにも行けないとき。置き場所に書けないとき。
        DataCorruptedError: 手元のファイルが壊れているとき。
    """
    path = folder / remote.name
    content = _read_existing(path)
    if content is None:
        if not download:
            raise DataUnavailableError(
                f"{path} がありません。download=True を付けて実行すると、配布元から取りに行きます。"
            )
        return _fetch(remote, path)
    if md5_of(content) != remote.md5:
        raise DataCorruptedError(_corruption(path, content, remote.md5))
    return content


def md5_of(content: bytes) -> str:
    """中身の md5（16 進 32 文字）。配布元が公表する照合値が md5 なので、これに合わせる。"""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _read_existing(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataUnavailableError(
            f"{path} を読めません（{error.strerror or error}）。読み取りの許可を直すか、"
            "環境変数 TLKIT_DATA に別のフォルダを指定してください。"
        ) from error


def _corruption(path: Path, content: bytes, md5: str) -> str:
    """壊れたファイルを脇へどけ、知らせる文を作る。名前に中身の md5 を入れるので、前にどけたものを消さない。"""
    found = md5_of(content)
    aside = path.with_name(f"{path.name}.broken-{found[:8]}")
    seen = f"{path} が壊れています（{len(content):,} バイト、md5 {found}）。正しい md5 は {md5} です。"
    try:
        path.replace(aside)
    except FileNotFoundError:  # 並んで動く別のプロセスが、先にどけた
        pass
    except OSError as error:
        return (
            f"{seen}このファイルは使いません。名前を変えることもできませんでした（{error.strerror or error}）。"
            "消してからもう一度実行するか、環境変数 TLKIT_DATA に別のフォルダを指定してください。"
        )
    return (
        f"{seen}壊れたファイルは使わず、{aside.name} という名前に変えて残しました。"
        "同じ行をもう一度実行すると、正しいものを取りに行きます。"
    )


def _fetch(remote: RemoteFile, path: Path) -> bytes:
    """取りに行って、置く。先に置き場所を開くので、書けない場所のために長い取得をすることはない。"""
    try:
        with atomic_file(path) as file:
            content = _download(remote)
            file.write(content)
    except OSError as error:
        other = _read_existing(path)  # Windows では、別のプロセスが同じファイルを開いていると置き換えられない
        if other is not None and md5_of(other) == remote.md5:
            return other
        reason = _DISK_REASONS.get(error.errno or 0, error.strerror or str(error))
        raise DataUnavailableError(
            f"{path} に書き込めません（{reason}）。途中のファイルは残していません。"
            "空きを作るか、環境変数 TLKIT_DATA に書けるフォルダを指定してください。"
        ) from error
    return content


def _download(remote: RemoteFile) -> bytes:
    """配布元を順に試し、照合の済んだ中身を返す。"""
    waiting, reasons = list(remote.urls), []
    while waiting:
        url = waiting.pop(0)
        place = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
        try:
            content = _receive(url, OPEN_SECONDS / len(remote.urls))
        except (OSError, HTTPException) as error:
            reasons.append(f"{place}: {_network_reason(error)}")
            if url.startswith("https:") and isinstance(_cause(error), ssl.SSLError):
                waiting.append("http:" + url.removeprefix("https:"))  # 証明書の無い環境。中身は md5 で確かめる
            continue
        if md5_of(content) == remote.md5:
            return content
        reasons.append(f"{place}: 届いた中身（{len(content):,} バイト、md5 {md5_of(content)}）が公式のものと違う")
    raise DataUnavailableError(
        f"{remote.name} を取りに行けませんでした。\n"
        + "".join(f"  {reason}\n" for reason in reasons)
        + f"正しい md5 は {remote.md5} です。途中のファイルは残していません。"
        "ネットワークを確かめて、もう一度実行してください。"
    )


def _receive(url: str, seconds: float) -> bytes:
    with _open_within(url, seconds) as response:
        size = (
            f"（{int(response.headers['Content-Length']) / 1e6:.1f} MB）" if response.headers["Content-Length"] else ""
        )
        print(f"{url} を取得しています{size}", file=sys.stderr)
        return bytes(response.read())  # 途中で切れれば IncompleteRead になる


def _open_within(url: str, seconds: float) -> Any:
    """返事が始まるまでを、決めた時間だけ待つ。

    名前を引く待ち時間と、複数の宛先を順に試す時間には、ソケットの timeout が効かない。そこで別のスレッドで待つ。
    """
    box: queue.Queue[Any] = queue.Queue()

    def work() -> None:
        try:
            box.put(urlopen(Request(url, headers={"User-Agent": "tlkit"}), timeout=STALL_SECONDS))
        except Exception as error:
            box.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = box.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"{seconds:g} 秒待っても返事がない") from None
    if isinstance(result, Exception):
        raise result
    return result


def _cause(error: Exception) -> object:
    return error.reason if isinstance(error, URLError) else error


def _network_reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"サーバーが {error.code} を返した"
    if isinstance(error, HTTPException):
        return f"受け取りの途中で切れた（{error}）"
    cause = _cause(error)
    kind = "証明書を確かめられない" if isinstance(cause, ssl.SSLError) else "つながらない、または途中で切れた"
    return f"{kind}（{cause}）"
