# %% [markdown]
# # 第1章の演習 転移学習の基礎
#
# 上から順に実行してください。答えを書くのは`raise NotImplementedError`のある所です。
# 書いたら、すぐ下の確認セルを実行します。書く前に実行しても、「⏳ 未着手」と表示されるだけで止まりません。

# %%
import torch

from tlkit import data, plot
from tlkit.course import check, hint, ready

# %% [markdown]
# ## 演習01-1 MMD²を書く
#
# <!-- exercise: 01-1 -->
#
# 二つの標本 $x_1, \dots, x_N$ と $y_1, \dots, y_M$ から、RBFカーネルのMMD²を推定する関数を書いてください。
#
# $$
# k(a, b) = \exp\left(-\frac{\lVert a - b \rVert^2}{2\sigma^2}\right)
# $$
#
# `estimator="biased"`では、集まりの中の平均に $i = j$ の組も入れます（V統計量）。
#
# $$
# \widehat{\mathrm{MMD}}^2_b = \frac{1}{N^2} \sum_{i,j} k(x_i, x_j) + \frac{1}{M^2} \sum_{i,j} k(y_i, y_j) - \frac{2}{NM} \sum_{i,j} k(x_i, y_j)
# $$
#
# `estimator="unbiased"`では、初めの二つの和から $i = j$ の組を除きます（U統計量）。
#
# $$
# \widehat{\mathrm{MMD}}^2_u = \frac{1}{N(N-1)} \sum_{i \neq j} k(x_i, x_j) + \frac{1}{M(M-1)} \sum_{i \neq j} k(y_i, y_j) - \frac{2}{NM} \sum_{i,j} k(x_i, y_j)
# $$
#
# 満たすべき条件は次のとおりです。
#
# - 入力`x`は`(N, D)`、`y`は`(M, D)`のテンソルで、$N \neq M$ でもよい
# - 返り値は0次元のテンソルで、`x`と`y`に勾配が流れる
# - 引数を書き換えない
# - `tlkit.losses.mmd2`を呼ばずに、自分で計算する


# %%
def mmd2(x: torch.Tensor, y: torch.Tensor, sigma: float, estimator: str = "biased") -> torch.Tensor:
    """RBFカーネルのMMD²。x (N, D), y (M, D) → 0次元のテンソル。"""
    ### BEGIN SOLUTION

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squared = (a[:, None, :] - b[None, :, :]).square().sum(dim=2)  # (行の数, 列の数)
        return torch.exp(-squared / (2 * sigma**2))

    def within(z: torch.Tensor) -> torch.Tensor:
        gram, n = kernel(z, z), len(z)
        if estimator == "biased":
            return gram.sum() / n**2
        return (gram.sum() - gram.diagonal().sum()) / (n * (n - 1))

    return within(x) + within(y) - 2 * kernel(x, y).mean()
    ### END SOLUTION


# %%
check("01-1", mmd2)

# %% [markdown]
# ### 合格したら：自分のMMD²で、二つのデータ集合を比べる
#
# 自分で書いた関数を使い、MNISTどうしと、MNISTとUCIのMMD²を、帯域幅を変えながら測ります。
# 図を見る前に、二つの曲線が帯域幅とともにどう動くかを予想してください。

# %%
if ready("01-1"):
    g = torch.Generator().manual_seed(0)
    mnist, uci = (data.load(name).images.flatten(1) for name in ("mnist5k", "uci_digits"))
    mnist = mnist[torch.randperm(len(mnist), generator=g)[:400]]
    uci = uci[torch.randperm(len(uci), generator=g)[:200]]
    sigmas = [0.5, 1, 2, 4, 8, 16, 32, 64]
    same = [mmd2(mnist[:200], mnist[200:], sigma, "unbiased").item() for sigma in sigmas]
    different = [mmd2(mnist[:200], uci, sigma, "unbiased").item() for sigma in sigmas]

    fig, ax = plot.subplots()
    ax.plot(sigmas, same, marker="o", label="MNISTどうし")
    ax.plot(sigmas, different, marker="s", label="MNISTとUCI")
    ax.set_xscale("log", base=2)
    ax.set_xlabel("帯域幅 σ")
    ax.set_ylabel("MMD²（U統計量）")
    ax.legend()
    plot.show(
        fig,
        alt="帯域幅に対するMMDの二乗の折れ線グラフ。MNISTどうしは、どの帯域幅でもほぼ0。"
        "MNISTとUCIは、中ほどの帯域幅で山になり、両端では0に近づく。",
    )

# %% [markdown]
# **考えてみよう**：帯域幅が小さすぎると、二つの集まりの違いは見えなくなります。大きすぎる場合も同じです。それぞれの端で、カーネルの値はどんな数に近づいていますか。
