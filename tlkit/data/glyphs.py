"""フォントから描いた英字と数字の画像。pip で入るフォントだけを使うので、ネットワークなしで使える。

事前学習の元（英字だけ）と、少数ショット学習の題材になる。MNIST の作り方（黒地に白、20 画素の枠、重心を中央）にそろえる。
使うフォントと使わないフォントの一覧は `glyph_faces.py`、手書きに近づける変形は `glyph_augment.py` にある。
"""

import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tlkit.data.glyph_faces import FACES, Face, code_point
from tlkit.data.labeled import LabeledImages

if TYPE_CHECKING:
    from PIL.Image import Image

CHARSETS = {
    "letters": string.ascii_uppercase + string.ascii_lowercase,
    "upper": string.ascii_uppercase,
    "lower": string.ascii_lowercase,
    "digits": string.digits,
    "alnum": string.digits + string.ascii_uppercase + string.ascii_lowercase,
}
_DRAWN = 160  # 一度この大きさ [画素] で描いてから縮める。フォント内の画素合わせの影響が消える


@dataclass(frozen=True)
class Glyphs(LabeledImages):
    """フォントから描いた画像。どのフォントで描いたかも持つ。

    Attributes:
        faces: 書体の番号順の `Face`（名前と系統）。
        face_ids: (N,) の int64。画像ごとの書体の番号。学習と検証は、画像ではなく書体か系統で分けること。
    """

    faces: tuple[Face, ...]
    face_ids: Tensor

    def of_family(self, *families: str) -> Tensor:
        """その系統の書体で描いた画像かどうか。(N,) の bool。

        Raises:
            ValueError: 知らない系統のとき。
        """
        known = {face.family for face in self.faces}
        if unknown := set(families) - known:
            raise ValueError(f"系統 {sorted(unknown)} はありません。使える系統は {sorted(known)} です。")
        chosen = torch.tensor([face.family in families for face in self.faces])
        return chosen[self.face_ids]


def glyphs(charset: str = "letters", size: int = 28) -> Glyphs:
    """英字と数字を、いろいろな書体で描く。

    どの文字も同じ大きさの枠に収めるので、C と c のように、大きさだけが違う文字は見分けられない。
    書体に無い文字と、別の書体と画素まで同じ文字は入らない。だから書体ごとの枚数はそろわない。

    Args:
        charset: "letters"（英字 52 クラス）、"upper"、"lower"（26 クラス）、"digits"（10 クラス）、"alnum"（62 クラス）。
        size: 画像の一辺 [画素]。文字は size·20/28 の枠に収まる。

    Returns:
        書体の順、その中は文字の順に並んだ画像。

    Raises:
        ValueError: 知らない charset か、8 未満の size のとき。
        FileNotFoundError: フォントのファイルがないとき。
    """
    if charset not in CHARSETS:
        raise ValueError(f"charset に {charset!r} が渡されました。使える名前は {'、'.join(CHARSETS)} です。")
    if size < 8:
        raise ValueError(f"size に {size!r} が渡されました。8 以上の画素数を指定してください。")
    pixels, labels, face_ids = _drawn(CHARSETS[charset], size)
    return Glyphs(
        name=f"glyphs-{charset}",
        images=torch.from_numpy(pixels).float().div(255).unsqueeze(1),
        labels=torch.tensor(labels),
        classes=tuple(CHARSETS[charset]),
        source="DejaVu、STIX、Computer Modern（matplotlib に同梱）、IPAex ゴシック（matplotlib-fontja に同梱）",
        faces=FACES,
        face_ids=torch.tensor(face_ids),
    )


@cache
def _drawn(characters: str, size: int) -> tuple[np.ndarray, list[int], list[int]]:
    """すべての書体で描く。同じ文字で画素まで同じ画像は、初めの書体だけに残す。"""
    found: dict[tuple[int, bytes], tuple[np.ndarray, int]] = {}
    for face_id, face in enumerate(FACES):
        for label, image in draw_face(face, characters, size):
            found.setdefault((label, image.tobytes()), (image, face_id))
    pixels = np.stack([image for image, _ in found.values()])
    return pixels, [label for label, _ in found], [face_id for _, face_id in found.values()]


def draw_face(face: Face, characters: str, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """書体にある文字を、順に描く。（characters の中の番号, (size, size) の uint8）を返していく。

    Raises:
        FileNotFoundError: フォントのファイルがないとき。
    """
    from PIL import Image, ImageDraw, ImageFont

    path = face.path()
    present = _code_points(path)
    # 文字の並べ方の部品（raqm）は入っていない機械がある。一文字ずつ描くので、どこでも同じになる基本の方式で足りる
    font = ImageFont.truetype(str(path), _DRAWN, layout_engine=ImageFont.Layout.BASIC)
    for label, character in enumerate(characters):
        point = code_point(character, face.style)
        if point not in present or character in face.lacks:
            continue
        canvas = Image.new("L", (3 * _DRAWN, 3 * _DRAWN))
        ImageDraw.Draw(canvas).text((_DRAWN, _DRAWN), chr(point), fill=255, font=font)
        if (box := canvas.getbbox()) is not None:
            yield label, _centred(canvas.crop(box), size)


@cache
def _code_points(path: Path) -> frozenset[int]:
    """字形のある符号位置。代わりの箱（.notdef）を指すものは数えない。"""
    from fontTools.ttLib import TTFont

    with TTFont(path, lazy=True) as font:
        return frozenset(point for point, glyph in (font.getBestCmap() or {}).items() if glyph != ".notdef")


def _centred(glyph: "Image", size: int) -> np.ndarray:
    """縦横の長い方を枠に合わせて縮め、筆跡の重心を画像の中央に置く（ずれは画素単位に丸める）。"""
    from PIL.Image import Resampling

    scale = size * 20 / 28 / max(glyph.size)
    width, height = (max(1, round(side * scale)) for side in glyph.size)
    small = glyph.resize((width, height), Resampling.BILINEAR)
    ink = np.asarray(small, dtype=np.float64)
    image = np.zeros((size, size), dtype=np.uint8)
    corner = [_start(ink.sum(axis=1 - axis), size) for axis in (0, 1)]
    image[corner[0] : corner[0] + ink.shape[0], corner[1] : corner[1] + ink.shape[1]] = np.asarray(small)
    return image


def _start(profile: np.ndarray, size: int) -> int:
    """重心が中央に来る、置き始めの位置。枠からはみ出すときは、収まる所まで戻す。"""
    centre = float((profile * np.arange(len(profile))).sum() / profile.sum())
    return int(np.clip(round((size - 1) / 2 - centre), 0, size - len(profile)))
