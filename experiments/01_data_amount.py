"""事前学習の効果は、ターゲットの枚数でどう変わるか。

フォントの英字（数字は含まない）で学習した GlyphCNN を、手書き数字 MNIST-5k に移す。対照は、同じ構造を乱数から学習したもの。
事前学習は変形を加えて行ったので、乱数から学習する側にも変形を加えたものを置く（差が変形だけの効果でないことを見るため）。
"""

from pathlib import Path

import torch
from _record import Experiment, Row, Settings, chosen, main
from _vision import Split, accuracy, features_of, linear_probe, mnist_split, train

from tlkit.models.glyph_cnn import GlyphCNN

SIZES = (20, 50, 100, 200, 500, 1000)
TRAINED = ("scratch", "scratch_augment", "finetune", "finetune_augment")
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
COSTS = (0.001, 0.01, 0.1, 1.0, 10.0)
STEPS = 150
DEVELOPED = {"small": 50, "large": 500}  # N ≤ 100 には "small"、それより大きい N には "large" で選んだ設定を使う


def develop(seed: int, settings: Settings) -> list[Row]:
    """開発用の画像で、学習率と正則化の強さごとの正解率を測る。"""
    split = mnist_split(seed, development=True, test=400)
    rows = []
    for amount, n in settings["developed"].items():
        tried = [(method, rate) for method in TRAINED for rate in RATES] + [("probe", cost) for cost in COSTS]
        for method, value in tried:
            score = measure(method, value, split, n, seed)
            rows.append({"amount": amount, "n": n, "method": method, "value": value, "score": score})
    return rows


def settings() -> Settings:
    """手法ごとの学習率（probe では正則化の逆数 C）は、開発用の結果で選ぶ。"""
    picked = {
        f"{amount}/{method}": chosen("01_data_amount_dev", ["value"], amount=amount, method=method)["value"]
        for amount in DEVELOPED
        for method in (*TRAINED, "probe")
    }
    return {"picked": picked, "tried": {"lr": RATES, "c": COSTS}, "steps": STEPS, "batch": 32, "test": 2000}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、選んだ設定のまま測る。"""
    split = mnist_split(seed, development=False, test=settings["test"])
    rows = []
    for n in SIZES:
        amount = "small" if n <= 100 else "large"
        for method in (*TRAINED, "probe"):
            score = measure(method, settings["picked"][f"{amount}/{method}"], split, n, seed)
            rows.append({"n": n, "method": method, "accuracy": score})
    return rows


def measure(method: str, value: float, split: Split, n: int, seed: int) -> float:
    """一つの手法の、テストでの正解率。初期値と枚数の選び方は、種だけで決まる。"""
    images, labels = split.few(n, seed)
    torch.manual_seed(seed)
    model = GlyphCNN(10, weights=None if method.startswith("scratch") else "letters").eval()
    if method == "probe":
        x, test_x = (features_of(model, part) for part in (images, split.test))
        return linear_probe(x, labels, test_x, split.test_labels, value)
    train(model, images, labels, steps=STEPS, lr=value, seed=seed, augment=method.endswith("augment"))
    return accuracy(model, split.test, split.test_labels)


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="01_data_amount",
            title="ターゲットの枚数と、事前学習の効果（フォントの英字 → MNIST-5k）",
            description="フォントの英字で事前学習した GlyphCNN（事前学習は 1 回だけで、種は変えていない）と、乱数から学習した"
            "同じ構造を比べる。同じ種は、同じ分け方を使う。ターゲットはクラスごとに同じ枚数。",
            run=confirm,
            settings=settings,
            source=here,
            assets=("glyph_cnn_letters.safetensors",),
        ),
        Experiment(
            name="01_data_amount_dev",
            title="事前学習の効果の実験の、設定の選択（開発用の画像）",
            description="手法と枚数ごとに、学習率か正則化の強さを比べる。本番の画像は使わない。",
            run=develop,
            settings=lambda: {"developed": DEVELOPED, "tried": {"lr": RATES, "c": COSTS}, "steps": STEPS},
            source=here,
            seeds=(100, 101),
            option="--dev",
            assets=("glyph_cnn_letters.safetensors",),
        ),
    )
