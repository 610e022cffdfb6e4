"""転移元（学習済みの特徴抽出器）を、名前で呼び出す窓口。どの元も、同じ形の画像を受け取り、特徴を返す。

同梱: imagenet（写真）、glyphs（フォントの英字）、uci（手書き数字）、random（学習していない対照）。
オンライン: coco（物体検出）。自分で学習した GlyphCNN は `register_source` で加える。
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.models._backbones import fetching_weights
from tlkit.models.efficientnet_lite import EfficientNetLite0
from tlkit.models.glyph_cnn import GlyphCNN, from_state, read_weights

SMALLEST_PHOTO = 96  # 写真で学習した網には、少なくともこの一辺 [画素] に広げて渡す
_BATCH = 128


@dataclass(frozen=True)
class Source:
    """転移元。特徴も確率も、評価モードで、勾配なしで計算する。返すテンソルは CPU 上にあり、学習に使える。

    Attributes:
        name: 名前。
        title: 日本語の題名。
        features: 画像 (N, 1, 28, 28) か (N, 3, H, W)、画素値 0〜1 → 特徴 (N, D)。
        probabilities: 同じ画像 → 元の課題のクラスの確率 (N, Z)。元の課題のクラスがないときは None。
    """

    name: str
    title: str
    features: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor] | None


def sources(*, online: bool = False) -> list[str]:
    """使える転移元の名前。登録したものも含む。online=True なら、ネットワークが要るものも加える。"""
    return [*_EMBEDDED, *_REGISTERED, *(_ONLINE if online else ())]


def load_source(name: str) -> Source:
    """転移元を読み込む。

    Raises:
        ValueError: 知らない名前か、重みのファイルが壊れているとき。
        FileNotFoundError: 重みのファイルがないとき。
        DataUnavailableError: オンラインの重みを取りに行けないとき。
    """
    makers = {**_EMBEDDED, **_ONLINE, **_REGISTERED}
    if name not in makers:
        raise ValueError(
            f"転移元 {name!r} はありません。使える名前は {'、'.join(makers)} です。"
            "自分の重みは register_source(name, path, sha256) で加えられます。"
        )
    return makers[name]()


def register_source(name: str, path: str | Path, sha256: str) -> Source:
    """自分で学習した GlyphCNN の重みを、転移元に加える。加えた名前は、この Python が終わるまで使える。

    Args:
        name: 新しい名前。登録したことのある名前なら置きかえる。
        path: `safetensors.torch.save_file(model.state_dict(), path)` で書いたファイル。
            pickle の形式（.pt、.pth）は、読み込むだけで任意のコードが動くので受け付けない。
        sha256: ファイルの sha256（16 進 64 文字）。`tlkit.data.files.sha256_of(path)` で求める。

    Returns:
        読み込んだ転移元。

    Raises:
        ValueError: 名前が同梱のものと重なるか、拡張子が違うか、照合が合わないか、GlyphCNN の重みではないとき。
        FileNotFoundError: ファイルがないとき。
    """
    path = Path(path)
    if name in _EMBEDDED or name in _ONLINE or not name:
        raise ValueError(
            f"名前 {name!r} は使えません。{'、'.join([*_EMBEDDED, *_ONLINE])} と重ならない名前にしてください。"
        )
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path.name} は受け付けられません。safetensors.torch.save_file で保存した .safetensors のファイルが必要です。"
        )

    def make() -> Source:
        return _glyph_source(name, f"自分の重み（{path.name}）", from_state(read_weights(path, sha256)))

    source = make()  # 使えないものは登録しない
    _REGISTERED[name] = make
    return source


def _glyph_source(name: str, title: str, model: GlyphCNN, *, classes: bool = True) -> Source:
    return Source(
        name,
        title,
        _batched(model, lambda x: model.features(_glyph_input(x))),
        _batched(model, lambda x: model(_glyph_input(x)).softmax(1)) if classes else None,
    )


def _imagenet() -> Source:
    model = EfficientNetLite0()
    return Source(
        "imagenet",
        "ImageNet の写真（EfficientNet-Lite0）",
        _batched(model, lambda x: model.features(_photo_input(x) * 2 - 1)),
        _batched(model, lambda x: model(_photo_input(x) * 2 - 1).softmax(1)),
    )


def _random() -> Source:
    """学習していない GlyphCNN。畳み込みの重みは乱数のまま、バッチ正規化の統計だけを UCI の画像（257 枚）に合わせる。

    統計を合わせないと（平均 0、分散 1 のまま使うと）、層を通るごとに値が小さくなり、対照が不当に弱くなる。
    """
    from tlkit.data.digits import uci_digits

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GlyphCNN(10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # 移動平均ではなく、渡した画像全体の平均にする
    with torch.no_grad():
        model.train()(uci_digits().images[::7])
    return _glyph_source("random", "乱数の重み（学習なし）", model, classes=False)


def _coco() -> Source:
    """物体検出器の胴体。検出の学習の前に ImageNet でも学習しているので、ImageNet と独立な元ではない。"""
    from torchvision.models.detection import (
        FasterRCNN_MobileNet_V3_Large_320_FPN_Weights,
        fasterrcnn_mobilenet_v3_large_320_fpn,
    )

    weights = FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1
    with fetching_weights("coco"):
        detector = fasterrcnn_mobilenet_v3_large_320_fpn(weights=weights, weights_backbone=None)
    body = detector.backbone.body
    mean, std = (
        torch.tensor(v).reshape(-1, 1, 1) for v in (detector.transform.image_mean, detector.transform.image_std)
    )

    def features(x: Tensor) -> Tensor:
        maps: list[Tensor] = list(body((_photo_input(x) - mean) / std).values())
        return maps[-1].mean(dim=(2, 3))

    return Source("coco", "COCO の物体検出（MobileNetV3 の胴体）", _batched(body, features), None)


def _batched(model: nn.Module, compute: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """画像を少しずつ網に通す関数にする。"""
    model.eval().requires_grad_(False)

    def run(images: Tensor) -> Tensor:
        _require_images(images)
        with torch.inference_mode():
            parts = [compute(part.float().cpu()) for part in torch.split(images, _BATCH)]
        return torch.cat(parts)  # 推論モードの外でつなぎ、学習に使えるテンソルにする

    return run


def _require_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(
            f"形 {tuple(images.shape)} の画像が渡されました。1 枚以上の (N, 1, 28, 28) か (N, 3, H, W) が必要です。"
        )
    if images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"画素値の範囲が {float(images.min()):.3g}〜{float(images.max()):.3g} です。"
            "0〜1 の画像を渡してください。正規化は、元に合わせてこの中で行います。"
        )


def _glyph_input(images: Tensor) -> Tensor:
    """白黒（チャネルの平均）にし、28×28 画素にする。"""
    grey = images.mean(dim=1, keepdim=True)
    if grey.shape[-2:] == (28, 28):
        return grey
    return F.interpolate(grey, size=(28, 28), mode="bilinear", align_corners=False, antialias=True)


def _photo_input(images: Tensor) -> Tensor:
    """3 チャネルにし、短い辺が SMALLEST_PHOTO 画素に満たなければ広げる。"""
    colour = images.expand(-1, 3, -1, -1)
    height, width = colour.shape[-2:]
    scale = SMALLEST_PHOTO / min(height, width)
    if scale <= 1:
        return colour
    size = (round(height * scale), round(width * scale))
    return F.interpolate(colour, size=size, mode="bilinear", align_corners=False)


_EMBEDDED: dict[str, Callable[[], Source]] = {
    "imagenet": _imagenet,
    "glyphs": lambda: _glyph_source("glyphs", "フォントの英字（GlyphCNN）", GlyphCNN.pretrained("letters")),
    "uci": lambda: _glyph_source("uci", "UCI の手書き数字（GlyphCNN）", GlyphCNN.pretrained("uci")),
    "random": _random,
}
_ONLINE: dict[str, Callable[[], Source]] = {"coco": _coco}
_REGISTERED: dict[str, Callable[[], Source]] = {}
