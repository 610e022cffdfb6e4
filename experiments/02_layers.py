"""どの層まで写すと役に立つか（Yosinski ほか, 2014 の問い）。

GlyphCNN の初めの k 段を、フォントの英字で学習した重みにし、残りは乱数から学習する。写した段は、固定する（frozen）か、一緒に
学習する（tuned）。対照は、初めの k 段を乱数のまま固定したものである。
固定した BatchNorm は、移動統計を使い続ける。乱数の重みの移動統計は初期値（平均 0、分散 1）で、実際の値とは合わない。
合わせないと「乱数の特徴は役に立たない」ことと「統計が合わない」ことが混ざるので、合わせた場合（calibrated）と両方を測る。
"""

from pathlib import Path
from typing import NamedTuple

import torch
from _record import Experiment, Row, Settings, chosen, main
from _transfer import BATCH, RATES, STEPS, learn
from _vision import Split, accuracy, mnist_split
from torch import Tensor
from torch.optim.swa_utils import update_bn

from tlkit.finetune import set_freeze, stage_names
from tlkit.models.glyph_cnn import GlyphCNN, load_weights

SIZES = (100, 500)
DEPTHS = (1, 2, 3, 4)  # 写す段の数。分類の層は、いつも乱数から学習する
LR = RATES[1:]
LARGE = (3e-1, 1.0)  # 分類の層だけを学習するときに足す候補。LR だけでは、開発用の結果が上の端を選んだ
FIXED = {"steps": STEPS, "batch": BATCH}


class Line(NamedTuple):
    """図の 1 本の線。"""

    source: str
    mode: str
    calibrated: bool


LINES = (
    Line("letters", "tuned", False),
    Line("letters", "frozen", False),
    Line("letters", "frozen", True),
    Line("random", "frozen", False),
    Line("random", "frozen", True),
)


def develop(seed: int, settings: Settings) -> list[Row]:
    """開発用の画像で、線と k ごとに、学習率ごとの正解率を測る。"""
    split = mnist_split(seed, development=True, test=settings["test"])
    return [
        {"n": n, **line._asdict(), "k": k, "lr": lr, "score": measure(line, k, split, n, seed, lr=lr)}
        for n in SIZES
        for line, k in cases()
        for lr in candidates(line, k)
    ]


def cases() -> list[tuple[Line, int]]:
    """測る組。k = 0 はどの線でも同じ（全部の段を乱数から学習する）なので、1 回だけ測る。"""
    return [(LINES[0], 0)] + [(line, k) for line in LINES for k in DEPTHS]


def candidates(line: Line, k: int) -> tuple[float, ...]:
    """試す学習率。"""
    return LR + LARGE if line.mode == "frozen" and k == DEPTHS[-1] else LR


def settings() -> Settings:
    """枚数、線、k ごとの学習率は、開発用の結果で選ぶ。"""
    picked = {
        key(n, line, k): chosen("02_layers_dev", ["lr"], n=n, **line._asdict(), k=k)["lr"]
        for n in SIZES
        for line, k in cases()
    }
    return {"lr": picked, "lr_tried": LR, "lr_tried_head_only": LR + LARGE, **FIXED, "test": 2000}


def key(n: int, line: Line, k: int) -> str:
    """設定の鍵。"""
    return f"{n}/{line.source}/{line.mode}/{'calibrated' if line.calibrated else 'as_is'}/{k}"


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、選んだ学習率のまま測る。k = 0 の値は、どの線にも同じものを書く。"""
    split = mnist_split(seed, development=False, test=settings["test"])
    rows = []
    for n in SIZES:
        scores = {
            (line, k): measure(line, k, split, n, seed, lr=settings["lr"][key(n, line, k)]) for line, k in cases()
        }
        for line in LINES:
            scores[line, 0] = scores[LINES[0], 0]
            rows += [{"n": n, **line._asdict(), "k": k, "accuracy": scores[line, k]} for k in (0, *DEPTHS)]
    return rows


def measure(line: Line, k: int, split: Split, n: int, seed: int, *, lr: float) -> float:
    """一つの条件の、テストでの正解率。写さない段の初期値は、線によらず種だけで決まる。"""
    images, labels = split.few(n, seed)
    torch.manual_seed(seed)
    model = prepared(GlyphCNN(10), line, k, images)
    learn(model, images, labels, lr=lr, seed=seed)
    return accuracy(model, split.test, split.test_labels)


def prepared(model: GlyphCNN, line: Line, k: int, images: Tensor) -> GlyphCNN:
    """初めの k 段を写し、必要なら移動統計を合わせ、それから固定する。

    合わせる統計は、訓練の n 枚（ラベルは使わない）を一つのバッチとして計算した平均と分散である。
    固定した段は train() でも評価モードのままなので、固定した後では合わせられない。
    """
    names = stage_names(model)[:k]
    if line.source == "letters":
        copied = {name: value for name, value in load_weights("letters").items() if _belongs(name, names)}
        model.load_state_dict(copied, strict=False)
    if line.calibrated:
        update_bn([images], model)
    if line.mode == "frozen":
        set_freeze(model, names)
    return model


def _belongs(parameter: str, stages: list[str]) -> bool:
    return any(parameter.startswith(f"{stage}.") for stage in stages)


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="02_layers",
            title="初めの k 段を写す実験（フォントの英字 → MNIST-5k）",
            description="GlyphCNN の初めの k 段を写して固定するか学習し、残りは乱数から学習する。対照は、乱数のまま固定した"
            "もの。calibrated は、固定する前に、訓練の n 枚（ラベルは使わない）を一つのバッチとして移動統計を計算し直した場合。"
            "k = 0 の行は、同じ 1 回の測定をどの線にも書いたもの。同じ種は、同じ分け方と同じ初期値を使う。",
            run=confirm,
            settings=settings,
            source=here,
            assets=("glyph_cnn_letters.safetensors",),
        ),
        Experiment(
            name="02_layers_dev",
            title="初めの k 段を写す実験の、学習率の選択（開発用の画像）",
            description="線、k、枚数ごとに、学習率を比べる。本番の画像は使わない。",
            run=develop,
            settings=lambda: {"sizes": SIZES, "lr_tried": LR, "lr_tried_head_only": LR + LARGE, **FIXED, "test": 700},
            source=here,
            seeds=tuple(range(100, 102)),
            option="--dev",
            assets=("glyph_cnn_letters.safetensors",),
        ),
    )
