"""図の様式（字形、色、線種）と、代替文つきの表示。

図は `fig, ax = plot.subplots()` で作り、`plot.show(fig, alt="…")` で表示する。
色は Okabe–Ito の配色、線は線種も変える（色の見分けに頼らない）。日本語は IPAexGothic、無い記号は DejaVu Sans で描く。
"""

import base64
import html
import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

FONTS = ["IPAexGothic", "DejaVu Sans"]
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
LINES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1))]


def use_style() -> None:
    """コースの図の様式を、この Python の中の matplotlib に適用する（何度呼んでもよい）。"""
    font_manager.fontManager.addfont(font_path())
    mpl.rcParams.update(
        {
            "font.family": FONTS,
            "text.hinting": "none",  # 既定のままだと、縦に回した漢字の横線がつぶれる
            "axes.unicode_minus": True,
            "axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=LINES),
            "figure.figsize": (5.6, 3.4),
            "figure.dpi": 96,
            "savefig.dpi": 96,
            "figure.constrained_layout.use": True,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "image.cmap": "gray",
        }
    )


def font_path() -> Path:
    """同梱パッケージ matplotlib-fontja の日本語フォント（IPAexGothic）の場所。

    Raises:
        FileNotFoundError: パッケージかフォントのファイルがないとき。
    """
    found = find_spec("matplotlib_fontja")  # import すると全体の設定が書き換わるので、場所だけを調べる
    path = Path(found.origin).parent / "fonts" / "ipaexg.ttf" if found and found.origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError("日本語フォントがありません。`pip install matplotlib-fontja` で入れ直してください。")
    return path


def subplots(*args: Any, **kwargs: Any) -> tuple[Figure, Any]:
    """コースの様式で `matplotlib.pyplot.subplots` を呼ぶ。引数と返り値は同じ。"""
    use_style()
    return plt.subplots(*args, **kwargs)


def show(fig: Figure, *, alt: str, caption: str | None = None, photo: bool = False) -> None:
    """図を画像にして、代替文つきで表示する。

    JupyterLab、書籍版、nbconvert のどれも、画像出力の代替文を捨てる。そこで img 要素として表示する。

    Args:
        fig: 表示する図。表示した後に閉じる（二重の表示を防ぐ）。
        alt: 図が見えない人に伝える日本語の文。軸、系列、読み取れることを書く。
        caption: 図の下に出す説明。
        photo: True なら JPEG にする（写真を含む図が小さくなる）。

    Raises:
        ValueError: 代替文が空か、日本語を含まないとき。
    """
    from IPython.display import HTML, display

    display(HTML(figure_html(fig, alt=alt, caption=caption, photo=photo)))  # type: ignore[no-untyped-call]
    plt.close(fig)


def figure_html(fig: Figure, *, alt: str, caption: str | None = None, photo: bool = False) -> str:
    """図を、代替文つきの figure 要素の HTML にする。引数と誤りは `show` と同じ。"""
    if not any("\u3040" <= c <= "\u30ff" or "\u4e00" <= c <= "\u9fff" for c in alt):
        raise ValueError(f"alt に {alt!r} が渡されました。図から読み取れることを日本語の文で書いてください。")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    with Image.open(buffer) as drawn:
        image = drawn.convert("RGB")
    packed = io.BytesIO()
    if photo:
        image.save(packed, format="JPEG", quality=85)
    else:  # 線画に使う色は少ない。256 色に絞ると、見た目を変えずに大きさが 3 分の 1 ほどになる
        image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            packed, format="PNG", optimize=True
        )
    data = base64.b64encode(packed.getvalue()).decode("ascii")
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    tag = f'<img alt="{html.escape(alt)}" src="data:image/{"jpeg" if photo else "png"};base64,{data}">'
    return f'<figure style="margin:0">{tag}{below}</figure>'
