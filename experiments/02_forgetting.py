"""破壊的忘却: ターゲットに合わせる学習率を上げると、ソースの課題の正解率はどれだけ下がるか。

フォントの英字で学習した GlyphCNN を、手書き数字 100 枚でファインチューニングする。その後で、特徴抽出器を取り出し、元の英字の
分類の層をつなぎ直して、事前学習で除いた書体（系統 HELD_OUT）の英字を分類させる。分類の層は変えていないので、
正解率の変化は、特徴の変化だけによる。
bn_moves は、特徴抽出器の重みをすべて固定したつもりで、BatchNorm を訓練モードのままにした場合である。
英字も数字も黒地に白で、統計が近い。統計が大きく違うターゲットとして、白黒を反転した数字（inverted）でも測る。
"""

from dataclasses import replace
from pathlib import Path

import torch
from _record import Experiment, Row, Settings, chosen, main
from _transfer import BATCH, DECAY, METHODS, RATES, STEPS, Method, learn, tuned
from _vision import Split, accuracy, mnist_split
from pretrain_glyphs import HELD_OUT
from torch import Tensor

from tlkit.data.glyphs import glyphs
from tlkit.models.glyph_cnn import GlyphCNN

N = 100
DECAYS = (1.0, 1.6, DECAY, 4.0, 8.0)
SWEPT = ("full", "discriminative", "ulmfit", "head", "bn_moves")
INVERTED = ("head_inverted", "bn_moves_inverted")
FIXED = {"n": N, "steps": STEPS, "batch": BATCH, "lr_tried": RATES, "decays": DECAYS, "held_out": HELD_OUT}


def develop(seed: int, settings: Settings) -> list[Row]:
    """開発用の画像で、学習率ごとの、ターゲットの正解率を測る（ソースの正解率は、選択に使わない）。"""
    split = mnist_split(seed, development=True, test=settings["test"])
    rows = []
    for case in (*(f"decay {decay}" for decay in DECAYS), "ulmfit", "head", "bn_moves", *INVERTED):
        target = seen_by(case, split)
        for lr in RATES:
            score = accuracy(adapted(case, target, lr, seed), target.test, target.test_labels)
            rows.append({"case": case, "lr": lr, "score": score})
    return rows


def settings() -> Settings:
    """層別学習率の比ごと、手法ごとの学習率は、開発用の結果で選ぶ。"""
    lr = {case: chosen("02_forgetting_dev", ["lr"], case=_case(case))["lr"] for case in SWEPT + INVERTED}
    by_decay = {str(decay): chosen("02_forgetting_dev", ["lr"], case=f"decay {decay}")["lr"] for decay in DECAYS}
    return {"lr": lr, "lr_by_decay": by_decay, "test": 2000, **FIXED}


def _case(method: str) -> str:
    """full と discriminative は、層別学習率の比が 1 と 2.6 の場合である。"""
    return {"full": "decay 1.0", "discriminative": f"decay {DECAY}"}.get(method, method)


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、学習率を変えながら測る。反転した数字と、層別学習率の比は、選んだ学習率で測る。"""
    split = mnist_split(seed, development=False, test=settings["test"])
    rows = [{"method": method, "lr": lr, **measure(method, split, lr, seed)} for method in SWEPT for lr in RATES]
    for method in INVERTED:
        lr = settings["lr"][method]
        rows.append({"method": method, "lr": lr, **measure(method, split, lr, seed)})
    for decay in DECAYS:
        lr = settings["lr_by_decay"][str(decay)]
        rows.append({"method": "decay", "decay": decay, "lr": lr, **measure(f"decay {decay}", split, lr, seed)})
    return rows


def measure(method: str, split: Split, lr: float, seed: int) -> Row:
    """ターゲットの正解率と、ソースの正解率（前と後）。"""
    target = seen_by(method, split)
    model = adapted(_case(method), target, lr, seed)
    return {
        "accuracy": accuracy(model, target.test, target.test_labels),
        "source_accuracy": source_accuracy(model),
        "source_before": source_accuracy(GlyphCNN.pretrained("letters")),
    }


def seen_by(case: str, split: Split) -> Split:
    """ターゲットの画像。inverted では、訓練もテストも白黒を反転する（ソースの英字は反転しない）。"""
    if case in INVERTED:
        return replace(split, train=1 - split.train, test=1 - split.test)
    return split


def adapted(case: str, split: Split, lr: float, seed: int) -> GlyphCNN:
    """ターゲットの N 枚でファインチューニングしたネットワーク。"""
    images, labels = split.few(N, seed)
    case = case.removesuffix("_inverted")
    if case == "bn_moves":
        return _with_moving_statistics(images, labels, lr, seed)
    method = Method(decay=float(case.removeprefix("decay "))) if case.startswith("decay ") else METHODS[case]
    return tuned(method, images, labels, lr=lr, seed=seed)


def _with_moving_statistics(images: Tensor, labels: Tensor, lr: float, seed: int) -> GlyphCNN:
    """よくある誤り: requires_grad だけを False にする。BatchNorm は訓練モードのままで、移動統計が動く。"""
    torch.manual_seed(seed)
    model = GlyphCNN(10, weights="letters")
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    learn(model, images, labels, lr=lr, seed=seed)
    return model


@torch.inference_mode()
def source_accuracy(model: GlyphCNN) -> float:
    """元の英字の分類の層を、このネットワークの特徴につないだときの、除いた書体（変形なし）での正解率。"""
    letters = glyphs("letters")
    held = letters.of_family(HELD_OUT)
    original = GlyphCNN.pretrained("letters").classifier
    logits = original(model.eval().features(letters.images[held]))
    return float((logits.argmax(1) == letters.labels[held]).float().mean())


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="02_forgetting",
            title="学習率と破壊的忘却（フォントの英字 → MNIST-5k）",
            description="ファインチューニングの後の特徴に、元の英字の分類の層をつなぎ、事前学習の訓練から除いた書体の英字を"
            "分類させる（source_accuracy）。source_before は、ファインチューニングの前の値。この書体は、事前学習で"
            "エポックを選ぶ検証に使ったので、前の値は少し高めに出る。inverted は、白黒を反転した数字をターゲットにした場合。"
            "decay の行は、層別学習率の比ごとに、開発用の画像のターゲットの正解率だけで選んだ学習率を使う。変形は加えない。",
            run=confirm,
            settings=settings,
            source=here,
            assets=("glyph_cnn_letters.safetensors",),
        ),
        Experiment(
            name="02_forgetting_dev",
            title="破壊的忘却の実験の、学習率の選択（開発用の画像）",
            description="手法と、層別学習率の比ごとに、学習率を比べる。本番の画像は使わない。",
            run=develop,
            settings=lambda: {"test": 700, **FIXED},
            source=here,
            seeds=tuple(range(100, 103)),
            option="--dev",
            assets=("glyph_cnn_letters.safetensors",),
        ),
    )
