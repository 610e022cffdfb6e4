"""ラベルシフトの下のドメイン適応: ターゲットのラベルの割合だけを偏らせて、適応の手法がどうなるかを測る。

MNIST → MNIST-M で、ターゲットの学習の画像のうち数字 0、1、2 の合計の割合を変える。枚数は変えない。
ソースの画像と、クラスごとの画像の分布 P(X | Y) は動かない。
"""

from dataclasses import replace
from pathlib import Path

import torch
from _adaptation import Pair, measure, mnist_to_mnist_m, with_statistics_of
from _record import Experiment, Row, Settings, main
from _shift import COMMON, STEPS, class_shares, fixed, picked, skewed_rows, trained
from torch import Tensor, nn

SHARES = (0.3, 0.5, 0.7, 0.9)  # 0.3 は偏りがない場合
SIZE, TEST_SIZE = 1050, 210  # どの割合でも、クラスごとの枚数が整数になる


def settings() -> Settings:
    """設定は dann_mnistm と同じ。割合ごとに選び直さない。"""
    sizes = {"shares": SHARES, "target_size": SIZE, "distance_size": TEST_SIZE}
    return {"picked": picked("source_only", "dann", "mmd"), **sizes, **fixed(STEPS)}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """割合ごと、手法ごとに測る。ソースのみの学習はターゲットを見ないので、どの割合でも同じモデルである。"""
    whole, picks = mnist_to_mnist_m(seed, development=False), settings["picked"]
    source, rows = None, []
    for share in settings["shares"]:
        pair = skewed(whole, share, seed)
        source = source or trained("source_only", pair, seed, picks["source_only"], settings["steps"])
        networks = {"source_only": source, "adabn": source}
        networks |= {name: trained(name, pair, seed, picks[name], settings["steps"]) for name in ("dann", "mmd")}
        for method, model in networks.items():
            row = measured(model, pair, whole, share, seed, adapted=method != "source_only")
            rows.append({"share": share, "method": method, **row})
    return [*rows, {"share": max(settings["shares"]), "method": "mmd_short", **short(whole, seed, settings)}]


def short(whole: Pair, seed: int, settings: Settings) -> Row:
    """検査が測り直すための、短い MMD の学習。"""
    share = max(settings["shares"])
    pair = skewed(whole, share, seed)
    model = trained("mmd", pair, seed, settings["picked"]["mmd"], settings["short_steps"])
    return measured(model, pair, whole, share, seed, adapted=True)


def skewed(pair: Pair, share: float, seed: int) -> Pair:
    """ターゲットの学習とテストの画像を、同じ割合に偏らせた組。ソースは動かさない。"""
    train = skewed_rows(pair.target_labels, share, SIZE, seed)
    test = skewed_rows(pair.target_test_labels, share, TEST_SIZE, seed)
    return replace(
        pair,
        target=pair.target[train],
        target_labels=pair.target_labels[train],
        target_test=pair.target_test[test],
        target_test_labels=pair.target_test_labels[test],
    )


def measured(model: nn.Module, pair: Pair, whole: Pair, share: float, seed: int, *, adapted: bool) -> Row:
    """偏ったテストでの正解率 Σ_c p_c · 再現率_c、再現率の平均、偏ったテストの画像で測った A 距離。

    再現率は、取り置いた画像の全部で求める。割合どおりに抜き出すと、少ない数字が数枚になり、値が荒れるからである。
    p はテストの割合なので、正解率は、抜き出しをくり返したときの平均に等しい。
    """
    found = measure(model, pair, seed, adapted=adapted)
    network = with_statistics_of(model, pair.target if adapted else pair.source)
    recalls = recalls_of(network, whole.target_test, whole.target_test_labels)
    return {
        "accuracy": float(class_shares(share) @ recalls),
        "balanced_accuracy": float(recalls.mean()),
        "recall_common": float(recalls[:COMMON].mean()),
        "recall_rare": float(recalls[COMMON:].mean()),
        "source_accuracy": found["source_accuracy"],
        "a_distance": found["a_distance"],
    }


@torch.inference_mode()
def recalls_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """クラスごとの再現率 (10,)。"""
    hit = torch.cat([model.activations(x).logits for x in images.split(500)]).argmax(1) == labels
    return torch.stack([hit[labels == c].float().mean() for c in range(10)])


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="03_label_shift",
            title="ラベルシフトの下のドメイン適応（MNIST → MNIST-M）",
            description="share は、ターゲットの学習とテストに占める数字 0、1、2 の合計の割合。一番小さい値が偏りのない場合。"
            f"ターゲットの学習の画像は、どの割合でも {SIZE} 枚で、ラベルは使わない。ソースの 4,000 枚は偏らせない。"
            f"更新は {STEPS} 回（dann_mnistm より少ない。どの手法でも同じ）。設定は dann_mnistm と同じで、割合ごとに選び直さない。"
            "accuracy は偏ったテストでの正解率、balanced_accuracy はクラスごとの再現率の平均。再現率は取り置いた 1,000 枚で求める。"
            f"a_distance は、割合どおりに抜き出したテストの {TEST_SIZE} 枚と、ソースのテスト 1,000 枚で測る。"
            "mmd_short は更新が少ない学習で、検査が測り直すためにある。",
            run=confirm,
            settings=settings,
            source=here,
            seeds=tuple(range(30, 35)),
        ),
    )
