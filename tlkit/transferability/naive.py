"""やってはいけない転移可能性の点数。壊れる様子を見るために残してある。"""

from scipy.stats import spearmanr

from tlkit.losses.mmd import mmd2
from tlkit.transferability.inputs import as_features


def spearman_mmd_score(source: object, target: object) -> float:
    r"""素朴な点数 ρ(flatten(source), flatten(target)) − 0.1 · MMD²(線形)。使ってはいけない。

    順位相関 ρ は、組になった値の関係を測る。しかし source の i 行目と target の i 行目は、組ではない。
    行を並べ替えるだけで値が変わるので、データの性質ではなく、並びの偶然を測っている。
    重み 0.1 に根拠はなく、件数が違えば計算もできない。ラベルも使わない。

    Args:
        source: 特徴 (N, D)。
        target: 特徴 (N, D)。件数が同じでなければならない。

    Raises:
        ValueError: 形が合わないとき。
    """
    a, b = as_features(source, "source"), as_features(target, "target")
    if a.shape != b.shape:
        raise ValueError(
            f"source {tuple(a.shape)}、target {tuple(b.shape)} が渡されました。この点数は、形が同じでないと計算できません。"
            "件数の違う標本を比べられないことも、この点数の欠点の一つです。"
        )
    correlation = spearmanr(a.flatten().cpu().numpy(), b.flatten().cpu().numpy()).statistic
    return float(correlation - 0.1 * mmd2(a, b, kernel="linear", estimator="biased").item())
