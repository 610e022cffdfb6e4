"""28×28 画素の文字を見分ける、小さな畳み込みネットワーク（約 10 万パラメータ）と、その事前学習済みの重み。

重みは `experiments/pretrain_glyphs.py` が作り、`tlkit/assets/` に置く。同じ名前の .json が、作り方と sha256 の記録である。
"""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tlkit.data.files import sha256_of

ASSETS = Path(__file__).resolve().parents[1] / "assets"
WEIGHTS = {"letters": "glyph_cnn_letters", "uci": "glyph_cnn_uci"}


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    """畳み込み、バッチ正規化、ReLU、縦横を半分にする最大値プーリング。"""
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(), nn.MaxPool2d(2))


class GlyphCNN(nn.Module):
    """3 段の CNN。入力 x は (N, 1, 28, 28)、画素値は 0（背景）から 1（筆跡）。

    段の名前は EfficientNetLite0 と同じである。stem（28→14 画素）→ stages（14→7→3 画素）→ head（特徴 128 次元）→ classifier。

    Args:
        num_classes: 出力のクラス数。
        width: 最初の段のチャネル数。2 段目は 2 倍、3 段目は 4 倍になる。
        weights: None なら乱数の重み。"letters"（フォントの英字だけ）か "uci"（UCI の数字）なら、事前学習済みの重みを使う。
            クラス数が元と違うときは、最後の線形層だけが乱数の重みになる。

    Raises:
        ValueError: weights が不正か、width が重みと合わないか、ファイルが壊れているとき。
        FileNotFoundError: 重みのファイルがないとき。
    """

    num_features = 128

    def __init__(self, num_classes: int, width: int = 16, weights: str | None = None) -> None:
        super().__init__()
        self.stem = _block(1, width)
        self.stages = nn.Sequential(_block(width, 2 * width), _block(2 * width, 4 * width))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4 * width * 9, self.num_features), nn.ReLU())
        self.classifier = nn.Linear(self.num_features, num_classes)
        if weights is not None:
            self._adopt(load_weights(weights), weights)

    @classmethod
    def pretrained(cls, name: str = "letters") -> "GlyphCNN":
        """事前学習済みのネットワーク。最後の線形層も、元のクラスのまま使える。評価モードで返す。

        Raises:
            ValueError: 知らない名前か、ファイルが壊れているとき。
            FileNotFoundError: 重みのファイルがないとき。
        """
        return from_state(load_weights(name))

    def features(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) → 特徴 (N, 128)。"""
        features: Tensor = self.head(self.stages(self.stem(x)))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) → ロジット (N, num_classes)。"""
        logits: Tensor = self.classifier(self.features(x))
        return logits

    def _adopt(self, state: dict[str, Tensor], name: str) -> None:
        """形の合う重みを写す。クラス数が違えば、最後の線形層は乱数のまま残す。"""
        if len(state["classifier.weight"]) != self.classifier.out_features:
            state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
        width, stored = len(self.stem[0].weight), len(state["stem.0.weight"])  # type: ignore[arg-type]
        if width != stored:
            raise ValueError(
                f"width={width} が渡されました。重み {name!r} を使うときは width={stored} にしてください。"
            )
        self.load_state_dict(state, strict=False)


def from_state(state: dict[str, Tensor]) -> GlyphCNN:
    """重みの形からクラス数と幅を読み取り、その重みを持つネットワークを作る。評価モードで返す。

    Raises:
        ValueError: GlyphCNN の重みではないとき。何が合わないかを知らせる。
    """
    stem, classifier = state.get("stem.0.weight"), state.get("classifier.weight")
    if stem is None or classifier is None:
        raise ValueError(
            f"GlyphCNN の重みではありません。stem か classifier がなく、あるのは {sorted(state)[:4]} などです。"
        )
    model = GlyphCNN(len(classifier), len(stem))
    want = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    wrong = sorted(name for name in want.keys() | given.keys() if want.get(name) != given.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"GlyphCNN の重みではありません。{name} の形が {given.get(name)} です（必要な形は {want.get(name)}）。"
        )
    model.load_state_dict(state)
    return model.eval()


def load_weights(name: str) -> dict[str, Tensor]:
    """同梱の重みを、記録の sha256 と照合して読む。

    Raises:
        ValueError: 知らない名前か、ファイルが壊れているとき。
        FileNotFoundError: 重みか記録のファイルがないとき。
    """
    if name not in WEIGHTS:
        raise ValueError(f"重み {name!r} はありません。使える名前は {'、'.join(WEIGHTS)} です。")
    recipe = ASSETS / f"{WEIGHTS[name]}.json"
    if not recipe.is_file():
        raise FileNotFoundError(f"重みの記録 {recipe.name} が見つかりません。tlkit を入れ直してください。")
    expected = json.loads(recipe.read_text(encoding="utf-8"))["sha256"]
    return read_weights(recipe.with_suffix(".safetensors"), expected)


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """safetensors の重みを、照合してから読む。照合の前には中身を解釈しない。

    Raises:
        ValueError: 中身が sha256 と違うか、safetensors として読めないとき。
        FileNotFoundError: ファイルがないとき。
    """
    if not path.is_file():
        raise FileNotFoundError(f"重みのファイル {path} が見つかりません。名前と置き場所を確かめてください。")
    if (found := sha256_of(path)) != sha256.lower():
        raise ValueError(
            f"{path.name} の中身が記録と違います（sha256 は {found[:12]}…、記録は {sha256[:12]}…）。"
            "壊れているか、別の版です。同梱の重みなら tlkit を入れ直し、自分の重みなら sha256 を書き直してください。"
        )
    try:
        state: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path.name} を safetensors として読めません。save_file で保存し直してください。") from error
    return state
