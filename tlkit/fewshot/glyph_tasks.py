"""漢字でメタ訓練し、見たことのない仮名でテストする、フォントの字のエピソード。"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tlkit.data.glyph_augment import augment
from tlkit.data.japanese_glyphs import japanese_glyphs
from tlkit.fewshot.episodes import EpisodeSampler
from tlkit.fewshot.splits import ClassSplit, Part, split_classes


@dataclass(frozen=True)
class GlyphTasks:
    """フォントの字と、クラスの分け方。

    Attributes:
        images: (M, 1, S, S)。画素値は 0 から 1。
        labels: クラス番号 (M,)。漢字が先、仮名が後。
        face_ids: 書体の番号 (M,)。
        classes: クラス番号の順の文字。
        faces: 書体の番号の順の名前。
        split: 漢字を訓練と検証に分け、仮名はすべてテストにする。
    """

    images: Tensor
    labels: Tensor
    face_ids: Tensor
    classes: tuple[str, ...]
    faces: tuple[str, ...]
    split: ClassSplit

    def sampler(self, part: Part, **options: Any) -> EpisodeSampler:
        """`EpisodeSampler` を作る。サポートとクエリは、必ず違う書体で描いた字になる。

        1 文字 1 書体の画像は 1 枚なので、K 枚の手本は、その 1 枚に別々の変形（傾き、太さ、雑音）を掛けたものである。

        Args:
            part: "train"、"val"、"test"。
            **options: `EpisodeSampler` の ways、shots、queries、episodes、seed、pairs、fresh。
        """
        fixed: dict[str, Any] = {"groups": self.face_ids, "repeat": True, "transform": augment}
        return EpisodeSampler(self.images, self.labels, self.split, part, **(fixed | options))


def glyph_tasks(*, every: int = 5, val: int = 100, seed: int = 0, size: int = 28) -> GlyphTasks:
    """漢字（JIS 第 1 水準の every 字に 1 字）と仮名 91 字の画像を用意し、クラスを分ける。

    テストの仮名は、訓練にも検証にも出てこない。仮名とほとんど同じ形の漢字（力、口など）は、初めから除いてある。
    書体は 3 種で、テストでも同じである。だから、これは「新しい文字」への汎化であり、「新しい書体」への汎化ではない。

    Args:
        every: 漢字を何字おきに使うか。1 以上。
        val: 検証に使う漢字の数。
        seed: 漢字を訓練と検証に分ける乱数の種。
        size: 画像の一辺 [画素]。

    Raises:
        ValueError: 引数が不正なとき。
        FileNotFoundError: フォントのファイルがないとき。
    """
    kanji, kana = japanese_glyphs("kanji", size, every), japanese_glyphs("kana", size)
    first = len(kanji.classes)
    inner = split_classes(kanji.labels, val=0, test=val, seed=seed)  # 取り分けた漢字を、検証に使う
    return GlyphTasks(
        images=torch.cat([kanji.images, kana.images]),
        labels=torch.cat([kanji.labels, kana.labels + first]),
        face_ids=torch.cat([kanji.face_ids, kana.face_ids]),
        classes=kanji.classes + kana.classes,
        faces=tuple(face.name for face in kanji.faces),
        split=ClassSplit(inner.train, inner.test, tuple(range(first, first + len(kana.classes)))),
    )
