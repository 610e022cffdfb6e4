"""データ集合の登録簿。名前、題名、大きさ、出典、読み込む関数を 1 行にまとめる。

データ集合を増やすときは、読み込む関数を書き、_TABLE に 1 項目を加える。
"""

import inspect
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tlkit.data.digits import mnist5k, uci_digits
from tlkit.data.errors import DataUnavailableError
from tlkit.data.glyphs import glyphs
from tlkit.data.japanese_glyphs import japanese_glyphs
from tlkit.data.labeled import LabeledImages
from tlkit.data.mnist_m import mnist_m
from tlkit.data.online import fashion_mnist, mnist, svhn, usps
from tlkit.data.photos import photo_images


@dataclass(frozen=True)
class Entry:
    """データ集合 1 つの登録。

    Attributes:
        name: `load` に渡す名前。
        title: 日本語の題名。
        kind: 同梱（ネットワーク不要）か、オンライン（初めに取りに行く）か。
        classes: クラスの数。
        counts: 分け方ごとの枚数。分けていなければ "all" だけ。
        shape: 1 枚の形 (C, H, W)。
        licence: 出典の利用条件。
        loader: 読み込む関数。
        fallback: ネットワークが使えないときに代わりに使う、同梱のデータ集合の名前。
    """

    name: str
    title: str
    kind: Literal["同梱", "オンライン"]
    classes: int
    counts: Mapping[str, int]
    shape: tuple[int, int, int]
    licence: str
    loader: Callable[..., LabeledImages]
    fallback: str | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """読み込む関数に渡せる引数の名前。"""
        return tuple(inspect.signature(self.loader).parameters)


_GRAY28, _MNIST_COUNTS = (1, 28, 28), {"train": 60_000, "test": 10_000}
_FONTS = "フォントごとに違う"
_USPS_COUNTS, _SVHN_COUNTS = {"train": 7_291, "test": 2_007}, {"train": 73_257, "test": 26_032}

# 並びは Entry の項目の順。同梱のものには代わり（fallback）が要らない。
_TABLE = (
    Entry("mnist5k", "MNIST の 5,000 枚", "同梱", 10, {"all": 5_000}, _GRAY28, "CC BY-SA 3.0", mnist5k),
    Entry("mnist_m", "MNIST-M（写真との差）", "同梱", 10, {"all": 5_000}, (3, 28, 28), "写真ごとに違う", mnist_m),
    Entry("uci_digits", "UCI の手書き数字", "同梱", 10, {"all": 1_797}, _GRAY28, "CC BY 4.0", uci_digits),
    Entry("glyphs", "フォントの英字", "同梱", 52, {"all": 1_794}, _GRAY28, _FONTS, glyphs),
    Entry("japanese_glyphs", "フォントの漢字", "同梱", 2_954, {"all": 8_862}, _GRAY28, _FONTS, japanese_glyphs),
    Entry("photos", "写真", "同梱", 9, {"all": 9}, (3, 128, 128), "写真ごとに違う", photo_images),
    Entry("mnist", "MNIST", "オンライン", 10, _MNIST_COUNTS, _GRAY28, "CC BY-SA 3.0", mnist, "mnist5k"),
    Entry("fashion_mnist", "Fashion-MNIST", "オンライン", 10, _MNIST_COUNTS, _GRAY28, "MIT", fashion_mnist, "mnist5k"),
    Entry("usps", "USPS の手書き数字", "オンライン", 10, _USPS_COUNTS, (1, 16, 16), "未確認", usps, "uci_digits"),
    Entry("svhn", "SVHN の家の番号", "オンライン", 10, _SVHN_COUNTS, (3, 32, 32), "非商用に限る", svhn, "mnist5k"),
)
ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _TABLE}


def names(kind: Literal["同梱", "オンライン"] | None = None) -> tuple[str, ...]:
    """使えるデータ集合の名前。kind を指定すると、その種類だけ。"""
    return tuple(name for name, entry in ENTRIES.items() if kind in (None, entry.kind))


def load(name: str, **options: Any) -> LabeledImages:
    """データ集合を名前で読み込む。

    Args:
        name: `names()` にある名前。
        **options: データ集合ごとの引数。オンラインのものは split、download、root を受け取る。

    Raises:
        ValueError: 知らない名前や引数のとき。使えるものを並べて知らせる。
        DataUnavailableError: 取りに行けないとき。代わりに使える同梱のデータ集合を知らせる。
        DataCorruptedError: 手元のファイルが壊れているとき。
    """
    if name not in ENTRIES:
        raise ValueError(f"データ集合 {name!r} はありません。使える名前は {'、'.join(ENTRIES)} です。")
    entry = ENTRIES[name]
    if unknown := [option for option in options if option not in entry.options]:
        usable = (
            f"使える引数は {'、'.join(entry.options)} です" if entry.options else "このデータ集合に引数はありません"
        )
        raise ValueError(f"データ集合 {name!r} に引数 {'、'.join(unknown)} が渡されました。{usable}。")
    try:
        return entry.loader(**options)
    except DataUnavailableError as error:
        if entry.fallback is None:
            raise
        instead = f'ネットワークなしで続けるには、同梱の data.load("{entry.fallback}") を使ってください。'
        raise DataUnavailableError(f"{entry.title}: {error}\n{instead}") from error.__cause__


def catalog() -> str:
    """データ集合の一覧表。`print(tlkit.data.catalog())` で見る。"""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("名前", "題名", "種類", "クラス", "枚数", "形 (C, H, W)", "利用条件", "代わり", box=box.SIMPLE)
    for entry in ENTRIES.values():
        counts = " + ".join(f"{count:,}" for count in entry.counts.values())
        row = (entry.title, entry.kind, str(entry.classes), counts, str(entry.shape), entry.licence)
        table.add_row(entry.name, *row, entry.fallback or "―")
    text = io.StringIO()
    Console(file=text, width=160, highlight=False, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())
