"""提出者が決めた文字列（ファイル名、セルの id、metadata）を、安全に表示できる形にする。

改行や端末の命令、文字の向きを変える符号、片割れのサロゲートは、そのまま出すと表やログを壊し、別の名前に見せかけられる。
"""

import unicodedata

_ZWJ = "\u200d"  # 家族や職業の絵文字をつなぐ符号。消すと別の絵になるので残す
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def shown(text: object, limit: int = 120) -> str:
    """NFC にそろえ、見えない符号を番号の形（バックスラッシュと u202e など）にし、長すぎれば途中を略す。UTF-8 で必ず書ける。"""
    raw = text if isinstance(text, str) else repr(text)
    whole = "".join(map(_visible, unicodedata.normalize("NFC", raw[: 4 * limit])))
    if len(whole) <= limit and len(raw) <= 4 * limit:
        return whole
    return f"{whole[: limit // 2]}…{whole[-(limit // 3) :]}"


def _visible(character: str) -> str:
    if character == _ZWJ or unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # UTF-8 でないファイル名のバイト（surrogateescape）
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
