"""`glyphs.py` が使う書体の一覧と、使わないフォントの一覧（理由つき）。

一つのフォントファイルに、数学用の別の書体（筆記体、フラクトゥールなど）が入っていることがある。それも一つの書体と数える。
"""

import importlib.util
import unicodedata
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Face:
    """書体。

    Attributes:
        name: 名前。
        family: 系統。同じ系統の書体は形が似ているので、学習と検証を分けるときの単位にする。
        file: フォントのファイル名。
        style: 数学用の書体の Unicode 名（"SCRIPT" など）。ふつうの文字なら空。
        lacks: 符号位置はあるが、その文字の形ではないもの。
    """

    name: str
    family: str
    file: str
    style: str = ""
    lacks: str = ""

    def path(self) -> Path:
        """フォントのファイルの場所。

        Raises:
            FileNotFoundError: ファイルがないとき。
        """
        package = _PACKAGES.get(self.file, "matplotlib")
        path = _folder(package) / self.file
        if not path.is_file():
            raise FileNotFoundError(
                f"フォント {self.file} が見つかりません。`pip install --force-reinstall --no-deps {package}` で入れ直してください。"
            )
        return path


# フォントのファイルを持つ、pip のパッケージ。ここにないファイルは matplotlib に同梱されている
_PACKAGES = {
    "ipaexg.ttf": "matplotlib-fontja",
    "NotoSansJP-Regular.otf": "pylopdf-fonts-jp",
    "NotoSerifJP-Regular.otf": "pylopdf-fonts-jp",
}
_FOLDERS = {"matplotlib-fontja": ("matplotlib_fontja", "fonts"), "pylopdf-fonts-jp": ("pylopdf_fonts_jp", "")}


def _folder(package: str) -> Path:
    """パッケージの中の、フォントの置き場。入っていないパッケージなら、無い場所を返す。"""
    if package == "matplotlib":
        import matplotlib

        return Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    module, inside = _FOLDERS[package]
    found = importlib.util.find_spec(module)
    return Path(found.origin).parent / inside if found is not None and found.origin else Path(module)


def code_point(character: str, style: str) -> int:
    """数学用の書体での、その文字の符号位置。無ければ −1。style が空なら、ふつうの符号位置。"""
    if not style:
        return ord(character)
    name = unicodedata.name(character).replace("LATIN ", "").replace("LETTER ", "")
    # 筆記体の B などは、数学用の区画より先に決まっていたので、名前の付け方が違う
    older = f"{'BLACK-LETTER' if style == 'FRAKTUR' else style} {name}"
    for candidate in (f"MATHEMATICAL {style} {name}", older):
        try:
            return ord(unicodedata.lookup(candidate))
        except KeyError:
            continue
    return -1


def _plain(family: str, *files: str) -> tuple[Face, ...]:
    return tuple(Face(file, family, f"{file}.ttf") for file in files)


def _math(*styles: str) -> tuple[Face, ...]:
    return tuple(Face(f"STIXGeneral {style.title()}", "STIX Math", "STIXGeneral.ttf", style) for style in styles)


FACES: tuple[Face, ...] = (
    *_plain("DejaVu Sans", "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *_plain("DejaVu Sans", "DejaVuSansMono", "DejaVuSansMono-Bold"),
    *_plain("DejaVu Sans", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    Face("DejaVuSans Double-Struck", "DejaVu Sans", "DejaVuSans.ttf", "DOUBLE-STRUCK"),
    *_plain("DejaVu Serif", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *_plain("STIX", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *_math("SCRIPT", "BOLD SCRIPT", "FRAKTUR", "BOLD FRAKTUR", "DOUBLE-STRUCK"),
    *_math("SANS-SERIF", "SANS-SERIF BOLD", "SANS-SERIF ITALIC", "SANS-SERIF BOLD ITALIC", "MONOSPACE"),
    *_plain("Computer Modern", "cmr10", "cmb10", "cmti10", "cmmi10", "cmss10", "cmtt10"),
    # 記号のフォントだが、英大文字の所には筆記体が入っている
    Face("cmsy10", "Computer Modern", "cmsy10.ttf", lacks="abcdefghijklmnopqrstuvwxyz0123456789"),
    Face("IPAexGothic", "IPAex", "ipaexg.ttf"),
)

# 使わないフォントと理由。matplotlib の版が上がってファイルが増えたら、検査がここへの追記を求める。
DROPPED: dict[str, str] = {
    "LastResortHE-Regular.ttf": "どの文字にも、文字の種類を示す枠つきの代用の絵を返す",
    "DejaVuSansDisplay.ttf": "英字も数字も無い（記号だけ）",
    "DejaVuSerifDisplay.ttf": "英字も数字も無い（記号だけ）",
    "cmex10.ttf": "英字の符号位置にあるのは、大きな括弧や和の記号である",
    **{
        f"STIXNonUni{style}.ttf": "英字も数字も無い（Unicode に無い記号だけ）" for style in ("", "Bol", "BolIta", "Ita")
    },
    **{
        f"STIXSiz{size}.ttf": "英字も数字も無い（大きな括弧などだけ）"
        for size in (
            *("OneSymReg", "OneSymBol", "TwoSymReg", "TwoSymBol", "ThreeSymReg", "ThreeSymBol"),
            *("FourSymReg", "FourSymBol", "FiveSymReg"),
        )
    },
}
