"""ほかの組でのドメイン適応: dann_mnistm で使った設定を、選び直さずに使う。

数字の二つのデータ集合を両方の向きで組にする。また、MNIST → MNIST-M で、ソースとターゲットの数字を重ならないようにして、
「同じ数字を使う」という本番の決まりが結果を左右していないかを確かめる。
"""

from pathlib import Path

from _adaptation import Pair, digits_pair, measure
from _record import Experiment, Row, Settings, main
from _shift import STEPS, fixed, mnist_m_halves, models, picked, trained
from torch import nn

ALL = ("source_only", "dann", "mmd", "coral", "target_only")
METHODS = {
    "mnist_to_uci": ALL,
    "uci_to_mnist": ALL,
    "mnist_m_disjoint": ("source_only", "dann", "mmd", "target_only"),
    "mnist_m_shared": ("source_only", "dann", "mmd"),
}
DEVELOPMENT = "mnist_to_uci"  # 設定を選ぶのに使った組
SHORT_PAIR, SHORT_METHODS = "uci_to_mnist", ("mmd", "coral")


def pair_of(name: str, seed: int) -> Pair:
    """名前から組を作る。"""
    if name == "mnist_to_uci":
        return digits_pair("mnist5k", "uci_digits", seed)
    if name == "uci_to_mnist":
        return digits_pair("uci_digits", "mnist5k", seed)
    return mnist_m_halves(seed, disjoint=name == "mnist_m_disjoint")


def settings() -> Settings:
    """適応の手法の設定は dann_mnistm と同じで、組ごとに選び直さない。ソースのみは、近いほうの開発用の組で選ぶ。"""
    source_only = {name: picked("source_only", baseline=_nearest(name))["source_only"] for name in METHODS}
    return {"picked": picked(*ALL[1:]), "source_only": source_only, "methods": METHODS, **fixed(STEPS)}


def _nearest(name: str) -> str:
    return "mnist_m" if name.startswith("mnist_m") else "uci_digits"


def confirm(seed: int, settings: Settings) -> list[Row]:
    """組ごと、手法ごとに測る。"""
    rows: list[Row] = []
    for name, methods in settings["methods"].items():
        pair = pair_of(name, seed)
        picks = {"source_only": settings["source_only"][name], **settings["picked"]}
        wanted = {method: picks[method] for method in methods}
        for method, model, adapted in models(pair, wanted, seed, settings["steps"]):
            row = measured(method, model, pair, seed, adapted=adapted)
            rows.append({"pair": name, "development": name == DEVELOPMENT, "method": method, **row})
    for method in SHORT_METHODS:
        row = {"pair": SHORT_PAIR, "development": False, "method": f"{method}_short"}
        rows.append({**row, **short(method, seed, settings)})
    return rows


def measured(method: str, model: nn.Module, pair: Pair, seed: int, *, adapted: bool) -> Row:
    """測った値。DANN のほかは、ドメイン識別器を学習していないので、その正解率を除く。"""
    found = measure(model, pair, seed, adapted=adapted)
    return {key: value for key, value in found.items() if key != "own_domain_accuracy" or method == "dann"}


def short(method: str, seed: int, settings: Settings) -> Row:
    """検査が測り直すための、短い学習。"""
    pair = pair_of(SHORT_PAIR, seed)
    model = trained(method, pair, seed, settings["picked"][method], settings["short_steps"])
    return measured(method, model, pair, seed, adapted=True)


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="03_pairs",
            title="ほかの組でのドメイン適応（適応の設定は dann_mnistm と同じ）",
            description="mnist_to_uci は設定を選ぶのに使った組（development が真）で、種だけが新しい。uci_to_mnist は逆の向きで、"
            "選択には使っていない組だが、画像は開発用の組と同じデータ集合から来る。"
            "mnist_m_disjoint は、学習の 4,000 枚を半分に分け、ソースとターゲットで違う数字を使う。mnist_m_shared は、"
            "枚数をそろえて同じ数字を使う対照。テストは本番の 1,000 枚である。"
            "ソースのみの学習率は、UCI を含む組では mnist_to_uci の開発用の結果で、MNIST-M では MNIST-M の開発用の結果で選んだ。"
            f"更新は {STEPS} 回（dann_mnistm より少ない。どの手法でも同じ）。名前が short で終わる行は、検査が測り直すためにある。",
            run=confirm,
            settings=settings,
            source=here,
            seeds=tuple(range(40, 45)),
        ),
    )
