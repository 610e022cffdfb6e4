"""DANN の λ: 固定した λ と、予定の上限を変えて、ドメイン不変性とターゲットの正解率を並べて測る。

ドメイン不変性は、学習したドメイン識別器自身の正解率（own_domain_accuracy）と、固定した特徴の上で学習し直した識別器の
正解率（domain_accuracy）の両方で測る。前者が半々でも、後者が半々とは限らない。後者が低くても、クラスを見分けられるとは限らない。
λ = 0 では特徴抽出器に勾配が戻らないので、AdaBN つきのソースのみと同じ学習である。
"""

from pathlib import Path

from _adaptation import STEPS, Pair, measure, mnist_to_mnist_m, train
from _record import Experiment, Row, Settings, main
from _shift import SHORT, fixed, picked

from tlkit.adapt import DANNLoss

CASES = (
    *(("fixed", value) for value in (0.0, 0.1, 0.3, 1.0, 3.0)),
    *(("ramp", value) for value in (0.3, 1.0, 3.0)),
    ("short", 1.0),
)


def settings() -> Settings:
    """学習率と正規化は、DANN のために開発用の結果で選ばれたもの。λ はここで動かすので、選ばれた値を使わない。"""
    dann = picked("dann")["dann"]
    return {"lr": dann["lr"], "norm": dann["norm"], "cases": CASES, **fixed(STEPS)}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の組で、λ の条件ごとに測る。"""
    pair = mnist_to_mnist_m(seed, development=False)
    return [
        {"schedule": schedule, "lambda": value, **measured(schedule, value, pair, seed, settings)}
        for schedule, value in settings["cases"]
    ]


def measured(schedule: str, value: float, pair: Pair, seed: int, settings: Settings) -> Row:
    """一つの条件の学習と測定。domain_accuracy は、プロキシ A 距離を識別器の正解率に直した値。"""
    method = DANNLoss(fixed=value) if schedule == "fixed" else DANNLoss(lambda_max=value)
    steps = settings["short_steps"] if schedule == "short" else settings["steps"]
    model = train(pair, method, lr=settings["lr"], seed=seed, norm=settings["norm"], steps=steps)
    found = measure(model, pair, seed, adapted=True)
    return {**found, "domain_accuracy": (found["a_distance"] / 2 + 1) / 2}


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="03_lambda",
            title="DANN の λ とドメイン不変性（MNIST → MNIST-M）",
            description="fixed は学習の間ずっと同じ λ、ramp は上限が λ の予定。学習率は DANN のために開発用の組で選ばれたもので、"
            "λ ごとに選び直してはいない。画像とテストは dann_mnistm の本番と同じで、種は選択にも dann_mnistm にも使っていない。"
            "own_domain_accuracy は学習したドメイン識別器の正解率、domain_accuracy は固定した特徴の上で線形の識別器を"
            "学習し直したときの正解率（プロキシ A 距離から）。どれもターゲットの統計で測る。"
            f"short は {SHORT} 回だけ更新した予定で、検査が測り直すためにある。",
            run=confirm,
            settings=settings,
            source=here,
            seeds=tuple(range(20, 25)),
        ),
    )
