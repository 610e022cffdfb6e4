"""提出された zip から、ノートブックだけをメモリに取り出す。ディスクには何も書かない。

大きさは、名乗っている値でなく、実際に展開した量で止める。危ない名前が一つでもあれば、全体を断る。
"""

import io
import re
import stat
import zipfile
from dataclasses import dataclass

from tlkit.course.grading.filenames import is_junk, is_notebook
from tlkit.course.grading.shown import shown

MAX_ENTRIES = 5_000
MAX_NOTEBOOKS = 50
MAX_BYTES = 20 * 1024 * 1024  # 提出のノートブック一つの大きさ。JSON は、読むと何十倍もの記憶を使うことがある
MAX_TOTAL = 2 * MAX_BYTES
_CENTRAL_MARK = b"PK\x01\x02"
_DRIVE = re.compile(r"[A-Za-z]:")
_KNOWN_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".lzh")


class ArchiveError(ValueError):
    """zip を受け付けない。文は理由（日本語）。"""


@dataclass(frozen=True)
class Member:
    """zip の中のノートブック。名前は zip の中のもの（表示に使うときは `shown` を通す）。"""

    name: str
    data: bytes


def read_archive(data: bytes) -> tuple[list[Member], list[str]]:
    """zip の中のノートブックと、読まなかったほかのファイルの名前を返す。

    Raises:
        ArchiveError: 壊れている、暗号化されている、大きすぎる、危ない名前がある、のどれか。
    """
    if data.count(_CENTRAL_MARK) > MAX_ENTRIES:  # 目次を読むだけでメモリを使い切らないように、先に数える
        raise ArchiveError(f"zip の中のファイルが多すぎます（上限 {MAX_ENTRIES:,} 個）。")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _read(archive)
    except ArchiveError:
        raise
    except Exception as error:  # 壊れた zip は、zipfile の中のどこからでも例外を出す
        raise ArchiveError(f"zip として壊れています（{type(error).__name__}）。作り直してもらってください。") from None


def _read(archive: zipfile.ZipFile) -> tuple[list[Member], list[str]]:
    names = [(info, _name(info)) for info in archive.infolist() if not info.is_dir()]
    for info in archive.infolist():
        _require_safe(info, _name(info))
    names = [(info, name) for info, name in names if not is_junk(name)]
    wanted = [(info, name) for info, name in names if is_notebook(name)]
    others = [name for _, name in names if not is_notebook(name)]
    if len(wanted) > MAX_NOTEBOOKS:
        raise ArchiveError(f"zip の中のノートブックが多すぎます（{len(wanted)} 個、上限 {MAX_NOTEBOOKS} 個）。")
    if not wanted and any(name.lower().endswith(ARCHIVES) for name in others):
        raise ArchiveError(
            "zip の中に、また圧縮ファイルが入っています。一度だけ圧縮した zip を提出してもらってください。"
        )
    members: list[Member] = []
    left = MAX_TOTAL
    for info, name in wanted:
        member = Member(name, _content(archive, info, name, min(left, MAX_BYTES)))
        left -= len(member.data)
        members.append(member)
    return members, others


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, limit: int) -> bytes:
    if info.flag_bits & 0x1:
        raise ArchiveError("暗号化された zip です。パスワードなしで作り直してもらってください。")
    if info.compress_type not in _KNOWN_METHODS:
        raise ArchiveError("ふつうでない圧縮方法の zip です。OS の「圧縮」で作り直してもらってください。")
    with archive.open(info) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ArchiveError(f"zip の中の {shown(name)} が、展開すると大きすぎます（{limit // 1024**2} MB を超えます）。")
    return data


def _require_safe(info: zipfile.ZipInfo, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or _DRIVE.match(name) or ".." in parts or "\0" in info.orig_filename:
        raise ArchiveError(f"zip の中に、外を指す名前のファイルがあります（{shown(name)}）。")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"zip の中に、リンクや特別なファイルがあります（{shown(name)}）。")


def _name(info: zipfile.ZipInfo) -> str:
    """日本語の名前。印のない zip は、macOS なら UTF-8、日本語の Windows なら cp932 で書かれている。"""
    if info.flag_bits & 0x800:
        return info.filename
    raw = info.filename.encode("cp437", errors="replace")
    for codec in ("utf-8", "cp932"):
        try:
            return raw.decode(codec)
        except UnicodeDecodeError:
            continue
    return info.filename
