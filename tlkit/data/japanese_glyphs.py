"""フォントから描いた漢字と仮名の画像。pip で入るフォントだけを使うので、ネットワークなしで使える。

少数ショット学習の題材になる。漢字でメタ訓練し、見たことのない仮名でテストする（`tlkit/fewshot/glyph_tasks.py`）。
描き方（黒地に白、20 画素の枠、重心を中央）は `glyphs.py` と同じである。
"""

from functools import cache

import numpy as np
import torch

from tlkit.data.glyph_faces import Face
from tlkit.data.glyphs import Glyphs, draw_face

FACES: tuple[Face, ...] = (
    Face("IPAexGothic", "IPAex", "ipaexg.ttf"),
    Face("NotoSansJP-Regular", "Noto Sans JP", "NotoSansJP-Regular.otf"),
    Face("NotoSerifJP-Regular", "Noto Serif JP", "NotoSerifJP-Regular.otf"),
)
SOURCE = (
    "IPAex ゴシック（matplotlib-fontja に同梱）、Noto Sans JP と Noto Serif JP（pylopdf-fonts-jp に同梱、SIL OFL 1.1）"
)
HIRAGANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
# ヘは、どの書体でも、へとほとんど同じ形である
KATAKANA = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフホマミムメモヤユヨラリルレロワヲン"
# 仮名とほとんど同じ形の漢字。残すと、仮名が「初めて見るクラス」ではなくなる
KANA_LIKE = "力口二八夕工卜千三才又"


def kanji() -> str:
    """JIS 第 1 水準の漢字 2,965 字から、仮名とほとんど同じ形のものを除いたもの。区点の順。"""
    level1 = (_at(row, cell) for row in range(16, 48) for cell in range(1, 95 if row < 47 else 52))
    return "".join(character for character in level1 if character not in KANA_LIKE)


def _at(row: int, cell: int) -> str:
    return bytes((0xA0 + row, 0xA0 + cell)).decode("euc_jp")


def japanese_glyphs(charset: str = "kanji", size: int = 28, every: int = 1) -> Glyphs:
    """漢字か仮名を、3 書体（ゴシック体 2、明朝体 1）で描く。

    Args:
        charset: "kanji"（JIS 第 1 水準）、"hiragana"（46 字）、"katakana"（45 字）、"kana"（平仮名と片仮名の 91 字）。
        size: 画像の一辺 [画素]。文字は size·20/28 の枠に収まる。8 以上。
        every: 何字おきに使うか。5 なら、5 字に 1 字だけを描く（漢字を減らして速くする）。1 以上。

    Returns:
        書体の順、その中は文字の順に並んだ画像。どの文字にも 3 書体の画像がある。

    Raises:
        ValueError: 引数が不正なとき。
        FileNotFoundError: フォントのファイルがないとき。
    """
    charsets = {"kanji": kanji(), "hiragana": HIRAGANA, "katakana": KATAKANA, "kana": HIRAGANA + KATAKANA}
    if charset not in charsets:
        raise ValueError(f"charset に {charset!r} が渡されました。使える名前は {'、'.join(charsets)} です。")
    if size < 8 or every < 1:
        raise ValueError(f"size={size}、every={every} が渡されました。size は 8 以上、every は 1 以上にしてください。")
    characters = charsets[charset][::every]
    pixels, labels, face_ids = _drawn(characters, size)
    return Glyphs(
        name=f"glyphs-{charset}",
        images=torch.from_numpy(pixels).float().div(255).unsqueeze(1),
        labels=torch.tensor(labels),
        classes=tuple(characters),
        source=SOURCE,
        faces=FACES,
        face_ids=torch.tensor(face_ids),
    )


@cache
def _drawn(characters: str, size: int) -> tuple[np.ndarray, list[int], list[int]]:
    drawn = [
        (image, label, face_id)
        for face_id, face in enumerate(FACES)
        for label, image in draw_face(face, characters, size)
    ]
    images, labels, face_ids = zip(*drawn, strict=True)
    return np.stack(images), list(labels), list(face_ids)
