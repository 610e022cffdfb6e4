"""図の様式: 日本語が欠けない、代替文が必ずつく、同じ図は同じバイト列になる。"""

import re
import warnings

import matplotlib.pyplot as plt
import pytest

from tlkit import plot


@pytest.fixture(autouse=True)
def agg():
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def draw(text: str):
    fig, ax = plot.subplots()
    ax.plot([-1, 0, 1], label=text)
    ax.set_title(text)
    ax.legend()
    return fig


def test_japanese_and_math_symbols_have_glyphs() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot.figure_html(draw("転移学習の損失（髙﨑①㈱）−1 α σ ∇ λ ² ✓"), alt="題名だけの図")


def test_missing_glyphs_are_noticed_without_the_style() -> None:
    """上の検査が、様式なしでは落ちることを確かめる。"""
    fig = draw("転移学習")
    for text in fig.findobj(plt.Text):
        text.set_fontfamily(["DejaVu Sans"])
    with pytest.warns(UserWarning, match="Glyph"):
        plot.figure_html(fig, alt="題名だけの図")


def test_same_figure_gives_the_same_bytes() -> None:
    assert plot.figure_html(draw("図"), alt="同じ図") == plot.figure_html(draw("図"), alt="同じ図")


@pytest.mark.parametrize(("photo", "kind"), [(False, "png"), (True, "jpeg")])
def test_alt_and_caption_are_escaped(photo: bool, kind: str) -> None:
    made = plot.figure_html(draw("図"), alt='損失 "L" < 1 の図', caption="<b>説明</b>", photo=photo)
    assert f"data:image/{kind};base64," in made
    assert re.search(r'<img alt="損失 &quot;L&quot; &lt; 1 の図" src=', made) and "&lt;b&gt;説明" in made


@pytest.mark.parametrize("alt", ["", "   ", "loss curve"])
def test_alt_must_be_japanese(alt: str) -> None:
    with pytest.raises(ValueError, match="日本語"):
        plot.figure_html(draw("図"), alt=alt)


def test_show_closes_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    fig = draw("図")
    plot.show(fig, alt="閉じる図")
    assert len(shown) == 1 and not plt.fignum_exists(fig.number)


def test_colors_and_lines_both_differ() -> None:
    _, ax = plot.subplots()
    lines = [ax.plot([0, 1])[0] for _ in range(5)]
    assert len({line.get_color() for line in lines}) == 5
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in lines}) == 5


def test_import_changes_nothing() -> None:
    import subprocess
    import sys

    code = "import matplotlib as m; b=dict(m.rcParams); import tlkit.plot; assert dict(m.rcParams)==b"
    subprocess.run([sys.executable, "-c", code], check=True)
