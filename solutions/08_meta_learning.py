# %% [markdown]
# # 第8章の演習 メタ学習とメタ蒸留
#
# 上から順に実行してください。答えを書くのは`raise NotImplementedError`のある所です。
# 書いたら、すぐ下の確認セルを実行します。書く前に実行しても、「⏳ 未着手」と表示されるだけで止まりません。

# %%
import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call

from tlkit import data, fewshot, meta, plot
from tlkit.course import check, hint, ready
from tlkit.stats import mean_ci

# %% [markdown]
# ## 演習08-1 メタ勾配を手で求める
#
# <!-- exercise: 08-1 -->
#
# MAMLは、「数回の更新のあとで損失が小さくなる、**初めの値**」を学びます。そのためには、更新のあとの損失を、更新の**前**の値で微分します。
# この微分を**メタ勾配**と呼びます。パラメータが一つの、2次の損失なら、紙の上で求められます。
#
# 課題 $i$ の**サポート**の損失を $\frac{c_i}{2}(\theta - a_i)^2$、**クエリ**の損失を $\frac{c_i}{2}(\theta - b_i)^2$ とします。
# $c_i$ は谷の曲がり（曲率）です。サポートとクエリは、同じ課題の別の標本なので、最小点 $a_i$ と $b_i$ は少しずれます。
#
# **内側のループ**では、どの課題も同じ $\theta$ から始め、サポートの損失を、内側学習率 $\eta$ で $k$ 回だけ下ります。
#
# $$
# \theta_0 = \theta, \qquad \theta_{j+1} = \theta_j - \eta\, c_i (\theta_j - a_i), \qquad \theta'_i = \theta_k
# $$
#
# **外側**の目的は、適応した $\theta'_i$ での、クエリの損失の、課題についての平均です。これを、初めの値 $\theta$ で微分します。
#
# $$
# g = \frac{1}{M} \sum_{i=1}^{M} \frac{d}{d\theta} \frac{c_i}{2} (\theta'_i - b_i)^2
# = \frac{1}{M} \sum_{i=1}^{M} \frac{d\theta'_i}{d\theta}\, c_i (\theta'_i - b_i)
# $$
#
# **一次近似**（FOMAML）は、 $d\theta'_i / d\theta$ を1とみなし、残りだけを使います。内側の勾配の微分（二階の微分）が要りません。
#
# 例を一つ手で解きます。 $c = 1$、 $a = 0$、 $b = -1$、 $\theta = 4$、 $\eta = 1/2$、 $k = 2$ とします。
# 1回めは、勾配が $1 \times (4 - 0) = 4$ なので、 $4 - \frac{1}{2} \times 4 = 2$ です。2回めは、勾配が2なので、 $2 - \frac{1}{2} \times 2 = 1$ です。
# $\theta' = 1$ での、クエリの損失の微分は $1 \times (1 + 1) = 2$ です。これが一次近似です。
# $\theta$ を1増やすと、1回めのあとは $1/2$、2回めのあとは $1/4$ しか増えません。だから、正確なメタ勾配は $\frac{1}{4} \times 2 = \frac{1}{2}$ です。
#
# まず、手で計算してください。 $c = 2$、 $a = 1$、 $b = 0$、 $\theta = 5$、 $\eta = 1/4$、 $k = 2$ とします。
# $\theta'$、一次近似、正確なメタ勾配を求め、この順で`by_hand`へ書きます。次に、 $\theta - a$ が1回の更新で何倍になるかを調べ、 $\theta'$ と $d\theta'/d\theta$ を $k$ の式で表します。
# それを使って、関数`meta_gradient`を書いてください。
#
# 満たすべき条件は次のとおりです。
#
# - `theta`は数。`curvature`、`support`、`query`は、課題ごとの $c_i > 0$、 $a_i$、 $b_i$ を並べた`(M,)`の小数のテンソル
# - `lr`は $\eta$、`steps`は $k$（0以上の整数）。`steps=0`なら $\theta' = \theta$
# - 返り値は、課題で平均した0次元のテンソル。dtypeは`curvature`と同じ
# - $c_i \eta$ が1や2を超えても、式のとおりの値を返す
# - 自動微分は使わない（`backward`、`torch.autograd`、`torch.func`など）。1回ずつ進めるループで書いてもよい
# - 引数を書き換えない

# %%
# c = 2、a = 1、b = 0、θ = 5、η = 1/4、2回の更新。[θ′, 一次近似, 正確なメタ勾配]
### BEGIN SOLUTION
by_hand = [2, 4, 1]  # aからの隔たりは、4 → 2 → 1。dθ′/dθ = 1/4
### END SOLUTION


# %%
def meta_gradient(
    theta: float,
    curvature: Tensor,
    support: Tensor,
    query: Tensor,
    *,
    lr: float,
    steps: int,
    first_order: bool = False,
) -> Tensor:
    """k回の更新のあとのクエリの損失の、初めの値での微分。課題の平均。(M,) を三つ → 0次元。"""
    ### BEGIN SOLUTION
    shrink = (1 - lr * curvature) ** steps  # aからの隔たりに掛かる数。θ′はθの1次式なので、dθ′/dθでもある
    adapted = support + shrink * (theta - support)
    gradient = curvature * (adapted - query)
    if not first_order:
        gradient = shrink * gradient
    return gradient.mean()
    ### END SOLUTION


# %%
check("08-1", meta_gradient, by_hand)

# %% [markdown]
# ### 合格したら：一次近似は、いつ、どちらを向くか
#
# パラメータが一つなら、勾配の向きは正か負しかありません。そこで、パラメータを30個に増やし、1個ごとに違う曲率 $c_j$ を持たせます
# （最大の曲率を1、最小を0.01とします）。パラメータどうしは影響しないので、1個ずつ`meta_gradient`で求めて並べれば、30次元のメタ勾配になります。
# サポートとクエリの最小点は同じとし、初めの値との隔たりは、正規乱数で決めます。
#
# 正確なメタ勾配と一次近似の向きの近さを、コサインで測ります。
# 予想してから実行してください。 $\eta c$ の最大値が2を超えると、内側の更新は発散します。このとき、一次近似の向きは、どうなるでしょうか。
# $k$ が偶数のときと奇数のときで、違いはあるでしょうか。


# %%
def both_gradients(gradient: Callable[..., Tensor], curvature: Tensor, gap: Tensor, lr: float, steps: int) -> Tensor:
    """正確なメタ勾配と一次近似 (2, D)。パラメータを1個ずつ、1課題とみなして求める。gap は最小点までの隔たり。"""
    rows = [
        [gradient(0.0, c, -d, -d, lr=lr, steps=steps, first_order=first) for c, d in zip(curvature, gap, strict=True)]
        for first in (False, True)
    ]
    return torch.stack([torch.stack(row) for row in rows])


def landing(gradient: Callable[..., Tensor], steps: int, first_order: bool) -> float:
    """メタ勾配が0になる初めの値。メタ勾配はθの1次式なので、2点での値からわかる。"""
    at_zero, at_one = (
        gradient(theta, *TWO_TASKS, lr=0.4, steps=steps, first_order=first_order) for theta in (0.0, 1.0)
    )
    return float(at_zero / (at_zero - at_one))


def loss_after(theta: float, steps: int) -> float:
    """二つの課題で適応したあとの、クエリの損失の平均。"""
    curvature, support, query = TWO_TASKS
    moved = support + (1 - 0.4 * curvature) ** steps * (theta - support)
    return float((curvature * (moved - query) ** 2 / 2).mean())


minima = torch.tensor([-1.0, 1.0], dtype=torch.float64)
TWO_TASKS = (torch.tensor([0.2, 2.0], dtype=torch.float64), minima, minima)  # 平らな課題（−1）と、急な課題（1）

if ready("08-1"):
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.logspace(-2, 0, 30, dtype=torch.float64)[:, None]
    offsets = torch.randn(30, 1, generator=generator, dtype=torch.float64)
    rates = [round(0.1 * i, 1) for i in range(1, 26)]  # ηと、最大の曲率1の積
    cosine = torch.tensor(
        [
            [
                float(F.cosine_similarity(*both_gradients(meta_gradient, spectrum, offsets, rate, k), dim=0))
                for rate in rates
            ]
            for k in range(1, 9)
        ]
    )
    for rate in (0.1, 0.5, 1.0, 1.9, 2.5):
        shown = "、".join(f"{value:+.3f}" for value in cosine[[0, 1, 4, 7], rates.index(rate)])
        print(f"ηc = {rate}のコサイン（k = 1、2、5、8）: {shown}")
    assert cosine[:2, 0].min() > 0.98, "小さなηと少ない回数で、一次近似の向きがずれています"
    assert cosine[7, rates.index(1.0)] < 0.95, "回数を増やしても、向きがずれません"
    assert cosine[4::2, -1].max() < -0.9, "発散する学習率と奇数回で、向きが逆になりません"
    assert cosine[5::2, -1].min() > 0.9, "発散する学習率と偶数回で、向きがそろいません"

    landings = {
        name: [landing(meta_gradient, k, first) for k in range(7)]
        for name, first in (("正確なメタ勾配", False), ("一次近似", True))
    }
    for k in (0, 1, 3, 6):
        shown = "、".join(
            f"{name} θ = {row[k]:+.3f}（適応後の損失 {loss_after(row[k], k):.2e}）" for name, row in landings.items()
        )
        print(f"k = {k}: {shown}")
    assert landings["正確なメタ勾配"][0] > 0.5, "適応しないとき、急な課題に引かれません"
    assert landings["正確なメタ勾配"][3] < -0.9, "適応を見込むと、平らな課題に引かれるはずです"
    exact_loss, approximate_loss = (loss_after(row[3], 3) for row in landings.values())
    assert approximate_loss > 2 * exact_loss, "一次近似の行き着く先が、正確なメタ勾配と変わりません"

    fig, (left, right) = plot.subplots(1, 2, figsize=(8.8, 3.5), width_ratios=(1.2, 1))
    colors = left.imshow(
        cosine, vmin=-1, vmax=1, cmap="cividis", aspect="auto", origin="lower", extent=(0.05, 2.55, 0.5, 8.5)
    )
    left.grid(visible=False)
    for rate in (1, 2):
        left.axvline(rate, color="white", linestyle="--")
    left.set_xlabel("学習率と最大の曲率の積 ηc")
    left.set_ylabel("内側の回数 k")
    left.set_title("正確なメタ勾配と一次近似のコサイン")
    fig.colorbar(colors, ax=left)
    for (name, row), marker in zip(landings.items(), "os", strict=True):
        right.plot(range(7), row, marker=marker, label=name)
    for height, name in ((1, "急な課題の最小点"), (-1, "平らな課題の最小点")):
        right.axhline(height, color="black", linewidth=0.8)
        right.text(6, height - 0.04, name, ha="right", va="top", fontsize=8)
    right.set_ylim(-1.3, 1.15)
    right.set_xlabel("内側の回数 k")
    right.set_ylabel("メタ勾配が0になるθ")
    right.legend()
    plot.show(
        fig,
        alt="左は、学習率と最大の曲率の積を横、内側の回数を縦に並べた、正確なメタ勾配と一次近似のコサインの、色つきの表。"
        "左端は、どの回数でも1に近い。積が2に近づくと、偶数回の行は明るく、奇数回の行は暗い縞になり、2を超えると縞がはっきりする。"
        "右は、内側の回数に対する、メタ勾配が0になる初めの値の折れ線。0回では急な課題の最小点に近く、回数を増やすと、"
        "平らな課題の最小点へ移る。正確なメタ勾配のほうが、一次近似より早く移る。",
    )

# %% [markdown]
# 内側の学習率が小さく、回数が少ないうちは、一次近似の向きは、正確なメタ勾配とほとんど同じです。
# 学習率を上げても、回数を増やしても、ずれていきます。サポートとクエリの最小点が同じなら、 $j$ 番目のパラメータの勾配は、
# 一次近似では $c_j (1 - \eta c_j)^k$ に、正確なメタ勾配では $c_j (1 - \eta c_j)^{2k}$ に比例するからです。
# 急なパラメータは、初めの値がどこにあっても、内側の更新が最小点まで運びます。正確なメタ勾配は、そのことを、より強く見込みます。
#
# $\eta c$ が2を超えると、最も急なパラメータの $1 - \eta c$ が $-1$ より小さくなり、そのパラメータで、向きがほぼ決まります。
# 奇数回なら $(1 - \eta c)^k$ は負なので、一次近似は、正確なメタ勾配とほぼ**逆**を向きます。偶数回なら、そろいます。
# 向きがそろっていても、内側のループは発散しています。コサインだけを見ても、学習率が大きすぎることには気づけません。
#
# 右の図は、平らな課題（曲率0.2）と急な課題（曲率2）の二つを、 $\eta = 0.4$ で学んだときの、行き着く先です。
# $k = 0$ は、適応を見込まない、ふつうの学習です。損失への響きが大きい、急な課題の最小点に寄ります。
# 適応を見込むと、逆に、**平らな課題**の最小点に寄ります。急な課題は、数回の更新で解けるからです。
# 「数回で行ける所から遠い課題のそばで待つ」のが、MAMLの初めの値です。
# 一次近似も同じ側へ寄りますが、寄り方が足りず、適応後の損失が大きくなります。
#
# これは、曲率が10倍違う、二つだけの課題の結果です。ニューラルネットワークで向きがどれだけ違うかは、次の演習で測ります。
#
# **考えてみよう**：
#
# 1. $\eta c = 1$ の課題だけなら、正確なメタ勾配はいつも0です。なぜですか。このとき、初めの値は何で決まりますか。
# 2. $k$ を大きくしたまま、メタ勾配の大きさを保つには、 $\eta$ を $k$ に対してどう変えればよいでしょうか。
# 3. サポートの標本が少ないと、 $a_i$ は課題の真の最小点からばらつきます。 $k$ を大きくすることは、いつも良いでしょうか。

# %% [markdown]
# ## 演習08-2 微分できる内側のループを書く
#
# <!-- exercise: 08-2 -->
#
# 演習08-1では、 $d\theta'/d\theta$ を手で求めました。ニューラルネットワークでは、自動微分に任せます。
# そのためには、内側の更新そのものを、**元のパラメータから計算した値**として書かなければなりません。
#
# $$
# \theta_0 = \theta, \qquad \theta_{j+1} = \theta_j - \eta\, \nabla L(\theta_j) \quad (j = 0, \ldots, k - 1)
# $$
#
# `optimizer.step()`や`param.data -= ...`は、値をその場で書き換えます。書き換えると、元の値は失われ、微分もできません。
# `copy.deepcopy`で写したモデルを動かしても、写しは元のパラメータとつながっていないので、メタ勾配は届きません。
#
# そこで、パラメータを「名前からテンソルへの辞書」で表し、更新のたびに、引き算で**新しい辞書**を作ります。
# 勾配は`torch.autograd.grad`で求めます。`create_graph=True`を付けると、求めた勾配も、微分できる値になります。
# メタ勾配の二階の項は、ここから生まれます。一次近似では、勾配をただの数として扱います。
#
# 関数`adapt`を書いてください。
#
# 満たすべき条件は次のとおりです。
#
# - `params`は、名前からテンソルへの辞書。`loss`は、同じ名前の辞書を受け取り、0次元の損失を返す関数。どの値も損失に効くとする
# - 返り値は、`steps`回更新した値の、同じ名前の新しい辞書。どの回も、**その時の**パラメータで`loss`を呼ぶ
# - `first_order=False`なら、返り値から`params`の値へ、正確なメタ勾配が流れる
# - `first_order=True`なら、内側の勾配を定数とみなす。それでも、返り値は`params`の値とつながっている。更新後の値は変わらない
# - `steps=0`なら、渡した値を、つながったまま返す。`steps`が負なら、`ValueError`を起こす
# - `lr`は数か、0次元のテンソル。学習するテンソルなら、`first_order`にかかわらず、`lr`にも勾配が流れる
# - `params`の値は、別の計算の結果（葉でないテンソル）のこともある
# - 渡された辞書、値、`.grad`、`requires_grad`を変えない


# %%
def adapt(
    params: dict[str, Tensor],
    loss: Callable[[dict[str, Tensor]], Tensor],
    *,
    lr: float | Tensor,
    steps: int,
    first_order: bool = False,
) -> dict[str, Tensor]:
    """勾配降下をsteps回くり返した値。元の値の関数なので、その先の損失を、元の値で微分できる。"""
    ### BEGIN SOLUTION
    if steps < 0:
        raise ValueError("stepsは0以上の整数にしてください。")
    current = dict(params)
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(current), list(current.values()), create_graph=not first_order)
        moved = {}  # 元の値を変えないように、引き算の結果を新しい辞書に入れる
        for i, (name, value) in enumerate(current.items()):
            moved[name] = value - lr * gradients[i]
        current = moved
    return current
    ### END SOLUTION


# %%
check("08-2", adapt)

# %% [markdown]
# ### 合格したら：5回と1回が同じ結果になる、内側のループ
#
# 次の`quick_adapt`は、短くて、もっともらしい内側のループです。例外は起きません。1回の更新なら、`adapt`と同じ値を返します。
# メタ勾配も流れます。誤りが一つあります。読むだけで見つかるでしょうか。
#
# 題材は、正弦波の回帰です。課題ごとに振幅と位相が違い、サポートは10点です（入力は5で割り、−1から1に収めます）。
# 初めの重みは乱数のままで、20個の課題に、それぞれ適応させます。
#
# 予想してから実行してください。学習率0.1の5回と、学習率0.5の1回を、`adapt`と`quick_adapt`で比べます。何が同じになり、何が違うでしょうか。


# %%
def quick_adapt(
    params: dict[str, Tensor], loss: Callable[[dict[str, Tensor]], Tensor], *, lr: float, steps: int
) -> dict[str, Tensor]:
    adapted = dict(params)
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(params), list(params.values()), create_graph=True)
        adapted = {name: adapted[name] - lr * g for name, g in zip(params, gradients, strict=True)}
    return adapted


def sine_loss(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[dict[str, Tensor]], Tensor]:
    """パラメータの辞書から、平均二乗誤差への関数。"""
    return lambda params: F.mse_loss(torch.func.functional_call(network, params, (x,)), y)


def largest_gap(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """二つのパラメータの組の、差の最大。"""
    return max((first[name] - second[name]).abs().max().item() for name in first)


if ready("08-2"):
    waves = next(iter(fewshot.SineTasks(tasks=20, shots=10, queries=50, batches=1, seed=0)))
    torch.manual_seed(0)
    wave_network = fewshot.sine_network()
    initial = dict(wave_network.named_parameters())
    wave_losses = [sine_loss(wave_network, x / 5, y) for x, y in zip(waves.support_x, waves.support_y, strict=True)]
    gaps, curves = {}, {}
    for name, inner_loop in (("adapt", adapt), ("quick_adapt", quick_adapt)):
        gaps[name] = [
            largest_gap(inner_loop(initial, loss, lr=0.1, steps=5), inner_loop(initial, loss, lr=0.5, steps=1))
            for loss in wave_losses
        ]
        print(
            f"{name}: 「0.1の5回」と「0.5の1回」の重みの差は、20課題で {min(gaps[name]):.2g} から {max(gaps[name]):.2g}"
        )
        curves[name] = torch.tensor(
            [[loss(inner_loop(initial, loss, lr=0.1, steps=k)).item() for k in range(9)] for loss in wave_losses]
        )
    curves["0.1 × 回数を、1回で"] = torch.tensor(
        [[loss(adapt(initial, loss, lr=0.1 * k, steps=1)).item() for k in range(9)] for loss in wave_losses]
    )
    for name, table in curves.items():
        shown = "、".join(f"{value:.2f}" for value in table.median(dim=0).values[[0, 1, 2, 5, 8]])
        print(f"{name}: サポートの損失の中央値（0、1、2、5、8回） {shown}")
    assert max(gaps["quick_adapt"]) < 1e-4, "quick_adaptの5回と1回が違います"
    assert min(gaps["adapt"]) > 0.005, "adaptの5回と1回が同じです"
    assert (curves["adapt"][:, 8] < curves["adapt"][:, 0]).all(), "adaptで、サポートの損失が下がらない課題があります"
    worse = (curves["quick_adapt"][:, 8] > curves["quick_adapt"][:, 0]).float().mean()
    print(f"quick_adaptの8回で、適応の前より悪くなった課題の割合: {worse:.2f}")
    assert worse > 0.3, "quick_adaptでも、損失が下がりました"

    fig, ax = plot.subplots()
    for (name, table), marker in zip(curves.items(), "osx", strict=True):
        ax.plot(range(9), table.median(dim=0).values, marker=marker, label=name)
    ax.set_xlabel("内側の回数（学習率0.1）")
    ax.set_ylabel("サポートの損失（20課題の中央値）")
    ax.legend()
    plot.show(
        fig,
        alt="内側の回数に対する、サポートの損失の折れ線。adaptは下がり続ける。quick_adaptは、初めの1回だけ同じように下がり、5回からは適応の前を超えて、急に上がっていく。"
        "学習率を回数倍にした1回の更新の線は、quick_adaptの線とぴったり重なる。",
    )

# %% [markdown]
# `quick_adapt`は、どの回も、元の`params`で勾配を求めています。同じ勾配を5回引くので、5倍の学習率の1回と同じです。
# 内側の回数を増やしても、新しいことは何も学びません。1回目の勾配の向きに、まっすぐ遠くまで進み、谷を越えて反対側を登ります。
#
# この誤りは、1回の更新だけを試すと見つかりません。損失も初めは下がり、メタ勾配も0になりません。
# 「0.1の5回が、0.5の1回と違う値になること」は、内側のループを書いたら、まず確かめるべき性質です。
# 演習08-6で、もっと大きなコードの中に隠れた、同じ誤りを探します。
#
# ### 合格したら：ネットワークの、正確なメタ勾配と一次近似
#
# 演習08-1では、2次の損失で、一次近似の向きを調べました。同じことを、本物のネットワークで測ります。
# こんどは入力を割らず、−5から5のまま使います。サポートの損失の、最も急な向きの曲率 $\lambda$（ヘッセ行列の、絶対値が最大の固有値）を、
# べき乗法で求めます。内側の最初の更新は、この向きの隔たりに、およそ $1 - \eta \lambda$ を掛けます。
# $\lambda$ は、課題によって何倍も違います。そこで、学習率は、課題ごとに $\eta \lambda$ が0.2、1、2になるように決めます。
#
# 初期値の種を5通りに変え、種ごとに、4個の課題の平均をとります。予想してから実行してください。
# 演習08-1の図では、 $\eta c$ が2を超えると、奇数回では逆を向き、偶数回ではそろいました。ネットワークでも、そうなるでしょうか。


# %%
def sharpest(
    loss: Callable[[dict[str, Tensor]], Tensor], params: dict[str, Tensor], generator: torch.Generator
) -> float:
    """ヘッセ行列の、絶対値が最大の固有値の大きさ。べき乗法を20回。"""
    values = list(params.values())
    gradients = torch.autograd.grad(loss(params), values, create_graph=True)
    direction = [torch.randn(value.shape, generator=generator) for value in values]
    for _ in range(20):
        product = torch.autograd.grad(gradients, values, direction, retain_graph=True)
        size = torch.cat([part.flatten() for part in product]).norm()
        direction = [part / size for part in product]
    return float(size)


def order_cosine(
    inner_loop: Callable[..., dict[str, Tensor]], network: nn.Module, episode: fewshot.Episode, lr: float, steps: int
) -> float:
    """一つの課題での、正確なメタ勾配と一次近似のコサイン。"""
    params = dict(network.named_parameters())
    support = sine_loss(network, episode.support_x, episode.support_y)
    query = sine_loss(network, episode.query_x, episode.query_y)
    found = [
        torch.autograd.grad(
            query(inner_loop(params, support, lr=lr, steps=steps, first_order=first)), list(params.values())
        )
        for first in (False, True)
    ]
    return meta.gradient_cosine(*found)


def cosine_table(
    inner_loop: Callable[..., dict[str, Tensor]], seed: int, products: tuple
) -> tuple[Tensor, list[float]]:
    """一つの初期値での、ηλと回数（1から6）ごとのコサインの、4課題の平均。課題ごとのλも返す。"""
    torch.manual_seed(seed)
    network = fewshot.sine_network()
    stacked = next(iter(fewshot.SineTasks(tasks=4, shots=10, queries=50, batches=1, seed=100 + seed)))
    table, curvatures = torch.zeros(4, len(products), 6), []
    for i, parts in enumerate(zip(*stacked, strict=True)):
        episode = fewshot.Episode(*parts)
        support = sine_loss(network, episode.support_x, episode.support_y)
        curvatures.append(sharpest(support, dict(network.named_parameters()), torch.Generator().manual_seed(seed)))
        for j, product in enumerate(products):
            for k in range(6):
                table[i, j, k] = order_cosine(inner_loop, network, episode, product / curvatures[-1], k + 1)
    return table.mean(dim=0), curvatures


if ready("08-2"):
    products = (0.2, 1.0, 2.0)
    tables, found_curvatures = zip(*(cosine_table(adapt, seed, products) for seed in range(5)), strict=True)
    by_seed = torch.stack(tables).numpy()  # (種, ηλ, 回数)
    curvatures = torch.tensor(found_curvatures)
    print(
        f"最も急な向きの曲率λ: 20課題の中央値 {curvatures.median():.0f}（{curvatures.min():.0f} から {curvatures.max():.0f}）"
    )
    order_points = {product: [mean_ci(by_seed[:, j, k]) for k in range(6)] for j, product in enumerate(products)}
    for product, points in order_points.items():
        print(f"ηλ = {product}のコサイン、k = 1、2、3、6: " + "、".join(str(points[k]) for k in (0, 1, 2, 5)))
    assert order_points[0.2][0].mean > 0.98, "小さなηの1回で、一次近似の向きがずれています"
    drift = mean_ci(by_seed[:, 0, 0] - by_seed[:, 0, 5])
    assert drift.mean - drift.half > 0.02, "回数を増やしても、向きがずれません"
    assert order_points[2.0][0].mean + order_points[2.0][0].half < 0.6, "大きなηの1回でも、向きがそろっています"

    fig, ax = plot.subplots()
    for (product, points), marker in zip(order_points.items(), "os^", strict=True):
        means, halves = [p.mean for p in points], [p.half for p in points]
        ax.errorbar(range(1, 7), means, halves, marker=marker, capsize=3, label=f"ηλ = {product}")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xlabel("内側の回数 k")
    ax.set_ylabel("コサイン（平均と95%信頼区間）")
    ax.set_ylim(-0.1, 1.2)
    ax.legend(loc="upper center", ncols=3)
    plot.show(
        fig,
        alt="内側の回数に対する、正確なメタ勾配と一次近似のコサインの、信頼区間つきの折れ線。ηλ = 0.2では1の近くから、緩やかに下がる。"
        "ηλ = 1では、それより低い所から、やはり下がる。ηλ = 2では、1回で0の近くまで落ち、2回からも低いままで、区間が広い。",
    )

# %% [markdown]
# 学習率が小さく、回数が少なければ、ネットワークでも、一次近似の向きはほとんど同じです。どちらを増やしても、ずれていきます。
# $\eta \lambda$ が2になると、1回の更新でも、二つの勾配は、ほとんど別の向きでした。
#
# ただし、演習08-1の図のような、 $-1$ と $1$ の間を行き来する縞にはなりません。対角の2次の損失では、
# 最も急な向きだけが大きくなり、全体の向きを決めました。ネットワークでは、更新のたびに曲率そのものが変わり、サポートとクエリの曲率も違います。
# 手で解ける例は、「どこから危なくなるか」をよく教えますが、その先で何が起きるかは、測らなければわかりません。
#
# では、なぜ実際のMAMLでは、一次近似でもうまくいくことが多いのでしょうか。ここで測ったのは、乱数の初期値の、一点の勾配です。
# 二つの勾配の向きが違うことと、行き着く先の良し悪しは、別の問いです。行き着く先は、メタテストで比べなければわかりません。
#
# **考えてみよう**：
#
# 1. `first_order=True`のとき、返り値が`params`とつながっていなければ、外側の`backward()`は何を残しますか。例外は起きますか。
# 2. `lr`を、パラメータごとの学習するテンソルの辞書に広げると（Meta-SGD）、`adapt`のどの行が変わりますか。
# 3. `create_graph=True`のとき、記憶の量は`steps`にどう依存しますか。`first_order=True`では、どうですか。

# %% [markdown]
# ## 演習08-3 MAMLの損失を書く
#
# <!-- exercise: 08-3 -->
#
# 一つの課題について、MAMLの損失を書きます。モデルのパラメータを $\theta$、サポートの損失を $L_S$、クエリの損失を $L_Q$ とします。
# どちらも、交差エントロピーの平均です。$\theta_0 = \theta$ から始めて、サポートで $k$ 回だけ適応させ、クエリの損失を返します。
#
# $$
# \theta_{j+1} = \theta_j - \eta_{\mathrm{in}} \nabla L_S(\theta_j), \qquad
# \text{返り値} = L_Q(\theta_k)
# $$
#
# 外側の最適化手法は、この値を**初めの** $\theta$ で微分します。1回の更新なら、連鎖律から次の式になります。
#
# $$
# \nabla_{\theta} L_Q(\theta_1) = \bigl( I - \eta_{\mathrm{in}} \nabla^2 L_S(\theta) \bigr) \, \nabla L_Q(\theta_1)
# $$
#
# $\nabla^2 L_S$ の掛かった部分が、**二階の項**です。一次近似（FOMAML）では、二階の項を捨て、 $\nabla L_Q(\theta_1)$ を $\theta$ の勾配とします。
# 捨てるのは二階の項だけです。 $\theta_1$ と $\theta$ のつながりまで切ると、勾配は何も残りません。
# MAMLは、Finnらの論文（arXiv:1703.03400、式(1)とアルゴリズム1）の方法です。
#
# モデルは、ふつうの`nn.Module`です。パラメータを差し替えて呼ぶには、`torch.func.functional_call(model, 辞書, (x,))`を使います。
# 辞書の名前は、`model.named_parameters()`と同じです。辞書にない名前には、モデル自身の値が使われます。
#
# バッチ正規化の移動統計は、パラメータではなく**バッファ**です。学習モードで呼ぶと、書き換わります。
# 辞書にバッファの写しも入れておけば、書き換わるのは写しのほうです。
#
# 満たすべき条件は次のとおりです。
#
# - 返り値は、0次元のテンソル。`model`のすべてのパラメータで微分できる
# - 適応には、サポートだけを使う。更新するのは、すべてのパラメータとする
# - `inner_steps=0`なら、元のモデルの、クエリの損失になる
# - `first_order=True`なら、値は同じで、勾配だけが一次近似になる
# - `model`のパラメータ、バッファ、`.grad`、`requires_grad`、モードを、変えない。学習モードか評価モードかは、渡されたままで計算する
# - `tlkit.meta`の関数は使わない


# %%
def maml_loss(  # noqa: PLR0913 データと設定を、分けて渡す
    model: nn.Module,
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    *,
    inner_lr: float,
    inner_steps: int,
    first_order: bool = False,
) -> Tensor:
    """サポートで適応させたパラメータでの、クエリの交差エントロピー。モデルのパラメータで微分できる。"""
    ### BEGIN SOLUTION

    def loss(params: dict, x: Tensor, y: Tensor) -> Tensor:
        buffers = {name: value.clone() for name, value in model.named_buffers()}  # 書き換わるのは、写しだけ
        return F.cross_entropy(torch.func.functional_call(model, {**params, **buffers}, (x,)), y)

    params = dict(model.named_parameters())
    for _ in range(inner_steps):
        value = loss(params, support_x, support_y)
        gradients = torch.autograd.grad(value, list(params.values()), create_graph=not first_order)
        params = {name: params[name] - inner_lr * gradients[i] for i, name in enumerate(params)}
    return loss(params, query_x, query_y)
    ### END SOLUTION


# %%
check("08-3", maml_loss)

# %% [markdown]
# ### 合格したら：メタ訓練は、何を良くしたか
#
# 平面の点を、「円の中か、外か」で分ける課題を作ります。円の半径はいつも1で、中心は課題ごとに違います。
# サポートの20点から円の場所をつかみ、クエリの40点を当てます。モデルは、小さな全結合のネットワークです。
#
# 初めのパラメータを、四つ用意します。どれも同じ乱数から始めます。
#
# - **乱数のまま**：学習しない
# - **適応なしで学習**：`inner_steps=0`で学習する。たくさんの課題の点を、混ぜて学ぶことに当たる
# - **一次近似**：2回の適応のあとのクエリの損失を、一次近似の勾配で小さくする
# - **二階**：同じ損失を、二階の項も入れて小さくする
#
# メタテストでは、新しい円の課題40個で、適応の回数を0から10まで変えて、クエリの損失を測ります。種は4個です。
# 予想してから実行してください。適応する**前**の損失（横軸の0）が最も小さいのは、どれでしょうか。


# %%
Task = tuple[Tensor, Tensor, Tensor, Tensor]
CIRCLE_ARMS = {
    "乱数のまま": None,
    "適応なしで学習": {"inner_steps": 0},
    "一次近似": {"inner_steps": 2, "first_order": True},
    "二階": {"inner_steps": 2},
}


def circle_task(generator: torch.Generator) -> Task:
    """半径1の円の中（1）か外（0）か。サポート20点と、クエリ40点。"""
    centre = torch.rand(2, generator=generator) * 2 - 1
    x = torch.rand(60, 2, generator=generator) * 4 - 2
    y = ((x - centre).norm(dim=1) < 1).long()
    return x[:20], y[:20], x[20:], y[20:]


def circle_model(loss: Callable[..., Tensor], options: dict | None, seed: int) -> nn.Module:
    """小さなネットワーク。optionsがあれば、300回のメタ訓練をする（1回に課題4個）。"""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer, generator = torch.optim.Adam(model.parameters(), 0.003), torch.Generator().manual_seed(seed)
    for _ in range(300 if options else 0):
        optimizer.zero_grad()
        values = [loss(model, *circle_task(generator), inner_lr=0.5, **options) for _ in range(4)]
        torch.stack(values).mean().backward()
        optimizer.step()
    return model


def circle_curve(loss: Callable[..., Tensor], model: nn.Module, tasks: list[Task], counts: list[int]) -> list[float]:
    """適応の回数ごとの、クエリの損失の平均。"""
    return [
        sum(loss(model, *task, inner_lr=0.5, inner_steps=k, first_order=True).item() for task in tasks) / len(tasks)
        for k in counts
    ]


if ready("08-3"):
    circle_counts = [0, 1, 2, 3, 5, 10]
    test_generator = torch.Generator().manual_seed(1000)
    test_tasks = [circle_task(test_generator) for _ in range(40)]
    circle_models = {
        name: [circle_model(maml_loss, options, seed) for seed in range(4)] for name, options in CIRCLE_ARMS.items()
    }
    circle_losses = {
        name: torch.tensor([circle_curve(maml_loss, model, test_tasks, circle_counts) for model in models])
        for name, models in circle_models.items()
    }
    for name, found in circle_losses.items():
        shown = [f"{k}回 {mean_ci(found[:, i])}" for i, k in enumerate(circle_counts) if k in (0, 2, 10)]
        print(f"{name}: {'、'.join(shown)}")
    pairs = {
        "2回の適応のあと、乱数のまま − 二階": circle_losses["乱数のまま"][:, 2] - circle_losses["二階"][:, 2],
        "2回の適応のあと、適応なしで学習 − 二階": circle_losses["適応なしで学習"][:, 2] - circle_losses["二階"][:, 2],
        "2回の適応のあと、一次近似 − 二階": circle_losses["一次近似"][:, 2] - circle_losses["二階"][:, 2],
        "適応の前、二階 − 適応なしで学習": circle_losses["二階"][:, 0] - circle_losses["適応なしで学習"][:, 0],
    }
    for name, found in pairs.items():
        print(f"{name}: {mean_ci(found)}")
    lower = {name: mean_ci(found).mean - mean_ci(found).half for name, found in pairs.items()}
    assert lower["2回の適応のあと、乱数のまま − 二階"] > 0.1, "乱数のままより、二階の損失が小さくなりません"
    assert lower["2回の適応のあと、適応なしで学習 − 二階"] > 0.03, "適応なしで学習より、二階の損失が小さくなりません"
    assert lower["適応の前、二階 − 適応なしで学習"] > 0, "適応の前の損失の順が、予想と違います"
    order_gap = mean_ci(pairs["2回の適応のあと、一次近似 − 二階"]).mean
    assert abs(order_gap) < 0.05, "一次近似と二階の差が、予想より大きいです"

# %%
if ready("08-3"):
    task = max(test_tasks, key=lambda task: task[0][task[1] == 1].mean(0).norm().item())  # 円が、原点から遠い課題
    grid = torch.cartesian_prod(torch.linspace(-2, 2, 60), torch.linspace(-2, 2, 60))
    starter = circle_models["二階"][0]
    start_params = meta.inner_parameters(starter)
    end_params = meta.adapt(
        start_params, lambda p: F.cross_entropy(meta.call_with(starter, p, task[0]), task[1]), lr=0.5, steps=2
    )
    fig, axes = plot.subplots(1, 3, figsize=(10.5, 3.4), width_ratios=(1.5, 1, 1))
    for name, found in circle_losses.items():
        bands = [mean_ci(found[:, i]) for i in range(len(circle_counts))]
        axes[0].errorbar(
            circle_counts, [b.mean for b in bands], [b.half for b in bands], marker="o", capsize=3, label=name
        )
    axes[0].set_xlabel("メタテストでの適応の回数")
    axes[0].set_ylabel("クエリの損失 [nat]")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    for ax, title, params in zip(axes[1:], ("適応の前", "2回の適応のあと"), (start_params, end_params), strict=True):
        inside = meta.call_with(starter, params, grid).softmax(1)[:, 1].detach().reshape(60, 60)
        ax.imshow(inside.T, origin="lower", extent=(-2, 2, -2, 2), vmin=0, vmax=1, cmap="cividis")
        ax.scatter(*task[0].T, c=task[1], cmap="gray", edgecolors="tab:red", s=22)
        ax.set_title(f"二階：{title}")
        ax.set_xlabel("$x_1$")
        ax.set_ylabel("$x_2$")
        ax.grid(visible=False)
    plot.show(
        fig,
        alt="左は、適応の回数を横軸にした、クエリの損失の折れ線（4個の種の平均と95%信頼区間）。適応の前は、適応なしで学習が最も小さい。"
        "2回の適応のあとは、二階と一次近似が下に並び、適応なしで学習がその上、乱数のままがずっと上にある。"
        "中央と右は、二階で学んだモデルが円の中と答える確率の地図と、サポートの20点。適応の前は、明るい領域が中央に広くぼやけている。"
        "2回の適応のあとは、明るい領域が、円の中の点のあるほうへ動いている。",
    )

# %% [markdown]
# 適応する**前**の損失が最も小さいのは、適応なしで学習したモデルです。二階のモデルは、それより大きくなりました。
# MAMLが小さくするのは、適応した**あと**の損失だけです。適応の前の損失は、目的に入っていません。
# だから、MAMLの初めのパラメータを、適応させずにそのまま使ってはいけません。
#
# 2回の適応のあとでは、順が入れかわります。二階のモデルは、適応なしで学習したモデルよりも、損失が小さくなりました。
# 「乱数のまま」とだけ比べると、ただ学習したことの効果と、適応に備えて学習したことの効果を、区別できません。
# 「適応なしで学習」を対照に置くと、二つを分けられます。
#
# 一次近似と二階の差は、この課題では小さく、4個の種では、どちらが良いとも言えませんでした。二階の項の計算には、余分な時間とメモリがかかります。
# 区間は、初めの乱数と、メタ訓練の課題による揺れを表します。測ったのは、この課題と、この大きさのネットワークだけです。
#
# **考えてみよう**：
#
# 1. `circle_model`の`inner_steps`を1にすると、10回の適応のあとの損失は、どうなりますか。学習した回数より多く適応しても、損失は下がり続けますか。
# 2. 課題ごとの無作為で、ラベルの0と1を入れかえることにします。「適応なしで学習」の、適応の前の損失は、いくつより小さくできませんか。
# 3. `first_order=True`なのに、 $\theta_1$ を`detach`してしまうと、外側の更新は何を学びますか。

# %% [markdown]
# ## 演習08-4 エピソードを、漏れなく引く
#
# <!-- exercise: 08-4 -->
#
# メタ学習では、**エピソード**が一つの課題です。**N-way K-shot**のエピソードは、N個のクラスを、K枚ずつの手本から見分ける課題です。
# 手本の集まりがサポート、問いの集まりがクエリです。この演習では、エピソードに入る**画像の番号**を引きます。
#
# 漏れは、二つの所で起きます。
#
# - **クラスの漏れ**：メタテストのクラスが、メタ訓練に混ざる。「初めて見るクラス」の成績ではなくなる
# - **画像の漏れ**：同じ画像が、サポートとクエリの両方に入る。手本を覚えれば、正解できる
#
# そこで、使ってよいクラスを`classes`として渡し、その中だけから引きます。
# ラベルは、エピソードの中の番号0からN−1に付け直します。元のクラス番号のままだと、損失を計算できません。
# 付け直した番号とクラスの対応は、エピソードごとに変わります。だからモデルは、番号を覚えるのではなく、手本を見て答えるようになります。
#
# 満たすべき条件は次のとおりです。
#
# - `labels`は、すべての画像のクラス番号`(M,)`。番号は0から続くとは限らず、並びも順不同。`classes`は、使ってよいクラス番号の列
# - 返り値は、`(support, support_y, query, query_y)`の四つ。どれも1次元の`int64`のテンソル。`support`と`query`は画像の番号、残りは付け直したラベル
# - クラスは、`classes`から`ways`個を、重複なく引く。どのクラスも、引かれる確率は同じ（画像の枚数によらない）
# - 引いた順に、0、1、…、N−1とする。サポートとクエリで、同じ番号は同じクラスを指す
# - 並びは、どちらもクラスの順。`support_y`は0が`shots`個、1が`shots`個、…、`query_y`は`queries`個ずつ
# - クラスの画像から、`shots + queries`枚を、重複なく引く。どの画像も、両方の側になりうる
# - 乱数は、渡された`generator`だけから取る。種は変えない
# - `classes`が`ways`個に足りないか、`classes`の中に、画像が`shots + queries`枚に足りないクラスが一つでもあれば、日本語の`ValueError`を起こす
# - 引数を書き換えない。`tlkit.fewshot`の関数は使わない


# %%
def sample_episode(
    labels: Tensor, classes: Sequence[int], *, ways: int, shots: int, queries: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """N-way K-shotのエピソードを一つ引く。サポートの番号とラベル、クエリの番号とラベル。"""
    ### BEGIN SOLUTION
    need = shots + queries
    with torch.no_grad():  # 番号を引くだけなので、勾配は要らない
        pools = [torch.nonzero(labels == c).flatten() for c in classes]
        fewest = min(map(len, pools))
        if len(pools) < ways or fewest < need:
            raise ValueError(f"クラスが{len(pools)}個、画像が最少で{fewest}枚です。{ways}個、{need}枚が要ります。")
        support, query = [], []
        for i in torch.randperm(len(pools), generator=generator)[:ways]:
            order = torch.randperm(len(pools[i]), generator=generator)
            support.append(pools[i][order[:shots]])
            query.append(pools[i][order[shots:need]])
        numbers = torch.arange(ways)
        support_y, query_y = numbers.repeat_interleave(shots), numbers.repeat_interleave(queries)
        return torch.cat(support), support_y, torch.cat(query), query_y
    ### END SOLUTION


# %%
check("08-4", sample_episode)

# %% [markdown]
# ### 合格したら：クラスの漏れは、成績をどれだけ水増しするか
#
# フォントの字で、プロトタイプネットワークを学習します。埋め込みは、小さな全結合のネットワークです。
# 漢字でメタ訓練し、仮名91字の5-way 1-shotで、メタテストをします。1文字の画像は、書体の違う3枚です。
#
# わざと、メタ訓練のクラスに仮名を混ぜます。訓練のクラスは、いつも91個です。そのうち $k$ 個を仮名、残りを漢字とします。
# $k = 0$ なら、漏れはありません。 $k = 91$ なら、訓練とテストのクラスが同じです。引く画像そのものも、テストと同じになります。
# 初期値、訓練のクラスの選び方、エピソードの種を、4通りに変えます。テストのエピソードは、どれも同じ200個です。
#
# 比べる相手は、学習していないネットワークです。予想してから実行してください。漏れのない学習は、学習しないよりも良くなるでしょうか。


# %%
LEAKED = [0, 23, 46, 91]


def episode_logits(model: nn.Module, images: Tensor, support: Tensor, query: Tensor) -> Tensor:
    """5-wayのクエリのロジット。クラスの平均までの距離の2乗に、負号を付けたもの。"""
    centres = model(images[support]).unflatten(0, (5, -1)).mean(1)
    return -torch.cdist(model(images[query]), centres).square()


def glyph_embedding(
    sample: Callable[..., tuple], tasks: fewshot.GlyphTasks, classes: Sequence[int], steps: int, seed: int
) -> nn.Module:
    """14×14画素の字の埋め込みを、classesの5-way 1-shotで学習する。"""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(196, 128), nn.ReLU(), nn.Linear(128, 64))
    optimizer, generator = torch.optim.Adam(model.parameters(), 0.002), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(2):
            s, _, q, y = sample(tasks.labels, classes, ways=5, shots=1, queries=2, generator=generator)
            F.cross_entropy(episode_logits(model, tasks.images, s, q), y).backward()
        optimizer.step()
    return model


def kana_score(model: nn.Module, tasks: fewshot.GlyphTasks, episodes: list[tuple]) -> float:
    """仮名のエピソードでの正解率。"""
    with torch.no_grad():
        hits = [episode_logits(model, tasks.images, s, q).argmax(1) == y for s, _, q, y in episodes]
    return torch.cat(hits).float().mean().item()


if ready("08-4"):
    glyphs = fewshot.glyph_tasks(every=10, val=40, size=14)
    kanji, kana = glyphs.split.train, glyphs.split.test
    kana_generator = torch.Generator().manual_seed(1000)
    kana_episodes = [
        sample_episode(glyphs.labels, kana, ways=5, shots=1, queries=2, generator=kana_generator) for _ in range(200)
    ]
    leak_scores = torch.empty(4, len(LEAKED))
    untrained_scores = torch.empty(4)
    for seed in range(4):
        untrained_scores[seed] = kana_score(
            glyph_embedding(sample_episode, glyphs, kana, 0, seed), glyphs, kana_episodes
        )
        mix = torch.Generator().manual_seed(seed)
        kanji_order = [kanji[i] for i in torch.randperm(len(kanji), generator=mix)]
        kana_order = [kana[i] for i in torch.randperm(len(kana), generator=mix)]
        for column, k in enumerate(LEAKED):
            classes = kana_order[:k] + kanji_order[: 91 - k]
            model = glyph_embedding(sample_episode, glyphs, classes, 200, seed)
            leak_scores[seed, column] = kana_score(model, glyphs, kana_episodes)
    print(f"学習しない: {mean_ci(untrained_scores)}")
    for column, k in enumerate(LEAKED):
        print(f"訓練の91クラスのうち、仮名 {k} 個: {mean_ci(leak_scores[:, column])}")
    inflated = mean_ci(leak_scores[:, -1] - leak_scores[:, 0])
    half_leak = mean_ci(leak_scores[:, 2] - leak_scores[:, 0])
    learned = mean_ci(leak_scores[:, 0] - untrained_scores)
    print(f"差（同じ種どうし）　すべて漏れた − 漏れなし: {inflated}　46個が漏れた − 漏れなし: {half_leak}")
    print(f"差（同じ種どうし）　漏れなし − 学習しない: {learned}")
    assert inflated.mean - inflated.half > 0.1, "クラスの漏れで、成績が上がりません"
    assert half_leak.mean - half_leak.half > 0.03, "半分の漏れで、成績が上がりません"
    assert learned.mean + learned.half < 0, "漏れのない学習が、学習しないより良くなりました"

    fig, ax = plot.subplots(figsize=(5.4, 3.6))
    bands = [mean_ci(column) for column in leak_scores.T]
    ax.errorbar(LEAKED, [b.mean for b in bands], [b.half for b in bands], marker="o", capsize=4, label="学習したモデル")
    ax.axhline(untrained_scores.mean().item(), color="black", linestyle=":", label="学習しないモデル")
    ax.set_xlabel("訓練の91クラスに混ざった、テストのクラスの数")
    ax.set_ylabel("メタテストの正解率")
    ax.set_xticks(LEAKED)
    ax.legend()
    plot.show(
        fig,
        alt="訓練に混ざったテストのクラスの数を横軸にした、メタテストの正解率の折れ線（4個の種の平均と95%信頼区間）。"
        "漏れがないときは、学習しないモデルの点線より低い。漏れるクラスが増えるほど高くなり、すべて漏れると、ほとんど1になる。",
    )

# %% [markdown]
# クラスが漏れると、正解率が大きく上がりました。すべて漏れたときの点数は、ほとんど満点です。モデルの何かが良くなったのではありません。
# テストに出るクラスの、テストに出る画像を、前もって見たからです。漏れたクラスが半分でも、はっきり水増しされました。
#
# 漏れのない成績は、学習しないモデルよりも**低く**なりました。91個のクラスに3枚ずつの画像では、この学習は訓練の漢字に合わせすぎたと考えられます。
# つまり、この設定では、漏れが結論を逆にします。「この学習は役に立つ」と読めるのは、漏れているときだけです。
# 漏れがあっても、例外は起きません。クラスを一度だけ分け、分けた組だけを引く関数に渡すことで、初めから起こらないようにします。
#
# 区間は、初期値、訓練のクラス、エピソードによる揺れを表します。測ったのは、この字と、この大きさのネットワークだけです。
#
# **考えてみよう**：
#
# 1. 漢字の画像に、傾きや太さの変形を掛けて学習すると、漏れのない成績はどうなりますか。クラスの数を増やすと、どうでしょうか。
# 2. クエリの2枚のうち1枚を、サポートと同じ画像にすると、正解率が $a$ のモデルの点数は、およそいくつになりますか。
# 3. ほとんど同じ形の漢字と仮名（「力」と「カ」）が、訓練とテストに分かれて入っていたら、それは漏れでしょうか。

# %% [markdown]
# ## 演習08-5 プロトタイプまでの距離で分類する
#
# <!-- exercise: 08-5 -->
#
# MAMLは、課題ごとにパラメータを更新します。**プロトタイプネットワーク**は、パラメータを更新しません。
# サポートの埋め込みを、クラスごとに平均した点を**プロトタイプ**と呼びます。クエリを、いちばん近いプロトタイプのクラスに分けます。
#
# クラス $k$ のサポートの番号の集合を $S_k$、サポート $i$ の埋め込みを $z_i$、クエリ $j$ の埋め込みを $q_j$ とします。
# ロジットは、ユークリッド距離の2乗に、負号を付けたものです。
#
# $$
# c_k = \frac{1}{|S_k|} \sum_{i \in S_k} z_i, \qquad \ell_{jk} = -\lVert q_j - c_k \rVert^2
# $$
#
# 例を一つ手で解きます。サポートが $(0, 0)$、 $(2, 0)$、 $(3, 4)$、ラベルが順に0、0、1なら、 $c_0 = (1, 0)$、 $c_1 = (3, 4)$ です。
# クエリ $(1, 2)$ のロジットは、 $-(0 + 4) = -4$ と $-(4 + 4) = -8$ です。クラス0に分けます。
#
# 関数`prototypical_logits`を書いてください。満たすべき条件は次のとおりです。
#
# - `support`は`(S, D)`、`query`は`(Q, D)`の埋め込み。dtypeは同じ小数。`support_y`は`(S,)`の整数で、0以上
# - クラスの数 $N$ は、`support_y`の最大値 + 1とする。クラスごとの枚数は違ってよく、行の並びは決まっていない
# - 返り値は`(Q, N)`で、 $k$ 番目の列がクラス $k$。dtypeは`support`と同じ
# - どのクエリのロジットも、ほかのクエリによらない
# - 0から $N - 1$ のどれかのクラスに、サポートが1枚もなければ、日本語の文の`ValueError`を起こす
# - `support`と`query`の両方に、正しい勾配が流れる。クエリがプロトタイプと同じ点でも、勾配は有限とする
# - 引数を書き換えない


# %%
def prototypical_logits(support: Tensor, support_y: Tensor, query: Tensor) -> Tensor:
    """クラスの平均までの距離の2乗に、負号を付けたロジット。(S, D)、(S,)、(Q, D) → (Q, N)。"""
    ### BEGIN SOLUTION
    found = set(support_y.tolist())
    if found != set(range(len(found))):  # 抜けがあれば、0から始まる続き番号にならない
        raise ValueError(f"サポートのあるクラスが{found}です。0から最大の番号まで、どのクラスにも1枚は要ります。")
    centres = torch.stack([support[support_y == k].mean(dim=0) for k in range(len(found))])
    return -(query[:, None] - centres).square().sum(dim=2)  # (Q, 1, D) − (N, D) → (Q, N, D) → (Q, N)
    ### END SOLUTION


# %%
check("08-5", prototypical_logits)

# %% [markdown]
# ### 合格したら：平均は、いつ良いまとめ方か
#
# 二乗を展開すると、 $\ell_{jk} = 2 c_k \cdot q_j - \lVert c_k \rVert^2 - \lVert q_j \rVert^2$ です。最後の項は、どのクラスでも同じです。
# だから、プロトタイプの分類器は、重みが $2 c_k$、バイアスが $-\lVert c_k \rVert^2$ の、**線形分類器**と同じ分類をします。初めに、これを確かめます。
#
# 次に、クラスのまとめ方を3通り比べます。どれも、あなたの`prototypical_logits`に渡す点を変えるだけで作れます。
#
# - **平均**：プロトタイプ
# - **中央値**：次元ごとの中央値を、クラスの代表にする
# - **最近傍**：サポートの1枚1枚を代表とみなし、いちばん近い1枚のクラスに分ける
#
# 題材は、5-wayの仮名です。埋め込みは学習せず、画素を、訓練の漢字の主成分32個に射影します。サポートとクエリの書体は違います。
# 1枚の画像から作る $K$ 枚のサポートには、別々の変形が掛かっています。種を8通りに変え、種ごとに30エピソードを引き、平均します。
# 1クラスに1枚のとき、三つは同じです。予想してから実行してください。枚数を増やすと、どれがいちばん伸びるでしょうか。
# サポートのうち、クラスごとに1枚のラベルが間違っていたら、順位は変わるでしょうか。クラスが丸い塊（正規分布）なら、どうでしょうか。


# %%
def three_rules(logits: Callable[..., Tensor], support: Tensor, y: Tensor, query: Tensor) -> dict[str, Tensor]:
    """平均、中央値、最近傍で分類したときの、クラスの予測 (Q,)。"""
    ways = int(y.max()) + 1
    middle = torch.stack([support[y == k].quantile(0.5, dim=0) for k in range(ways)])
    each = logits(support, torch.arange(len(support)), query)  # 1枚を1クラスとみなす
    return {
        "平均": logits(support, y, query).argmax(1),
        "中央値": logits(middle, torch.arange(ways), query).argmax(1),
        "最近傍": y[each.argmax(1)],
    }


def principal_axes(tasks: fewshot.GlyphTasks) -> tuple[Tensor, Tensor]:
    """訓練の漢字の、画素の平均と、主成分32個 (画素, 32)。"""
    seen = tasks.images[torch.isin(tasks.labels, torch.tensor(tasks.split.train))].flatten(1)
    return seen.mean(0), torch.linalg.svd(seen - seen.mean(0), full_matrices=False).Vh[:32].T


def kana_embeddings(
    tasks: fewshot.GlyphTasks, embed: Callable[[Tensor], Tensor], shots: int, seed: int
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """仮名の30エピソード。サポートの埋め込み、ラベル、クエリの埋め込み、正解。"""
    sampler = tasks.sampler("test", ways=5, shots=shots, queries=4, episodes=30, seed=seed)
    return [(embed(e.support_x), e.support_y, embed(e.query_x), e.query_y) for e in sampler]


def mislabelled(episode: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """クラスごとに1枚のサポートに、次のクラスのラベルを付ける。"""
    support, y, query, answer = episode
    rows = [int((y == k).nonzero()[0]) for k in range(5)]
    wrong_y = y.clone()
    wrong_y[rows] = (y[rows] + 1) % 5
    return support, wrong_y, query, answer


def round_blobs(shots: int, seed: int, episodes: int = 30) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """どのクラスも、同じ広がりの丸い正規分布である、作りものの埋め込み。"""
    g = torch.Generator().manual_seed(seed)
    y, answer = torch.arange(5).repeat_interleave(shots), torch.arange(5).repeat_interleave(4)
    centres = 0.4 * torch.randn(episodes, 5, 32, generator=g)
    return [
        (c[y] + torch.randn(len(y), 32, generator=g), y, c[answer] + torch.randn(len(answer), 32, generator=g), answer)
        for c in centres
    ]


def rule_scores(logits: Callable[..., Tensor], groups: list[list[tuple]]) -> dict[str, Tensor]:
    """種ごとの正解率 (種,)。"""
    table = [
        [[(p == a).float().mean() for p in three_rules(logits, s, y, q).values()] for s, y, q, a in episodes]
        for episodes in groups
    ]
    return dict(zip(("平均", "中央値", "最近傍"), torch.tensor(table).mean(1).T, strict=True))


if ready("08-5"):
    letters = fewshot.glyph_tasks(every=10, val=40, size=14)
    shots, seeds = (1, 2, 5, 10), range(8)
    middle, axes = principal_axes(letters)
    drawn = {
        k: [kana_embeddings(letters, lambda x: (x.flatten(1) - middle) @ axes, k, seed) for seed in seeds]
        for k in shots
    }

    support, y, query, _ = drawn[5][0][0]
    centres = torch.stack([support[y == k].mean(0) for k in range(5)])
    straight = query @ (2 * centres).T - centres.square().sum(1)
    offset = prototypical_logits(support, y, query) - straight
    spread = (offset - offset.mean(1, keepdim=True)).abs().max().item()
    print(f"線形分類器との差の、クラスによる違いが1e-3より小さい: {spread < 1e-3}")
    assert spread < 1e-3, "線形分類器との差が、クラスによって違います"
    assert torch.allclose(offset[:, 0], -query.square().sum(1), atol=1e-3), "線形分類器との差が、−‖q‖²ではありません"

    kana_rules = {k: rule_scores(prototypical_logits, groups) for k, groups in drawn.items()}
    for k, scores in kana_rules.items():
        print(f"仮名、{k}枚: " + "　".join(f"{name} {mean_ci(values)}" for name, values in scores.items()))
    conditions = {
        "仮名": kana_rules[5],
        "仮名、1枚が誤り": rule_scores(prototypical_logits, [[mislabelled(e) for e in group] for group in drawn[5]]),
        "丸い塊": rule_scores(prototypical_logits, [round_blobs(5, seed) for seed in seeds]),
    }
    gains = {
        name: {rule: mean_ci(scores[rule] - scores["平均"]) for rule in ("中央値", "最近傍")}
        for name, scores in conditions.items()
    }
    for name, row in gains.items():
        print(f"{name}、5枚、平均との差（同じ種どうし）: " + "　".join(f"{rule} {gap}" for rule, gap in row.items()))
    assert all(torch.equal(values, kana_rules[1]["平均"]) for values in kana_rules[1].values()), "1枚で違います"
    nearest = [gains[name]["最近傍"] for name in conditions]
    assert nearest[0].mean - nearest[0].half > 0, "仮名で、最近傍が平均より良いことが、確認できません"
    assert nearest[1].mean < nearest[0].mean, "誤ったラベルで、最近傍の利点が減りません"
    assert nearest[2].mean + nearest[2].half < 0, "丸い塊で、平均が最近傍より良いことが、確認できません"

    fig, (left, right) = plot.subplots(1, 2, figsize=(8.6, 3.5))
    for (rule, marker), shift in zip({"平均": "o", "中央値": "s", "最近傍": "^"}.items(), (0.97, 1, 1.03), strict=True):
        bands = [mean_ci(kana_rules[k][rule]) for k in shots]
        places = [k * shift for k in shots]
        left.errorbar(places, [b.mean for b in bands], [b.half for b in bands], marker=marker, capsize=3, label=rule)
    left.set_xscale("log")
    left.set_xticks(shots, [str(k) for k in shots])
    left.minorticks_off()
    left.set_xlabel("1クラスのサポートの枚数")
    left.set_ylabel("正解率（平均と95%信頼区間）")
    left.set_title("仮名の5-way、画素の主成分")
    left.legend()
    for (rule, marker), shift, color in zip(
        {"中央値": "s", "最近傍": "^"}.items(), (-0.08, 0.08), ("C1", "C2"), strict=True
    ):
        found = [gains[name][rule] for name in gains]
        places = [i + shift for i in range(3)]
        right.errorbar(
            places,
            [b.mean for b in found],
            [b.half for b in found],
            marker=marker,
            linestyle="",
            capsize=3,
            label=rule,
            color=color,
        )
    right.axhline(0, color="black", linewidth=0.8)
    right.set_xticks(range(3), list(gains))
    right.set_ylabel("正解率の、平均との差")
    right.set_title("5枚のとき（種8個）")
    right.legend()
    plot.show(
        fig,
        alt="左は、1クラスのサポートの枚数に対する、平均、中央値、最近傍の正解率の折れ線。1枚では同じ点から始まり、枚数が増えると、どれも上がる。"
        "最近傍がいちばん高く、差は枚数とともに広がる。中央値は、5枚からは平均より低い。"
        "右は、5枚のときの、平均との差。最近傍の差は、仮名では正、ラベルが1枚誤ると0に近づき、丸い塊では大きく負になる。中央値の差は、どれも負である。",
    )

# %% [markdown]
# 仮名では、最近傍のほうが、プロトタイプより良くなりました。画素の主成分では、字がずれたり傾いたりすると、点が曲がった道に沿って動きます。
# その平均は、ぼやけた字で、道から外れることがあります。枚数が増えると、最近傍は、似た変形の1枚を見つけやすくなると考えられます。
#
# 同じ広がりの丸い塊では、逆に、平均がいちばん良くなりました。この場合、平均がクラスの中心の、最もばらつきの小さい推定だからです。
# 最近傍は、1枚1枚の雑音を、そのまま拾います。ラベルの間違った1枚も、そのまま使います。だから、誤りがあると、利点が減りました。
#
# プロトタイプが良いかどうかは、**埋め込み**で決まります。プロトタイプネットワークは、クラスが平均のまわりに集まるように、埋め込みを学びます。
# そのためには、平均を通って、サポートにも勾配が流れなければなりません。ここでは埋め込みを学習していないので、学習した埋め込みでの順位は、わかりません。
# 区間は、エピソードの引き方による揺れを表します。埋め込みは一つに決めてあります。
#
# **考えてみよう**：
#
# 1. 1クラスに1枚のとき、三つの方法が同じ分類になるのはなぜですか。
# 2. 埋め込みをすべて2倍にすると、分類は変わりますか。softmaxの確率は、どう変わりますか。
# 3. 距離を2乗しないと、どの項が消えずに残り、線形分類器でなくなるのでしょうか。分類の結果は変わりますか。

# %% [markdown]
# ## 演習08-6 メタ蒸留から、誤りを見つけて直す
#
# <!-- exercise: 08-6 -->
#
# **メタ蒸留**は、内側のループで生徒モデルを蒸留し、外側のループで「蒸留のあとの生徒モデルがよくなるように」学びます。
# 外側で学ぶのは、生徒モデルの初めの重みと、教師モデルの重みの両方です。
#
# 次の関数は、一つの課題について、外側の損失と、適応したあとのパラメータを返すつもりで書かれたものです。
# 例外は起きず、損失は有限で、`backward`もできます。しかし、誤りが**五つ**あります。


# %%
def buggy_meta_distillation(
    teacher: nn.Module,
    student: nn.Module,
    episode: fewshot.Episode,
    *,
    inner_lr: float,
    inner_steps: int,
    temperature: float,
    alpha: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """メタ蒸留のつもりの関数（虫が五匹います）。"""
    p = (teacher(episode.support_x) / temperature).softmax(dim=1)
    fast = dict(student.named_parameters())
    for _ in range(inner_steps):
        logits = student(episode.support_x)
        soft = F.kl_div((logits / temperature).log_softmax(dim=1), p, reduction="batchmean")
        loss = alpha * soft
        slopes = torch.autograd.grad(loss, list(student.parameters()))
        fast = {name: value - inner_lr * slope for (name, value), slope in zip(fast.items(), slopes, strict=True)}
    return F.cross_entropy(student(episode.query_x), episode.query_y), fast


# %% [markdown]
# 動かして、症状を測ります。題材は、回した数字です。課題ごとに一つの角度を引き、その課題の画像を全部、同じだけ回します。
# サポートは20枚、クエリは40枚で、どの課題も0から9の10クラスです。小さな生徒モデルは、サポートから「いまの角度」に合わせます。
# 教師モデルは、いろいろな角度の画像で学習した、大きめのネットワークです。どちらにもバッチ正規化はありません。

# %%
TURN_SETTING = {"inner_lr": 0.4, "inner_steps": 3, "temperature": 2.0, "alpha": 0.5}
turn_digits = data.load("mnist5k")
turn_images, turn_labels = F.avg_pool2d(turn_digits.images, 2), turn_digits.labels
turn_train, turn_test = torch.randperm(5000, generator=torch.Generator().manual_seed(86)).split([4000, 1000])


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """画像 (N, 1, 14, 14) を、1枚ずつ angle (N,) [rad] だけ回す。"""
    c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rotation = torch.stack([torch.stack([c, -s, zero], dim=1), torch.stack([s, c, zero], dim=1)], dim=1)
    places = F.affine_grid(rotation, list(x.shape), align_corners=False)
    return F.grid_sample(x, places, align_corners=False)


def turned_task(pool: Tensor, g: torch.Generator) -> fewshot.Episode:
    """角度を一つ引き、サポート20枚とクエリ40枚を作る。"""
    rows = pool[torch.randperm(len(pool), generator=g)[:60]]
    angle = 2 * math.pi * torch.rand(1, generator=g)
    x, y = turned(turn_images[rows], angle.expand(60)), turn_labels[rows]
    return fewshot.Episode(x[:20], y[:20], x[20:], y[20:])


def turn_network(width: int, seed: int) -> nn.Sequential:
    """196 → width → 10。"""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(196, width), nn.Tanh(), nn.Linear(width, 10))


def trained_turn_teacher() -> nn.Module:
    """いろいろな角度の画像で学習した教師モデル。"""
    model = turn_network(256, seed=0)
    adam = torch.optim.Adam(model.parameters(), lr=0.002, fused=True)
    for _ in range(500):
        rows = turn_train[torch.randint(len(turn_train), (128,))]
        adam.zero_grad()
        x = turned(turn_images[rows], 2 * math.pi * torch.rand(128))
        F.cross_entropy(model(x), turn_labels[rows]).backward()
        adam.step()
    return model


def slope_norm(loss: Tensor, model: nn.Module) -> float:
    """損失の、モデルの全部のパラメータでの勾配のノルム。届かない勾配は0とする。"""
    slopes = torch.autograd.grad(
        loss, list(model.parameters()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([slope.flatten() for slope in slopes]).norm().item()


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """パラメータの辞書の差のノルム。"""
    return float(sum((a[name] - b[name]).detach().square().sum() for name in a) ** 0.5)


turn_teacher, fresh_student = trained_turn_teacher(), turn_network(32, seed=1)
shown_episode = turned_task(turn_test, torch.Generator().manual_seed(86))


def symptoms(step: Callable[..., tuple[Tensor, dict[str, Tensor]]]) -> dict[str, float]:
    """一つの課題で測った、五つの数。"""

    def ask(labels: Tensor = shown_episode.support_y, **changes: float) -> tuple[Tensor, dict[str, Tensor]]:
        episode = shown_episode._replace(support_y=labels)
        return step(turn_teacher, fresh_student, episode, **(TURN_SETTING | changes))

    loss, start = ask()[0], dict(fresh_student.named_parameters())
    moved = {t: distance(ask(inner_steps=1, alpha=1.0, temperature=t)[1], start) for t in (2.0, 16.0)}
    return {
        "適応で変わったクエリの損失": (loss - ask(inner_steps=0)[0]).item(),
        "0.1を5回と、0.5を1回の、着いた点の隔たり": distance(
            ask(inner_lr=0.1, inner_steps=5)[1], ask(inner_lr=0.5, inner_steps=1)[1]
        ),
        "教師モデルの勾配のノルム": slope_norm(loss, turn_teacher),
        "サポートのラベルを替えたときの、着いた点の隔たり": distance(ask(9 - shown_episode.support_y)[1], ask()[1]),
        "T = 16の更新の大きさ ÷ T = 2の大きさ（α = 1）": moved[16.0] / moved[2.0],
    }


buggy_symptoms = symptoms(buggy_meta_distillation)
for what, value in buggy_symptoms.items():
    print(f"{what}: {value:.4f}")
assert buggy_symptoms["適応で変わったクエリの損失"] == buggy_symptoms["教師モデルの勾配のノルム"] == 0
assert buggy_symptoms["0.1を5回と、0.5を1回の、着いた点の隔たり"] < 1e-5, "二つの進み方が、違う点に着きました"
assert buggy_symptoms["サポートのラベルを替えたときの、着いた点の隔たり"] == 0

# %% [markdown]
# 内側で何回進んでも、クエリの損失は少しも変わりません。学習率0.1で5回進んでも、0.5で1回進んでも、着く点は（丸め誤差を除いて）同じです。
# 教師モデルの勾配は、小さいのではなく、**ちょうど0**です。サポートのラベルを替えても、何も変わりません。
# 温度を上げると、更新は、ほとんどなくなります。外側の損失だけを見ていると、どれにも気づけません。
#
# 誤りを五つとも見つけて、直してください。一つの誤りから、いくつもの症状が出ることもあります。
# サポートを $(x_s, y_s)$、クエリを $(x_q, y_q)$、教師モデルを $t_\phi$、生徒モデルを $s_\theta$ とします。サポートは $N$ 件です。
#
# $$
# \mathcal{L}(\theta) = \alpha \, T^2 \cdot \frac{1}{N} \sum_{i=1}^{N} \mathrm{KL}\!\left(
#   \mathrm{softmax}\!\left(\frac{t_\phi(x_{s,i})}{T}\right) \,\middle\|\, \mathrm{softmax}\!\left(\frac{s_\theta(x_{s,i})}{T}\right)
# \right) + (1 - \alpha) \cdot \frac{1}{N} \sum_{i=1}^{N} \mathrm{CE}\bigl(s_\theta(x_{s,i}),\, y_{s,i}\bigr)
# $$
#
# $$
# \theta_{j+1} = \theta_j - \eta \, \nabla_\theta \mathcal{L}(\theta_j) \quad (j = 0, \dots, k - 1), \qquad
# L(\theta_0, \phi) = \frac{1}{M} \sum_{i=1}^{M} \mathrm{CE}\bigl(s_{\theta_k}(x_{q,i}),\, y_{q,i}\bigr)
# $$
#
# 満たすべき条件は次のとおりです。
#
# - `episode`は、`support_x`、`support_y`、`query_x`、`query_y`の四つのテンソルを、この順に持つ
# - `inner_lr`は $\eta$、`inner_steps`は $k$（0以上）、`temperature`は $T$、`alpha`は $\alpha$ とする。クエリは $M$ 件とする
# - 返り値は、外側の損失 $L$（0次元のテンソル）と、 $\theta_k$ の辞書の組とする。辞書の名前は`student.named_parameters()`と同じにする
# - $L$ は、 $\theta_0$ と $\phi$ の**両方**について、正しく微分できる。内側の勾配が $\theta_0$ と $\phi$ によることも数える
# - 二つのモデルのパラメータを書き換えず、`.grad`も残さない。外側の更新は、呼んだ側が行う
# - モデルにバッチ正規化やドロップアウトはなく、全部のパラメータを学習する
# - `tlkit`の関数を呼ばずに、自分で計算する。`torch.func`の`functional_call`は使ってよい


# %%
def meta_distillation_step(
    teacher: nn.Module,
    student: nn.Module,
    episode: fewshot.Episode,
    *,
    inner_lr: float,
    inner_steps: int,
    temperature: float,
    alpha: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """適応した生徒モデルのクエリの損失（0次元）と、適応したパラメータ。"""
    ### BEGIN SOLUTION
    ### STUB raise NotImplementedError("この行を消し、下の五つの誤りを直してください")
    ### STUB p = (teacher(episode.support_x) / temperature).softmax(dim=1)
    ### STUB fast = dict(student.named_parameters())
    ### STUB for _ in range(inner_steps):
    ### STUB     logits = student(episode.support_x)
    ### STUB     soft = F.kl_div((logits / temperature).log_softmax(dim=1), p, reduction="batchmean")
    ### STUB     loss = alpha * soft
    ### STUB     slopes = torch.autograd.grad(loss, list(student.parameters()))
    ### STUB     fast = {name: value - inner_lr * slope for (name, value), slope in zip(fast.items(), slopes, strict=True)}
    ### STUB return F.cross_entropy(student(episode.query_x), episode.query_y), fast
    p = (teacher(episode.support_x) / temperature).softmax(dim=1)
    fast = dict(student.named_parameters())
    for _ in range(inner_steps):
        logits = functional_call(student, fast, (episode.support_x,))  # 初めの重みでなく、いまの fast で予測する
        soft = F.kl_div((logits / temperature).log_softmax(dim=1), p, reduction="batchmean")
        loss = alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(logits, episode.support_y)
        slopes = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
        fast = {name: value - inner_lr * slope for (name, value), slope in zip(fast.items(), slopes, strict=True)}
    return F.cross_entropy(functional_call(student, fast, (episode.query_x,)), episode.query_y), fast
    ### END SOLUTION


# %%
check("08-6", meta_distillation_step)

# %% [markdown]
# ### 合格したら：直すと、何が学べるようになるか
#
# まず、同じ症状を測り直します。次に、二つのモデルの勾配を、中心差分と比べます。モデルを倍精度にし、乱数で決めた向きに、重みを $\pm 10^{-5}$ だけずらします。
#
# 最後に、誤った関数と直した関数で、生徒モデルと教師モデルを学習します（四つの課題の平均で100回更新、種は五つ）。
# 学習のあとは、どちらも、**直した関数で**適応させて測ります。テストの画像から作った、学習に使わない40課題を使います。
# 誤った関数での学習は、生徒モデルをクエリの画像でそのまま学習するのと同じです。課題をまぜた、ふつうの学習です。
#
# 予想してください。適応する**前**のクエリの損失は、どちらの学習が小さいでしょうか。適応した**後**は、どうでしょうか。


# %%
def central_slope(step: Callable[..., Any], models: dict[str, nn.Module], role: str) -> tuple[float, float]:
    """乱数で決めた向きの、自動微分の勾配と、中心差分。"""
    moved, g = models[role], torch.Generator().manual_seed(0)
    start = nn.utils.parameters_to_vector(moved.parameters()).detach()
    way = torch.randn(len(start), generator=g, dtype=start.dtype)
    x, y, query_x, query_y = shown_episode
    episode = fewshot.Episode(x.double(), y, query_x.double(), query_y)

    def loss() -> Tensor:
        return step(models["teacher"], models["student"], episode, **TURN_SETTING)[0]

    slopes = torch.autograd.grad(loss(), list(moved.parameters()), allow_unused=True, materialize_grads=True)
    found = (torch.cat([slope.flatten() for slope in slopes]) @ way).item()
    ends = []
    for sign in (1, -1):
        nn.utils.vector_to_parameters(start + sign * 1e-5 * way, moved.parameters())
        ends.append(loss().item())
    nn.utils.vector_to_parameters(start, moved.parameters())
    return found, (ends[0] - ends[1]) / 2e-5


def meta_train(step: Callable[..., Any], seed: int) -> tuple[nn.Module, nn.Module]:
    """stepの損失で、教師モデルの複製と生徒モデルを学習する。"""
    teacher, student = copy.deepcopy(turn_teacher), turn_network(32, seed)
    groups = [{"params": student.parameters(), "lr": 0.01}, {"params": teacher.parameters(), "lr": 0.001}]
    adam, g = torch.optim.Adam(groups, fused=True), torch.Generator().manual_seed(seed)
    for _ in range(100):
        adam.zero_grad()
        for _ in range(4):
            (step(teacher, student, turned_task(turn_train, g), **TURN_SETTING)[0] / 4).backward()
        adam.step()
    return teacher, student


def held_out(step: Callable[..., Any], teacher: nn.Module, student: nn.Module, steps: int) -> tuple[float, float]:
    """テストの40課題の、クエリの損失と正解率の平均。steps回だけ適応してから測る。"""
    found = []
    for number in range(40):
        episode = turned_task(turn_test, torch.Generator().manual_seed(8600 + number))
        loss, fast = step(teacher, student, episode, **(TURN_SETTING | {"inner_steps": steps}))
        with torch.no_grad():
            guess = meta.call_with(student, fast, episode.query_x).argmax(dim=1)
        right = (guess == episode.query_y).float().mean()
        found.append((loss.item(), right.item()))
    losses, rights = zip(*found, strict=True)
    return sum(losses) / 40, sum(rights) / 40


if ready("08-6"):
    for what, value in symptoms(meta_distillation_step).items():
        print(f"{what}: 誤り {buggy_symptoms[what]:.4f} → 直した後 {value:.4f}")

    exact = {"teacher": copy.deepcopy(turn_teacher).double(), "student": copy.deepcopy(fresh_student).double()}
    for name, step in (("誤った関数", buggy_meta_distillation), ("直した関数", meta_distillation_step)):
        for role, title in (("student", "生徒モデル"), ("teacher", "教師モデル")):
            automatic, numeric = central_slope(step, exact, role)
            print(f"{name}　{title}の方向微分: 自動微分 {automatic:+.6f}、中心差分 {numeric:+.6f}")
            assert abs(automatic - numeric) < 1e-6 * max(1, abs(numeric)), "自動微分が、中心差分と合いません"

    turn_runs = {"誤った関数で学習": buggy_meta_distillation, "直した関数で学習": meta_distillation_step}
    turn_scores = {
        name: [
            [held_out(meta_distillation_step, *models, steps=steps) for steps in (0, 3)]
            for models in (meta_train(step, seed) for seed in range(5))
        ]
        for name, step in turn_runs.items()
    }
    turn_table = torch.tensor(list(turn_scores.values()))  # (関数, 種, 適応の前と後, 損失と正解率)
    for name, rows in zip(turn_scores, turn_table, strict=True):
        for when, column in zip(("適応の前", "適応の後"), rows.unbind(1), strict=True):
            print(f"{name}　{when}: 損失 {mean_ci(column[:, 0])}、正解率 {mean_ci(column[:, 1])}")
    gain = turn_table[1, :, 1] - turn_table[0, :, 1]  # 適応の後の、同じ種どうしの差
    print(f"適応の後の差（直した − 誤り、種5個）: 損失 {mean_ci(gain[:, 0])}、正解率 {mean_ci(gain[:, 1])}")
    assert turn_table[1, :, 0, 0].min() > turn_table[0, :, 0, 0].max(), "適応の前の損失が、予想と違います"
    assert gain[:, 0].max() < 0 < gain[:, 1].min(), "適応の後でよくなることが、確認できません"

    fig, (left, right) = plot.subplots(1, 2, figsize=(8.6, 3.5))
    counts = range(9)
    for (name, step), marker in zip(
        (("誤った関数", buggy_meta_distillation), ("直した関数", meta_distillation_step)), "os", strict=True
    ):
        curve = [held_out(step, turn_teacher, fresh_student, steps)[0] for steps in counts]
        left.plot(counts, curve, marker=marker, label=name)
    left.set_xlabel("内側の回数")
    left.set_ylabel("返されたクエリの損失")
    left.set_title("学習の前の生徒モデル（40課題の平均）")
    left.legend()
    for name, rows, marker in zip(turn_scores, turn_table, "os", strict=True):
        found = [mean_ci(column[:, 0]) for column in rows.unbind(1)]
        means, halves = zip(*found, strict=True)
        right.errorbar((0, 1), means, yerr=halves, marker=marker, capsize=4, label=name)
    right.set_xticks((0, 1), ("適応の前", "適応の後（3回）"))
    right.set_xlim(-0.3, 1.3)
    right.set_ylabel("クエリの損失（平均と95%信頼区間）")
    right.set_title("学習の後（種5個）")
    right.legend()
    plot.show(
        fig,
        alt="左は、内側の回数に対する、返されたクエリの損失。誤った関数では水平な線で、直した関数では、回数とともに下がる。"
        "右は、学習した後の、適応の前と後のクエリの損失。誤った関数で学習した生徒モデルは、適応の前から小さく、適応してもほとんど変わらない。"
        "直した関数で学習した生徒モデルは、適応の前はずっと大きいが、適応すると大きく下がり、誤った関数の線を下回る。",
    )

# %% [markdown]
# 誤った関数の「中心差分」も、自動微分と合っています。**誤った損失の、正しい勾配**だったのです。
# 中心差分の検査は、書いた式の微分が正しいことは確かめますが、書きたかった式であることは確かめません。
# 「適応すると損失が変わるか」「5回と1回で違う点に着くか」のような、意味から決まる性質の検査が、別に要ります。
#
# 直した関数で学習した生徒モデルは、適応する前の損失が、誤った関数よりずっと大きくなりました。それでも、3回の更新のあとは、よくなります。
# 「そのままで当たる重み」でなく、「数回の更新で当たるようになる重み」を学んだからです。
# 誤った関数は、学習としては動きます。ただし、学んだのは、課題をまぜたふつうの分類で、メタ学習ではありません。
#
# ここで確かめたのは、誤りを直した効果です。直したところが五つあるので、どれがどれだけ効いたかは、わかりません。
# 教師モデルも一緒に学ぶことが得かどうかも、まだわかりません。それには、教師モデルを止めた学習と比べる必要があります。
#
# **考えてみよう**：
#
# 1. 教師モデルの学習率を0にすると、適応の後の損失はどう変わりますか。同じ種どうしで比べてください。
# 2. `TURN_SETTING`の`alpha`を0にすると、教師モデルの勾配はどうなりますか。式から予想してから、確かめてください。
# 3. 1回の更新で、二階の項を捨てると、教師モデルの勾配がちょうど0になるのはなぜですか。生徒モデルの勾配は、0になりません。

# %% [markdown]
# ## 演習08-7 一つの課題の集合を、自分の統計で正規化する
#
# <!-- exercise: 08-7 -->
#
# バッチ正規化は、訓練では渡された集合の平均と分散を使い、評価ではためておいた移動統計を使います。
# メタ学習では、課題ごとに集合が替わります。移動統計には、よその課題の統計が混ざります。内側の更新のたびに、中間の層の統計も変わります。
# そこで、訓練か評価かによらず、**その課題の、その集合**（サポートかクエリのどちらか）だけの統計で正規化します。
#
# 集合 $x$ のチャネル $c$ について、集合の軸と画素の軸で平均した $\mu_c$ と、偏りのある分散 $\sigma_c^2$（個数 $n$ で割る分散）を求めます。
#
# $$
# \mu_c = \frac{1}{n} \sum_{i} x_{ic}, \qquad
# \sigma_c^2 = \frac{1}{n} \sum_{i} (x_{ic} - \mu_c)^2, \qquad
# y_{ic} = \gamma_c \frac{x_{ic} - \mu_c}{\sqrt{\sigma_c^2 + \varepsilon}} + \beta_c
# $$
#
# $\mu_c$ と $\sigma_c^2$ は、 $x$ の関数です。MAMLでは、これらを通る勾配を、もう一度微分します。どこかで切ると、値は同じまま、メタ勾配だけが変わります。
#
# 例を一つ手で解きます。1チャネルの集合が $(1, 3)$、 $\gamma = 2$、 $\beta = 5$ で、 $\varepsilon$ は小さいとします。
# 平均は2、分散は $\frac{1 + 1}{2} = 1$ なので、 $y = (2 \times (-1) + 5,\ 2 \times 1 + 5) = (3, 7)$ です。
# 集合を $(11, 13)$ や $(10, 30)$ に変えても、 $y$ は同じです。だから、 $y$ を使う損失を $x$ で微分すると、勾配の和は0になります。
#
# 関数`normalise_task`を書いてください。
#
# 満たすべき条件は次のとおりです。
#
# - `x`は一つの集合で、`(M, C)`か`(M, C, H, W)`の小数のテンソル。`gamma`と`beta`は`(C,)`。`M`は2以上。返り値は`x`と同じ形、同じdtype
# - 値は`F.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)`と等しい。`eps`の既定値は`1e-5`
# - `x`、`gamma`、`beta`のどれにも、一階と二階の正しい勾配が流れる
# - 状態を持たない。前に渡された集合にも、勾配を記録しているかどうかにも、よらない
# - `torch.func.vmap`で課題の軸をまとめ、その中で内側の勾配を求めても、二階まで正しい。値を見る分かれ道（`if`や`.item()`）は使わない
# - float32で、平均が標準偏差の1000倍でも、正規化した値の標準偏差は、1から1%以内
# - 引数を書き換えない


# %%
def normalise_task(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """渡された集合の、チャネルごとの平均と分散で正規化する。(M, C) か (M, C, H, W) → 同じ形。"""
    ### BEGIN SOLUTION
    axes = [i for i in range(x.ndim) if i != 1]
    centred = x - x.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)
    shape = [-1] + [1] * (x.ndim - 2)  # (C,) を、チャネルの軸に合わせる
    return gamma.reshape(shape) * centred / (variance + eps).sqrt() + beta.reshape(shape)
    ### END SOLUTION


# %%
check("08-7", normalise_task)

# %% [markdown]
# ### 合格したら：損失は合うのに、メタ勾配だけが違う
#
# 条件に、`torch.func.vmap`が出てきました。課題の数だけループする代わりに、課題の軸をまとめて計算する関数です。
# 内側の勾配を`torch.func.grad`で求め、全体を`vmap`に渡すのは、よくある書き方です。ここに、バッチ正規化が入ると何が起こるかを測ります。
#
# 題材は、乱数で作った四つの課題です。ネットワークは「線形層 → 正規化 → tanh → 線形層」、内側の更新は1回、倍精度とします。正規化は、三通りを比べます。
#
# 1. `normalise_task`
# 2. `F.batch_norm`に、 $\gamma$ と $\beta$ を渡す（`nn.BatchNorm1d`の中身と同じ）
# 3. `F.batch_norm`に $\gamma$ と $\beta$ を渡さず、外で掛けて足す
#
# 比べる相手は、課題を一つずつ`torch.autograd.grad`で計算したメタ勾配です。これが正しいことは、中心差分で確かめます。
# 予想してから実行してください。三通りの損失は一致するでしょうか。メタ勾配はどうでしょうか。


# %%
def norm_given_affine(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, gamma, beta, training=True)


def norm_then_affine(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True) * gamma + beta


def norm_setting() -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """パラメータと、四つの課題のサポートのxとy、クエリのxとy。"""
    g = torch.Generator().manual_seed(87)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    params = {"初めの線形層": draw(5, 4), "γ": 1 + draw(4) / 10, "β": draw(4), "終わりの線形層": draw(4, 3)}
    return {k: v.requires_grad_() for k, v in params.items()}, tuple(draw(4, 6, size) for size in (5, 3, 5, 3))


def norm_loss(norm: Callable[..., Tensor], params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """線形層 → 正規化 → tanh → 線形層の、平均二乗誤差。"""
    first, gamma, beta, last = params.values()
    return (norm(x @ first, gamma, beta).tanh() @ last - y).square().mean()


def vmap_meta_loss(
    norm: Callable[..., Tensor], params: dict[str, Tensor], sets: tuple[Tensor, ...], lr: float
) -> Tensor:
    """内側の勾配を、課題の軸のvmapの中で求める。"""

    def task(params: dict[str, Tensor], sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
        slopes = torch.func.grad(lambda values: norm_loss(norm, values, sx, sy))(params)
        return norm_loss(norm, {name: value - lr * slopes[name] for name, value in params.items()}, qx, qy)

    return torch.func.vmap(task, (None, 0, 0, 0, 0))(params, *sets).mean()


def loop_meta_loss(
    norm: Callable[..., Tensor], params: dict[str, Tensor], sets: tuple[Tensor, ...], lr: float
) -> Tensor:
    """課題を一つずつ、torch.autograd.gradで求める。"""
    losses = []
    for sx, sy, qx, qy in zip(*sets, strict=True):
        slopes = torch.autograd.grad(norm_loss(norm, params, sx, sy), list(params.values()), create_graph=True)
        moved = {k: v - lr * slope for (k, v), slope in zip(params.items(), slopes, strict=True)}
        losses.append(norm_loss(norm, moved, qx, qy))
    return torch.stack(losses).mean()


def meta_slopes(loss: Tensor, params: dict[str, Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(params.values())))


def relative_errors(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> list[float]:
    """部分ごとの、差のノルムの割合。"""
    return [((a - b).norm() / b.norm()).item() for a, b in zip(found, wanted, strict=True)]


def meta_difference(norm: Callable[..., Tensor], way: list[Tensor], lr: float) -> float:
    """一つの向きについての、メタ損失の中心差分。"""
    params, sets = norm_setting()
    ends = [
        loop_meta_loss(norm, {k: v + sign * 1e-5 * w for (k, v), w in zip(params.items(), way, strict=True)}, sets, lr)
        for sign in (1, -1)
    ]
    return (ends[0] - ends[1]).item() / 2e-5


if ready("08-7"):
    norm_ways = {
        "normalise_task": normalise_task,
        "F.batch_norm（γとβを渡す）": norm_given_affine,
        "F.batch_norm（外で掛ける）": norm_then_affine,
    }
    norm_params, norm_sets = norm_setting()
    true_loss = loop_meta_loss(normalise_task, norm_params, norm_sets, 0.3)
    true_slopes = meta_slopes(true_loss, norm_params)
    g = torch.Generator().manual_seed(0)
    norm_way = [torch.randn(slope.shape, generator=g, dtype=slope.dtype) for slope in true_slopes]
    numeric = meta_difference(normalise_task, norm_way, 0.3)
    print(f"メタ勾配と、ある向きとの内積の、中心差分: {numeric:.6f}")
    for name, norm in norm_ways.items():
        for title, build in (("ループ", loop_meta_loss), ("vmap", vmap_meta_loss)):
            loss = build(norm, norm_params, norm_sets, 0.3)
            slopes = meta_slopes(loss, norm_params)
            inner = sum((slope * w).sum() for slope, w in zip(slopes, norm_way, strict=True)).item()
            errors = relative_errors(slopes, true_slopes)
            shown = "、".join(
                f"{k} {'0' if e < 1e-10 else f'{e:.1%}'}" for k, e in zip(norm_params, errors, strict=True)
            )
            print(f"{name}、{title}: 損失 {loss.item():.6f}、内積 {inner:.6f}、相対誤差 {shown}")
            assert abs(loss.item() - true_loss.item()) < 1e-10, "損失が一致しません"
            if build is loop_meta_loss or norm is not norm_given_affine:
                assert max(errors) < 1e-10, "メタ勾配が、ループと一致しません"
                assert abs(inner - numeric) < 1e-6 * (1 + abs(numeric)), "メタ勾配が、中心差分と一致しません"
            else:
                assert errors[0] > 0.01 > 1e-10 > max(errors[1:]), "vmapの中の誤りが、予想と違います"

    norm_layer = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)).double()
    try:
        torch.func.vmap(norm_layer)(norm_sets[0])
    except RuntimeError as error:
        print(
            f"訓練の状態のnn.BatchNorm1dをvmapに渡すと、{type(error).__name__}: {str(error).partition(', which')[0]} …"
        )
    else:
        raise AssertionError("nn.BatchNorm1dが、vmapの中で例外になりません")

    norm_rates = [0.003, 0.01, 0.03, 0.1, 0.3]
    rate_errors, rate_cosines = [], []
    for rate in norm_rates:
        pair = [
            torch.cat(
                [
                    slope.flatten()
                    for slope in meta_slopes(build(norm_given_affine, norm_params, norm_sets, rate), norm_params)
                ]
            )
            for build in (vmap_meta_loss, loop_meta_loss)
        ]
        rate_errors.append(relative_errors(pair[:1], pair[1:])[0])
        rate_cosines.append(F.cosine_similarity(*pair, dim=0).item())
        print(f"内側学習率 {rate}: vmapのメタ勾配の相対誤差 {rate_errors[-1]:.2%}、コサイン {rate_cosines[-1]:.4f}")

    assert rate_errors == sorted(rate_errors), "誤差が、内側学習率とともに増えません"
    assert rate_errors[0] < 0.01, "小さな内側学習率で、誤差が目立ちます"
    assert min(rate_cosines) > 0.9, "誤りが、向きに大きく表れました"

    fig, ax = plot.subplots(figsize=(5.0, 3.4))
    ax.loglog(norm_rates, rate_errors, marker="o")
    ax.set_xlabel("内側学習率")
    ax.set_ylabel("メタ勾配の相対誤差")
    ax.set_title("γとβを渡したF.batch_norm（vmapの中）")
    plot.show(
        fig,
        alt="内側学習率を横軸、vmapの中で求めたメタ勾配の相対誤差を縦軸にした、両対数の折れ線。内側学習率が大きいほど、誤差が大きくなる。",
    )

# %% [markdown]
# 損失は、どれも一致しました。例外は起きず、警告も出ません。それでも、 $\gamma$ と $\beta$ を渡した`F.batch_norm`を`vmap`の中で使うと、
# 正規化より**前**の線形層のメタ勾配だけが、違っていました。ループで計算すれば、同じ`F.batch_norm`でも正しく、中心差分とも合います。
# 誤っているのは式ではなく、`vmap`の中での、バッチ正規化の二階の微分です。これは、この版のPyTorchで測った結果です。ほかの版では、確かめ直してください。
#
# 訓練の状態の`nn.BatchNorm1d`は、例外になりました。課題ごとの統計で、一つの移動統計を書き換えようとするからです。
# 例外の文は、移動統計を持たない設定（`track_running_stats=False`）を勧めます。そのとおりにすると、例外は消え、上の2と同じ、静かな誤りになります。
#
# 誤差は、内側学習率が小さいと目立ちません。二階の項に、内側学習率が掛かっているからです。向きは、ほとんど変わりません。
# 学習が進むかどうかを見るだけでは、この誤りに気づけません。
#
# ### 合格したら：サポートとクエリを、まとめるか、分けるか
#
# 統計をとる集合を変えると、同じ画像の予測が変わります。数字の画像の5-way 5-shotで、サポートとクエリを**別々に**正規化するときと、
# **まとめて**正規化するときを比べます。クエリは20枚で、そのうち一つのクラスが占める割合を、0.2（どのクラスも同じ）から1まで変えます。
# 埋め込みは、学習していない「線形層 → 正規化 → ReLU」です。予測は、クラスの平均に最も近いものとします。200個の課題で測ります。
#
# 予想してから実行してください。クエリのクラスが偏ると、どちらの正規化が困るでしょうか。


# %%
NORM_COUNTS = {
    0.2: (4, 4, 4, 4, 4),
    0.4: (8, 3, 3, 3, 3),
    0.6: (12, 2, 2, 2, 2),
    0.8: (16, 1, 1, 1, 1),
    1.0: (20, 0, 0, 0, 0),
}


def norm_task(
    images: Tensor, pools: list[Tensor], counts: tuple[int, ...], g: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """5クラスのサポート5枚ずつと、counts枚ずつのクエリ。サポート、クエリ、クエリのラベル。"""
    chosen = torch.randperm(len(pools), generator=g)[:5].tolist()
    rows = [pools[c][torch.randperm(len(pools[c]), generator=g)] for c in chosen]
    support = torch.cat([row[:5] for row in rows])
    query = torch.cat([row[5 : 5 + count] for row, count in zip(rows, counts, strict=True)])
    return images[support], images[query], torch.arange(5).repeat_interleave(torch.tensor(counts))


def nearest_class(support: Tensor, query: Tensor) -> Tensor:
    return torch.cdist(query, support.unflatten(0, (5, 5)).mean(1)).argmin(1)


if ready("08-7"):
    norm_digits = data.load("mnist5k")
    norm_images = F.avg_pool2d(norm_digits.images, 2).flatten(1)
    norm_pools = [torch.nonzero(norm_digits.labels == c).flatten() for c in range(10)]
    torch.manual_seed(0)
    norm_weight = torch.randn(196, 64) / 14
    one, none = torch.ones(64), torch.zeros(64)
    norm_scores: dict[str, list] = {"別々": [], "まとめて": []}
    norm_gaps = []
    for share_of_one, counts in NORM_COUNTS.items():
        g, hits, changed = torch.Generator().manual_seed(0), [], []
        for _ in range(200):
            support, query, labels = norm_task(norm_images, norm_pools, counts, g)
            apart = [normalise_task(part @ norm_weight, one, none).relu() for part in (support, query)]
            joint = normalise_task(torch.cat([support, query]) @ norm_weight, one, none).relu().split([25, 20])
            guesses = [nearest_class(*apart), nearest_class(*joint)]
            hits.append([(guess == labels).float().mean().item() for guess in guesses])
            changed.append((guesses[0] != guesses[1]).float().mean().item())
        for row, column in zip(norm_scores.values(), torch.tensor(hits).T, strict=True):
            row.append(mean_ci(column))
        norm_gaps.append(gap := mean_ci(torch.tensor(hits)[:, 0] - torch.tensor(hits)[:, 1]))
        print(
            f"一つのクラスの割合 {share_of_one}: 予測が変わった割合 {mean_ci(changed)}、正解率の差（別々 − まとめて） {gap}"
        )
    assert norm_gaps[0].mean - norm_gaps[0].half > 0, "偏りのないとき、別々の正規化のほうが良くなりません"
    assert gap.mean + gap.half < -0.1, "クエリのクラスが偏っても、別々の正規化が困りません"

    fig, ax = plot.subplots(figsize=(5.4, 3.4))
    for (name, row), marker in zip(norm_scores.items(), "os", strict=True):
        ax.errorbar(
            list(NORM_COUNTS), [m.mean for m in row], [m.half for m in row], marker=marker, capsize=4, label=name
        )
    ax.set_xlabel("クエリに占める、一つのクラスの割合")
    ax.set_ylabel("正解率（200課題の平均）")
    ax.legend(title="サポートとクエリの正規化")
    plot.show(
        fig,
        alt="クエリに占める一つのクラスの割合を横軸、正解率を縦軸にした折れ線。別々に正規化すると、割合が大きくなるほど正解率が大きく下がる。"
        "まとめて正規化すると、ほとんど変わらない。割合が0.2のときだけは、別々のほうが少し高い。",
    )

# %% [markdown]
# 偏りがないときも、一部の予測が変わりました。このときは、別々に正規化するほうが、少しだけ良くなりました。
# ところが、クエリが一つのクラスに偏ると、別々の正規化の正解率は大きく下がりました。
# 一つのクラスしかなければ、集合の平均は、そのクラスの特徴そのものです。平均を引くと、クラスの手がかりが消えます。
# まとめて正規化すると、サポートの5クラスの特徴も、平均に入ります。
#
# ただし、まとめることにも代償があります。どちらの方法でも、あるクエリの予測は、一緒に渡されたほかのクエリに依存します
# （**トランスダクティブ**と呼びます）。1枚ずつ届くクエリには、同じようには使えません。
# 論文の成績を比べるときは、クエリをどう正規化したかと、クエリのクラスが同数だったかを、確かめてください。
# 区間は、課題の引き方による揺れだけを表します。ネットワークの初めの値は一つで、学習もしていません。
#
# **考えてみよう**：
#
# 1. `norm_then_affine`が正しいことを使うと、`nn.BatchNorm1d`を使うモデルを、どう直せばよいでしょうか。
# 2. 平均だけを`detach`すると、一階の勾配の何が変わりますか。手で解いた例の $x = (1, 3)$ で確かめてください。
# 3. サポートの平均と分散だけを使って、クエリも正規化すると、トランスダクティブでなくなります。ほかに何が変わるでしょうか。

# %% [markdown]
# ## 演習08-8 手法を、種ごとの対で比べる
#
# <!-- exercise: 08-8 -->
#
# 少数例の分類では、600エピソードの平均と信頼区間を報告することがよくあります。エピソードを独立とみなした区間は、とても狭くなります。
# しかし、その区間が表すのは、**学習の済んだ一つのモデル**を、別のエピソードで測り直したときのばらつきです。
# 「手法Bは手法Aよりよいか」という問いでは、学習のやり直しによるばらつきも数えます。同じモデルで測ったエピソードは、いくつ集めても、独立な標本ではありません。
#
# そこで、次のように比べます。
#
# 1. 候補を、**メタ検証**の正解率の平均だけで選びます。メタテストは、選んだ後に1回だけ使います。
# 2. メタテストのエピソードを種ごとに平均し、種 $s$ の差 $d_s$ を、選んだ手法と基準とで、同じ種どうしで引いて求めます。
# 3. $S$ 個の種の差から、平均と95%信頼区間を求めます。 $\hat\sigma$ は不偏分散の平方根、 $t_{S-1}(0.975)$ は自由度 $S - 1$ の $t$ 分布の97.5%点です。
#
# $$
# \bar{d} = \frac{1}{S} \sum_{s=1}^{S} d_s, \qquad \bar{d} \pm t_{S-1}(0.975) \, \frac{\hat\sigma}{\sqrt{S}}
# $$
#
# 信頼区間が0を含めば、差は確かめられていません。「差がない」と確かめられたわけでもありません。
#
# 関数`compare_methods`を書いてください。満たすべき条件は次のとおりです。
#
# - `validation`と`test`は、手法の名前から正解率への辞書とする。値は`(種の数, エピソードの数)`の小数のテンソル。行の順は、どの手法でも同じ種の順。`validation`と`test`とでは、種が別でもよく、数も違ってよい
# - 種は2個以上。`test`のエピソードの数は、どの手法でも同じ。`validation`では、手法ごとに違ってもよい
# - `baseline`は、比べる相手の手法の名前。これは候補に入れない。ほかの手法のうち、`validation`の平均が最大のものを選ぶ
# - 返り値は、`chosen`（選んだ名前）、`difference`（選んだ手法から基準を引いた差の平均 $\bar{d}$）、`half`（区間の半幅）、`verdict`の四つを持つ`dict`とする。`difference`と`half`は`float`とする
# - `verdict`は、区間が0を含めば（端が0でも）`"unclear"`、含まなければ、差の符号により`"better"`か`"worse"`とする
# - `scipy.stats`は使ってよい。`tlkit.stats`は使わない


# %%
def compare_methods(validation: dict[str, Tensor], test: dict[str, Tensor], baseline: str) -> dict[str, Any]:
    """メタ検証で選んだ手法と基準の、メタテストでの差、区間の半幅、結論。"""
    ### BEGIN SOLUTION
    means = {name: accuracy.numpy().mean() for name, accuracy in validation.items() if name != baseline}
    chosen = max(means, key=means.get)
    gaps = test[chosen].numpy().mean(axis=1) - test[baseline].numpy().mean(axis=1)  # 種ごとに一つの数
    difference = float(gaps.mean())
    half = float(stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5)
    verdict = "better" if difference > half else "worse" if difference < -half else "unclear"
    return {"chosen": chosen, "difference": difference, "half": half, "verdict": verdict}
    ### END SOLUTION


# %%
check("08-8", compare_methods)

# %% [markdown]
# ### 合格したら：存在しない差を、何回「見つける」か
#
# 本当の差がわかっている、作りものの実験で確かめます。正解率を、「0.6 + 種の良しあし（どの手法にも同じ）+ 学習のばらつき（手法と種ごと）+
# エピソードのばらつき」で作ります。標準偏差は、順に0.03、0.02、0.1です。どの手法にも、**差はありません**。種は5個です。
#
# - 左：候補は一つ。エピソードの数を増やしていく。`compare_methods`と、エピソードを全部まとめて独立とみなす方法とを比べる
# - 右：候補を増やしていく。メタテストで選ぶとき、同じモデルのメタ検証で選ぶとき、メタ検証で選んだ後に**別の種で学習し直して**メタテストで確かめるときを比べる
#
# 95%信頼区間なら、「差がある」という誤った結論は、5%ほどのはずです。エピソードを増やすと、この割合はどうなるでしょうか。


# %%
def made_up(
    methods: int, episodes: int, g: torch.Generator, *, seeds: int = 5, gain: float = 0.0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """同じモデルで測った、メタ検証とメタテストの正解率 (種, エピソード)。「基準」のほかは、本当に gain だけよい。"""
    names = ["基準", *(f"候補{i}" for i in range(methods))]
    common = 0.6 + 0.03 * torch.randn(seeds, 1, generator=g)
    trained = common + 0.02 * torch.randn(len(names), seeds, 1, generator=g)
    scores = trained + 0.1 * torch.randn(2, len(names), seeds, episodes, generator=g)
    scores[:, 1:] += gain
    validation, test = (dict(zip(names, part, strict=True)) for part in scores)
    return validation, test


def pooled(test: dict[str, Tensor]) -> bool:
    """全部のエピソードを独立とみなした区間が、0を含まないか。"""
    found = mean_ci((test["候補0"] - test["基準"]).flatten().numpy())
    return abs(found.mean) > found.half


def share(claims: Sequence[bool]) -> float:
    """Trueの割合。"""
    return sum(claims) / len(claims)


if ready("08-8"):
    g, trials = torch.Generator().manual_seed(88), 600
    sizes, crowds = (10, 40, 160, 640), (1, 2, 5, 10, 20)
    false_claims: dict[str, list[float]] = {"種ごと": [], "エピソードをまとめる": []}
    for size in sizes:
        tests = [made_up(1, size, g)[1] for _ in range(trials)]
        verdicts = [compare_methods(test, test, "基準")["verdict"] for test in tests]
        false_claims["種ごと"].append(share([verdict != "unclear" for verdict in verdicts]))
        false_claims["エピソードをまとめる"].append(share([pooled(test) for test in tests]))
        print(f"エピソード{size}個: " + "、".join(f"{name} {row[-1]:.3f}" for name, row in false_claims.items()))
    ways = ("メタテストで選ぶ", "メタ検証で選ぶ（同じ種）", "メタ検証で選ぶ（別の種）")
    wins: dict[str, list[float]] = {way: [] for way in ways}
    for crowd in crowds:
        runs = [(*made_up(crowd, 40, g), made_up(crowd, 40, g)[1]) for _ in range(trials)]
        chances = zip(*[((test, test), (val, test), (val, fresh)) for val, test, fresh in runs], strict=True)
        for row, pairs in zip(wins.values(), chances, strict=True):
            row.append(share([compare_methods(*pair, "基準")["verdict"] == "better" for pair in pairs]))
        print(f"候補{crowd}個で、betterの割合: " + "、".join(f"{name} {row[-1]:.3f}" for name, row in wins.items()))
    for seeds in (3, 5, 10, 20):
        tests = [made_up(1, 160, g, seeds=seeds, gain=0.02)[1] for _ in range(trials)]
        found = share([compare_methods(test, test, "基準")["verdict"] == "better" for test in tests])
        print(f"本当の差が0.02で、種{seeds}個: betterの割合 {found:.3f}")
    assert max(false_claims["種ごと"]) < 0.1, "種ごとの比較で、誤った結論が多すぎます"
    assert false_claims["エピソードをまとめる"][-1] > 0.4, "まとめて数えた害が、確認できません"
    last = [row[-1] for row in wins.values()]
    assert last[0] > 3 * last[2], "メタテストで選んだ害が、確認できません"
    assert last[1] > 1.5 * last[2], "同じ種で選んだ害が、確認できません"

    fig, (left, right) = plot.subplots(1, 2, figsize=(8.4, 3.5))
    for axis, places, rows in ((left, sizes, false_claims), (right, crowds, wins)):
        for (name, row), marker in zip(rows.items(), "os^", strict=False):
            axis.plot(places, row, marker=marker, label=name)
        axis.set_xscale("log")
        axis.set_xticks(places, [str(place) for place in places])
        axis.minorticks_off()
        axis.legend()
        axis.set_ylim(bottom=0)
    left.axhline(0.05, color="black", linewidth=0.8)
    left.set_xlabel("エピソードの数")
    left.set_ylabel("「差がある」と結論した割合")
    left.set_title("差のない二つの手法")
    right.axhline(0.025, color="black", linewidth=0.8)
    right.set_xlabel("候補の数")
    right.set_ylabel("「基準よりよい」と結論した割合")
    right.set_title("どれも基準と差のない候補")
    plot.show(
        fig,
        alt="左は、エピソードの数に対する、差のない手法に差があると結論した割合。種ごとの比較は、どの数でも0.05の線に近い。"
        "エピソードをまとめる方法は、数とともに上がり、半分を超える。右は、候補の数に対する、差のない候補が基準よりよいと結論した割合。"
        "別の種で確かめると0.025の線の近くに留まる。メタテストで選ぶと、候補が増えるほど大きく上がる。同じ種のメタ検証で選ぶと、その間に来る。",
    )

# %% [markdown]
# エピソードを増やすほど、まとめて数える方法の誤りは**増え**ました。区間はいくらでも狭くなるのに、学習のばらつきは減らないからです。
# 種ごとの比較は、エピソードの数によらず、約束した割合を守ります。
#
# メタテストで選ぶと、候補が多いほど、まぐれでよく見えたものが残ります。区間の計算は正しくても、結論は信用できません。
# メタ検証で選んでも、**同じモデル**をメタテストで測るなら、まぐれは残ります。たまたまよく学習できたモデルを、選びやすいからです。
# 候補が多いときは、選んだ後に、別の種で学習し直して確かめます。
#
# 種が少ないと、本当にある差も見つけられません。`"unclear"`は、「差がない」という意味ではなく、「この種の数では、わからない」という意味です。
#
# **考えてみよう**：
#
# 1. `made_up`の学習のばらつき0.02を0にすると、二つの方法の違いはどうなりますか。
# 2. 種の良しあし0.03を大きくしても、対で比べた区間の幅が変わらないのはなぜですか。
# 3. 手法ごとに別の種を使うと、対にできません。区間はどれだけ広がるでしょうか。
