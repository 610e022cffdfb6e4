"""MNIST → MNIST-M のドメイン適応: ソースのみ、AdaBN、DANN、MMD、CORAL、ターゲットのみ。

設定は、二つの開発用の組で選ぶ。別の写真で作った MNIST-M と、UCI の手書き数字である。適応の手法の設定は、二つの組の平均で比べる。
本番の写真とテストの数字は、開発では一度も使わない。本番は、選ばれた設定のまま、新しい種で 1 回だけ測る。
"""

from pathlib import Path

from _adaptation import (
    FIXED,
    Pair,
    accuracy,
    digits_pair,
    measure,
    method_of,
    mnist_to_mnist_m,
    train,
    with_statistics_of,
)
from _record import Experiment, Row, Settings, chosen, main
from torch import nn

GRID: dict[str, list[dict[str, float | str | None]]] = {
    "source_only": [{"lr": lr, "weight": None, "norm": "batch"} for lr in (0.01, 0.03, 0.1, 0.3)],
    "target_only": [{"lr": lr, "weight": None, "norm": "batch"} for lr in (0.01, 0.03, 0.1, 0.3)],
    "dann": [{"lr": lr, "weight": w, "norm": "batch"} for lr in (0.03, 0.1) for w in (0.1, 0.3, 1.0)]
    + [{"lr": 0.1, "weight": 3.0, "norm": "batch"}, {"lr": 0.2, "weight": 1.0, "norm": "batch"}]
    + [{"lr": 0.03, "weight": 0.3, "norm": "none"}],
    "mmd": [{"lr": lr, "weight": w, "norm": "batch"} for lr in (0.03, 0.1) for w in (1.0, 3.0, 10.0)]
    + [{"lr": 0.03, "weight": 30.0, "norm": "batch"}],
    "coral": [{"lr": 0.03, "weight": w, "norm": "batch"} for w in (1.0, 10.0, 100.0, 1000.0)]
    + [{"lr": 0.1, "weight": w, "norm": "batch"} for w in (1.0, 10.0, 100.0)]
    + [{"lr": 0.2, "weight": 10.0, "norm": "batch"}],
}


def develop(seed: int, settings: Settings) -> list[Row]:
    """開発用の二つの組で、設定ごとのターゲットの正解率を測る。"""
    pairs = {
        "mnist_m": mnist_to_mnist_m(seed, development=True),
        "uci_digits": digits_pair("mnist5k", "uci_digits", seed),
    }
    return [
        {"pair": name, "method": method, **setting, **_score(method, pair, seed, setting)}
        for name, pair in pairs.items()
        for method, candidates in settings["grid"].items()
        for setting in candidates
    ]


def _score(method: str, pair: Pair, seed: int, setting: Settings) -> dict[str, float]:
    """ソースのみは、統計を測り直さない値で選ぶ。AdaBN は、選ばれたソースのみの学習に重ねる。"""
    model = _trained(method, pair, seed, setting)
    adapted = with_statistics_of(model, pair.target)
    scores = {"plain": model, "adapted": adapted}
    found = {name: accuracy(net, pair.target_test, pair.target_test_labels) for name, net in scores.items()}
    return {"score": found["plain" if method == "source_only" else "adapted"], "adapted_score": found["adapted"]}


def _trained(method: str, pair: Pair, seed: int, setting: Settings) -> nn.Module:
    part = method_of(method, setting["weight"])
    on_target = method == "target_only"
    return train(pair, part, lr=setting["lr"], seed=seed, on_target=on_target, norm=setting["norm"])


def settings() -> Settings:
    """手法ごとの設定は、開発用の結果で選ぶ。

    ソースのみは、二つの組の平均ではなく、写真の組だけで選ぶ。弱い設定のソースのみと比べて、効果を大きく見せないためである。
    """
    picked = {
        method: chosen("dann_mnistm_dev", ["lr", "weight", "norm"], method=method, **_only_pair(method))
        for method in GRID
    }
    return {"picked": picked, "tried": GRID, **FIXED}


def _only_pair(method: str) -> dict[str, str]:
    return {"pair": "mnist_m"} if method == "source_only" else {}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の組で、選んだ設定のまま測る。"""
    pair = mnist_to_mnist_m(seed, development=False)
    rows = []
    for method, setting in settings["picked"].items():
        model = _trained(method, pair, seed, setting)
        rows.append({"method": method, **measure(model, pair, seed, adapted=method != "source_only")})
        if method == "source_only":
            rows.append({"method": "adabn", **measure(model, pair, seed, adapted=True)})
    return rows


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="dann_mnistm",
            title="MNIST → MNIST-M のドメイン適応",
            description="MNIST-5k の 4,000 枚をソース、同じ数字に本番の写真を重ねた 4,000 枚をラベルなしのターゲットとし、"
            "取り置いた 1,000 枚で測る。種は、写真の切り出し、初期値、バッチの順を変える。テストの数字は種によらず同じ。"
            "source_only はソースの統計で、ほかはターゲットの統計で測る。target_only は、ターゲットのラベルで学習した上限の目安。",
            run=confirm,
            settings=settings,
            source=here,
        ),
        Experiment(
            name="dann_mnistm_dev",
            title="MNIST → MNIST-M のドメイン適応の実験の、設定の選択（開発用の組）",
            description="別の写真で作った MNIST-M と、UCI の手書き数字。手法ごとに、二つの組と種の平均が最も高い設定を選ぶ（ソースのみは、MNIST-M だけで選ぶ）。初めの候補の端が選ばれた手法は、候補を外側へ広げて測り足した。",
            run=develop,
            settings=lambda: {"grid": GRID, **FIXED},
            source=here,
            seeds=(100, 101),
            option="--dev",
        ),
    )
