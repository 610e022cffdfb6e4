"""DANN の係数 λ の予定: 0 から始めて、1 に近づける。"""

import math


def dann_lambda(progress: float, gamma: float = 10.0) -> float:
    r"""学習の進み具合 p での λ_p = 2 / (1 + exp(−γ p)) − 1 = tanh(γ p / 2)。

    学習の初めは、ドメイン識別器がまだ何も見分けられない。そのときの勾配は雑音なので、λ を 0 から始める。
    p は更新（ステップ）ごとに進める。エポックごとにしか進めないと、最初のエポックの間 λ が 0 のままになる。

    Args:
        progress: 進み具合 p = 済んだ更新の数 / 更新の総数。0 以上 1 以下。
        gamma: 立ち上がりの速さ γ。正の数。論文は 10。

    Returns:
        0 以上 1 以下の λ（γ = 10 なら、p = 0.5 で約 0.987。値が 1 になるのは、大きな γ で桁が足りないときだけ）。

    Raises:
        ValueError: progress が 0 から 1 の外か、gamma が正でないとき。

    出典: Ganin & Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015, 4 節。
        Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 17 (2016), 5.2.2 節。
    """
    if not 0 <= progress <= 1:
        raise ValueError(
            f"progress に {progress!r} が渡されました。0 以上 1 以下の、step / 総ステップ数 にしてください。"
        )
    if not (math.isfinite(gamma) and gamma > 0):
        raise ValueError(f"gamma に {gamma!r} が渡されました。正の有限な数（論文では 10）にしてください。")
    return math.tanh(gamma * progress / 2)  # 2/(1+e^{−a}) − 1 と同じ値で、大きな γ でもあふれない
