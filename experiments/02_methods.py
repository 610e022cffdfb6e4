"""ファインチューニングの七つの手法は、ターゲットの枚数でどう変わるか。

フォントの英字（数字は含まない）で学習した GlyphCNN を、手書き数字 MNIST-5k に移す。
どの手法も、訓練の画像に変形を加えない場合と加える場合の、両方を測る。事前学習は変形を加えて行ったので、
変形を加えない scratch との差には、変形の効果が混ざるからである。
"""

from pathlib import Path
from typing import Any

from _record import Experiment, Row, Settings, chosen, main
from _transfer import BATCH, DECAY, METHODS, PHASES, RATES, STEPS, tuned
from _vision import Split, accuracy, mnist_split

SIZES = (20, 50, 100, 500)
PENALTIES = (1e-3, 1e-1)  # LP-FT の分類の層を解くときの、L2 正則化の強さ
DEVELOPED = {"small": 50, "large": 500}  # N ≤ 100 には "small"、それより大きい N には "large" で選んだ設定を使う
CASES = [(method, augment) for method in METHODS for augment in (False, True)]
FIXED = {"steps": STEPS, "batch": BATCH, "decay": DECAY, "unfreezing_phases": PHASES}
TRIED = {"lr": RATES, "l2": PENALTIES}


def develop(seed: int, settings: Settings) -> list[Row]:
    """開発用の画像で、学習率（LP-FT では正則化の強さも）ごとの正解率を測る。"""
    split = mnist_split(seed, development=True, test=settings["test"])
    rows = []
    for amount, n in settings["developed"].items():
        for method, augment in CASES:
            for setting in _candidates(method):
                score = measure(method, split, n, seed, augment=augment, **setting)
                rows.append({"amount": amount, "n": n, "method": method, "augment": augment, **setting, "score": score})
    return rows


def _candidates(method: str) -> list[dict[str, float | None]]:
    penalties = PENALTIES if METHODS[method].head_first else (None,)
    return [{"lr": lr, "l2": l2} for l2 in penalties for lr in RATES]


def settings() -> Settings:
    """手法と変形の有無ごとの設定は、開発用の結果で選ぶ。"""
    picked = {
        f"{amount}/{method}/{'augment' if augment else 'plain'}": chosen(
            "02_methods_dev", ["lr", "l2"], amount=amount, method=method, augment=augment
        )
        for amount in DEVELOPED
        for method, augment in CASES
    }
    return {"picked": picked, "tried": TRIED, "test": 2000, **FIXED}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、選んだ設定のまま測る。"""
    split = mnist_split(seed, development=False, test=settings["test"])
    rows = []
    for n in SIZES:
        for method, augment in CASES:
            setting = picked(settings, n, method, augment)
            score = measure(method, split, n, seed, augment=augment, **setting)
            rows.append({"n": n, "method": method, "augment": augment, "accuracy": score})
    return rows


def picked(settings: Settings, n: int, method: str, augment: bool) -> Settings:
    """枚数、手法、変形の有無に対して、選んである設定。"""
    amount = "small" if n <= 100 else "large"
    found: Settings = settings["picked"][f"{amount}/{method}/{'augment' if augment else 'plain'}"]
    return found


def measure(method: str, split: Split, n: int, seed: int, *, augment: bool, **setting: Any) -> float:
    """一つの手法の、テストでの正解率。初期値と枚数の選び方は、種だけで決まる。"""
    model = tuned(METHODS[method], *split.few(n, seed), seed=seed, augment=augment, **setting)
    return accuracy(model, split.test, split.test_labels)


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="02_methods",
            title="ファインチューニングの手法と、ターゲットの枚数（フォントの英字 → MNIST-5k）",
            description="フォントの英字で事前学習した GlyphCNN（事前学習は 1 回だけで、種は変えていない）を、七つの手法で"
            "手書き数字に移す。last_block は、128 次元の特徴を作る全結合層と分類の層を学習する。同じ種は、同じ分け方と同じ"
            "分類の層の初期値を使う。ターゲットはクラスごとに同じ枚数。更新の回数は、どの手法も枚数によらず同じ。",
            run=confirm,
            settings=settings,
            source=here,
            assets=("glyph_cnn_letters.safetensors",),
        ),
        Experiment(
            name="02_methods_dev",
            title="ファインチューニングの手法の実験の、設定の選択（開発用の画像）",
            description="手法、変形の有無、枚数ごとに、学習率（LP-FT では正則化の強さも）を比べる。本番の画像は使わない。",
            run=develop,
            settings=lambda: {"developed": DEVELOPED, "tried": TRIED, "test": 700, **FIXED},
            source=here,
            seeds=tuple(range(100, 103)),
            option="--dev",
            assets=("glyph_cnn_letters.safetensors",),
        ),
    )
