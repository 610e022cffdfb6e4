# %% [markdown]
# # 第8章 メタ学習とメタ蒸留
#
# **学習目標**
# - メタ学習を、転移学習、マルチタスク学習、少数ショット学習と、何を学ぶかで区別できる
# - N-way K-shotのエピソードを正しく引き、クラスの漏れを防げる
# - MAMLの外側の勾配を、1次元の2次の損失なら手で、ネットワークなら微分できる内側のループで求められる
# - 二階の項を捨てると何が変わるかを、余弦と成績の二つで言い分けられる
# - MAML、ANIL、プロトタイプネットワーク、単純な基準の、学ぶもの、動かすもの、費用を比べられる
# - メタ蒸留の内側と外側の損失を書き、壊れた内側のループを、性質の検査で見つけられる
#
# **シラバスとの対応**：メタ学習（MAML）。距離学習、少数ショット学習、知識蒸留（07章）とつながります。シラバスには版があります。受験の前に、必ず公式の最新版を確かめてください。
#
# **範囲**：メタ学習（MAML）は、シラバスに名前がありますが、**オプション**の扱いで、出題対象の外とされています。この章の残り（ANIL、プロトタイプネットワーク、メタ蒸留、バッチ正規化の扱い）は発展です。
#
# **この章の地図**
#
# ```mermaid
# flowchart TD
#     A["課題の集まり：エピソード"] --> B["MAML：適応した後の損失を、初期値で微分する"]
#     B --> C["コード：微分できる内側のループ"]
#     C --> D["二階と一次近似"]
#     D --> E["正弦波で、初期値を学ぶ"]
#     E --> F["動かす場所を減らす：ANIL、プロトタイプ、単純な基準"]
#     F --> G["バッチ正規化を、どの集合で測るか"]
#     G --> H["メタ蒸留：教師モデルから適応する"]
#     H --> I["同じ予算で比べる実験"]
#     I --> J["落とし穴"]
# ```

# %% [markdown]
# ## 困りごとから
#
# 見たことのない文字の手本を、1枚だけ渡されます。次に、同じ文字を別の書体で見せられます。人なら、たいてい同じ文字だと分かります。
# 機械にとっては、難しい問題です。クラスごとの学習データが、1枚しかないからです。
#
# 仮名で確かめます。5種類の仮名の手本を1枚ずつ渡し、別の書体の25枚（5枚ずつ）を、5種類に分けさせます。どの画像にも、傾きや太さの変形が掛かっています。
# まず、すぐに思いつく二つの方法を試します。
#
# - **画素で比べる**：最も近い手本のクラスにする
# - **手本だけで学習する**：畳み込みネットワークを、乱数の重みから、5枚の手本で学習する

# %%
import copy
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.optim.lr_scheduler import CosineAnnealingLR

from tlkit import plot, results
from tlkit.course import quiz
from tlkit.data.glyph_augment import augment
from tlkit.fewshot import (
    Episode,
    EpisodeBatches,
    NearestCentroid,
    ProtoNet,
    SineTasks,
    episode_accuracies,
    glyph_tasks,
    prototypes,
    prototypical_logits,
    sine_network,
)
from tlkit.losses import DistillationLoss
from tlkit.meta import (
    MAML,
    MetaDistillation,
    PrototypeTeacher,
    StackedMAML,
    adapt,
    call_with,
    fit_maml,
    gradient_cosine,
    inner_parameters,
    mean_over_tasks,
)
from tlkit.models import Conv4, GlyphCNN
from tlkit.nn import batch_statistics
from tlkit.seeding import seed_everything
from tlkit.stats import mean_ci
from tlkit.training import fit
from tlkit.transferability import linear_cka

tasks = glyph_tasks(every=5, val=100)  # 漢字で学習と検証をし、仮名でテストする
one_shot = {"ways": 5, "shots": 1, "queries": 5}
kana = list(tasks.sampler("test", **one_shot, episodes=30, seed=0, fresh=False))


def learned_from_support(_: nn.Module, episode: Episode) -> Tensor:
    """手本の5枚だけで、乱数の重みから学習したネットワークの、クエリのロジット。"""
    seed_everything(0)
    network = Conv4(5, width=16)  # バッチ正規化は、渡した集合の統計を使う（後の節で見る）
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    with torch.enable_grad():
        for _ in range(25):
            optimizer.zero_grad()
            F.cross_entropy(call_with(network, {}, episode.support_x), episode.support_y).backward()
            optimizer.step()
    return call_with(network, {}, episode.query_x)


first_tries = {"画素で比べる": NearestCentroid().logits, "手本だけで学習する": learned_from_support}
first_scores = {name: mean_ci(episode_accuracies(logits, nn.Flatten(), kana)) for name, logits in first_tries.items()}
for name, score in first_scores.items():
    print(f"{name}：正解率 {score}（{len(kana)}課題の平均と、課題についての95%信頼区間。でたらめなら0.2）")
assert all(0.3 < score.mean < 0.8 for score in first_scores.values()), "二つの方法の苦戦が確認できません"

# %% [markdown]
# どちらも、でたらめよりはよいものの、誤りが多く残ります。
# 画素の比べ方は、傾きや太さの違いと、文字の違いを区別しません。5枚だけでは、「書体が変わっても同じ文字である」ことを学びようがありません。
#
# 人が1枚で見分けられるのは、それまでに、たくさんの**別の**文字で、同じ種類の問題を解いてきたからでしょう。
# どの違いを無視し、どの違いを見るべきかを、前もって知っているのです。
# 同じことを、機械にさせます。手元には、仮名でない文字、つまり漢字の画像なら、たくさんあります。
#
# ほかの文字で学習した重みを移すこと（02章）も、もちろん候補です。その成績は、この章の中ほどで、同じように測ります。

# %% [markdown]
# ## 課題の集まりから学ぶ
#
# **メタ学習**（meta-learning）は、たくさんの課題を経験して、**新しい課題を少ない手本で解く手順**を学ぶことです。「学習の学習」とも言います。
# 学習データの1件が、1枚の画像ではなく、**一つの課題**になります。
#
# ### エピソード
#
# 分類では、一つの課題を**エピソード**と呼び、次のように作ります（Vinyals et al., 2016）。
#
# 1. クラスを $N$ 個選び、0から $N - 1$ の番号を付け直す。
# 2. クラスごとに $K$ 枚の手本を引く。これを**支持集合**（サポート、support set）と呼ぶ。
# 3. 同じクラスから、別の画像を $Q$ 枚ずつ引く。これを**クエリ集合**（query set）と呼ぶ。
#
# これを**N-way K-shot**の課題と言います。画像は、サポートが $NK$ 枚、クエリが $NQ$ 枚で、合わせて $N(K + Q)$ 枚です。
# 5-way 1-shot、$Q = 5$ なら、サポート5枚、クエリ25枚です。$K$ は**クラスごと**の枚数で、サポート全体の枚数ではありません。
#
# 手本を見て学ぶのがサポート、その結果を採点するのがクエリです。メタ訓練では、クエリのラベルも使って、採点の結果が良くなるように学びます。
# テストでは、クエリのラベルは採点にしか使いません。
#
# 漢字と仮名のエピソードを一つずつ見ます。


# %%
def canvas(episode: Episode, rows: int) -> Tensor:
    """サポート1行とクエリ rows 行を、クラスの番号順に並べた一枚の絵。"""
    support = episode.support_x[episode.support_y.argsort()]
    per_class = [episode.query_x[episode.query_y == k][:rows] for k in range(len(support))]
    lines = [support[:, 0], *(torch.stack([images[row, 0] for images in per_class]) for row in range(rows))]
    return torch.cat([torch.cat(list(line), dim=1) for line in lines])


shown = {
    "メタ訓練（漢字）": next(iter(tasks.sampler("train", **one_shot, episodes=1, seed=3))),
    "メタテスト（仮名）": next(iter(tasks.sampler("test", **one_shot, episodes=1, seed=3))),
}
fig, axes = plot.subplots(1, 2, figsize=(6.2, 2.3))
for ax, (name, episode) in zip(axes, shown.items(), strict=True):
    ax.imshow(canvas(episode, 2).numpy(), vmin=0, vmax=1)
    ax.set_title(f"{name}の1エピソード", fontsize=10)
    ax.set_xticks([28 * k + 13.5 for k in range(5)], [str(k) for k in range(5)])
    ax.set_xlabel("クラスの番号")
    ax.set_yticks([13.5, 28 * 2], ["サポート", "クエリ"])
    ax.axhline(27.5, color="C1", linewidth=2)
    ax.grid(visible=False)
plot.show(
    fig,
    alt="左は漢字、右は仮名の、5-way 1-shotのエピソード。どちらも、上の1行が5クラスのサポート1枚ずつ、その下の2行が同じクラスのクエリ。"
    "同じ列の字は同じ文字だが、サポートとクエリでは書体が違い、傾きや太さや雑音も違う。",
    photo=True,
)
episode = shown["メタ訓練（漢字）"]
print(f"サポート {tuple(episode.support_x.shape)}、クエリ {tuple(episode.query_x.shape)}")
print("クラスの数：" + "、".join(f"{part} {len(tasks.split.classes(part))}" for part in ("train", "val", "test")))
sampler = tasks.sampler("train", **one_shot, episodes=1, seed=3)
draws = [sampler.draw(torch.Generator().manual_seed(seed)) for seed in range(200)]
assert (len(episode.support_x), len(episode.query_x)) == (5 * 1, 5 * 5)
assert all(set(draw.classes.tolist()) <= set(tasks.split.train) for draw in draws), "訓練の外のクラスが引かれました"
assert not any(set(tasks.face_ids[d.support].tolist()) & set(tasks.face_ids[d.query].tolist()) for d in draws), (
    "サポートとクエリの書体が同じです"
)

# %% [markdown]
# ラベルは、エピソードの中の番号です。同じ文字が、あるエピソードではクラス0、別のエピソードではクラス3になります。
# だから、「この形はクラス0」と覚えても役に立ちません。**サポートを見なければ、答えようがない**のです。
#
# ### 三つに分けるのは、クラス
#
# | | クラス | 使い道 |
# |---|---|---|
# | **メタ訓練** | 漢字の大部分 | 課題を引き、重みを学習する |
# | **メタ検証** | 残りの漢字 | 設定や止めどきを選ぶ |
# | **メタテスト** | 仮名 | 最後に一度だけ測る |
#
# ふつうの学習では、画像を分けます。ここでは、**クラスを分けます**。知りたいのが「初めて見るクラスで、どれだけ当たるか」だからです。
# 同じクラスの別の画像に分けただけでは、見たことのあるクラスの成績になります。その水増しの大きさは、演習08-4で測ります。
# 困りごとで仮名を使えたのは、仮名の成績を見て選んだものが、何もないからです。この後、途中の実験では、メタ検証の漢字を使います。
#
# この章の分け方には、限界もあります。書体は三つで、訓練とテストに共通です。測れるのは「新しい文字」への汎化で、「新しい書体」への汎化ではありません。
#
# ### 似た言葉との違い
#
# 課題 $i$ のサポートとクエリの損失を $L^S_i$、$L^Q_i$ とします。何を小さくしているかで、区別できます。
#
# | 方法 | 学習のときに小さくするもの | 新しい課題が来たら |
# |---|---|---|
# | 転移学習（02章） | 元の課題の損失 $L_A(\theta)$ | その重みから、新しい課題でファインチューニングする |
# | マルチタスク学習 | 決まった課題の損失の和 $\sum_i L_i(\theta)$ | 想定していない（同じ課題を解き続ける） |
# | **メタ学習** | 適応した**後**の損失の和 $\sum_i L^Q_i\bigl(\mathcal{A}(\theta, S_i)\bigr)$ | 学習のときと同じ手順 $\mathcal{A}$ で適応する |
#
# $\mathcal{A}(\theta, S)$ は、サポート $S$ を見て、課題に適応したモデルを作る手順です。勾配降下でも、クラスの平均を取るだけでも構いません。
# 転移学習の事前学習では、あとで適応することが、損失に入っていません。メタ学習は、適応の手順を損失の中に書き込みます。
# なお、事前学習の重みから、メタ学習を始めても構いません。二つは、どちらか一つを選ぶものではありません。
#
# **少数ショット学習**（few-shot learning）は、方法ではなく**問題**の名前です。手本が少ない課題なら、転移学習で解いても、メタ学習で解いても、少数ショット学習です。
# 言語モデルのプロンプトに例を書くことも、few-shotと呼ばれます。こちらは文脈内学習で、重みを更新しません。

# %% [markdown]
# ### 確認クイズ：課題とエピソード
#
# 先に自分で答えを決めてください。コードのセルに記号を書いて実行すると、正誤と理由が表示されます。
#
# <!-- quiz: q08-01 q08-02 q08-03 -->

# %% [markdown]
# ## MAMLを、紙の上の一歩から
#
# **MAML**（Model-Agnostic Meta-Learning、Finn et al., 2017）は、適応の手順 $\mathcal{A}$ を**数回の勾配降下**とします。
# 学ぶのは、そこから始めると数回でよくなる、**初期値** $\theta$ です。
#
# $$
# \theta'_i = \theta - \eta_{\mathrm{in}} \nabla L^S_i(\theta), \qquad
# \min_{\theta} \; F(\theta) = \frac{1}{M} \sum_{i=1}^{M} L^Q_i(\theta'_i)
# $$
#
# - **内側のループ**：課題ごとに、サポートで $\theta$ から $\theta'_i$ へ進む。歩幅は**内側学習率** $\eta_{\mathrm{in}}$。
# - **外側のループ**：クエリの損失を、**初期値** $\theta$ で微分し、$\theta$ を更新する。歩幅は**外側学習率** $\eta_{\mathrm{out}}$。
#
# MAMLの論文は、二つの歩幅を順に $\alpha$、$\beta$ と書きます。この章では、$\alpha$ を、07章と同じく蒸留の重みに使います。
#
# 間違えやすいのは、外側の勾配です。損失は $\theta'_i$ で測りますが、微分するのは $\theta$ です。$\theta'_i$ は $\theta$ の関数なので、連鎖律が要ります。
#
# ### 手で計算する
#
# パラメータが一つで、$L^S = L^Q = (\theta - a)^2$ とします。$a = 1$、$\theta = 3$、$\eta_{\mathrm{in}} = 0.1$ です。
#
# 1. 内側の勾配は $2(\theta - a) = 4$。更新すると $\theta' = 3 - 0.1 \times 4 = 2.6$。
# 2. クエリの損失の、$\theta'$ での微分は $2(\theta' - a) = 3.2$。
# 3. $\theta' = \theta - 0.2(\theta - a)$ なので、$d\theta' / d\theta = 1 - 0.2 = 0.8$。
# 4. 外側の勾配は $0.8 \times 3.2 = 2.56$。
#
# 手順3を忘れて、3.2をそのまま使うと、後で見る**一次近似**になります。自動微分と、中心差分で確かめます。
#
# 中心差分は、$\theta$ を少しだけ増減させて $F$ を2回計算し、傾きを求める方法です。微分の式を使わないので、式やコードの誤りを見つけられます。

# %%
a, rate = 1.0, 0.1
theta = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)


def after_one_step(theta: Tensor) -> Tensor:
    """内側の更新を1回したあとの、クエリの損失。"""
    (slope,) = torch.autograd.grad((theta - a) ** 2, theta, create_graph=True)
    return (theta - rate * slope - a) ** 2


(automatic,) = torch.autograd.grad(after_one_step(theta), theta)
step = 1e-5
ends = [after_one_step((theta + sign * step).detach().requires_grad_()).item() for sign in (1, -1)]
print(f"手で 2.56、自動微分 {automatic:.6f}、中心差分 {(ends[0] - ends[1]) / (2 * step):.6f}")
assert abs(automatic - 2.56) < 1e-12, "手の計算と自動微分の一致が確認できません"
assert abs((ends[0] - ends[1]) / (2 * step) - 2.56) < 1e-8, "手の計算と中心差分の一致が確認できません"

# %% [markdown]
# ### 何回か進むと
#
# 曲がりを $c$ にした $L = c(\theta - a)^2$ では、1回の更新で $\theta - a$ が $1 - 2c\eta_{\mathrm{in}}$ 倍になります。$k$ 回なら、次のとおりです。
#
# $$
# \theta_k - a = (1 - 2c\eta_{\mathrm{in}})^k (\theta - a), \qquad
# \frac{dF}{d\theta} = \underbrace{(1 - 2c\eta_{\mathrm{in}})^k}_{d\theta_k / d\theta} \cdot \underbrace{2c(\theta_k - a)}_{\theta_k \text{での微分}}
# $$
#
# 損失を $\frac{c}{2}(\theta - a)^2$ と書く流儀では、係数は $1 - c\eta_{\mathrm{in}}$ です（演習08-1はこちらです）。計算問題では、まず損失の形を確かめてください。
#
# ### パラメータがたくさんあるとき
#
# $1 - 2c\eta_{\mathrm{in}}$ の $2c$ は、損失の二階の微分でした。パラメータが多いときは、ヘッセ行列 $H_i = \nabla^2 L^S_i(\theta)$ になります。
#
# $$
# \nabla_\theta L^Q_i(\theta'_i) = \bigl(I - \eta_{\mathrm{in}} H_i\bigr) \, \nabla L^Q_i(\theta'_i)
# $$
#
# $H_i$ は対称なので、転置は要りません。$k$ 回なら、この行列が、通った点ごとに一つずつ、$k$ 個掛かります。
# $H_i$ を作る必要はありません。要るのは「$H_i$ とベクトルの積」だけで、自動微分なら、逆伝播をもう一度するのと同じ程度の計算で求まります。
#
# 適応を見込むと、目的の形が変わります。急な課題（$c = 1$、最小点は2）と、なだらかな課題（$c = 0.15$、最小点は−1）で描きます。

# %%
two_tasks = {"なだらかな課題": (0.15, -1.0), "急な課題": (1.0, 2.0)}
inner_rate, start_at = 0.4, 0.5
places = np.linspace(-2.5, 3.5, 241)


def moved(place: np.ndarray | float, curvature: float, minimum: float, steps: int) -> np.ndarray | float:
    """内側の更新を steps 回した後の値。"""
    return minimum + (1 - 2 * curvature * inner_rate) ** steps * (place - minimum)


def outer_objective(steps: int) -> np.ndarray:
    """初期値ごとの、適応した後の損失の平均。"""
    return np.mean([c * (moved(places, c, m, steps) - m) ** 2 for c, m in two_tasks.values()], axis=0)


fig, (left, right) = plot.subplots(1, 2, figsize=(7.8, 3.1))
for (name, (c, m)), color in zip(two_tasks.items(), ("C0", "C1"), strict=True):
    left.plot(places, c * (places - m) ** 2, color=color, label=name)
    end = moved(start_at, c, m, 1)
    left.annotate(
        "",
        (end, c * (end - m) ** 2),
        (start_at, c * (start_at - m) ** 2),
        arrowprops={"arrowstyle": "->", "color": color, "linewidth": 2},
    )
left.axvline(start_at, color="black", linewidth=0.8, linestyle=":")
left.set_ylim(-0.15, 4)
left.set_title("初期値0.5からの、内側の1歩")
left.set_ylabel("課題の損失")
left.legend(fontsize=8)
best = {}
for steps, color, line in ((0, "C0", "-"), (1, "C1", "--"), (3, "C2", "-.")):
    curve = outer_objective(steps)
    best[steps] = float(places[curve.argmin()])
    right.plot(places, curve, color=color, linestyle=line, label=f"{steps}回適応した後" if steps else "適応しない")
    right.plot(best[steps], curve.min(), marker="o", color=color)
right.set_ylim(-0.05, 1.6)
right.set_title("外側の目的 F（丸は最小の点）")
right.set_ylabel("損失の平均")
right.legend(fontsize=8)
for ax in (left, right):
    ax.set_xlabel("初期値 θ")
plot.show(
    fig,
    alt="左は、二つの課題の放物線。急な課題は2、なだらかな課題は−1が最小。初期値0.5からの1歩の矢印は、急な課題では最小の近くまで届き、なだらかな課題では短い。"
    "右は、外側の目的。適応しないと、急な課題の最小点の近くが最も低い。1回、3回と適応を見込むと、曲線は低く、平らになり、最小の点は、なだらかな課題の側へ移る。",
)
print("最小の初期値：" + "、".join(f"{steps}回なら {place:+.2f}" for steps, place in best.items()))
assert best[0] > 1.2 > 0 > best[1] > best[3], "適応を見込むと最小点が動くことが確認できません"

# %% [markdown]
# 適応しない（0回の）目的は、ふつうのマルチタスク学習と同じです。最小点から離れると損失が大きくなる、急な課題に寄ります。
# 適応を見込むと、なだらかな課題に寄ります。急な課題は、内側の1歩でほとんど解けるからです。
# MAMLの初期値は、「どの課題にとってもそこそこ良い点」とは限りません。**そこから数歩でよくなる点**です。
#
# 曲がりがどの課題でも同じで、サポートとクエリの最小点も同じなら、最小の初期値は、適応しても動きません。どの課題の損失も、同じ倍率で縮むだけだからです（倍率がちょうど0のときを除きます）。
# 回数を増やしたときに、行き着く先がどう動くかは、演習08-1で調べます。
#
# ### 「モデル非依存」の意味
#
# model-agnosticは、「勾配降下で学習するモデルなら、形を問わない」という意味です。分類、回帰、強化学習のどれにも使えます。
# **勾配が要らない**という意味ではありません。むしろ、正確な外側の勾配を求めるには、内側の更新を通して、もう一度微分できなければなりません。

# %% [markdown]
# ### 確認クイズ：MAMLの計算
#
# <!-- quiz: q08-04 q08-05 q08-06 -->

# %% [markdown]
# ## 内側のループをコードに
#
# MAMLの学習は、二重のループです。
#
# ```
# くり返す（外側）:
#     課題をいくつか引く
#     課題ごとに:
#         θ′ = θ
#         くり返す（内側）: θ′ = θ′ − η_in × サポートの損失の、θ′ での勾配
#         クエリの損失を、θ′ で測る
#     クエリの損失の平均を、θ で微分し、θ を更新する
# ```
#
# 外側は、ふつうの`loss.backward()`と`optimizer.step()`で書けます。難しいのは内側です。
# `loss.backward()`が $\theta$ まで届くには、$\theta'$ が**計算の記録の中で** $\theta$ とつながっていなければなりません。
#
# ```mermaid
# flowchart TD
#     T["初期値 θ"] -->|"① そのまま引かれる側"| P["適応した値 θ′ = θ − η_in·g"]
#     T -->|"② サポートの損失の微分"| G["内側の勾配 g"]
#     G --> P
#     P --> Q["クエリの損失"]
#     Q -.->|"外側の勾配は、矢印を逆にたどって θ に届く"| T
# ```
#
# $\theta$ から $\theta'$ へは、道が二つあります。①が $I$、②が $-\eta_{\mathrm{in}} H$ に当たります。
# ②を切ると一次近似になり、両方を切ると、勾配は届きません。守ることは三つです。
#
# 1. **書き換えず、新しい値を作る**：`optimizer.step()`や`param.data -= …`ではなく、`value - lr * gradient`を別の名前で持つ。
# 2. **勾配も、微分できる値として求める**：`torch.autograd.grad(…, create_graph=True)`。
# 3. **モデルを、渡した重みの関数として呼ぶ**：`torch.func.functional_call(model, params, (x,))`。`copy.deepcopy`した写しは、元の重みとつながらない。
#
# 小さなネットワークと、正弦波の課題一つで、正しい書き方と、よくある書き方を比べます。倍精度で計算し、活性化は滑らかなtanhにします。

# %%
seed_everything(0)
small = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()
wave = next(iter(SineTasks(tasks=1, shots=10, queries=20, batches=1, seed=0)))
support_x, support_y, query_x, query_y = (part[0].double() for part in wave)
Params = dict[str, Tensor]


def support_loss(params: Params) -> Tensor:
    """サポートの損失。"""
    return F.mse_loss(functional_call(small, params, (support_x,)), support_y)


def query_loss(params: Params) -> Tensor:
    """クエリの損失。"""
    return F.mse_loss(functional_call(small, params, (query_x,)), query_y)


def differentiable(params: Params, *, create_graph: bool = True) -> Tensor:
    """正しい書き方。create_graph=False なら、一次近似になる。"""
    slopes = torch.autograd.grad(support_loss(params), list(params.values()), create_graph=create_graph)
    return query_loss({name: value - 0.1 * g for (name, value), g in zip(params.items(), slopes, strict=True)})


def cut_off(params: Params) -> Tensor:
    """更新した値を detach して、葉のテンソルに作り直す。"""
    slopes = torch.autograd.grad(support_loss(params), list(params.values()))
    moved = {name: value - 0.1 * g for (name, value), g in zip(params.items(), slopes, strict=True)}
    return query_loss({name: value.detach().requires_grad_() for name, value in moved.items()})


def by_deepcopy(_: Params) -> Tensor:
    """モデルの写しを、ふつうの最適化手法で動かす。"""
    clone = copy.deepcopy(small)
    optimizer = torch.optim.SGD(clone.parameters(), lr=0.1)
    F.mse_loss(clone(support_x), support_y).backward()
    optimizer.step()
    return F.mse_loss(clone(query_x), query_y)


def in_place(params: Params) -> Tensor:
    """`.data` で、元の値を書き換える。"""
    slopes = torch.autograd.grad(support_loss(params), list(params.values()))
    for value, g in zip(params.values(), slopes, strict=True):
        value.data -= 0.1 * g
    return query_loss(params)


def fresh_params() -> Params:
    """初期値の写し。葉のテンソルである。"""
    return {name: value.detach().clone().requires_grad_() for name, value in small.named_parameters()}


def central(name: str, index: int) -> float:
    """一つのパラメータについての、中心差分。"""
    ends = []
    for sign in (1, -1):
        params = fresh_params()
        with torch.no_grad():
            params[name].view(-1)[index] += sign * 1e-5
        ends.append(differentiable(params).item())
    return (ends[0] - ends[1]) / 2e-5


numeric = torch.tensor([central(name, i) for name, value in small.named_parameters() for i in range(value.numel())])
ways_to_write: dict[str, Callable[[Params], Tensor]] = {
    "正しい（create_graph=True）": differentiable,
    "create_graph=False": lambda params: differentiable(params, create_graph=False),
    "途中でdetach": cut_off,
    "deepcopyした写しを動かす": by_deepcopy,
    ".dataで書き換える": in_place,
}
found_slopes: dict[str, Tensor | None] = {}
for name, write in ways_to_write.items():
    params = fresh_params()
    loss = write(params)
    slopes = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    kept = all(torch.equal(params[key], value) for key, value in small.named_parameters())
    found_slopes[name] = None if slopes[0] is None else torch.cat([g.flatten() for g in slopes])
    if found_slopes[name] is None:
        shown_error = "勾配が届かない（None）"
    else:
        error = (found_slopes[name] - numeric).norm() / numeric.norm()
        shown_error = f"中心差分との相対誤差 {error:.0e}"
    print(f"{name}：クエリの損失 {loss.item():.6f}、{shown_error}、元の重みは{'そのまま' if kept else '変わった'}")
right_slope, first_order_slope = found_slopes["正しい（create_graph=True）"], found_slopes["create_graph=False"]
assert (right_slope - numeric).abs().max() < 1e-7, "正しい書き方と中心差分の一致が確認できません"
assert all(found_slopes[name] is None for name in ("途中でdetach", "deepcopyした写しを動かす")), (
    "つながりが切れることが確認できません"
)
assert torch.allclose(found_slopes[".dataで書き換える"], first_order_slope), (
    "書き換えが一次近似と同じことが確認できません"
)
assert (first_order_slope - right_slope).norm() > 0.05 * right_slope.norm(), "二階の項の大きさが確認できません"

# %% [markdown]
# **クエリの損失は、五つとも同じです**。適応そのものは、どの書き方でも正しいからです。違うのは、勾配だけです。損失の値だけを見ていると、誤りに気づけません。
#
# - **`create_graph=False`**：勾配をただの数として扱うので、二階の項がなくなります。誤りではなく、一次近似という別の方法です。知らずに使うと、誤りです。
# - **途中で`detach`、`deepcopy`**：$\theta'$ と $\theta$ のつながりが切れ、$\theta$ の勾配がありません。写しのほうの`.grad`に入るので、例外が起きないこともあります。
# - **`.data`で書き換える**：求まるのは、一次近似と同じ値です。しかも、初期値そのものが失われます。次の課題は、前の課題に適応した重みから始まってしまいます。
#
# `.data`を付けずに`param -= …`と書けば、PyTorchが例外で止めてくれます。`.data`と`torch.no_grad()`は、その見張りを外します。
#
# `tlkit.meta.adapt`は、正しい書き方を、回数と一次近似の切りかえを付けてまとめたものです。同じ値になることを確かめておきます。

# %%
params = fresh_params()
for first_order, expected in ((False, right_slope), (True, first_order_slope)):
    loss = query_loss(adapt(params, support_loss, lr=0.1, steps=1, first_order=first_order))
    slopes = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(params.values()))])
    print(f"first_order={first_order!s:5}：adaptとの差の最大 {(slopes - expected).abs().max():.0e}")
    assert torch.allclose(slopes, expected, atol=1e-12), "adaptとの一致が確認できません"

# %% [markdown]
# 内側を $k$ 回くり返すと、$k$ 回分の計算の記録を、外側の微分が終わるまで持ち続けます。記憶（メモリ）の量は、ほぼ $k$ に比例します。一次近似なら、1回分で済みます。
# 課題の数には比例させずに済みます。課題ごとに勾配まで求めて足し、記録を捨てればよいからです（`mean_over_tasks`）。
#
# もう一つ、検査の注意です。ReLUのネットワークでは、内側の勾配が、ユニットのオンとオフの境目で跳びます。
# 境目をまたぐと中心差分は大きく外れるので、滑らかな活性化で検査するか、倍精度で、ずらす幅をごく小さくします。
#
# 自分で`adapt`を書くのは、演習08-2です。「5回進んだつもりが、5倍の学習率の1回と同じ」になる誤りも、そこで調べます。
# 一つの課題のMAMLの損失は、演習08-3で書きます。

# %% [markdown]
# ### 確認クイズ：内側のループ
#
# <!-- quiz: q08-07 q08-08 -->

# %% [markdown]
# ## 二階と一次近似
#
# 二階の項には、時間と記憶がかかります。そこで、$I - \eta_{\mathrm{in}} H$ を $I$ とみなします。これを**一次近似**（FOMAML、first-order MAML）と呼びます。内側が1回なら、次の違いです。
#
# $$
# \text{正確} \;\; (I - \eta_{\mathrm{in}} H) \, \nabla L^Q(\theta'), \qquad \text{一次近似} \;\; \nabla L^Q(\theta')
# $$
#
# 捨てるのは $H$ だけです。**クエリの損失を $\theta'$ で測ること**は変わりません。
# Finn et al.（2017）は、miniImageNet（写真の少数ショット学習の標準データ）では、一次近似でも、成績はほとんど変わらなかったと報告しました。ReLUのネットワークは局所的に線形に近く、二階の微分が小さいのだろう、とも述べています。
# Nichol et al.（2018）は、一次近似だけで学ぶ方法を調べ、さらに単純なReptileを提案しました。
# Antoniou et al.（2019）は、初めは一次近似で学び、途中から二階に切りかえることを勧めています。
#
# 二つの勾配は、実際にどれだけ似ているのでしょうか。式から、$\eta_{\mathrm{in}} H$ が小さければ似るはずです。
# Conv4（畳み込み4段）の、学習していない重みで、内側学習率、内側の回数、正規化の種類を変えて、二つの勾配の**余弦**を測ります。漢字の5-way 1-shotを4課題使います。

# %%
ORDER_RATES, ORDER_STEPS = (0.003, 0.01, 0.03, 0.1, 0.4), (1, 3, 5)
NORMS = {"batch": "バッチ正規化", "group": "グループ正規化", "none": "正規化なし"}
kanji = [
    Episode(*(part.double() if part.is_floating_point() else part for part in episode))
    for episode in tasks.sampler("train", **one_shot, episodes=4, seed=0, fresh=False)
]


def meta_gradient(model: nn.Module, method: MAML) -> list[Tensor]:
    """外側の勾配。"""
    return list(torch.autograd.grad(method.loss(model, kanji)["loss"], list(model.parameters())))


def sharpness(model: nn.Module, episode: Episode) -> float:
    """サポートの損失の、ヘッセ行列の、絶対値が最大の固有値の大きさ（べき乗法）。"""
    params = inner_parameters(model)
    loss = F.cross_entropy(call_with(model, params, episode.support_x), episode.support_y)
    slopes = torch.autograd.grad(loss, list(params.values()), create_graph=True)
    generator = torch.Generator().manual_seed(0)
    way = [torch.randn(g.shape, generator=generator, dtype=g.dtype) for g in slopes]
    size = torch.tensor(0.0)
    for _ in range(15):
        product = torch.autograd.grad(slopes, list(params.values()), way, retain_graph=True)
        size = torch.cat([part.flatten() for part in product]).norm()
        way = [part / size for part in product]
    return float(size)


order_cosines = {}
sharp = {}
for norm in NORMS:
    seed_everything(0)
    network = Conv4(5, width=8, norm=norm).double()
    sharp[norm] = float(np.mean([sharpness(network, episode) for episode in kanji]))
    order_cosines[norm] = np.array(
        [
            [
                gradient_cosine(
                    *(meta_gradient(network, MAML(lr, steps, first_order=order)) for order in (False, True))
                )
                for steps in ORDER_STEPS
            ]
            for lr in ORDER_RATES
        ]
    )

fig, axes = plot.subplots(1, 3, figsize=(8.8, 3.4), sharey=True)
for ax, (norm, name) in zip(axes, NORMS.items(), strict=True):
    drawn = ax.imshow(order_cosines[norm], vmin=0, vmax=1, cmap="cividis", aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(order_cosines[norm]):
        ax.text(
            column,
            row,
            f"{value:.2f}".replace("-", "−"),
            ha="center",
            va="center",
            color="black" if value > 0.6 else "white",
        )
    ax.set_title(name, fontsize=10)
    ax.set_xticks(range(3), [str(steps) for steps in ORDER_STEPS])
    ax.set_yticks(range(5), [f"{lr:g}" for lr in ORDER_RATES])
    ax.set_xlabel("内側の回数")
    ax.grid(visible=False)
axes[0].set_ylabel("内側学習率")
fig.colorbar(drawn, ax=axes, label="正確な勾配と一次近似の余弦")
plot.show(
    fig,
    alt="三つの色つきの表。横が内側の回数1、3、5、縦が内側学習率0.003から0.4、値は正確な勾配と一次近似の余弦。"
    "正規化なしでは、どこも1に近い。バッチ正規化とグループ正規化では、学習率が小さい下の行だけが1に近く、上の行へ行くほど0に近づく。",
)
for norm, name in NORMS.items():
    print(f"{name}：サポートの損失の最大の曲率 λ = {sharp[norm]:.2f}、η_in λ が1になる内側学習率 {1 / sharp[norm]:.3f}")
assert order_cosines["batch"][0].min() > 0.9, "小さな内側学習率で、二つの勾配が似ることが確認できません"
assert order_cosines["batch"][-1].max() < 0.5, "大きな内側学習率で、二つの勾配が離れることが確認できません"
assert order_cosines["none"].min() > 0.9, "正規化のないときに、二つの勾配が似ることが確認できません"
assert sharp["none"] < 0.2 * min(sharp["batch"], sharp["group"]), "曲率の違いが確認できません"

# %% [markdown]
# 「一次近似は、二階とほとんど同じ」は、条件つきの話でした。
#
# - 内側学習率が小さければ、ほとんど同じ向きです。離れ始めるのは、$\eta_{\mathrm{in}} \lambda$ が1になる内側学習率のあたりです（$\lambda$ は、サポートの損失の最大の曲率。つまり、$H$ の固有値の絶対値の最大）。
# - 正規化のある、ふつうのConv4では、Finn et al.（2017）がOmniglot（手書き文字）で使った0.1や0.4の内側学習率で、向きが**大きく違います**。
# - 正規化を外すと、どこでも似ています。学習していない、正規化のないネットワークでは、曲率がずっと小さく、$I - \eta_{\mathrm{in}} H$ が $I$ に近いままだからです。
#
# では、余弦が小さければ、一次近似では学べないのでしょうか。**そうとは限りません**。
# ここで測ったのは、学習の前の、一点での向きです。学習が進めば、重みと曲率は変わります。
# また、一次近似の向きに進んでも、適応した後の損失が下がるなら、学習は進みます。二つの向きが一致する必要はありません。
# 逆に、余弦が大きくても、成績が同じになるとは限りません。**向きの近さと、行き着く先の良し悪しは、別々に測る**ものです。
#
# 行き着く先は、次の節の正弦波と、後の「実験」の節で比べます。ここでは、その実験で**学習した後**の重みについて、余弦だけを先に見ておきます。
# 測り方は、メタ訓練の20エピソードで平均した勾配どうしの余弦です（内側は1回）。上の表とは、ネットワークの幅も、課題の数も違います。

# %%
trained = results.load("08_few_shot")
for method, name in {"maml": "二階で学習した重み", "fomaml": "一次近似で学習した重み"}.items():
    for shots in sorted({row["shots"] for row in trained.rows}):
        cosine = trained.mean("cosine", view="gradient", method=method, shots=shots)
        print(f"{name}、{shots}-shot：余弦 {cosine}（種 {len(trained.seeds)} 通りの平均と95%信頼区間）")

# %% [markdown]
# 二階で学習した重みでも、余弦は1から遠いままです。一次近似で学習した重みでは、それより1に近くなりますが、やはり離れています。

# %% [markdown]
# ### 確認クイズ：一次近似
#
# <!-- quiz: q08-09 q08-10 -->

# %% [markdown]
# ## 正弦波で、初期値を学ぶ
#
# MAMLが初期値に何を書き込むのかを、目に見える題材で確かめます。Finn et al.（2017）の5.1節と同じ、正弦波の回帰です。
#
# - 課題：$y = A \sin(x - \varphi)$。振幅 $A$（0.1から5）と位相 $\varphi$（0から $\pi$）が、課題ごとに違う
# - サポート：10点。内側の更新は1回、$\eta_{\mathrm{in}} = 0.01$
# - モデル：幅40の隠れ層が二つある、全結合のネットワーク（ReLU）
#
# 比べる相手が要ります。「乱数の初期値」だけと比べると、ただ学習したことの効果と、適応に備えて学習したことの効果が混ざります。
# そこで、Finn et al.（2017）と同じく、**すべての課題の点を混ぜて、ふつうに回帰したモデル**（事前学習）を対照にします。使う課題と点も、更新の回数も同じです。
# 適応の学習率は、乱数の初期値と事前学習についてだけ、別の検証用の課題で選びます。MAMLの二つは、学習に使った0.01のままです。


# %%
def pooled(model: nn.Module, episodes: Episode) -> Tensor:
    """すべての課題の点を混ぜた、ふつうの回帰の損失。"""
    x = torch.cat([episodes.support_x, episodes.query_x], 1).flatten(0, 1)
    y = torch.cat([episodes.support_y, episodes.query_y], 1).flatten(0, 1)
    return F.mse_loss(model(x), y)


def sine_start(loss: object, updates: int = 2000) -> nn.Module:
    """正弦波の初期値を学習する。初めの乱数と、引く課題は、どれも同じ。"""
    seed_everything(0)
    model = sine_network()
    stream = SineTasks(tasks=25, shots=10, queries=10, batches=100, seed=0)
    fit(model, stream, loss, torch.optim.Adam(model.parameters(), 3e-3), steps=updates, device="cpu", progress=False)
    return model


def sine_errors(model: nn.Module, waves: Episode, lr: float, steps: int) -> np.ndarray:
    """課題ごとの、適応した後のクエリの平均二乗誤差。"""
    predicted = StackedMAML(lr, steps, first_order=True).predict(model, waves).detach()
    return (predicted - waves.query_y).square().mean((1, 2)).numpy()


seed_everything(0)
starts = {
    "乱数の初期値": sine_network(),
    "全課題で事前学習": sine_start(pooled),
    "MAML（二階）": sine_start(StackedMAML(0.01, 1).loss),
    "MAML（一次近似）": sine_start(StackedMAML(0.01, 1, first_order=True).loss),
}
choosing, waves = (
    next(iter(SineTasks(tasks=200, shots=10, queries=100, batches=1, seed=seed))) for seed in (500, 1000)
)
sine_rates = dict.fromkeys(starts, 0.01)
for name in ("乱数の初期値", "全課題で事前学習"):
    candidates = {lr: sine_errors(starts[name], choosing, lr, 1).mean() for lr in (0.001, 0.003, 0.01, 0.02, 0.05)}
    sine_rates[name] = min(candidates, key=candidates.get)
sine_counts = (0, 1, 2, 5, 10)
sine_bands = {
    name: [mean_ci(sine_errors(model, waves, sine_rates[name], k)) for k in sine_counts]
    for name, model in starts.items()
}
for name, bands in sine_bands.items():
    print(f"{name}（適応の学習率 {sine_rates[name]:g}）：適応の前 {bands[0]}、1回の後 {bands[1]}、10回の後 {bands[-1]}")
assert sine_bands["MAML（二階）"][1].mean < 0.5 * sine_bands["全課題で事前学習"][1].mean, "MAMLの効果が確認できません"
assert abs(sine_bands["MAML（二階）"][0].mean / sine_bands["全課題で事前学習"][0].mean - 1) < 0.2, (
    "適応する前の誤差が近いことが確認できません"
)

# %% [markdown]
# 数字は、200個の新しい課題についての平均と95%信頼区間です。学習はどの方法も1回だけなので、学習をやり直したときのばらつきは入っていません。
#
# 一つの課題で、適応の前と後の関数を描きます。見やすいように、振幅の大きい課題を選びました。

# %%
one = int(waves.support_y[:30].abs().amax((1, 2)).argmax())
xs = torch.linspace(-5, 5, 201)[:, None]
fig, axes = plot.subplots(1, 3, figsize=(9.0, 3.1), width_ratios=(1, 1, 1.1))
for ax, name in zip(axes, ("全課題で事前学習", "MAML（二階）"), strict=False):
    model = starts[name]
    dots = waves.support_x[one], waves.support_y[one]
    for steps, line in ((0, ":"), (1, "--"), (10, "-")):
        inner = {"lr": sine_rates[name], "steps": steps, "first_order": True}
        ready_params = adapt(
            inner_parameters(model), lambda p, m=model, d=dots: F.mse_loss(call_with(m, p, d[0]), d[1]), **inner
        )
        label = "適応の前" if steps == 0 else f"{steps}回の後"
        ax.plot(xs, call_with(model, ready_params, xs).detach(), color="C0", linestyle=line, label=label)
    order_x = waves.query_x[one, :, 0].argsort()
    ax.plot(waves.query_x[one, order_x], waves.query_y[one, order_x], color="C1", linewidth=0.9, label="正解")
    ax.plot(*dots, linestyle="", marker="o", color="black", markersize=4, label="サポート")
    ax.set_title(name, fontsize=10)
    ax.set_xlabel("x")
    ax.set_ylim(-6, 8)
axes[0].set_ylabel("y")
axes[0].legend(fontsize=7, loc="upper center", ncols=2)
for name, bands in sine_bands.items():
    axes[2].errorbar(sine_counts, [b.mean for b in bands], [b.half for b in bands], marker="o", capsize=3, label=name)
axes[2].set_xlabel("適応の回数")
axes[2].set_ylabel("平均二乗誤差（200課題）")
axes[2].set_ylim(0, 6.5)
axes[2].legend(fontsize=7, loc="upper right")
plot.show(
    fig,
    alt="左は、全課題で事前学習したモデル。適応の前も1回の後も、正解の波から大きく離れ、10回の後もずれが残る。"
    "中央は、MAMLで学んだモデル。適応の前は外れているが、1回の後で正解の波の形になり、10回の後はほぼ重なる。"
    "右は、適応の回数に対する平均二乗誤差。事前学習とMAML（二階）は0回では同じくらいで、MAML（一次近似）はもっと大きい。1回の後は、MAMLの二つだけが大きく下がる。乱数の初期値は、ほとんど下がらない。",
)

# %% [markdown]
# 適応する**前**の誤差は、MAML（二階）と事前学習でほとんど変わりません。適応した後は、大きく違います。
# つまり、MAMLの学んだものは、適応する前の誤差には現れていません。**動きやすさ**として、重みの中に書かれています。
# 適応の前の誤差は、MAMLの目的には入っていません。一次近似で学んだ初期値のように、もっと大きくなることもあります。
#
# 対照は、なぜ失敗したのでしょうか。混ぜて回帰すると、モデルは同じ $x$ での $y$ の平均を答えます。$A$ と $\varphi$ は独立なので、その平均は計算できます。
#
# $$
# \mathbb{E}[A \sin(x - \varphi)] = \mathbb{E}[A] \cdot \frac{1}{\pi} \int_0^{\pi} \sin(x - \varphi)\, d\varphi = -\frac{2\,\mathbb{E}[A]}{\pi} \cos x, \qquad \mathbb{E}[A] = 2.55
# $$
#
# 事前学習が下手だったわけではありません。この**平均の波**を、正しく学んだのです。ただ、平均の波は、ほとんどの課題の答えではありません（例外は、$\varphi = \pi / 2$、$A = 2\,\mathbb{E}[A] / \pi$ の課題だけです）。
# そして、1回の更新で動きやすいかどうかは、事前学習の損失に入っていません。
# 一般に、入力だけからは課題を区別できないとき、混ぜて二乗誤差で学習すると、課題についての平均しか学べません。

# %%
mean_wave = -2 * 2.55 / math.pi * xs.cos()
for name in ("全課題で事前学習", "MAML（二階）"):
    gap = (starts[name](xs).detach() - mean_wave).square().mean()
    print(
        f"{name}の、適応の前の出力と、平均の波の隔たり（平均二乗）：{gap:.3f}（平均の波の大きさ {mean_wave.square().mean():.3f}）"
    )
pooled_gap = (starts["全課題で事前学習"](xs).detach() - mean_wave).square().mean()
assert pooled_gap < 0.1 * mean_wave.square().mean(), "事前学習が平均の波を学んだことが確認できません"
orders = sine_errors(starts["MAML（一次近似）"], waves, 0.01, 1) - sine_errors(starts["MAML（二階）"], waves, 0.01, 1)
print(f"1回の後の誤差の差（一次近似 − 二階、同じ課題どうし）：{mean_ci(orders)}")
assert mean_ci(orders).mean < 0.5 * (sine_bands["全課題で事前学習"][1].mean - sine_bands["MAML（二階）"][1].mean), (
    "一次近似でも学べることが確認できません"
)

# %% [markdown]
# MAML（二階）の適応の前の出力も、平均の波の近くにありました。出力が似ていても、動きやすさは違います。
#
# 一次近似も、対照よりずっとよく学べました。この1回の学習では、誤差は二階のほうが小さくなりました。
# ただし、一通りの乱数と、一通りの外側学習率で比べただけです。二階がいつも勝つとは言えません。
#
# もう一つ、読み取れることがあります。学習では1回しか適応させていないのに、10回まで適応しても、誤差は下がり続けました。
# Finn et al.（2017）も、同じことを報告しています。いつもそうなるとは限らないので、後の実験で、回数を変えて確かめます。

# %% [markdown]
# ## 動かす場所を減らす：ANIL、プロトタイプ、単純な基準
#
# MAMLは、課題ごとに、すべての重みを動かします。本当に全部を動かす必要があるのでしょうか。
#
# Raghu et al.（2020）は、学習した後のMAMLを調べ、適応で変わるのはほとんど最後の層だけで、特徴は使い回されている、と報告しました。
# そこで提案されたのが**ANIL**（Almost No Inner Loop）です。内側では最後の層だけを動かします。外側では、すべての重みを学習します。
# さらに、テストでは最後の層も捨て、特徴どうしの近さで分けるのが**NIL**です。
#
# 同じことを、小さなConv4で確かめます。漢字でMAMLを学習し、**メタ検証の漢字**で調べます。
# 調べるのは、適応の前と後で、各段の出力がどれだけ似ているかです。ものさしは、01章の**線形CKA**です（1なら、内積の構造が同じ）。
# 特徴の次元に比べて画像が少ないと、CKAは、似ていなくても大きく出ます。そこで、畳み込みの出力（特徴マップ）は、縦横を3×3以下に平均して小さくします。さらに、**別の乱数の重みとのCKA**を、対照として並べます。

# %%
INNER = 0.1
seed_everything(0)
maml_model = Conv4(5, width=32)
optimizer = torch.optim.Adam(maml_model.parameters(), 5e-3)
train_tasks = tasks.sampler("train", **one_shot, episodes=100, seed=1)
options = {"steps": 200, "meta_batch": 4, "optimizer": optimizer, "device": "cpu", "progress": False}
fit_maml(maml_model, MAML(INNER, 1), train_tasks, scheduler=CosineAnnealingLR(optimizer, 200), **options)
seed_everything(1)
other_model = Conv4(5, width=32)
STAGES = ("1段目", "2段目", "3段目", "4段目", "最後の層")


def small_map(y: Tensor) -> Tensor:
    """特徴マップ (N, C, H, W) の縦横を、3×3以下にする。"""
    return F.adaptive_avg_pool2d(y, min(3, y.shape[-1])) if y.ndim == 4 else y


def stage_outputs(model: nn.Module, params: Params, x: Tensor) -> list[Tensor]:
    """4段と最後の層の出力 (件数, 次元)。特徴マップは、縦横3×3以下に平均して小さくする。"""
    outputs: list[Tensor] = []
    hooks = [
        part.register_forward_hook(lambda _, __, y: outputs.append(small_map(y.detach()).flatten(1)))
        for part in (*model.blocks, model.classifier)
    ]
    call_with(model, params, x)
    for hook in hooks:
        hook.remove()
    return outputs


many_queries = list(tasks.sampler("val", ways=5, shots=1, queries=20, episodes=20, seed=7, fresh=False))
similarity, control = [], []
for episode in many_queries:
    before = stage_outputs(maml_model, {}, episode.query_x)
    after = stage_outputs(maml_model, MAML(INNER, 1).adapted(maml_model, episode), episode.query_x)
    unrelated = stage_outputs(other_model, {}, episode.query_x)
    similarity.append([linear_cka(a, b) for a, b in zip(before, after, strict=True)])
    control.append([linear_cka(a, b) for a, b in zip(before, unrelated, strict=True)])
cka_rows = {"適応の前と後": np.array(similarity), "別の乱数の重みと（対照）": np.array(control)}

fig, ax = plot.subplots(figsize=(5.4, 3.3))
for (name, rows), marker in zip(cka_rows.items(), "os", strict=True):
    bands = [mean_ci(column) for column in rows.T]
    ax.errorbar(range(5), [b.mean for b in bands], [b.half for b in bands], marker=marker, capsize=3, label=name)
    print(f"{name}：" + "、".join(f"{stage} {band}" for stage, band in zip(STAGES, bands, strict=True)))
ax.set_xticks(range(5), STAGES)
ax.set_ylabel("線形CKA（20課題の平均）")
ax.set_ylim(0, 1.05)
ax.legend(fontsize=8)
plot.show(
    fig,
    alt="横に1段目から4段目と最後の層、縦に線形CKA。適応の前と後は、3段目まで1とほとんど変わらず、4段目で少し下がり、最後の層で大きく下がる。"
    "別の乱数の重みとの対照は、初めの段から1より低く、深い段ほど下がる。",
)
inner_cka = cka_rows["適応の前と後"].mean(0)
assert inner_cka[:3].min() > 0.95, "浅い段が動かないことが確認できません"
assert inner_cka[4] < inner_cka[3] - 0.2, "最後の層が動くことが確認できません"

# %% [markdown]
# 3段目までの特徴は、適応してもほとんど変わりません。変わったのは、最後の層と、4段目の一部です。
# では、適応で動かす場所を限ると、成績はどうなるでしょうか。同じ重みのまま、テストの手順だけを変えます。

# %%
val_tasks = list(tasks.sampler("val", **one_shot, episodes=60, seed=9, fresh=False))
body = copy.deepcopy(maml_model)
body.classifier = nn.Identity()  # 特徴だけを返す
by_place = {
    "すべてを動かす（MAML）": (MAML(INNER, 1).logits, maml_model),
    "最後の層だけを動かす": (MAML(INNER, 1, inner="classifier").logits, maml_model),
    "最後の層だけを30回動かす": (MAML(INNER, 30, inner="classifier").logits, maml_model),
    "最後の層のほかを動かす": (MAML(INNER, 1, inner="blocks").logits, maml_model),
    "動かさない": (MAML(INNER, 0).logits, maml_model),
    "動かさず、特徴の平均との距離で分ける": (ProtoNet().logits, body),
}
place_scores = {
    name: mean_ci(episode_accuracies(logits, model, val_tasks)) for name, (logits, model) in by_place.items()
}
for name, score in place_scores.items():
    print(f"{name}：正解率 {score}（メタ検証の{len(val_tasks)}課題）")
whole, nil = place_scores["すべてを動かす（MAML）"], place_scores["動かさず、特徴の平均との距離で分ける"]
assert abs(place_scores["動かさない"].mean - 0.2) < 0.1, "適応しないとでたらめに近いことが確認できません"
assert nil.mean > 0.8 * whole.mean, "特徴だけで分けられることが確認できません"
head_once, head_often = place_scores["最後の層だけを動かす"], place_scores["最後の層だけを30回動かす"]
assert head_once.mean < nil.mean - 0.1, "最後の層だけを1回動かすときの弱さが確認できません"
assert head_often.mean > head_once.mean + 0.2, "最後の層を何度も動かすと戻ることが確認できません"
assert abs(place_scores["最後の層のほかを動かす"].mean - whole.mean) < 0.1, (
    "最後の層の凍結の影響の小ささが確認できません"
)

# %% [markdown]
# 四つのことが分かります。
#
# - 動かさなければ、でたらめとほとんど変わりません。番号はエピソードごとに付け直されるので、手本を見ずに当てる方法はありません。
# - 特徴を少しも動かさなくても、**クラスの平均との距離で分ければ**、すべてを動かしたときに近い成績でした。ここまでは、特徴の使い回しという報告と合います。
# - ところが、**最後の層だけ**を1回動かすと、成績は大きく落ちました。逆に、最後の層を凍結しても、成績はほとんど変わりません。
# - 最後の層だけでも、30回動かすと、成績は大きく戻りました。足りなかったのは、おもに、特徴の良さではなく、最後の層を動かす歩数でした。
#
# このMAMLは、1歩の効き目のほとんどを、4段目までの小さな変化から得るように学んだのでしょう。最後の層だけで解くようには、学んでいません。
# **学習と違う手順でテストする**と、方法の良し悪しではなく、食い違いの大きさを測ってしまいます。初めから最後の層だけを動かして学習したANILは、後の実験で測ります。

# %% [markdown]
# ### プロトタイプネットワーク
#
# 特徴の平均との距離で分けるのなら、初めから、そのために特徴を学べばよさそうです。それが**プロトタイプネットワーク**（ProtoNet、Snell et al., 2017）です。
# 埋め込み $f_\theta$ のサポートの平均を**プロトタイプ**とし、クエリのロジットを、距離の2乗に負号を付けたものとします。
#
# $$
# c_k = \frac{1}{K} \sum_{y_i = k} f_\theta(x_i), \qquad
# p(y = k \mid x) = \mathrm{softmax}_k \bigl( -\lVert f_\theta(x) - c_k \rVert^2 \bigr)
# $$
#
# 内側の勾配降下はありません。適応の手順 $\mathcal{A}$ は、**平均を取ること**です。平均は微分できるので、クエリの損失の勾配は、サポートの側を通っても流れます。二階の微分は要りません。
#
# 手で計算します。クラス0のサポートの埋め込みが $(0, 0)$ と $(2, 2)$、クラス1が $(4, 0)$ と $(4, 2)$ なら、プロトタイプは $(1, 1)$ と $(4, 1)$ です。
# クエリ $(2, 1)$ までの距離の2乗は1と4なので、ロジットは $-1$ と $-4$ です。クラス0の確率は $1 / (1 + e^{-3}) \approx 0.953$ です。
# 距離を2乗し忘れると、ロジットは $-1$ と $-2$ になり、確率は $1 / (1 + e^{-1}) \approx 0.731$ に変わります。選ばれるクラスは同じでも、損失と勾配は違います。
#
# 距離の2乗を展開すると、$\lVert z \rVert^2$ はどのクラスにも共通なので、ソフトマックスで消えます。
#
# $$
# -\lVert z - c_k \rVert^2 = \underbrace{2 c_k^\top z - \lVert c_k \rVert^2}_{\text{重み } 2c_k、\text{ バイアス } -\lVert c_k \rVert^2} - \lVert z \rVert^2
# $$
#
# つまり、プロトタイプの分類器は、**手本から一度に作った線形分類器**です。二つのクラスの境界は、2次元なら、プロトタイプを結ぶ線分の垂直二等分線です。
# ANILが最後の線形層を勾配降下で作るのに対し、こちらは平均で作る、と見ることもできます。
# 平均が、いつ良いまとめ方かは、演習08-5で調べます。

# %%
hand = torch.tensor([[0.0, 0.0], [2.0, 2.0], [4.0, 0.0], [4.0, 2.0]], dtype=torch.float64)
hand_y = torch.tensor([0, 0, 1, 1])
centres = prototypes(hand, hand_y)
z = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
probability = prototypical_logits(z, centres).softmax(1)[0, 0]
print(f"プロトタイプ {centres.tolist()}、クラス0の確率 {probability:.3f}")
assert torch.equal(centres, torch.tensor([[1.0, 1.0], [4.0, 1.0]], dtype=torch.float64))
assert abs(probability - 1 / (1 + math.exp(-3))) < 1e-12, "手の計算との一致が確認できません"
linear = (z @ (2 * centres).T - centres.square().sum(1)).softmax(1)
assert torch.allclose(linear[0, 0], probability), "線形分類器との一致が確認できません"

three = torch.cat([hand, torch.tensor([[1.0, 4.0], [2.2, 3.6]], dtype=torch.float64)])
three_y = torch.tensor([0, 0, 1, 1, 2, 2])
three_centres = prototypes(three, three_y)
mesh = torch.cartesian_prod(*(torch.linspace(-1, 5, 241, dtype=torch.float64),) * 2)
regions = prototypical_logits(mesh, three_centres).argmax(1).view(241, 241).T
fig, ax = plot.subplots(figsize=(6.2, 3.9))
ax.contourf(
    *(np.linspace(-1, 5, 241),) * 2, regions, levels=(-0.5, 0.5, 1.5, 2.5), colors=("C0", "C1", "C2"), alpha=0.2
)
for k, marker in enumerate("os^"):
    points = three[three_y == k]
    ax.plot(*points.T, linestyle="", marker=marker, color=f"C{k}", label=f"クラス{k}のサポート")
    name = "プロトタイプ" if k == 0 else None
    ax.plot(*three_centres[k], linestyle="", marker="x", color=f"C{k}", markersize=11, markeredgewidth=3, label=name)
ax.plot(*z[0], linestyle="", marker="*", color="black", markersize=13, label="クエリ (2, 1)")
ax.set_aspect("equal")
ax.set_xlabel("埋め込みの1次元目")
ax.set_ylabel("埋め込みの2次元目")
ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
plot.show(
    fig,
    alt="2次元の埋め込みの図。3クラスのサポートが2点ずつあり、その中点に、ばつ印のプロトタイプがある。平面は3色の領域に分かれ、境界は、プロトタイプどうしの垂直二等分線である。"
    "星印のクエリは、クラス0の領域にある。",
)

# %% [markdown]
# ### 単純な基準：ふつうの分類で学んだ特徴
#
# ここまで来ると、もっと単純な方法が思い浮かびます。エピソードを引かずに、メタ訓練の全クラスを**ふつうに分類**して特徴を学びます。テストでは、その特徴の上で、サポートの平均に最も近いクラスを選びます（**最近傍重心**）。
# メタ学習の損失は、どこにも出てきません。この教材の`NearestCentroid`は、特徴の長さを1にそろえてから平均します。後の実験では、その前に、訓練の特徴の平均も引きます（Wang et al., 2019）。
#
# Chen et al.（2019）は、条件をそろえて比べ直し、距離を使う単純な基準が、当時の代表的な方法と競える成績を出すことを示しました。
# Tian et al.（2020）は、全クラスで学んだ特徴に線形分類器を載せるだけで、当時の最良の方法を上回ったと報告しています。
# 新しい方法を提案するときも、選ぶときも、**この基準と比べずに、メタ学習が効いたとは言えません**。
#
# いちばん手軽な形で試します。02章の**英字で事前学習したGlyphCNN**の特徴に、最近傍重心を載せます。このネットワークは、漢字と仮名を見たことがなく、この章のための学習もしません。
# 並べるのは、上のMAML、漢字のエピソードで学習したProtoNet、画素の最近傍重心です。困りごとの仮名では、この章で学習せず、設定も選ばない二つだけを測ります。

# %%
UPDATES = 300
seed_everything(0)
proto_model = Conv4(None, width=32)
optimizer = torch.optim.Adam(proto_model.parameters(), 5e-3)
proto_tasks = tasks.sampler("train", **one_shot, episodes=100, seed=1)
options = {"steps": UPDATES, "scheduler": CosineAnnealingLR(optimizer, UPDATES), "device": "cpu", "progress": False}
fit(proto_model, proto_tasks, ProtoNet().loss, optimizer, **options)
letters = GlyphCNN(10, weights="letters")
letters.classifier = nn.Identity()  # 英字の分類の層は捨て、特徴だけを使う

contest = {
    "画素＋最近傍重心": (NearestCentroid().logits, nn.Flatten()),
    "英字のGlyphCNN＋最近傍重心": (NearestCentroid().logits, letters),
    "ProtoNet": (ProtoNet().logits, proto_model),
    "MAML": (MAML(INNER, 1).logits, maml_model),
}
contest_scores = {
    name: mean_ci(episode_accuracies(logits, model, val_tasks)) for name, (logits, model) in contest.items()
}
for name, score in contest_scores.items():
    print(f"メタ検証の漢字、{name}：正解率 {score}")
kana_scores = {
    name: mean_ci(episode_accuracies(logits, model, kana)) for name, (logits, model) in list(contest.items())[:2]
}
for name, score in kana_scores.items():
    print(f"困りごとの仮名、{name}：正解率 {score}")
for where, pixels, moved_over in (
    ("漢字", *list(contest_scores.values())[:2]),
    ("仮名", *kana_scores.values()),
):
    assert moved_over.mean - moved_over.half > pixels.mean + pixels.half, f"{where}で、移した特徴の効果が確認できません"

pixel_kana, letters_kana = kana_scores.values()
assert 1 - letters_kana.mean < 0.4 * (1 - pixel_kana.mean), "仮名の誤りが大きく減ることが確認できません"

# %% [markdown]
# 英字で学んだ特徴は、見たことのない漢字と仮名を、画素よりはるかによく見分けました。仮名では、画素での誤りの大半がなくなりました。
# 困りごとへの最も手軽な答えは、**よい特徴を移すこと**でした。内側のループも、エピソードでの学習も使っていません。
#
# ただし、この表から方法の順位は読めません。GlyphCNNは、形も、学習したデータも、量も違います。
# MAMLとProtoNetも、一通りの乱数と設定で、ごく短く、違う枚数の画像で学習しただけです。区間は課題の引き方についてのもので、学習のやり直しは入っていません。
# 漢字で学習したふつうの分類も加え、予算と設定の選び方をそろえた比較は、この章の後の実験で行います。
#
# 四つの考え方を、成績ではなく、性質で並べます。
#
# | | MAML | ANIL | ProtoNet | 分類＋最近傍重心 |
# |---|---|---|---|---|
# | メタ訓練で学ぶもの | 全層の初期値 | 全層の初期値 | 埋め込み | 特徴（ふつうの分類） |
# | 新しい課題で動かすもの | 全層（勾配降下） | 最後の層（勾配降下） | なし（平均を取る） | なし（平均を取る） |
# | エピソードを引いて学習するか | 引く | 引く | 引く | 引かない |
# | 二階の微分 | 要る（一次近似なら不要） | 最後の層の勾配の分だけ | 要らない | 要らない |
# | クラスの数 $N$ を変えられるか | 最後の層の形で決まる | 最後の層の形で決まる | 変えられる | 変えられる |
# | 回帰や強化学習に使えるか | 使える | 使える | そのままでは使えない | そのままでは使えない |
# | 主な弱点 | 計算と記憶、設定に敏感 | 特徴が動かない | 平均がクラスをよく表すことを仮定する | 課題の解き方が目的に入らない |
#
# MAMLの強みは、損失が微分できれば、課題の形を選ばないことです。正弦波の回帰は、クラスの平均を取る方法では、そのままでは解けません。
# 分類だけが目的なら、軽い方法から試し、足りなければ重い方法に進むのが順序です。

# %% [markdown]
# ### 確認クイズ：方法の違い
#
# <!-- quiz: q08-11 q08-12 q08-13 -->

# %% [markdown]
# ## バッチ正規化を、どの集合で測るか
#
# ここまで、正規化の統計をどこから取るかには、触れませんでした。実は、少数ショット学習の成績は、バッチ正規化の平均と分散を**どの集合で測るか**で、大きく変わります。
# 手法を比べる前に、これを決めておかなければなりません。
#
# ふつうの分類では、訓練のときはバッチの統計を使い、評価のときは、訓練でためた移動統計を使います（02章）。
# エピソードでは、集合が二つあり、課題ごとに入れかわります。選び方は三つあります。
#
# | 選び方 | サポートの正規化に使う統計 | クエリ集合の正規化に使う統計 | クエリの予測は、ほかのクエリによるか |
# |---|---|---|---|
# | **別々**（per set） | その課題のサポート | その課題のクエリ集合 | よる |
# | **まとめて**（joint） | 二つを合わせた集合 | 同じ | よる |
# | **移動統計**（running） | 訓練でためた値 | 同じ | よらない |
#
# クエリの予測が、一緒に渡されたほかのクエリによって変わることを、**トランスダクティブ**（transductive）と呼びます。
# ラベルは見ていないので、不正ではありません。ただし、1枚ずつ届く画像を、1枚ずつ答える使い方では、同じ成績になるとは限りません。
#
# MAMLは、ふつう「別々」です。サポートで適応し、そのあとでクエリ集合を通すからです。
# 著者の実装でも、統計はいつも今のバッチから求め、メタ訓練とメタテストで扱いを変えないと、著者が説明しています（`cbfinn/maml`のissue 37）。
# 一方、ProtoNetの実装では、サポートとクエリを一つのバッチにつなげて流すことがあります。これが「まとめて」です。
# 二つの手法を、それぞれの実装のまま比べると、手法の違いと正規化の違いが混ざります。
#
# まず、トランスダクティブであることを目で見ます。短く学習したProtoNetに、同じ1枚のクエリを、違う仲間と一緒に渡します。
# 使うのは、メタ検証の漢字です。

# %%
held = list(tasks.sampler("val", ways=5, shots=1, queries=10, episodes=60, seed=2000, fresh=False))


def brief(loss: Callable, seed: int, *, updates: int, classes: int | None, width: int = 16, size: int = 4) -> Conv4:
    """5-way 1-shot のエピソードで短く学習した Conv4。lossは（モデル, 課題）→ 損失の辞書。"""
    torch.manual_seed(seed)
    model = Conv4(classes, width=width)
    episodes = tasks.sampler("train", ways=5, shots=1, queries=5, episodes=updates * size, seed=1000 + seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for batch in EpisodeBatches(episodes, size):
        optimizer.zero_grad()
        mean_over_tasks(lambda episode: loss(model, episode), batch, model.parameters())["loss"].backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def with_companions(model: nn.Module, episode: Episode, index: int) -> dict[str, Tensor]:
    """クエリ index の確率を、三通りの仲間と一緒に求める。サポートは同じである。"""
    same = (episode.query_y == episode.query_y[index]).nonzero().squeeze(1)
    groups = {"5クラスから10枚ずつ": torch.arange(len(episode.query_y)), "同じクラスの10枚": same}
    groups["1枚だけ"] = torch.tensor([index])
    with batch_statistics(model):
        centres = prototypes(model(episode.support_x), episode.support_y)
        found = {}
        for name, rows in groups.items():
            logits = prototypical_logits(model(episode.query_x[rows]), centres)
            found[name] = logits.softmax(1)[(rows == index).nonzero().item()]
    return found


proto = brief(ProtoNet().loss, 0, updates=100, classes=None)
seen = [(e, i, with_companions(proto, e, i)) for e in held[:20] for i in range(0, 50, 5)]
changed = {
    name: np.mean([p[name].argmax().item() != p["5クラスから10枚ずつ"].argmax().item() for *_, p in seen])
    for name in ("同じクラスの10枚", "1枚だけ")
}
for name, rate in changed.items():
    print(f"仲間を「{name}」に替えると、予測の変わったクエリの割合 {rate:.2f}（{len(seen)} 枚のうち）")
truly = {name: [p[name][e.query_y[i]].item() for e, i, p in seen] for name in seen[0][2]}
episode, index, chosen = seen[int(np.argmax(np.subtract(truly["5クラスから10枚ずつ"], truly["同じクラスの10枚"])))]
answer = episode.query_y[index].item()

fig, axes = plot.subplots(1, 4, figsize=(9.6, 2.6), width_ratios=(1, 1.5, 1.5, 1.5))
axes[0].imshow(episode.query_x[index, 0], vmin=0, vmax=1)
axes[0].set_title("同じ1枚のクエリ", fontsize=10)
axes[0].axis("off")
for ax, (name, p) in zip(axes[1:], chosen.items(), strict=True):
    ax.bar(range(5), p.tolist(), color=["C1" if c == answer else "C0" for c in range(5)])
    ax.set_title(f"仲間：{name}", fontsize=10)
    ax.set_xticks(range(5))
    ax.set_ylim(0, 1)
    ax.set_xlabel("課題の中の番号")
axes[1].set_ylabel("確率")
plot.show(
    fig,
    alt="左は1枚の漢字のクエリ。右の三つは、同じクエリの5クラスの確率の棒グラフ。5クラスの仲間と一緒のときは正解のクラスの棒が高い。"
    "同じクラスの仲間だけのときは、正解の棒がほとんどなくなり、ほかのクラスの棒が高い。1枚だけのときも、分布が変わる。",
)
assert changed["同じクラスの10枚"] > 0.2, "仲間による予測の変化が確認できません"

# %% [markdown]
# 図の1枚は、正解の確率が最も大きく下がったものを選びました。割合のほうは、選ばずに数えています。
#
# 理由は単純です。クエリ集合に一つのクラスしかなければ、集合の平均は、そのクラスの特徴の平均です。
# 正規化でこれを引くと、ほかのクラスと見分ける手がかりが消えます。
#
# では、学習の終わったモデルの成績は、どれだけ変わるでしょうか。次の結果は、後の「実験」の節と同じ学習のものです（＊は、後で説明する教師モデルを使う手法です）。
# 仮名の5-way 1-shotで、同じエピソードのクエリを、5クラスが同数のままにしたときと、一つのクラスだけにしたときを比べます。

# %%
few = results.load("08_few_shot")
method_names = {
    "pixels": "画素の最近傍重心",
    "untrained": "乱数の重み（別々）",
    "classifier": "全クラスの分類 → 最近傍重心",
    "protonet_per_set": "ProtoNet（別々）",
    "protonet_joint": "ProtoNet（まとめて）",
    "protonet_running": "ProtoNet（移動統計）",
    "maml": "MAML",
    "maml_three_steps": "MAML（内側3回で学習）",
    "fomaml": "一次近似（FOMAML）",
    "anil": "ANIL",
    "maml_pretrained": "MAML（教師の重みから）＊",
    "distillation": "ふつうの蒸留＊",
    "meta_distillation": "メタ蒸留（教師も学ぶ）＊",
    "meta_distillation_fixed": "メタ蒸留（教師は固定）＊",
    "teacher": "教師モデル（長く学習）＊",
}
shown = ("classifier", "protonet_running", "protonet_joint", "protonet_per_set", "anil", "maml", "meta_distillation")

fig, ax = plot.subplots(figsize=(7.6, 3.4))
for place, method in enumerate(shown):
    points = [few.mean("accuracy", view=view, shots=1, method=method) for view in ("main", "one_class")]
    ax.plot([point.mean for point in points], [place, place], color="0.7", linestyle="-", linewidth=1, zorder=0)
    for point, marker, color in zip(points, "os", ("C0", "C1"), strict=True):
        ax.errorbar(point.mean, place, xerr=point.half, marker=marker, color=color, capsize=3)
ax.plot([], [], "o", color="C0", label="5クラスが同数")
ax.plot([], [], "s", color="C1", label="1クラスだけ")
ax.axvline(0.2, color="black", linewidth=0.8, linestyle=":")
ax.set_yticks(range(len(shown)), [method_names[method] for method in shown])
ax.invert_yaxis()
ax.set_xlabel("正解率（5-way 1-shot、平均と95%信頼区間）")
ax.legend(title="クエリ集合", fontsize=8, loc="lower left")
plot.show(
    fig,
    alt="七つの手法の、クエリが5クラス同数のときの正解率（丸）と1クラスだけのときの正解率（四角）を線で結んだ図。"
    "全クラスの分類と、移動統計やまとめてのProtoNetでは、二つの点がほぼ重なる。別々に正規化するProtoNet、ANIL、MAML、メタ蒸留では、四角がずっと左にある。",
)
lost = {m: few.difference("accuracy", {"view": "main"}, {"view": "one_class"}, shots=1, method=m) for m in method_names}
for method in shown:
    print(f"{method_names[method]}：クエリを1クラスだけにすると、下がる量 {lost[method]}")
assert abs(lost["classifier"].mean) < 0.03, "移動統計を使う手法が、クエリの偏りに左右されています"
for method in ("protonet_per_set", "anil", "maml", "meta_distillation"):
    assert lost[method].mean - lost[method].half > 0.1, f"{method_names[method]}で、偏りの害が確認できません"

# %% [markdown]
# 移動統計を使う手法では、ほとんど何も起きません。「別々」の手法（ProtoNet、ANIL、MAML、メタ蒸留）は、大きく下がります。
# 「まとめて」のProtoNetは、下がりません。サポートとクエリから同じ平均を引くので、クエリが偏っても、プロトタイプとクエリの位置の関係は崩れにくいのだと考えられます。
# 二つの点が離れている手法ほど、「クエリが5クラスから同数ずつ来る」という、実際にはふつう知り得ないことに頼っていたことになります。
# Bronskill et al.（2020）は、正規化の選び方が、正解率と学習の時間を大きく左右することを14のデータで示し、公平に比べるための指針をまとめました。
#
# では、手法の順位も変わるでしょうか。次は、学習のときと**違う**統計で測った値と、選び方だけが違う比較です。

# %%
verdict_words = {"higher": "前者が高い", "lower": "前者が低い", "not_established": "差は確かめられない"}


def paired(record: results.Results, one: str, other: str, **where: object) -> str:
    """種で組にした差、その95%信頼区間の両端、判定。"""
    found = [
        row
        for row in record.summary
        if (row["one"], row["other"]) == (one, other) and all(row[key] == value for key, value in where.items())
    ]
    (row,) = found
    span = f"{row['gain']:+.3f}（{row['low']:+.3f} から {row['high']:+.3f}）"
    return f"{method_names[one]} − {method_names[other]}：{span}、{verdict_words[row['verdict']]}"


statistics = {"per_set": "別々", "joint": "まとめて", "running": "移動統計"}
print("学習のときと違う統計で測ると（5-way 1-shot）")
changes = (("protonet_per_set", "joint"), ("protonet_joint", "per_set"), ("classifier", "per_set"))
for method, other in changes:
    same = few.mean("accuracy", view="main", shots=1, method=method)
    moved = few.mean("accuracy", view="batchnorm", shots=1, method=method, batchnorm=other)
    print(f"　{method_names[method]}：学習と同じ統計 {same}、「{statistics[other]}」で測る {moved}")
print("選び方だけが違う比較")
for other in ("protonet_joint", "protonet_running"):
    print(f"　{paired(few, 'protonet_per_set', other, shots=1)}")
print("MAMLと比べる相手を替える（MAMLは「別々」）")
print(f"　{paired(few, 'protonet_per_set', 'maml', shots=1)}")
for one, other in (("maml", "protonet_joint"), ("maml", "protonet_running"), ("classifier", "maml")):
    print(f"　{paired(few, one, other, shots=1)}")
by_set = {"method": "classifier", "view": "batchnorm", "batchnorm": "per_set"}
print("全クラスの分類も「別々」で測ると（結果を見た後で加えた比較）")
for shots, other in itertools.product((1, 5), ("protonet_per_set", "maml")):
    gap = few.difference("accuracy", by_set, {"method": other, "view": "main"}, shots=shots)
    print(f"　{shots}-shot、{method_names['classifier']}（別々） − {method_names[other]}：{gap}")

# %% [markdown]
# 「学習と同じ統計で測るのがいちばんよい」とは限りませんでした。「別々」で学習したProtoNetを「まとめて」で測ると下がりますが、その逆は上がります。
# ふつうに学習した全クラスの分類も、「別々」で測ると上がり、後から加えた比較では、1-shotで、ProtoNetとMAMLのどちらよりも高くなりました。
# クエリが5クラスから同数ずつ来るときは、クエリ集合の統計そのものが、よい手がかりになるのだと考えられます。
#
# 「移動統計」のProtoNetは、学習のときは「別々」と同じ計算をします。選ばれた設定も同じだったので、重みは「別々」と同じで、違うのは測り方だけです。
# その測り方だけで、「別々」は「移動統計」より、はっきり高くなりました。学習のときから違う「まとめて」と比べても、「別々」のほうが高くなります。
# 一方、MAMLとの差は、どの選び方のProtoNetを相手にしても、確かめられません。差の平均の向きは、「別々」を相手にしたときだけ逆ですが、5個の種では、順位が変わったとまでは言えません。
# はっきり変わったのは、全クラスの分類との比べ方です。移動統計のままでは、ProtoNet（別々）との差は確かめられません。「別々」で測ると、1-shotでは、ProtoNetより高くなります。
#
# 教訓は一つです。少数ショット学習の表を読むときは、**統計をどの集合で測ったか**と、**クエリのクラスが同数だったか**を先に確かめます。
# 書いていない表では、手法の差と正規化の差を区別できません。
# この教材では、`ProtoNet`と`NearestCentroid`は`batchnorm=`で選び、`MAML`と`MetaDistillation`は、いつも「別々」です。
#
# ### `vmap`の中の、まちがった二階の勾配
#
# 正規化の落とし穴は、もう一つあります。課題のループを`torch.func.vmap`でまとめ、その中で内側の勾配を`torch.func.grad`で求める書き方です。
# 短く書けて、PyTorchの公式の例（`functorch/examples/maml_omniglot`）にもある形です。ところが、バッチ正規化があると、**損失は正しいのに、外側の勾配だけがまちがっています**。
#
# 本物のエピソードで測ります。三つの書き方を、三つの正規化で比べます。
#
# - `by_loop`：課題ごとのくり返し。正しい値の基準にする
# - `by_vmap`：`vmap`の中で`grad`を取る
# - `by_stack`：順伝播だけを`vmap`に入れ、微分は外側の自動微分に任せる（`StackedMAML`）

# %%
small = tasks.sampler("train", ways=5, shots=1, queries=5, episodes=4, seed=0, fresh=False)
exact = [Episode(*(part.double() if part.is_floating_point() else part for part in e)) for e in small]
stacked = Episode(*(torch.stack(parts) for parts in zip(*exact, strict=True)))


def tiny(norm: str) -> nn.Module:
    """倍精度の、幅8の Conv4。"""
    torch.manual_seed(0)
    return Conv4(5, width=8, norm=norm).double()


def outer_gradient(loss: Tensor, model: nn.Module) -> Tensor:
    """外側の損失の、モデルのすべてのパラメータでの勾配。"""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def by_loop(model: nn.Module, lr: float) -> Tensor:
    return torch.stack([MAML(lr, 1).task_loss(model, e)["loss"] for e in exact]).mean()


def by_vmap(model: nn.Module, lr: float) -> Tensor:
    def task(params: dict[str, Tensor], sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
        inner = grad(lambda p: F.cross_entropy(functional_call(model, p, (sx,)), sy))(params)
        adapted = {name: value - lr * inner[name] for name, value in params.items()}
        return F.cross_entropy(functional_call(model, adapted, (qx,)), qy)

    with batch_statistics(model):
        return vmap(task, (None, 0, 0, 0, 0))(dict(model.named_parameters()), *stacked).mean()


def by_stack(model: nn.Module, lr: float) -> Tensor:
    return StackedMAML(lr, 1, criterion=F.cross_entropy).loss(model, stacked)


errors = {}
for norm in ("batch", "group", "none"):
    model = tiny(norm)
    losses = {way.__name__: way(model, 0.4) for way in (by_loop, by_vmap, by_stack)}
    right = outer_gradient(losses["by_loop"], model)
    for name in ("by_vmap", "by_stack"):
        found = outer_gradient(losses[name], model)
        same = torch.isclose(losses[name], losses["by_loop"], rtol=1e-12, atol=0).item()
        errors[norm, name] = ((found - right).norm() / right.norm()).item()
        cosine = gradient_cosine([found], [right])
        told = f"相対誤差 {errors[norm, name]:.0e}" if errors[norm, name] > 1e-9 else "丸め誤差だけ"
        value = "同じ" if same else "違う"
        print(f"{norm:5}　{name:8}　損失は{value}　外側の勾配は{told}　向きの余弦 {cosine:.3f}")
assert errors["batch", "by_vmap"] > 1e-3, "vmapの中の誤りが確認できません（直った版かもしれません）"
assert max(errors["batch", "by_stack"], errors["group", "by_vmap"], errors["none", "by_vmap"]) < 1e-9

# %% [markdown]
# バッチ正規化のときだけ、`by_vmap`の勾配が違います。損失は一致し、勾配の向きもほとんど同じなので、学習は進むでしょう。
# 損失の曲線を見ていても、気づけません。そこで、**中心差分**で検算します。


# %%
@torch.no_grad()
def slope_along(loss: Callable[[], Tensor], params: Sequence[Tensor], way: Sequence[Tensor], eps: float) -> float:
    """paramsを way の向きに ±eps だけずらした、損失の中心差分。paramsは元に戻す。"""
    ends = []
    for amount in (eps, -2 * eps):
        for p, d in zip(params, way, strict=True):
            p.add_(amount * d)
        ends.append(loss().item())
    for p, d in zip(params, way, strict=True):
        p.add_(eps * d)
    return (ends[0] - ends[1]) / (2 * eps)


def directions(params: Sequence[Tensor], seed: int) -> list[Tensor]:
    """正規乱数の向き。"""
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=g, dtype=p.dtype) for p in params]


model = tiny("batch")
params = list(model.parameters())
way = directions(params, 1)
flat = torch.cat([d.flatten() for d in way])
numeric = {eps: slope_along(lambda: by_loop(model, 0.4), params, way, eps) for eps in (1e-5, 1e-6, 1e-7)}
automatic = {f.__name__: (outer_gradient(f(model, 0.4), model) @ flat).item() for f in (by_loop, by_vmap, by_stack)}
for eps, value in numeric.items():
    print(f"中心差分（幅 {eps:.0e}）　{value:.4f}")
for name, value in automatic.items():
    print(f"自動微分　{name:8}　{value:.4f}")
assert abs(automatic["by_loop"] - numeric[1e-7]) < 1e-4 * abs(numeric[1e-7]), "くり返しの勾配が、中心差分と合いません"
assert abs(automatic["by_vmap"] - numeric[1e-7]) > 0.01 * abs(numeric[1e-7]), "vmapの勾配の誤りが確認できません"

# %% [markdown]
# くり返しと`StackedMAML`は、中心差分と合います。`vmap`の中で`grad`を取ったものは、合いません。
# 原因は、`vmap`の中でのバッチ正規化の逆伝播の規則で、2022年に報告されています（`pytorch/functorch`のissue 534）。この教材の版のPyTorchでも、まだ起きます。
# 演習08-7では、正規化を自分で書くと、`vmap`の中でも正しくなることを確かめます。
#
# 検算のほうがまちがうこともあります。上の三つの幅を見てください。内側の勾配は、ReLUの境目で跳びます。だから、適応した後の損失は、$\theta$ について連続とさえ限りません。
# 差分の幅の中に境目が入ると、とんでもない値が出ます。倍精度で、幅を変えて、値が落ち着くことを確かめてから使います。

# %% [markdown]
# ### 確認クイズ：正規化と検算
#
# <!-- quiz: q08-14 q08-15 -->

# %% [markdown]
# ## メタ蒸留
#
# 07章の蒸留では、教師モデルは動きませんでした。教師モデルは、自分の正解率のために学習されたもので、**教えるため**に学習されたものではありません。
# 正解率の高い教師が、よい手本を出すとは限らないことは、07章で見ました。
#
# **メタ蒸留**は、教え方を学びます。「この手本で学んだ生徒は、試験でよくなったか」を損失にして、教師モデルと、生徒モデルの初期値を、一緒に動かします。
# この節の「手本」は、07章と同じく、教師モデルの出力です。エピソードの手本の画像は、「サポート」と呼びます。
# 内側の学習を蒸留に替えたMAML、と言ってもかまいません。
#
# ```mermaid
# flowchart TD
#     S["サポート x_s、y_s"] --> T["教師モデル φ：サポートだけを見る"]
#     T --> P["手本：サポートへの柔らかい確率"]
#     S --> I["内側：θ_0 から、手本と正解ラベルで蒸留する"]
#     P --> I
#     TH["生徒モデルの初期値 θ_0"] --> I
#     I --> A["適応した生徒モデル θ_k"]
#     Q["クエリ集合 x_q、y_q"] --> L["外側の損失：適応した生徒の交差エントロピー"]
#     A --> L
#     L -. 勾配 .-> TH
#     L -. 勾配 .-> T
# ```
#
# 教師モデルの重みを $\phi$、生徒モデルの初期値を $\theta_0$ とします。一つの課題で、サポートは $n$ 件、温度は $T$、ソフトの項の重みは $\alpha$ です。
# $p_i$ と $q_i$ は、サポートの画像 $i$ についての、温度 $T$ での教師と生徒の確率、$s_\theta$ は生徒のロジットです。
#
# $$
# L^S(\theta, \phi) = \frac{1}{n} \sum_{i=1}^{n} \Bigl[ \alpha\, T^2\, \mathrm{KL}\bigl(p_i(\phi) \,\|\, q_i(\theta)\bigr)
# + (1 - \alpha)\, \mathrm{CE}\bigl(s_\theta(x_{s,i}),\, y_{s,i}\bigr) \Bigr]
# $$
#
# $$
# \theta_{j+1} = \theta_j - \eta_{\mathrm{in}} \nabla_\theta\, L^S(\theta_j, \phi) \quad (j = 0, \dots, k-1), \qquad
# F(\theta_0, \phi) = L^Q(\theta_k) = \mathrm{CE}\bigl(s_{\theta_k}(x_q),\, y_q\bigr)
# $$
#
# 外側では、$F$ の課題についての平均を小さくします。三つの約束が要点です。
#
# - 教師モデルは、**サポートだけ**を見る。クエリの画像とラベルは見ない
# - 内側の各回は、**その時の** $\theta_j$ で予測する
# - 外側の損失は、**適応した後の** $\theta_k$ で測る
#
# 教師モデルに、課題の中の番号をどう知らせるかも決めなければなりません。同じ文字でも、番号は課題ごとに変わるからです。
# 画像だけを見る教師は、番号を知りようがありません。`PrototypeTeacher`は、サポートのプロトタイプを作り、サポートの各画像から、それらまでの距離をロジットにします。
# 1-shotなら、正解のクラスの距離は0です。残りのロジットに、「どの字がどの字に似ているか」が入ります。
#
# ### 教師への勾配は、何を言っているか
#
# 1回の更新（$k = 1$）なら、紙の上で追えます。生徒のロジット $s_i$ についてのソフトの項の微分は、07章のとおり $\frac{\alpha T}{n}(q_i - p_i)$ です。
# 連鎖律で $\theta_1$ を $p_i$ で微分すると、次の式になります。$J_i$ は $\theta_0$ での $\partial s_i / \partial \theta$、$g = \nabla L^Q(\theta_1)$ です。
#
# $$
# \frac{\partial F}{\partial p_{ic}} = \eta_{\mathrm{in}}\, \frac{\alpha\, T}{n}\, (J_i\, g)_c
# $$
#
# $(J_i\, g)_c$ は、クエリの損失が**増える**向きに生徒を少し動かしたとき、サポートの画像 $i$ のクラス $c$ のロジットがどれだけ増えるか、です。
# これが負なら、そのロジットが上がるように生徒を動かすことは、クエリの損失を下げる向きです。そこで、外側の更新は、教師のその確率を**上げよう**とします。
# 確率の和は1なので、実際に上がるかどうかは、ほかのクラスとの兼ね合いで決まります（下のセルの、ソフトマックスの微分）。
# つまり教師は、「どう教えると、生徒の試験がよくなるか」を、画像とクラスごとに知らされます。
#
# $\alpha = 0$ なら、教師への勾配は消えます。二階の項を捨てたときも、消えます（$\theta_1$ が $p$ によることを、なかったことにするからです）。
#
# 式を、自動微分と中心差分で検算します。教師モデルは、前の節で短く学習したProtoNetです。生徒モデルは、乱数の重みから始めます。

# %%
guide_net = copy.deepcopy(proto).double().requires_grad_(True)
lesson = exact[0]
with torch.no_grad(), batch_statistics(guide_net):
    embedded = guide_net(lesson.support_x)
    gaps = -prototypical_logits(embedded, prototypes(embedded, lesson.support_y))
spread = (gaps.sum() / (5 * 4)).item()  # 正解との差の平均。1-shot では、正解のロジットは 0


def meta_student(gap: float = 10.0, **changes: object) -> MetaDistillation:
    """ロジットの差の平均を gap にそろえた教師モデルと、幅8の生徒モデル。"""
    setting = {"inner_lr": 0.1, "inner_steps": 3, "temperature": 4.0, "alpha": 0.5} | changes
    return MetaDistillation(PrototypeTeacher(guide_net, gap / spread), tiny("batch"), **setting)


one_step = meta_student(inner_steps=1)
taught = one_step.teacher.task_logits(lesson.support_x, lesson.support_y).detach()
start = inner_parameters(one_step.student)
criterion = DistillationLoss(temperature=4.0, alpha=0.5)
t = taught.clone().requires_grad_()
moved = adapt(
    start,
    lambda p: criterion(call_with(one_step.student, p, lesson.support_x), t, lesson.support_y).total,
    lr=0.1,
    steps=1,
)
outer = F.cross_entropy(call_with(one_step.student, moved, lesson.query_x), lesson.query_y)
by_autograd, *g = torch.autograd.grad(outer, [t, *moved.values()])
with torch.no_grad():  # 生徒を g の向きに少し動かしたときの、サポートのロジットの変化が J_i g
    ends = [
        call_with(one_step.student, {n: start[n] + e * v for n, v in zip(start, g, strict=True)}, lesson.support_x)
        for e in (1e-6, -1e-6)
    ]
raised = (ends[0] - ends[1]) / 2e-6
p = (taught / 4).softmax(1)
to_p = 0.1 * 0.5 * 4 / 5 * raised  # η_in · αT/n · (J_i g)
to_logits = p * (to_p - (p * to_p).sum(1, keepdim=True)) / 4  # ソフトマックスの微分で、ロジットに直す
print(
    f"教師のロジットへの勾配の最大 {by_autograd.abs().max():.2e}、式との差の最大 {(by_autograd - to_logits).abs().max():.0e}"
)
assert by_autograd.abs().max() > 1e-5, "教師モデルへの勾配が確認できません"
assert torch.allclose(by_autograd, to_logits, rtol=1e-4, atol=1e-8), "式が自動微分と合いません"

whole = meta_student()
for who, part in (("生徒モデル θ_0", whole.student), ("教師モデル φ", whole.teacher)):
    params = list(part.parameters())
    way = directions(params, 2)
    slopes = torch.autograd.grad(whole(*lesson), params)
    automatic = sum((slope * d).sum() for slope, d in zip(slopes, way, strict=True)).item()
    numeric = slope_along(lambda: whole(*lesson), params, way, 1e-7)
    print(f"{who}：自動微分 {automatic:+.6f}、中心差分 {numeric:+.6f}")
    assert abs(automatic - numeric) < 1e-5 * abs(numeric) + 1e-8, f"{who}の勾配が、中心差分と合いません"

# %% [markdown]
# どちらのモデルの勾配も、3回の更新を通して、中心差分と合いました。
#
# ### 内側が壊れていないかを見る、三つの検査
#
# 勾配の検算だけでは足りません。検算が確かめるのは、書いた式の微分です。**書きたかった式かどうか**は、別に確かめます。
# 内側のループが働いているなら、次の三つが成り立ちます。
#
# 1. 学習率0.1の5回は、学習率0.5の1回と**違う**点に着く
# 2. 適応の回数を変えると、クエリの損失が**変わる**
# 3. 教師モデルへの勾配が、0で**ない**
#
# たとえば、内側の各回で元の生徒を呼び、クエリも元の重みで採点するコードは、例外を起こさずに動きます。しかし、三つの検査のどれにも通りません。
# 演習08-6の、直す前の関数がそうです。ここでは、正しい版で三つを確かめます。

# %%
five, one = (
    meta_student(inner_lr=lr, inner_steps=k).adapted(lesson.support_x, lesson.support_y)
    for lr, k in ((0.1, 5), (0.5, 1))
)
travelled = sum((five[n] - start[n]).detach().square().sum() for n in start).sqrt().item()
apart = sum((five[n] - one[n]).detach().square().sum() for n in start).sqrt().item()
print(f"検査1　0.1の5回で動いた距離 {travelled:.3f}、0.5の1回で着いた点との隔たり {apart:.3f}")
assert apart > 0.01 * travelled, "5回と1回が、同じ点に着きました"

counts = range(5)
# 値だけを見るので、一次近似で速く求める（値は二階と同じ）
exams = [Episode(*(part.double() if part.is_floating_point() else part for part in e)) for e in held[:12]]
curve = [np.mean([meta_student(inner_steps=k, first_order=True)(*e).item() for e in exams]) for k in counts]
print(
    "検査2　内側の回数ごとのクエリの損失："
    + "、".join(f"{k}回 {value:.3f}" for k, value in zip(counts, curve, strict=True))
)
assert abs(curve[-1] - curve[0]) > 0.01, "適応しても、クエリの損失が変わりません"


def teacher_slope(model: MetaDistillation) -> float:
    """教師モデルの重みへの勾配のノルム。届かない勾配は 0 とする。"""
    return outer_norm(torch.autograd.grad(model(*lesson), list(model.teacher.parameters()), allow_unused=True))


def outer_norm(slopes: Sequence[Tensor | None]) -> float:
    return math.sqrt(sum(slope.square().sum().item() for slope in slopes if slope is not None))


for name, changes in {
    "正しい版": {},
    "α = 0": {"alpha": 0.0},
    "一次近似": {"first_order": True},
    "内側0回": {"inner_steps": 0},
}.items():
    size = teacher_slope(meta_student(**changes))
    print(f"検査3　{name}：教師モデルへの勾配のノルム {size:.2e}")
    assert (size > 1e-6) == (name == "正しい版"), "教師モデルへの勾配が、式の予想と違います"

# %% [markdown]
# 検査3の、正しい版のほかの三つの0は、誤りではなく、式から決まる0です。蒸留の項がなければ、教師は生徒に触れません。二階の項を捨てれば、教師への道は切れます。
# 内側が0回なら、教師は何も教えません。**0になるはずの所で0になること**も、よい検査です。
#
# 三つめの検査には、実用上の続きがあります。0でなくても、とても小さいことがあるのです。
# 教師のロジットの差が大きすぎると、確率は0と1に張り付き、教師への勾配は消えかけます。
# ロジットの差の平均と、温度を動かして測ります。あわせて、距離の2乗をそのままロジットにしたときの差の大きさも見ます。

# %%
sizes = [1, 3, 10, 30, 100, 300]
heat = {T: [teacher_slope(meta_student(gap, temperature=T)) for gap in sizes] for T in (1.0, 4.0, 16.0)}
fig, (left, right) = plot.subplots(1, 2, figsize=(9.0, 3.3), width_ratios=(1, 1.2))
left.plot(counts, curve, marker="o")
left.set_xlabel("内側の回数")
left.set_ylabel("クエリの損失 [nat]（12課題の平均）")
for (T, row), marker in zip(heat.items(), "os^", strict=True):
    right.loglog(sizes, row, marker=marker, label=f"T = {T:g}")
right.set_xlabel("教師のロジットの差の平均")
right.set_ylabel("教師モデルへの勾配のノルム")
right.set_ylim(1e-9, 1e2)
right.legend()
plot.show(
    fig,
    alt="左は、内側の回数に対するクエリの損失の折れ線で、1回めで大きく下がり、そのあとも変わる。右は、教師のロジットの差の平均を横、教師モデルへの勾配のノルムを縦にした両対数の折れ線。"
    "温度1では、差が30で勾配が何桁も小さくなる。温度4では、差が100から急に小さくなる。温度16では、差が300になって、ようやく小さくなり始める。",
)
for T, row in heat.items():
    cells = [f"{value:.0e}" if value > 1e-9 else "1e-9未満" for value in row]
    print(f"T = {T:g}：" + "、".join(f"差 {gap} で {cell}" for gap, cell in zip(sizes, cells, strict=True)))
print("距離の2乗を、そのままロジットにしたときの差の平均（乱数の重み）")
raw_gaps = {}
for width in (8, 16, 64):
    torch.manual_seed(0)
    with torch.no_grad():
        logits = PrototypeTeacher(Conv4(width=width)).task_logits(held[0].support_x, held[0].support_y)
    raw_gaps[width] = -logits.sum().item() / (5 * 4)
    print(f"　幅 {width}：{raw_gaps[width]:.0f}")
assert raw_gaps[64] > 5 * raw_gaps[8], "距離の2乗が、幅で変わることが確認できません"
assert heat[1.0][-1] < 1e-2 * max(heat[1.0]), "ロジットの差による勾配の消失が確認できません"

# %% [markdown]
# 距離の2乗は、ネットワークの幅を変えるだけで、何倍にもなります。$T = 1$ のまま、そのままロジットにすると、広いネットワークほど、教師は動かなくなります。
# 「教師モデルが少しも変わらない」ときは、まず、教師の確率を印字してください。0と1だけなら、距離に掛ける数か、温度を直します。
# この章の実験では、教師モデルごとに、差の平均を同じ値にそろえています。
#
# ### MetaDistil との違い
#
# 教師を「生徒の成績」で学ぶ考えは、Zhou et al.（2022）の**MetaDistil**にあります。BERTの圧縮などに使われ、課題は一つです。この章のものとは、次の点が違います。
#
# | | MetaDistil | この章のメタ蒸留 |
# |---|---|---|
# | 課題 | 一つ（大きなデータ） | エピソードごとに違う |
# | 内側で使うデータ | 訓練のバッチ | サポート |
# | 外側で使うデータ | 訓練から取り分けた「quiz」の集合 | クエリ集合 |
# | 生徒の初期値 | 学ばない。ずっと続けて学習する | 学ぶ。課題ごとに、そこへ戻る |
# | 内側の更新のあと | 試しの更新（pilot update）を捨て、直した教師で、もう一度更新する | 適応した重みは、その課題で使い終わる |
# | 教師が見るもの | 入力 | サポートの画像とラベル |
#
# 共通するのは、外側の損失を「教わった**あとの**生徒」で測ることです。

# %% [markdown]
# ### 確認クイズ：メタ蒸留
#
# <!-- quiz: q08-16 q08-17 q08-18 -->

# %% [markdown]
# ## 実験：同じ予算で比べる
#
# MAML、ふつうの蒸留、メタ蒸留のうち、少数ショット学習に向くのはどれでしょうか。単純な基準も入れて、**同じ予算で**比べます。
# 「同じ予算」を、先に言葉で決めておきます。

# %%
setting = few.settings
print(f"{few.title}")
print(
    f"課題：{setting['ways']}-way、クエリは学習で{setting['queries']}枚、測定で{setting['held_queries']}枚（クラスごと）。"
    f"テストは、種ごとに{setting['episodes']['test']}エピソード"
)
print(
    f"予算：更新 {setting['updates']} 回 × 1回に {setting['meta_batch']} エピソード。幅 {setting['width']} の Conv4、"
    f"{setting['optimizer']}。止めどきは選ばず、最後の重みを使う"
)
print(
    f"内側のある手法：学習のときの内側は {setting['inner_steps']} 回（「内側3回で学習」だけは3回）、α = {setting['alpha']}"
)
print(f"＊の手法：教師モデルを、別に {setting['teacher_updates']} 回だけ学習してある（予算の外）")
choosing = results.load("08_few_shot_dev")
print(
    f"設定の選択：{setting['tried_settings']} 通りを、種 {len(choosing.seeds)} 個の検証の漢字"
    f"（{setting['episodes']['val']}エピソード）で測った"
)
print(f"確認：選ぶのに使っていない種 {len(few.seeds)} 個（{min(few.seeds)} から {max(few.seeds)}）")
print(f"このほかに、設計を決める前の試し測りが {len(setting['earlier_trials'])} 件（種1個。根拠には使わない）")
label = {"lr": "外側学習率", "inner_lr": "内側学習率", "temperature": "温度", "test_steps": "測るときの内側の回数"}
for method, picked in setting["picked"].items():
    told = "、".join(f"{label[key]} {value:g}" for key, value in picked.items() if value is not None)
    chance = f"{len(setting['tried'][method])} 通りから　" if method in setting["tried"] else ""
    print(f"　{method_names[method]}：{chance}{told or '選ぶ設定はない'}")

# %% [markdown]
# 決めごとを言葉にします。
#
# - 漢字でメタ訓練し、別の漢字で設定を選び、仮名でメタテストをする。漢字の分け方は種ごとに変わる。設定を選ぶのに、仮名は一度も使わない。
# - サポートとクエリの書体は、必ず違う。ただし、書体は3種で、訓練とテストで同じ。だから、言えるのは**新しい文字**への汎化で、新しい書体への汎化ではない。
# - エピソードで学ぶ手法は、同じ種なら同じエピソードを見る。全クラスの分類は、1-shotのエピソードの組と同じ枚数のバッチで学ぶ（5-shotのエピソードの枚数より少ない）。
# - 設定は、1-shotの検証の漢字で選び、5-shotでもそのまま使う。選ぶのに使った種は、確認では使わない。候補は、上に書いたとおり少ない。もっと広く探せば、どの手法にも、いくらか上がる余地がある。
# - 5-shotでは、正規化の選び方（「まとめて」と「移動統計」）と、学習のときの内側の回数（3回）を比べない。
# - ＊の手法は、教師モデルを使う。教師モデルの学習は、予算に数えていない。だから、＊のない手法との差には、**余分な学習の分**が入る。
#
# 最後の点のために、対照を二つ置きます。教師モデルそのものと、「教師モデルの重みから始めるMAML」です。
# メタ蒸留がふつうのMAMLに勝っても、この対照に勝てなければ、蒸留の手柄とは言えません。

# %%
fig, axes = plot.subplots(1, 2, figsize=(9.0, 4.2), sharey=True)
measured = {shots: {row["method"] for row in few.where(view="main", shots=shots).rows} for shots in (1, 5)}
for ax, shots in zip(axes, (1, 5), strict=True):
    for place, method in enumerate(method_names):
        if method not in measured[shots]:
            continue
        point = few.mean("accuracy", view="main", shots=shots, method=method)
        style = (
            {"marker": "s", "color": "C1"} if method_names[method].endswith("＊") else {"marker": "o", "color": "C0"}
        )
        ax.errorbar(point.mean, place, xerr=point.half, capsize=3, linestyle="none", **style)
    ax.set_title(f"5-way {shots}-shot（仮名）")
    ax.set_xlabel("正解率（平均と95%信頼区間）")
axes[0].set_yticks(range(len(method_names)), list(method_names.values()))
axes[0].invert_yaxis()
plot.show(
    fig,
    alt="15の手法の正解率を、1-shotと5-shotの二つの欄に並べた、信頼区間つきの点の図。画素の最近傍重心と乱数の重みは、どちらの欄でも左に離れている。"
    "学習した手法は右に集まる。教師モデルを使う手法は四角で描いてある。",
)
print("　　　　1-shot　　　　　5-shot")
for method, name in method_names.items():
    cells = [
        str(few.mean("accuracy", view="main", shots=shots, method=method))
        if method in measured[shots]
        else "測っていない"
        for shots in (1, 5)
    ]
    print(f"{cells[0]}　{cells[1]}　{name}")
for shots in (1, 5):
    for method in ("classifier", "protonet_per_set", "maml", "distillation", "meta_distillation"):
        over = few.difference("accuracy", {"method": method}, {"method": "pixels"}, view="main", shots=shots)
        assert over.mean - over.half > 0.1, f"{method_names[method]}が、画素のままより良いことが確認できません"

# %% [markdown]
# 点の並びから順位を読みたくなりますが、まだ早いです。同じ種は、同じ漢字の分け方と、同じテストのエピソードを使います。
# そこで、種ごとに差を取ってから、区間を求めます。組にすると、種の良しあしが打ち消し合います（演習08-8）。
# 区間が0を含めば、「差は確かめられない」です。「同じ」ではありません。

# %%
questions = {
    "単純な基準と比べる": [
        ("classifier", other)
        for other in ("protonet_per_set", "protonet_running", "maml", "anil", "distillation", "meta_distillation")
    ],
    "MAMLの仲間": [("maml", other) for other in ("fomaml", "anil", "maml_three_steps")]
    + [("protonet_per_set", "maml")],
    "ふつうの蒸留": [("distillation", other) for other in ("protonet_per_set", "teacher", "maml")],
    "メタ蒸留": [
        ("meta_distillation", other)
        for other in ("maml", "maml_pretrained", "meta_distillation_fixed", "distillation", "teacher")
    ],
}
for shots in (1, 5):
    print(f"【{shots}-shot】")
    for question, pairs in questions.items():
        print(f"{question}")
        for one, other in pairs:
            if {one, other} <= measured[shots]:
                print(f"　{paired(few, one, other, shots=shots)}")

# %% [markdown]
# 五つの問いに、判定の言葉だけで答えます。
#
# - **単純な基準は強いか**。1-shotでは強く、MAML、ANIL、移動統計のProtoNetより高くなりました。ProtoNet（別々）、ふつうの蒸留、メタ蒸留との差は確かめられません。5-shotでは、MAMLと二つの蒸留より低くなりました。ただし、前の節で見たとおり、測るときの統計を「別々」にそろえると、5-shotのMAMLとの差は確かめられなくなります。
# - **二階の項は要るか**。要りました。一次近似は、1-shotと5-shotの両方で、はっきり低くなりました。学習の前の向きがほとんど別だったことと、合います。ただし、向きの違いが原因だとまでは、この比較からは言えません。
# - **動かす場所を減らしてよいか**。この予算では、よくありません。最後の層だけを動かすANILは、1-shotと5-shotの両方で、MAMLより低くなりました。
# - **ふつうの蒸留は得か**。同じ回数だけ学習したProtoNetと比べると、1-shotと5-shotの両方で、少し高くなりました。ただし、教師モデルそのものよりは、両方で低くなりました。教師を超えてはいません。
# - **メタ蒸留は得か**。教師も学ぶと、1-shotと5-shotの両方で、ふつうのMAMLと、教師を固定したものより高くなりました。しかし、教師の重みから始めただけのMAMLとの差は、確かめられません。蒸留の得とは、まだ言えません。
#
# 比べた組の数で、区間は補正していません。多くの組を並べれば、いくつかは偶然に0を外れます。
# 一つひとつの判定より、1-shotと5-shotで同じ向きか、対照と合わせて筋が通るか、を見てください。
#
# メタ蒸留の手柄を言うには、三つの段を、順に上がる必要があります。
#
# 1. MAMLに勝つ。ただし、余分な学習だけでも勝てる可能性が残る
# 2. 教師の重みから始めるMAMLに勝つ。ここで初めて、余分な学習を初期値に使っただけではない、と言える
# 3. 教師を固定したメタ蒸留に勝つ。ここで初めて、教師も動かして**教え方を学んだ**おかげと言える
#
# 途中の段を飛ばした比較は、見かけがよくても、何のおかげかを言えません。
#
# ### 論文の値と並べる
#
# 同じ5-way 1-shotでも、データと予算が違います。
#
# | 手法 | 論文の値（5-way 1-shot） | データ | 予算 |
# |---|---|---|---|
# | MAML（Finn et al., 2017） | 98.7% | Omniglot（手書きの1,623字、各20人） | 更新6万回、1回に32課題 |
# | ProtoNet（Snell et al., 2017） | 98.8% | Omniglot | 訓練は60-way |
# | MAML（Finn et al., 2017） | 48.70 ± 1.84% | miniImageNet | 更新6万回 |
# | ProtoNet（Snell et al., 2017） | 49.42 ± 0.78% | miniImageNet | 訓練は30-way |
#
# MAMLの値は、「バッチ正規化」の節で見たとおり、クエリ集合の統計を使ったものです。
# また、この章の値を、Omniglotの値と直接には比べられません。文字の数、書き手（こちらはフォント3種と変形）、更新の回数（二桁ほど少ない）、ネットワークの幅、どれもが違います。サポートとクエリの書体も、この章では必ず変えています。
# 一方で、論文の値どうしでも、miniImageNetでの二つの差は、MAMLの区間の半幅より小さいことに注意してください。
# Chen et al.（2019）とTian et al.（2020）は、条件をそろえると、単純な基準がメタ学習の手法に並ぶか、上回ることを示しました。
#
# ### 予算を変えると
#
# 「同じ予算」でそろえても、予算の大きさは残ります。教師モデルは、ProtoNet（別々）を、3倍の回数だけ学習したものです。手法は変えずに、予算だけを増やした値として読めます。

# %%
for shots in (1, 5):
    longer = few.difference("accuracy", {"method": "teacher"}, {"method": "protonet_per_set"}, view="main", shots=shots)
    print(f"{shots}-shot、ProtoNetの更新を3倍にした得（教師モデル − ProtoNet、同じ種どうし）：{longer}")
    for other in ("classifier", "maml", "distillation", "meta_distillation"):
        same = few.difference("accuracy", {"method": other}, {"method": "protonet_per_set"}, view="main", shots=shots)
        print(f"　更新の回数が同じ {method_names[other]} − ProtoNet：{same}")
    assert longer.mean - longer.half > 0, "長い学習の得が確認できません"

# %% [markdown]
# 1-shotでは、更新を3倍にした得が、同じ回数で手法を替えた差のどれよりも大きくなりました。5-shotでは、メタ蒸留に替えた差との大小は、確かめられません。しかも、メタ蒸留は、この3倍学習した教師モデルも使っています。
#
# 「どの手法が一番か」という問いには、予算を言わずには答えられません。論文の表を自分の予算に持ち込むときは、自分の予算で測り直します。
#
# ### 内側の回数を変えると
#
# MAMLは、学習のときに1回しか適応していません。測るときの回数を増やすと、どうなるでしょうか。

# %%
fig, ax = plot.subplots(figsize=(5.4, 3.2))
steps = sorted({row["test_steps"] for row in few.where(view="steps").rows})
by_steps = {}
for shots, marker in ((1, "o"), (5, "s")):
    by_steps[shots] = [few.mean("accuracy", view="steps", shots=shots, test_steps=k) for k in steps]
    ax.errorbar(
        range(len(steps)),
        [p.mean for p in by_steps[shots]],
        [p.half for p in by_steps[shots]],
        marker=marker,
        capsize=3,
        label=f"{shots}-shot",
    )
ax.axhline(0.2, color="black", linewidth=0.8, linestyle=":")
ax.set_xticks(range(len(steps)), [str(k) for k in steps])
ax.set_xlabel("測るときの内側の回数")
ax.set_ylabel("MAMLの正解率")
ax.legend()
plot.show(
    fig,
    alt="測るときの内側の回数0、1、3、10に対する、MAMLの正解率の折れ線。0回では点線の0.2に重なり、1回で大きく上がる。",
)
for shots, row in by_steps.items():
    print(f"{shots}-shot：" + "、".join(f"{k}回 {point}" for k, point in zip(steps, row, strict=True)))
for shots in (1, 5):
    assert abs(by_steps[shots][0].mean - 0.2) < 0.05, "適応しないMAMLが、あてずっぽうと違います"
    assert by_steps[shots][1].mean - by_steps[shots][1].half > 0.4, "1回の適応の効果が確認できません"
more = {
    shots: few.difference("accuracy", {"test_steps": 10}, {"test_steps": 1}, view="steps", shots=shots)
    for shots in (1, 5)
}
for shots, change in more.items():
    print(f"{shots}-shot：10回 − 1回 {change}")

# %% [markdown]
# 0回では、でたらめと同じです。番号は課題ごとに変わるので、適応しないモデルは答えようがありません。MAMLが学んだのは「答え」ではなく、「1回の更新で答えられる初期値」です。
# 回数を増やすと、1-shotと5-shotの両方で、正解率は上がりました。学習のときより多く適応しても、この実験では崩れません。

# %% [markdown]
# ### 確認クイズ：結果の読み方
#
# <!-- quiz: q08-19 q08-20 -->

# %% [markdown]
# ## 落とし穴
#
# エラーの出ない誤りを動かして、害を測ります。使うのは、短い学習と、検証の漢字です。正解率の高さではなく、**差**を見てください。
#
# ### 1. 適応する前の重みで、クエリを採点する
#
# 内側のループは正しく書けているのに、最後の1行で、元のモデルにクエリを通してしまう誤りです。例外は起きず、学習の曲線も描けます。

# %%
correct = brief(MAML(0.4, 1).task_loss, 0, updates=100, classes=5)
unadapted = brief(MAML(0.4, 0).task_loss, 0, updates=100, classes=5)  # 内側0回は、元の重みでの採点に等しい
scores = {}
for name, model in {"適応した後で採点": correct, "適応する前で採点": unadapted}.items():
    before = np.mean([MAML(0.4, 0).task_loss(model, e)["loss"].item() for e in held])
    scores[name] = episode_accuracies(MAML(0.4, 1).logits, model, held).mean()
    print(f"{name}して学習：適応前のクエリの損失 {before:.3f}、1回適応したあとの正解率 {scores[name]:.3f}")
    if model is unadapted:
        stuck = before
print(f"log 5 = {math.log(5):.3f}")
assert stuck > math.log(5) - 0.02, "適応前の損失が、log N を下回りました"
assert scores["適応した後で採点"] > scores["適応する前で採点"] + 0.08, "採点の誤りの害が確認できません"

# %% [markdown]
# 番号は課題ごとに無作為なので、適応する前の損失は、平均では $\log N$ より下がりません。学べることは、「すべてのクラスに同じ確率を出す」ことだけです。
# **損失が $\log N$ から動かないMAMLを見たら、まず採点の重みを疑います**。
# 番号のない課題では、気づきにくくなります。正弦波の回帰で同じ誤りをすると、「全課題で事前学習」の対照とほとんど同じ学習になり、損失は途中まで下がります。
#
# ### 2. サポートとクエリを、別々に引く
#
# クラスを正しく分けても、**画像**の漏れることがあります。サポートとクエリを、同じ画像の集まりから別々に引くと、同じ画像が両方に入ります。
# 一度に引いて分ければ、同じ画像は入りません。それでも、同じ書体は入ります。
# 検証の漢字の5-way 5-shotで、三つの引き方を比べます。1文字につき、3書体×5通りの変形の15枚があるとします。


# %%
class Pixels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def from_pool(kind: str, g: torch.Generator) -> Episode:
    """1文字15枚から、手本5枚と問い10枚を引く。"""
    support, query = [], []
    for c in torch.tensor(every_face)[torch.randperm(len(every_face), generator=g)[:5]].tolist():
        faces = tasks.images[tasks.labels == c]  # 書体ごとに1枚
        pool = augment(faces.repeat_interleave(5, dim=0), g)
        first, second = torch.randperm(15, generator=g), torch.randperm(15, generator=g)
        if kind == "違う書体から引く":
            first = torch.arange(15).roll(5 * int(torch.randint(3, (1,), generator=g)))
        support.append(pool[first[:5]])
        query.append(pool[second[:10] if kind == "別々に引く" else first[5:]])
    return Episode(
        torch.cat(support),
        torch.arange(5).repeat_interleave(5),
        torch.cat(query),
        torch.arange(5).repeat_interleave(10),
    )


every_face = [c for c in tasks.split.val if (tasks.labels == c).sum() == 3]  # どの書体にもある字だけ
leaks = {}
for kind in ("違う書体から引く", "一度に引いて分ける", "別々に引く"):
    g = torch.Generator().manual_seed(0)
    episodes = [from_pool(kind, g) for _ in range(100)]
    leaks[kind] = [
        mean_ci(episode_accuracies(method.logits, model, episodes))
        for method, model in ((NearestCentroid(), Pixels()), (ProtoNet(), proto))
    ]
    print(f"{kind}：画素の最近傍重心 {leaks[kind][0]}、短く学習したProtoNet {leaks[kind][1]}")
print("（区間は、100エピソードの引き方について）")
careful, leaked = leaks["違う書体から引く"][0], leaks["別々に引く"][0]
assert leaked.mean - leaked.half > careful.mean + careful.half + 0.05, "画像の漏れの害が確認できません"

# %% [markdown]
# 画素の最近傍重心は、何も学んでいません。それでも、引き方だけで、正解率がはっきり上がります。
# 分ける単位は、クラスだけではありません。書体、書き手、撮影の日、患者のように、**同じものから来た画像**が両側に入らないように引きます。この教材では、`EpisodeSampler`の`groups=`で指定します。
# クラスの漏れの害は、演習08-4で測ります。
#
# ### 3. 内側のループで、移動統計を使う
#
# 内側で、モデルを素直に`functional_call`で呼ぶと、訓練・評価の状態がそのまま効きます。`eval()`なら移動統計が使われ、`train()`なら移動統計が書き換わります。


# %%
def careless(model: nn.Module, episode: Episode) -> Tensor:
    """状態に気を配らずに書いた、1回の適応。"""
    inner = adapt(
        inner_parameters(model),
        lambda p: F.cross_entropy(functional_call(model, p, (episode.support_x,)), episode.support_y),
        lr=0.4,
        steps=1,
    )
    return functional_call(model, inner, (episode.query_x,))


@torch.no_grad()
def careless_accuracy(model: nn.Module) -> float:
    return float(np.mean([(careless(model, e).argmax(1) == e.query_y).float().mean().item() for e in held]))


kept = {name: value.clone() for name, value in correct.state_dict().items()}
by_set = episode_accuracies(MAML(0.4, 1).logits, correct, held).mean()
fresh_eval = careless_accuracy(correct.eval())
dirty = copy.deepcopy(correct).train()
in_train = careless_accuracy(dirty)
moved_names = [name for name, value in dirty.state_dict().items() if not torch.equal(value, kept[name])]
after_train = careless_accuracy(dirty.eval())
print(f"集合の統計（正しい扱い）　　　　　　　正解率 {by_set:.3f}")
print(f"eval()のまま（移動統計は初期値）　　　正解率 {fresh_eval:.3f}")
print(f"train()のまま　　　　　　　　　　　　正解率 {in_train:.3f}、書き換わったバッファ {len(moved_names)} 個")
print(f"そのあとで eval()（混ざった移動統計）　正解率 {after_train:.3f}")
assert moved_names, "移動統計が動いていません"
assert abs(in_train - by_set) < 1e-6, "train() の予測が、集合の統計のときと違います"
assert fresh_eval < by_set - 0.05, "eval() の害が確認できません"

# %% [markdown]
# `train()`では、予測は正しい扱いと同じです。ところが、測っただけで、モデルのバッファが変わりました。勾配を止めていても、変わります。
# たまった移動統計は、適応の前と後、いくつもの課題の、サポートとクエリが混ざった値です。どの課題の統計でもありません。
# Antoniou et al.（2019）は、回数ごとに別の統計を持つ方法を提案しています。この教材の`call_with`は、いつも渡された集合の統計を使い、バッファに触れません。
#
# ### 4. 全部のエピソードを独立とみなす
#
# 同じ手法を、種だけ変えて10回、短く学習します。これを5個ずつの二組に分け、「二つの手法」と呼んで比べます。中身は同じなので、本当の差はありません。

# %%
runs = [brief(ProtoNet().loss, seed, updates=30, classes=None, width=8) for seed in range(10)]
trial = list(tasks.sampler("val", ways=5, shots=1, queries=5, episodes=200, seed=7, fresh=False))
table = np.stack([episode_accuracies(ProtoNet().logits, run, trial) for run in runs])  # (種, エピソード)
claims: dict[str, list[bool]] = {"エピソードをまとめる": [], "種ごと": []}
for group in itertools.combinations(range(1, 10), 4):
    ours = [0, *group]
    theirs = [row for row in range(10) if row not in ours]
    gap = table[ours] - table[theirs]
    for name, values in (("エピソードをまとめる", gap.flatten()), ("種ごと", gap.mean(1))):
        ci = mean_ci(values)
        claims[name].append(abs(ci.mean) > ci.half)
for name, found in claims.items():
    print(f"{name}：「差がある」と結論した組み分けの割合 {np.mean(found):.2f}（{len(found)} 通り）")
print(f"一つの手法の区間の半幅　まとめる {mean_ci(table.flatten()).half:.3f}、種ごと {mean_ci(table.mean(1)).half:.3f}")
assert np.mean(claims["エピソードをまとめる"]) > np.mean(claims["種ごと"]) + 0.2, "まとめて数える害が確認できません"

# %% [markdown]
# まとめた区間は狭く、同じ手法どうしに「差」を見つけます。エピソードを増やしても、学習のやり直しによるばらつきは減らないからです。
# 手法を比べるときの標本の単位は、エピソードではなく、**学習のやり直し**です。
# 論文の「600エピソードの95%信頼区間」は、その一つの学習済みモデルについての区間だ、と読みます。
# なお、組み分けどうしは独立ではないので、割合そのものに、細かい意味はありません。
#
# ### 5. メタテストで選ぶ
#
# 同じ10個のモデルを、「10通りの設定」と見立てます。10エピソードの正解率が最も高い設定を選び、**その値を**報告します。
# 同じ設定を、残りの190エピソードで測った値と比べます。これを、10エピソードずつの20組でくり返します。

# %%
above = table - table.mean(0)  # 課題の難しさを除くため、10個の平均からの差で表す
parts = np.split(np.arange(200), 20)
winners = [int(above[:, part].mean(1).argmax()) for part in parts]
claimed = [above[best, part].mean() for best, part in zip(winners, parts, strict=True)]
elsewhere = [np.delete(above[best], part).mean() for best, part in zip(winners, parts, strict=True)]
print(
    f"選ぶのに使った10エピソードで、平均より {np.mean(claimed):+.3f}。ほかの190エピソードでは {np.mean(elsewhere):+.3f}"
)
inflated = mean_ci(np.subtract(claimed, elsewhere))
print(f"見かけの上乗せ {inflated}")
assert inflated.mean - inflated.half > 0, "選び方による上乗せが確認できません"

# %% [markdown]
# 学習率、内側の回数、止めどき、正規化の選び方。メタ学習には、選ぶものが多くあります。メタテストで選ぶと、どれも、この上乗せを生みます。
# 選ぶのはメタ検証のクラスで行い、メタテストは、最後に一度だけ測ります。
#
# ### 6. 教師モデルの学習を、予算に数えない
#
# 蒸留の手法は、教師モデルを別に学習します。その分を数えると、比べる相手が変わります。

# %%
own, extra = setting["updates"], setting["teacher_updates"]
print(
    f"更新の回数：ProtoNet {own}、教師モデル {extra}、蒸留の手法は教師の分も数えると {own + extra}（{(own + extra) / own:.0f} 倍）"
)
for shots in (1, 5):
    print(f"{shots}-shot")
    for one, other in (
        ("distillation", "protonet_per_set"),
        ("distillation", "teacher"),
        ("meta_distillation", "teacher"),
    ):
        print(f"　{paired(few, one, other, shots=shots)}")
sizes = {
    method: few.where(view="main", shots=1, method=method).rows[0]["parameters"]
    for method in ("maml", "meta_distillation")
}
print(
    f"テストで要るパラメータ：MAML {sizes['maml']:,} 個、メタ蒸留 {sizes['meta_distillation']:,} 個（教師モデルも要る）"
)
assert (own + extra) / own > 1.5
assert sizes["meta_distillation"] > 1.8 * sizes["maml"], "メタ蒸留が、テストで教師モデルを含んでいません"

# %% [markdown]
# 1行目の比較だけでは、差があっても、蒸留の得とは言えません。2行目の相手は、蒸留に使った教師モデルそのもの、つまり「もっと長く学習しただけ」のモデルです。
# ふつうの蒸留は、同じ回数だけ学習したProtoNetより高く、教師モデルより低くなりました。教師の長い学習の成果を、一部だけ受け取ったと読むのが自然です。メタ蒸留は、1-shotでは教師モデルより低く、5-shotでは差が確かめられません。
# メタ蒸留は、テストのときも教師モデルを使います。軽くするための蒸留（07章）とは、目的が違います。

# %% [markdown]
# ## 取り違えやすいもの
#
# | 用語 | 何を指すか | 取り違えやすい点 |
# |---|---|---|
# | メタ学習 | 課題の集まりから、学び方を学ぶ | 一つの大きな課題での事前学習とは、損失が違う |
# | 少数ショット学習 | 少しの手本で学ぶという**問題** | メタ学習は、それを解く**方法**の一つ |
# | 文脈内学習 | 手本を入力に並べる。重みは動かない | 少数ショットの手本を使うが、勾配は使わない |
# | N-way K-shot | Nクラス、クラスごとにK枚の手本 | サポートはN×K枚。クエリの枚数は別に決める |
# | 支持集合（サポート）／クエリ集合 | 適応に使う手本／適応した後を測る問い | 訓練／テストではない。メタ訓練の中にも、両方がある |
# | メタ訓練／メタ検証／メタテスト | **クラス**で分けた三つの部分 | 画像で分けると、クラスが漏れる |
# | 内側学習率 $\eta_{\mathrm{in}}$／外側学習率 | 課題の中での更新の歩幅／初期値の更新の歩幅 | テストで使うのは内側だけ |
# | MAMLの「モデル非依存」 | 勾配で学ぶモデルなら、何にでも使える | 勾配が要らない、ではない |
# | 一次近似（FOMAML） | 二階の項を捨てる | $\theta_k$ と $\theta_0$ のつながりまで切ると、勾配が届かず、何も学べない |
# | ANIL | 内側で最後の層だけを動かす | 外側では、全部の層を学ぶ |
# | プロトタイプ | サポートの埋め込みの、クラスごとの平均 | 学習するパラメータではない |
# | 最近傍重心（単純な基準） | ふつうの分類で学んだ特徴で、同じことをする | エピソードで学んでいない。それでも強い |
# | トランスダクティブ | クエリの予測が、ほかのクエリによる | 不正ではない。条件として書き添える |
# | メタ蒸留 | 教わった**あと**の生徒の損失で、教師も学ぶ | 07章の蒸留では、教師は動かない |
# | エピソードの区間／種の区間 | 測り直しのばらつき／学習のやり直しのばらつき | 手法の比較には、種の区間 |

# %% [markdown]
# ## E資格の範囲と、典型的な計算
#
# <div class="alert alert-info" role="note">
#
# **メタ学習（MAML）は、シラバスの「オプション」です**。試験の対象からは外れています。シラバスには版があるので、受験の前に、公式の最新版を確かめてください。
#
# **出題対象と重なるもの**：転移学習との違い、距離学習（プロトタイプまでの距離、ソフトマックス）、連鎖律、交差エントロピー、バッチ正規化の訓練と評価の違い、蒸留の損失。
#
# **典型的な計算**（力試し）
#
# 1. 1次元の2次関数で、1回の内側の更新のあとの、外側の勾配：$L = (\theta - a)^2$ なら、因子 $(1 - 2\eta_{\mathrm{in}})$ を忘れない。忘れたものが一次近似になる。
# 2. $k$ 回なら、隔たりは $(1 - 2\eta_{\mathrm{in}})^k$ 倍。$\mathrm{d}\theta_k / \mathrm{d}\theta_0$ は $(1 - 2\eta_{\mathrm{in}})^k$ に等しい。
# 3. N-way K-shotの枚数：サポート $N K$、クエリ $N Q$。
# 4. プロトタイプは平均、ロジットは距離の**2乗**に負号。指数を取り、その合計で割ると、確率になる。
# 5. 種を単位とした区間：エピソードを種ごとに平均する。標準誤差は、種ごとの値の標準偏差を、種の数の平方根で割る。
#
# **コードの穴埋め**：`create_graph=True`、適応した後のパラメータでの採点、`functional_call`に渡す辞書。
#
# **発展**（この章では扱うが、出題の範囲を超える）：二階の項と一次近似の比較、正規化の統計の選び方、メタ蒸留。
#
# </div>

# %% [markdown]
# ## まとめ
#
# - メタ学習は、課題の集まりから「少しの手本で学べる状態」を学ぶ。クラスを、メタ訓練、メタ検証、メタテストに分ける。
# - MAMLは、サポートで適応した**後**のクエリの損失を、適応する**前**の重みで微分する。$k$ 回の更新は、つながったまま書く。
# - 一次近似は、二階の項だけを捨てる。向きの余弦が小さいことと、学べないことは、別の話。
# - ANILは最後の層だけを動かし、プロトタイプと最近傍重心は平均を取るだけで済む。単純な基準のない比較からは、メタ学習が効いたとは言えない。
# - バッチ正規化の統計をどの集合で測るかが、成績を大きく左右する。クエリ集合だけの統計を使う手法（別々）は、クエリのクラスが偏ると崩れる。
# - `vmap`の中で`grad`を取ると、バッチ正規化のあるネットワークの二階の勾配をまちがえる。損失は正しいので、中心差分で検算する。
# - メタ蒸留は、教わった後の生徒の損失で、生徒の初期値と教師を学ぶ。「5回と1回が違う」「適応で損失が変わる」「教師の勾配が0でない」を確かめる。
# - 同じ更新の回数では、1-shotで、全クラスの分類と最近傍重心がMAMLとANILより高く、ProtoNetや蒸留の手法との差は確かめられなかった。5-shotでは、MAMLと蒸留の手法がこの基準より高いが、統計の測り方をそろえると、MAMLとの差は確かめられない。メタ蒸留が、教師の重みから始めたMAMLより高いとは言えない。
# - 手法の比較は、種で組にした差の区間で行う。予算、教師の学習、選んだ場所を書き添える。
#
# 演習`exercises/08_meta_learning.ipynb`では、次の八つを自分で書きます。
#
# - 08-1：メタ勾配を手で求める
# - 08-2：微分できる内側のループを書く
# - 08-3：MAMLの損失を書く
# - 08-4：エピソードを、漏れなく引く
# - 08-5：プロトタイプまでの距離で分類する
# - 08-6：メタ蒸留から、誤りを見つけて直す
# - 08-7：一つの課題の集合を、自分の統計で正規化する
# - 08-8：手法を、種ごとの対で比べる

# %% [markdown]
# ## 参考文献
#
# - MAML、一次近似、正弦波の課題：C. Finn, P. Abbeel and S. Levine, “Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks,” ICML 2017（arXiv:1703.03400）.
# - 一次近似の解析とReptile：A. Nichol, J. Achiam and J. Schulman, “On First-Order Meta-Learning Algorithms,” 2018（arXiv:1803.02999）.
# - ANIL、特徴の使い回し：A. Raghu, M. Raghu, S. Bengio and O. Vinyals, “Rapid Learning or Feature Reuse: Towards Understanding the Effectiveness of MAML,” ICLR 2020（原題ではReuseの後に疑問符が付く。arXiv:1909.09157）.
# - プロトタイプネットワーク：J. Snell, K. Swersky and R. Zemel, “Prototypical Networks for Few-shot Learning,” NIPS 2017（arXiv:1703.05175）.
# - エピソードでの学習、miniImageNet：O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu and D. Wierstra, “Matching Networks for One Shot Learning,” NIPS 2016（arXiv:1606.04080）.
# - 単純な基準（条件をそろえた比較）：W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. F. Wang and J.-B. Huang, “A Closer Look at Few-shot Classification,” ICLR 2019（arXiv:1904.04232）.
# - 単純な基準（よい特徴と線形分類器）：Y. Tian, Y. Wang, D. Krishnan, J. B. Tenenbaum and P. Isola, “Rethinking Few-Shot Image Classification: A Good Embedding Is All You Need,” ECCV 2020（原題の終わりには疑問符が付く。arXiv:2003.11539）.
# - 最近傍重心の中心化と長さの正規化：Y. Wang, W.-L. Chao, K. Q. Weinberger and L. van der Maaten, “SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning,” 2019（arXiv:1911.04623）.
# - MAMLの学習の工夫、回数ごとの正規化：A. Antoniou, H. Edwards and A. Storkey, “How to train your MAML,” ICLR 2019（arXiv:1810.09502）.
# - メタ学習の中の正規化：J. Bronskill, J. Gordon, J. Requeima, S. Nowozin and R. E. Turner, “TaskNorm: Rethinking Batch Normalization for Meta-Learning,” ICML 2020（arXiv:2003.03284）.
# - 教え方を学ぶ教師：W. Zhou, C. Xu and J. McAuley, “BERT Learns to Teach: Knowledge Distillation with Meta Learning,” ACL 2022（arXiv:2106.04570）.
# - 蒸留の損失：G. Hinton, O. Vinyals and J. Dean, “Distilling the Knowledge in a Neural Network,” NIPS 2014 Deep Learning Workshop, 2015（arXiv:1503.02531）.
# - MAMLの著者の実装でのバッチ正規化：GitHub `cbfinn/maml`、issue 37.
# - `vmap`の中のバッチ正規化の逆伝播：GitHub `pytorch/functorch`、issue 534.
