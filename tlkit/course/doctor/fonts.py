"""図の日本語が、豆腐（□）にならずに描けるかを調べる。"""

import io
import warnings
from pathlib import Path

from tlkit.course.doctor.commands import pip_install
from tlkit.course.doctor.finding import Finding, fault, ok

NAME = "日本語フォント"
SAMPLE = "転移学習の損失 髙﨑 ∇ α"


def fonts() -> Finding:
    """教材の図と同じフォントで見本を描き、足りない字形がないかを見る。"""
    fix = pip_install("matplotlib-fontja", force=True)
    try:
        missing = missing_glyphs(SAMPLE)
    except FileNotFoundError:
        return fault(NAME, "フォントのファイル（matplotlib-fontjaのipaexg.ttf）がない", fix)
    except RuntimeError as error:  # FreeType が読めないファイルに出会ったとき
        return fault(NAME, f"フォントのファイルが壊れている（{error}）", fix)
    if missing:
        return fault(NAME, f"描けない字がある: {missing[0]}", fix)
    return ok(NAME, f"「{SAMPLE}」が描ける")


def missing_glyphs(text: str) -> list[str]:
    """見本を実際に描き、matplotlib が出した「字形がない」という警告を集める。"""
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    from tlkit import plot

    path = plot.font_path()
    if not any(Path(entry.fname) == path for entry in fontManager.ttflist):
        fontManager.addfont(path)
    figure = Figure(figsize=(2, 1))  # pyplot を通さないので、ノートブックには表示されない
    figure.text(0.1, 0.5, text, family=plot.FONTS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(io.BytesIO())
    return [str(item.message) for item in caught if "missing from" in str(item.message)]
