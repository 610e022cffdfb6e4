"""プロキシ A 距離: 二つのドメインを線形分類器で見分けるときの誤り率から測る距離。"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tlkit.transferability.inputs import as_features


def proxy_a_distance(source: object, target: object, *, seed: int) -> float:
    r"""プロキシ A 距離 2(1 − 2ε)。見分けられなければ 0 の近く、完全に見分けられれば 2。

    ε は、半分の標本で学習した線形のドメイン識別器の、残りの半分での誤り率である（二つのドメインの誤り率の平均）。
    学習に使った標本で測ると、次元が高いときに必ず見分けられてしまい、距離が過大になる。

    Args:
        source: ソースの特徴 (N, D)。N ≥ 4。
        target: ターゲットの特徴 (M, D)。M ≥ 4。
        seed: 標本を半分に分ける乱数の種。

    Returns:
        −2 以上 2 以下の値。偶然より悪く見分けたときは負になる。

    Raises:
        ValueError: 形が合わないか、標本が少なすぎるとき。

    出典: Ben-David et al., "Analysis of Representations for Domain Adaptation", NIPS 2006。
        Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 17 (2016)。
    """
    a, b = (as_features(z, name, least=4).cpu().numpy() for z, name in ((source, "source"), (target, "target")))
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"source は {a.shape[1]} 次元、target は {b.shape[1]} 次元です。同じ特徴を渡してください。")
    rng = np.random.default_rng(seed)
    halves = [(z[order[: len(z) // 2]], z[order[len(z) // 2 :]]) for z in (a, b) for order in [rng.permutation(len(z))]]
    train = np.concatenate([half[0] for half in halves])
    domains = np.repeat([0, 1], [len(half[0]) for half in halves])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    classifier.fit(train, domains)
    error = np.mean([np.mean(classifier.predict(half[1]) != domain) for domain, half in enumerate(halves)])
    return float(2 * (1 - 2 * error))
