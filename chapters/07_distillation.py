# %% [markdown]
# # 第7章 知識蒸留
#
# **学習目標**
# - 知識蒸留を、ファインチューニング、疑似ラベル、ラベル平滑化と、手本の作り方で区別できる
# - 温度付きソフトマックスを導き、温度とエントロピーの関係を手で計算できる
# - 蒸留の損失を式とコードの両方で書き、KLの向き、$T^2$、$\alpha$ の意味を説明できる
# - 教師モデルを動かさず、同じ画像を見せる学習の手順を、一行ずつ理由を付けて書ける
# - 蒸留の得がどこから来たのかを、対照と信頼区間で言い分け、得のない場合も示せる
# - 中間層の蒸留、自己蒸留、量子化、枝刈りを、何を近づけ、何を減らすかで整理できる
#
# **シラバスとの対応**：モデルの軽量化（蒸留、プルーニング、量子化）、情報理論（KLダイバージェンス）、温度パラメータ。シラバスには版があります。受験の前に、必ず公式の最新版を確かめてください。
#
# **範囲**：蒸留の考え方、温度付きソフトマックス、KLダイバージェンス、プルーニング、量子化は出題対象です（軽量化の扱いは、資料によって割れています）。$T^2$ の導出、ヒント、注意転移、自己蒸留、容量の差は発展です。
#
# **この章の地図**
#
# ```mermaid
# flowchart TD
#     A["何を渡すか：ソフトターゲット"] --> B["どう柔らかくするか：温度 T"]
#     B --> C["どう近づけるか：KL、T²、α"]
#     C --> D["どう学習するか：手順"]
#     D --> E["得はどこから来るか：対照つきの実験"]
#     E --> F["得のないとき、見たことのない数字、T と α の選び方"]
#     F --> G["中間層、自己蒸留、ほかの軽量化"]
#     G --> H["落とし穴"]
# ```

# %% [markdown]
# ## 困りごとから
#
# よく当たるモデルは、たいてい大きく、遅くなります。
# 電話や装置の中で動かすには、小さく、速いモデルが要ります。
# ところが、小さいモデルを同じデータで学習しても、同じようには当たりません。
#
# 手書き数字で確かめます。使えるラベルは200枚だけとします。ほかに、ラベルのない画像が1,300枚あります。
# 大きいほうは、フォントの英字で事前学習した畳み込みネットワークを、この200枚でファインチューニングしたものです（02章）。
# 小さいほうは、隠れ層の幅が64の多層パーセプトロンです。

# %%
import copy
import itertools
import math
import warnings
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from tlkit import data, plot, results
from tlkit.course import quiz
from tlkit.data.glyph_augment import augment
from tlkit.distill import FromTeacher, HardLabels, fit_distillation, fit_student, footprint
from tlkit.distill.pruning import prune_magnitude
from tlkit.distill.quantization import quantize
from tlkit.finetune import param_groups, set_freeze
from tlkit.losses import DistillationLoss, attention_transfer_loss, hint_loss, kd_loss
from tlkit.losses.distillation import DistillationTerms
from tlkit.models import DigitMLP, GlyphCNN, Student, Teacher
from tlkit.seeding import seed_everything
from tlkit.stats import mean_ci
from tlkit.training import fit

mnist = data.load("mnist5k")
order = torch.randperm(len(mnist.labels), generator=torch.Generator().manual_seed(0))
labelled, unlabelled, held = order[:200], order[200:1500], order[1500:]
images, labels = mnist.images[labelled], mnist.labels[labelled]  # 学習に使えるラベルは、これだけ
held_images, held_labels = mnist.images[held], mnist.labels[held]  # 評価だけに使う。設定も止めどきも選ばない


def batches(*tensors: Tensor, seed: int = 0, size: int = 64) -> DataLoader:
    """並べ替えたバッチを返すローダー。まとめて取り出すので速い。"""
    dataset = TensorDataset(*tensors)
    rows = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
    return DataLoader(dataset, batch_size=None, sampler=BatchSampler(rows, size, drop_last=True))


@torch.no_grad()
def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """評価モードでのロジット (N, 10)。"""
    model.eval()
    return torch.cat([model(part) for part in x.split(500)])


def accuracy(model: nn.Module) -> float:
    """評価用の画像での正解率。"""
    return (logits_of(model, held_images).argmax(1) == held_labels).float().mean().item()


def new_teacher() -> nn.Module:
    """英字で事前学習した GlyphCNN を、200枚のラベルでファインチューニングする。"""
    seed_everything(0)
    model = set_freeze(GlyphCNN(10, weights="letters"), "none")
    optimizer = torch.optim.Adam(param_groups(model, 1e-2, decay=2.6))
    schedule = OneCycleLR(optimizer, max_lr=[group["lr"] for group in optimizer.param_groups], total_steps=150)
    jitter = partial(augment, generator=torch.Generator().manual_seed(0))
    options = {"steps": 150, "scheduler": schedule, "device": "cpu", "progress": False}
    fit(model, batches(images, labels, size=32), HardLabels(augment=jitter), optimizer, **options)
    return model.eval()


def trained(loss: object, tensors: tuple[Tensor, ...], seed: int = 0, steps: int = 800) -> nn.Module:
    """生徒モデルを学習する。どの方法も、初期値、更新の回数、最適化は同じである。"""
    seed_everything(seed)
    model = DigitMLP(hidden=64)
    fit_student(model, loss, batches(*tensors, seed=seed), steps=steps, lr=1e-2, device="cpu", progress=False)
    return model.eval()


teacher = new_teacher()
plain_student = trained(HardLabels(), (images, labels))
for name, model in {"大きいモデル（GlyphCNN）": teacher, "小さいモデル（DigitMLP）": plain_student}.items():
    size = footprint(model, held_images[:1])
    print(
        f"{name}：パラメータ {size.parameters:,} 個、計算量 {size.flops / 1e6:.2f} MFLOP、正解率 {accuracy(model):.3f}"
    )
assert accuracy(teacher) > accuracy(plain_student) + 0.08, "大きいモデルと小さいモデルの差が確認できません"

# %% [markdown]
# 小さいモデルは、パラメータが半分ほどで、計算量は数十分の一です。その代わり、正解率はずっと低くなりました。
#
# ここで考えます。大きいモデルは、200枚のラベルのほかに、英字で身に付けた形の見分け方を知っています。
# その知識を、小さいモデルに渡せないでしょうか。形の違うモデルに、重みは写せません。
# 渡せるのは、**入力に対する出力**です。

# %% [markdown]
# ## 知識蒸留とは
#
# **知識蒸留**（knowledge distillation）は、学習済みのモデルの出力を手本にして、別のモデルを学習することです。
# 手本を出すほうを**教師モデル**、学習するほうを**生徒モデル**と呼びます。教師モデルは動かしません。
#
# ```mermaid
# flowchart TD
#     X["同じ画像 x"] --> TE["教師モデル（凍結）"]
#     X --> ST["生徒モデル（学習する）"]
#     TE --> P["教師の確率 p（温度 T）"]
#     ST --> Q["生徒の確率 q（温度 T）"]
#     P --> S["ソフトの項 T²·KL(p‖q)"]
#     Q --> S
#     ST --> Q1["生徒の確率（温度 1）"]
#     Y["正解ラベル y（あれば）"] --> H["ハードの項（交差エントロピー）"]
#     Q1 --> H
#     S --> L["損失 α·ソフト + (1−α)·ハード"]
#     H --> L
# ```
#
# 似た方法と並べます。違いは、手本を誰が作るか、手本がどんな形かです。
#
# | 方法 | 手本を作るもの | 手本の形 | 引き継ぐもの |
# |---|---|---|---|
# | ふつうの教師あり学習 | 人 | 正解のクラスだけ（ハードラベル） | なし |
# | ファインチューニング（02章） | 人 | ハードラベル | **重み** |
# | 疑似ラベル | 学習済みのモデル | 予測したクラスだけ（ハードラベル） | 答え |
# | **知識蒸留** | 学習済みのモデル | クラスの確率（ソフトターゲット）か、中間層の特徴 | **出力のしかた** |
# | ラベル平滑化 | 人と、決まった規則 | 正解に一様な確率を混ぜたもの | なし |
# | 自己蒸留 | 同じ形の、学習済みのモデル | クラスの確率 | 出力のしかた |
#
# 教師モデルは、大きい必要も、ニューラルネットワークである必要もありません。
# Bucilă et al.（2006）は、数百から数千のモデルのアンサンブルの答えを、一つの小さなネットワークに覚えさせました。
# Ba and Caruana（2014）は、確率ではなくロジット（ソフトマックスの前の値）を合わせました。
# Hinton et al.（2015）は、温度を加え、二つをつなぐ形で「蒸留」と名付けました。この章は、この形を軸にします。

# %% [markdown]
# ### 確認クイズ：定義
#
# 先に自分で答えを決めてください。コードのセルに記号を書いて実行すると、正誤と理由が表示されます。
#
# <!-- quiz: q07-01 -->

# %% [markdown]
# ## 教師の出力は何を知っているか
#
# ラベルは「これは2です」としか言いません。教師モデルの確率は、もっと多くを言います。
# 「2です。でも、3にも少し似ています」と言うことも、「2です。7のほうに似ています」と言うこともあります。
#
# 実際の教師モデルで見ます。教師モデルが正しく2と答えた画像から、3寄りの1枚と、7寄りの1枚を選びます。

# %%
teacher_logits = logits_of(teacher, held_images)
log_p = teacher_logits.log_softmax(1)
sure_twos = ((held_labels == 2) & (log_p[:, 2] > math.log(0.9))).nonzero().squeeze(1)
lean = log_p[sure_twos, 3] - log_p[sure_twos, 7]
chosen = {"3に似た2": sure_twos[lean.argmax()], "7に似た2": sure_twos[lean.argmin()]}

fig, axes = plot.subplots(2, 3, figsize=(8.4, 4.2), width_ratios=(1, 2, 2))
for row, (name, index) in zip(axes, chosen.items(), strict=True):
    row[0].imshow(held_images[index, 0], vmin=0, vmax=1)
    row[0].set_title(name, fontsize=10)
    row[0].axis("off")
    for ax, temperature in zip(row[1:], (1.0, 4.0), strict=True):
        p = (teacher_logits[index] / temperature).softmax(0)
        ax.bar(range(10), p.tolist(), color=["C1" if c in (3, 7) else "C0" for c in range(10)])
        ax.set_title(f"温度 T = {temperature:g}", fontsize=10)
        ax.set_xticks(range(10))
        ax.set_ylim(0, 1)
        print(f"{name}、T={temperature:g}：2は {p[2]:.4f}、3は {p[3]:.2e}、7は {p[7]:.2e}")
for ax in axes[1, 1:]:
    ax.set_xlabel("クラス")
for ax in axes[:, 1]:
    ax.set_ylabel("教師モデルの確率")
plot.show(
    fig,
    alt="二つの2の画像と、教師モデルの確率の棒グラフ。温度1では、どちらも2の棒だけが高く、ほかの棒はほとんど見えない。"
    "温度4では、上の画像では3の棒が、下の画像では7と9の棒が、目に見える高さになる。",
)
three_like, seven_like = (log_p[index] for index in chosen.values())
assert three_like[3] > three_like[7] + 2, "3に似た2で、3の確率が7より高くありません"
assert seven_like[7] > seven_like[3] + 2, "7に似た2で、7の確率が3より高くありません"

# %% [markdown]
# ラベルはどちらも同じ「2」です。教師モデルの確率は、二つの画像の違いを区別しています。
# このような、正解でないクラスの確率に含まれる情報を、**埋もれた知識**（dark knowledge）と呼びます。
#
# 図から、もう一つ分かります。温度1では、埋もれた知識がほとんど見えません。
# 正解でないクラスの確率は、互いの比には意味があっても、値が小さすぎて損失に効かないのです。
# 温度を上げると、それが見える大きさになります。
#
# 同じことを、クラスの平均で見ます。行は教師モデルが答えたクラス、列はほかのクラスへの確率です。対角線は大きいので、塗りつぶしません。

# %%
soft = (logits_of(teacher, mnist.images[unlabelled]) / 4).softmax(1)
answered = soft.argmax(1)
similar = torch.stack([soft[answered == c].mean(0) for c in range(10)])
similar.fill_diagonal_(float("nan"))

fig, ax = plot.subplots(figsize=(4.8, 4.0))
shown = ax.imshow(similar, cmap="viridis")
ax.set_xticks(range(10))
ax.set_yticks(range(10))
ax.grid(visible=False)
ax.set_xlabel("ほかのクラス")
ax.set_ylabel("教師モデルが答えたクラス")
fig.colorbar(shown, label="確率の平均（T = 4）")
plot.show(
    fig,
    alt="10行10列の表を色で表した図。対角線は空白。1の行では4、5の行では3の列が最も明るい。2の行の7、4の行の9、8の行の5、9の行の4も明るい。似た形の数字の値が大きい。",
)
nearest = {c: similar[c].nan_to_num(-1).argmax().item() for c in range(10)}
print("最も似ていると言われたクラス：" + "、".join(f"{c}→{other}" for c, other in nearest.items()))
assert nearest[4] == 9, "4に最も似たクラスが9になりません"

# %% [markdown]
# この表は、どのラベルにも書いてありません。教師モデルが学習の中で見つけた、数字どうしの似かたです。
#
# 二つの注意があります。
#
# - 似かたが正しいとは限りません。教師モデルの誤りも、同じように渡ります。
# - 情報が多いことと、生徒モデルの正解率が上がることは、別のことです。それは実験で確かめます。

# %% [markdown]
# ### 確認クイズ：ソフトターゲット
#
# <!-- quiz: q07-02 q07-03 -->

# %% [markdown]
# ## 温度付きソフトマックス
#
# ロジット $z$ を**温度** $T > 0$ で割ってから、ソフトマックスに通します。
#
# $$
# p_c(T) = \frac{\exp(z_c / T)}{\sum_{k} \exp(z_k / T)}
# $$
#
# この形は、次の問いの答えとして導けます。点数 $z_c$ の高いクラスを選びたいのですが、決め打ちは避けたいとします。
# 点数の期待値に、エントロピー $H(p) = -\sum_c p_c \log p_c$ を $T$ 倍して足し、最大にします。
#
# $$
# \max_{p} \; \sum_c p_c z_c + T\, H(p) \quad \text{ただし} \; \sum_c p_c = 1
# $$
#
# 制約のラグランジュ乗数を $\mu$ とし、$p_c$ で微分して0と置きます。
#
# $$
# z_c - T(\log p_c + 1) - \mu = 0 \;\Rightarrow\; \log p_c = \frac{z_c}{T} + \text{定数} \;\Rightarrow\; p_c \propto \exp(z_c / T)
# $$
#
# つまり $T$ は、点数とエントロピーの交換の比率です。$T$ が大きいほど、ばらけた分布が選ばれます。
#
# - $T \to 0$：点数の最も高いクラスだけが1になる（同点なら等分する）
# - $T = 1$：ふつうのソフトマックス
# - $T \to \infty$：一様分布 $1/C$ に近づく
#
# $T$ で割っても、ロジットの大小は変わりません。だから、**予測するクラスは変わりません**。変わるのは自信の度合いだけです。
#
# 手で計算します。$z = (4, 2, 0)$、$T = 2$ なら、$z / T = (2, 1, 0)$ です。
# 分母は $e^2 + e^1 + e^0 \approx 7.39 + 2.72 + 1 = 11.11$ なので、$p \approx (0.665, 0.245, 0.090)$ です。

# %%
z = torch.tensor([4.0, 2.0, 0.0], dtype=torch.float64)


def entropy(p: Tensor) -> Tensor:
    """エントロピー [nat]。"""
    return -(p * p.clamp(min=1e-300).log()).sum(-1)


for temperature in (0.5, 1.0, 2.0, 10.0):
    p = (z / temperature).softmax(0)
    print(f"T={temperature:4g}：p = ({', '.join(f'{v:.3f}' for v in p)})、エントロピー {entropy(p):.3f}")
assert torch.allclose((z / 2).softmax(0), torch.tensor([0.665, 0.245, 0.090], dtype=torch.float64), atol=5e-4)

# 傾きの式 dH/dT = Var_p(z) / T³ を、中心差分で確かめる
temperature, step = 2.0, 1e-5
p = (z / temperature).softmax(0)
variance = (p * (z - (p * z).sum()).square()).sum()
slope = (entropy((z / (temperature + step)).softmax(0)) - entropy((z / (temperature - step)).softmax(0))) / (2 * step)
print(f"T=2での傾き：中心差分 {slope:.6f}、式 {variance / temperature**3:.6f}")
assert abs(slope - variance / temperature**3) < 1e-8

# %% [markdown]
# エントロピーの傾きは $\mathrm{d}H / \mathrm{d}T = \mathrm{Var}_p(z) / T^3$ です。分散は負にならないので、温度を上げるとエントロピーは必ず増えます（すべてのロジットが等しいときだけ、変わりません）。
#
# 先ほどの「7に似た2」で、温度を動かします。

# %%
temperatures = torch.logspace(-0.5, 2, 60)
one = teacher_logits[chosen["7に似た2"]]
curves = torch.stack([(one / temperature).softmax(0) for temperature in temperatures])
fig, (left, right) = plot.subplots(1, 2, figsize=(8.4, 3.2), sharex=True)
for digit in (2, 7, 3, 0):
    left.plot(temperatures, curves[:, digit], label=f"クラス{digit}")
left.axhline(0.1, color="black", linewidth=0.8, linestyle=":")
left.set_ylabel("確率")
left.legend(fontsize=8)
right.plot(temperatures, entropy(curves))
right.axhline(math.log(10), color="black", linewidth=0.8, linestyle=":")
right.set_ylabel("エントロピー [nat]")
for ax in (left, right):
    ax.set_xscale("log")
    ax.set_xlabel("温度 T")
plot.show(
    fig,
    alt="左は、温度に対する四つのクラスの確率の折れ線。温度が低いとクラス2だけが1に近い。温度を上げるとクラス7がまず増え、"
    "最後にはすべてが0.1の点線に近づく。線は交わらない。右はエントロピーで、0から自然対数の10の点線まで増え続ける。",
)
assert (curves.argmax(1) == 2).all(), "温度によって予測が変わりました"
assert (entropy(curves).diff() > -1e-6).all(), "エントロピーが減りました"

# %% [markdown]
# 温度が低すぎると、埋もれた知識は見えません。高すぎると、どのクラスも同じになります。
# ちょうどよい温度は、教師モデルのロジットの大きさや、生徒モデルの大きさで変わります。ロジットの大きさは、学習の長さや重み減衰で変わります。
# だから「温度はいつも4」とは決められません。選び方は後で見ます。

# %% [markdown]
# ### 確認クイズ：温度
#
# <!-- quiz: q07-04 q07-05 -->

# %% [markdown]
# ## 損失：教師の確率に近づける
#
# 教師モデルのロジットを $t$、生徒モデルのロジットを $s$ とし、同じ温度で柔らかくします。
#
# $$
# p_c = \mathrm{softmax}(t / T)_c, \qquad q_c = \mathrm{softmax}(s / T)_c
# $$
#
# 近さは、KLダイバージェンスで測ります。
#
# $$
# \mathrm{KL}(p \,\|\, q) = \sum_c p_c \log \frac{p_c}{q_c} = \underbrace{-\sum_c p_c \log q_c}_{\text{交差エントロピー } H(p, q)} - \underbrace{\Bigl(-\sum_c p_c \log p_c\Bigr)}_{\text{教師のエントロピー } H(p)}
# $$
#
# $H(p)$ は、生徒モデルによらない定数です。ですから、KLを小さくすることと、交差エントロピーを小さくすることは、生徒モデルにとって同じです。
# Hinton et al.（2015）は交差エントロピーで書いています。KLで書くと、完全に一致したときの値が0なので、読みやすくなります。
#
# ### なぜ、この向きか
#
# KLは対称ではありません。平均を取る側の分布が、どこを重く見るかを決めます。
# $\mathrm{KL}(p \| q)$ は、**教師の確率で**平均します。教師があり得ると言ったクラスを、生徒が落とすと、大きな罰を受けます。
# $\mathrm{KL}(q \| p)$ は、生徒の確率で平均します。生徒が落としたクラスは、平均に入らないので、ほとんど罰を受けません。

# %%
p = torch.tensor([0.50, 0.49, 0.01], dtype=torch.float64)
students = {
    "2番目を落とす": torch.tensor([0.98, 0.01, 0.01], dtype=torch.float64),
    "すべてに配る": torch.tensor([0.34, 0.33, 0.33], dtype=torch.float64),
}
divergences = {}
for name, q in students.items():
    divergences[name] = (p * (p / q).log()).sum().item(), (q * (q / p).log()).sum().item()
    print(f"{name}：KL(教師‖生徒) {divergences[name][0]:.3f}、KL(生徒‖教師) {divergences[name][1]:.3f}")
assert divergences["2番目を落とす"][0] > divergences["すべてに配る"][0], "教師で平均したKLの順が違います"
assert divergences["2番目を落とす"][1] < divergences["すべてに配る"][1], "生徒で平均したKLの順が違います"

# %% [markdown]
# 渡したいのは「ほかのクラスにも似ている」という情報です。それを落とす生徒に大きな罰を与えるのは、$\mathrm{KL}(p \| q)$ のほうです。
# 交差エントロピーとの関係がそのまま使えるのも、この向きだけです。
# なお、生徒が教師を完全に真似られるなら、どちらの向きでも最小の点は同じです。違いが出るのは、真似きれないときです。
#
# ### `F.kl_div`の引数
#
# PyTorchの損失は、`損失(モデルの出力, 手本)`の順に引数を取ります。`F.kl_div`も同じです。
# ところが、式 $\mathrm{KL}(p \| q)$ では手本が先に来ます。順序が逆に見えるのは、このためです。
#
# - `input`（1番目）：生徒の**対数**の確率。`log_softmax`で作る。確率を求めてから対数を取ると、小さな確率が0に丸められて、対数が無限大になることがあるため
# - `target`（2番目）：教師の確率（`log_target=True`なら対数の確率）
# - `reduction="batchmean"`：和をバッチの件数で割る。既定の`"mean"`は、さらにクラスの数でも割るので、KLの値にならない

# %%
seed_everything(0)
t, s = teacher_logits[:64].double(), logits_of(plain_student, held_images[:64]).double()
T = 4.0
by_torch = F.kl_div((s / T).log_softmax(1), (t / T).softmax(1), reduction="batchmean")
p, q = (t / T).softmax(1), (s / T).softmax(1)
by_hand = (p * (p.log() - q.log())).sum(1).mean()
print(
    f"式のとおり {by_hand:.6f}、F.kl_div {by_torch:.6f}、T²を掛けた tlkit の kd_loss {kd_loss(s, t, temperature=T):.6f}"
)
assert abs(by_hand - by_torch) < 1e-12
assert abs(kd_loss(s, t, temperature=T) - T**2 * by_torch) < 1e-12

# %% [markdown]
# ### 全体の損失
#
# 正解ラベル $y$ もあるときは、二つの項の重み付きの和にします。
#
# $$
# L = \alpha\, T^2\, \mathrm{KL}(p \,\|\, q) + (1 - \alpha)\, \mathrm{CE}(s, y)
# $$
#
# - **ソフトの項**：教師モデルに近づける。温度 $T$ を使う。
# - **ハードの項**：正解ラベルに近づける。温度は使わない（$T = 1$）。使うときと同じ条件で当てたいため。
# - $\alpha$：この教材では、**ソフトの項**の重み。実装によっては逆なので、式を読んで確かめる。
#
# ラベルのない画像では、ハードの項を計算できません。そのときは $\alpha = 1$ です。
# Hinton et al.（2015）は、ハードの項の重みをかなり小さくするとよかった、と述べています。
#
# 学習が終わったら、生徒モデルは $T = 1$ で使います。予測するクラスだけが要るなら、温度は関係ありません。

# %% [markdown]
# ### 確認クイズ：損失
#
# <!-- quiz: q07-06 q07-07 q07-08 -->

# %% [markdown]
# ## なぜT²を掛けるか
#
# 生徒のロジットについて微分します。$\log q_k = s_k / T - \log \sum_j \exp(s_j / T)$ なので、次のようになります。
#
# $$
# \frac{\partial \log q_k}{\partial s_c} = \frac{1}{T}\bigl(\mathbb{1}[k = c] - q_c\bigr)
# $$
#
# これをKLに入れます。$\sum_k p_k = 1$ を使います。
#
# $$
# \frac{\partial\, \mathrm{KL}(p \| q)}{\partial s_c} = -\sum_k p_k \frac{\partial \log q_k}{\partial s_c} = \frac{1}{T}\,(q_c - p_c)
# $$
#
# $1/T$ が一つ現れました。もう一つは、$q_c - p_c$ の中に隠れています。
# $T$ がロジットより十分に大きければ、$e^x \approx 1 + x$ と近似できます。クラスについての平均を $\bar{s}$、$\bar{t}$ と書きます。
#
# $$
# q_c \approx \frac{1 + s_c / T}{C + \sum_k s_k / T} \approx \frac{1}{C}\Bigl(1 + \frac{s_c - \bar{s}}{T}\Bigr)
# \;\Rightarrow\;
# \frac{\partial\, \mathrm{KL}}{\partial s_c} \approx \frac{1}{C\,T^2}\bigl[(s_c - \bar{s}) - (t_c - \bar{t})\bigr]
# $$
#
# 勾配は、ほぼ $1 / T^2$ に縮みます。一方、ハードの項の勾配は、温度によりません。
# だから、$T$ を上げるだけで、$\alpha$ が同じでもソフトの項が消えていきます。$T^2$ を掛けるのは、これを打ち消すためです。
#
# もう一つのことが分かります。$T^2$ を掛けた勾配は、$T \to \infty$ で
# $\frac{1}{2C} \sum_c [(s_c - \bar{s}) - (t_c - \bar{t})]^2$ の勾配になります。これは、**中心化したロジットを二乗誤差で合わせる**ことです。
# Hinton et al.（2015）の式(2)から(4)は、ロジットの平均が0だと仮定して、同じことを述べています。ロジットを合わせる方法は、蒸留の高温の極限です。
#
# 実際の教師モデルと生徒モデルで、勾配の大きさを測ります。

# %%
x, y = held_images[:200], held_labels[:200]
t, s = logits_of(teacher, x).double(), logits_of(plain_student, x).double()


def gradient(loss: object, logits: Tensor) -> Tensor:
    """ロジットについての勾配 (N, C)。"""
    moving = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(moving), moving)
    return found


grid = np.arange(1, 21)
with_square = [gradient(partial(kd_loss, teacher_logits=t, temperature=float(T)), s) for T in grid]
sizes = np.array([g.norm().item() for g in with_square])
hard_size = gradient(lambda logits: F.cross_entropy(logits, y), s).norm().item()
centred = (s - s.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))  # 高温の極限の向き
hotter = np.array([*grid, 30, 50, 100])
found = [gradient(partial(kd_loss, teacher_logits=t, temperature=float(T)), s) for T in hotter]
cosines = [F.cosine_similarity(g.flatten(), centred.flatten(), dim=0).item() for g in found]

fig, (left, right) = plot.subplots(1, 2, figsize=(8.6, 3.4))
left.plot(grid, sizes, marker="o", markersize=3, label="T² を掛ける")
left.plot(grid, sizes / grid**2, marker="s", markersize=3, label="掛けない")
left.plot(grid, sizes[-1] / grid**2.0, color="black", linewidth=0.8, linestyle=":", label="1/T² に比例する線")
left.axhline(hard_size, color="C2", linestyle="-.", label="ハードの項")
left.set_yscale("log")
left.set_ylabel("ロジットについての勾配の大きさ")
left.legend(fontsize=8)
right.plot(hotter, cosines, marker="o", markersize=3)
right.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
right.set_ylabel("中心化したロジットの差との余弦")
for ax, ticks in ((left, (1, 2, 5, 10, 20)), (right, (1, 2, 5, 10, 20, 50, 100))):
    ax.set_xscale("log")
    ax.set_xticks(ticks, [str(T) for T in ticks])
    ax.minorticks_off()
    ax.set_xlabel("温度 T")
plot.show(
    fig,
    alt="左は、温度1から20に対する勾配の大きさの、両対数の折れ線。T²を掛けないと、温度とともに大きく下がり、1/T²の点線に沿う。"
    "T²を掛けると、初めは増え、その後はゆるやかになる。ハードの項は水平な線。右は、温度1から100に対する、勾配と中心化したロジットの差との余弦で、1の点線に近づいていく。",
)
print("T　　T²あり　T²なし　極限との余弦")
for T in (1, 2, 4, 10, 20):
    print(f"{T:2d}　{sizes[T - 1]:8.4f}　{sizes[T - 1] / T**2:8.4f}　{cosines[T - 1]:.3f}")
print(f"ハードの項 {hard_size:.4f}、T=100での余弦 {cosines[-1]:.3f}")
shrink = sizes[0] / (sizes[-1] / 400)
assert shrink > 20, "T²を掛けないときの縮みが確認できません"
assert max(sizes) / min(sizes) < 8, "T²を掛けても、勾配の大きさが大きく変わります"
assert cosines[-1] > 0.99, "高温の極限に近づいていません"

# %% [markdown]
# 三つのことが読み取れます。
#
# - $T^2$ を掛けないと、勾配は温度とともに桁で縮みます。高温では、ハードの項に埋もれます。
# - $T^2$ を掛けると、桁の変化はなくなります。ただし、一定にはなりません。温度が低いうちは $q_c - p_c$ の縮み方が遅く、$T$ を掛けた値が増えるからです。
# - 温度を上げると、勾配の向きは、中心化したロジットの差に近づきます。
#
# $T^2$ は「温度を変えても、二つの項の釣り合いを大きくは崩さない」ための係数です。確率の和を1に戻すためでも、精度を上げるためでもありません。
# $\alpha = 1$ なら釣り合わせる相手がいないので、$T^2$ は学習率の倍率と同じ働きしかしません。

# %% [markdown]
# ### 確認クイズ：T²と勾配
#
# <!-- quiz: q07-09 q07-10 q07-11 -->

# %% [markdown]
# ## 学習の手順を一行ずつ
#
# 蒸留の学習は、ふつうの学習に数行を足すだけです。足した行には、それぞれ理由があります。


# %%
def distill_by_hand(
    student: nn.Module,
    teacher: nn.Module,
    loader: DataLoader,
    change: object,
    steps: int,
    temperature: float,
    alpha: float,
) -> None:
    """生徒モデルを steps 回更新する。"""
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3, weight_decay=1e-2)  # (1) 生徒の重みだけを渡す
    schedule = LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    endless = itertools.chain.from_iterable(itertools.repeat(loader))
    teacher.eval()  # (2) ドロップアウトを止め、バッチ正規化の移動統計を使う
    student.train()
    for x, y in itertools.islice(endless, steps):
        x = change(x)  # (3) 変形は1回だけ。二つのモデルに同じ画像を見せる
        with torch.no_grad():  # (4) 教師モデルの勾配は要らない
            t = teacher(x)
        s = student(x)
        log_q, p = (s / temperature).log_softmax(1), (t / temperature).softmax(1)  # 同じ温度
        soft = F.kl_div(log_q, p, reduction="batchmean") * temperature**2  # (5)
        hard = F.cross_entropy(s, y)  # (6) 温度1。データ拡張をしても、ラベルは元のまま
        loss = alpha * soft + (1 - alpha) * hard  # (7) α はソフトの項の重み
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


kept = copy.deepcopy(teacher.state_dict())
made = {}
for name in ("手で書いた", "fit_distillation"):
    seed_everything(0)
    made[name] = DigitMLP(hidden=64)
    loader, jitter = batches(images, labels), partial(augment, generator=torch.Generator().manual_seed(0))
    if name == "手で書いた":
        distill_by_hand(made[name], teacher, loader, jitter, steps=120, temperature=4.0, alpha=0.9)
    else:
        loss = DistillationLoss(temperature=4.0, alpha=0.9)
        options = {"loss": loss, "augment": jitter, "steps": 120, "lr": 3e-3, "device": "cpu", "progress": False}
        fit_distillation(made[name], teacher, loader, None, **options)
ours, theirs = (logits_of(model, held_images) for model in made.values())
print(f"二つの生徒モデルの、ロジットの違いの最大 {(ours - theirs).abs().max():.1e}")
untouched = all(torch.equal(value, teacher.state_dict()[key]) for key, value in kept.items())
print(f"教師モデルの重みと移動統計は、元のままか：{untouched}")
assert torch.allclose(ours, theirs, atol=1e-2), "手で書いた手順と fit_distillation の結果が違います"
assert untouched, "教師モデルが動きました"

# %% [markdown]
# 手で書いた手順と`tlkit.distill.fit_distillation`は、同じ生徒モデルを作りました。理由を、行の番号で確かめます。
#
# - **(1)** 教師モデルを更新してよいのは、教師モデルも一緒に学習すると決めたときだけです。
# - **(2)** `eval()`は、層の動きを切り替えます。勾配は止めません。
# - **(3)** 別々に変形すると、教師モデルは、生徒モデルが見ていない画像の答えを教えます。Beyer et al.（2022）は、同じ画像を見せることを、蒸留の要点の一つに挙げています。
# - **(4)** `no_grad()`は、勾配の記録を止めます。ドロップアウトとバッチ正規化は止めません。(2)の代わりにはなりません。
# - **(5)** 教師の確率は`target`、生徒の対数の確率は`input`です。
# - **(6)** ラベルのない画像では、この項を使いません。
# - **(7)** $\alpha$ と $T$ は、検証データで一緒に選びます。
#
# ### 前計算できるもの、できないもの
#
# 教師モデルは大きいので、学習のたびに動かすと時間がかかります。変形をしないなら、ロジットは画像ごとに決まっているので、一度計算すれば済みます（`teacher_logits`と`WithTeacherLogits`）。
# 毎回違う変形をするなら、前計算はできません。前計算したロジットは、変形する前の画像の答えだからです。
#
# 間を取る方法もあります。**変形した画像を先に作っておき、その画像のロジットを計算する**のです。
# この章の実験は、この方法を使います。ラベルのある200枚を60通りに、ラベルのない画像も含めた1,500枚を8通りに変形します。どちらも12,000枚です。


# %%
def views_of(x: Tensor, times: int) -> Tensor:
    """一枚ずつ違う変形を、times 回くり返した画像 (times·N, 1, 28, 28)。"""
    generator = torch.Generator().manual_seed(1)
    return torch.cat([augment(x, generator) for _ in range(times)])


few_views, few_labels = views_of(images, 60), labels.repeat(60)
few_logits = logits_of(teacher, few_views)
all_views = views_of(mnist.images[torch.cat([labelled, unlabelled])], 8)
all_logits = logits_of(teacher, all_views)
true_or_told = torch.cat([labels, torch.full((len(unlabelled),), -1)]).repeat(8)  # −1 は、ラベルなし
true_or_told = torch.where(true_or_told < 0, all_logits.argmax(1), true_or_told)  # 疑似ラベル：教師モデルの答え
print(f"200枚から {len(few_views):,} 枚、1,500枚から {len(all_views):,} 枚")

# %% [markdown]
# ### 確認クイズ：学習の手順
#
# <!-- quiz: q07-12 q07-13 -->

# %% [markdown]
# ## 小さな実験：対照を並べる
#
# 蒸留した生徒モデルを、何と比べればよいでしょうか。
# 「変形なしの正解ラベル」とだけ比べると、データ拡張の効果まで蒸留の手柄になります。
# 生徒モデル、初期値、更新の回数、学習率をそろえて、次の七つを学習します。
#
# | 名前 | 画像 | 手本 |
# |---|---|---|
# | 正解ラベル | 200枚、変形なし | 正解 |
# | 正解ラベル＋変形 | 200枚を変形した12,000枚 | 正解 |
# | ラベル平滑化＋変形 | 同上 | 正解に一様分布を混ぜたもの |
# | 蒸留（変形なし） | 200枚、変形なし | 教師の確率 |
# | 蒸留＋変形 | 200枚を変形した12,000枚 | 教師の確率 |
# | 疑似ラベル＋未ラベル | 1,500枚を変形した12,000枚 | 200枚は正解、残りは教師の答え |
# | 蒸留＋未ラベル | 同上 | 教師の確率 |

# %%
only_soft = FromTeacher(None, DistillationLoss(temperature=4.0, alpha=1.0))  # 前計算したロジットだけから学ぶ
plans = {
    "正解ラベル": (HardLabels(), (images, labels)),
    "正解ラベル＋変形": (HardLabels(), (few_views, few_labels)),
    "ラベル平滑化＋変形": (HardLabels(label_smoothing=0.2), (few_views, few_labels)),
    "蒸留（変形なし）": (only_soft, (images, labels, logits_of(teacher, images))),
    "蒸留＋変形": (only_soft, (few_views, few_labels, few_logits)),
    "疑似ラベル＋未ラベル": (HardLabels(), (all_views, true_or_told)),
    "蒸留＋未ラベル": (only_soft, (all_views, true_or_told, all_logits)),
}
live = {name: trained(loss, tensors) for name, (loss, tensors) in plans.items()}
for name, model in live.items():
    print(f"正解率 {accuracy(model):.3f}　{name}")
assert accuracy(live["正解ラベル＋変形"]) > accuracy(live["正解ラベル"]) + 0.03, "変形の効果が確認できません"
assert accuracy(live["蒸留（変形なし）"]) < accuracy(live["正解ラベル＋変形"]), (
    "変形のない蒸留が、変形のある学習に勝っています"
)
assert accuracy(live["蒸留＋未ラベル"]) > accuracy(live["正解ラベル"]) + 0.05, "教師モデルの効果が確認できません"

# %% [markdown]
# 一通りの分け方と初期値で測っただけなので、細かな優劣は言えません。それでも、大きな段差は見えます。
#
# - 変形するだけで、正解ラベルの学習は大きく上がります。
# - 変形をしない蒸留は、変形をした正解ラベルに及びません。Hinton et al.（2015）は、変形のない画像での蒸留でも、教師が変形から学んだ汎化が渡ると述べています。それは6万枚での話です。200枚では足りません。
# - ラベルのない画像を使えるようになると、さらに上がります。
#
# では、蒸留の得は、柔らかい確率から来るのでしょうか。それとも、変形や、画像の数から来るのでしょうか。
# 方法ごとに設定を選び、種を変えて測ります。

# %% [markdown]
# ## 実験：何が効いたのか
#
# 方法ごとに、いくつもの設定を、開発用の画像で比べて選びました。蒸留の設定の数は、どの対照の数も超えません。本番の画像と種では、選んだ設定だけを測っています。
# 一つ断りがあります。候補の端が選ばれたので、対照の候補を後から広げました。その前に、本番の種の一部を動かし始めていました。その値は見ずに捨て、選び直した設定で測り直しています。
# 比べるのは、**同じ種どうしの差**です。種が同じなら、分け方も、ラベルの200枚も、生徒モデルの初期値も同じです。

# %%
pair = results.load("07_pair")
pair_names = {
    "teacher": "教師モデル",
    "distill_unlabelled": "蒸留＋未ラベル",
    "pseudo_unlabelled": "疑似ラベル＋未ラベル",
    "distill": "蒸留＋変形",
    "smooth_augment": "ラベル平滑化＋変形",
    "hard_augment": "正解ラベル＋変形",
    "hard": "正解ラベル",
}
print(f"{pair.title}（種 {len(pair.seeds)} 通り、平均と95%信頼区間）")
fig, ax = plot.subplots(figsize=(6.6, 3.2))
for place, (method, name) in enumerate(pair_names.items()):
    found = pair.mean("accuracy", method=method)
    print(f"正解率 {found}　{name}")
    color = {"teacher": "C6", "distill_unlabelled": "C1", "distill": "C1"}.get(method, "C0")
    ax.errorbar([found.mean], [place], xerr=[found.half], marker="o", capsize=4, color=color)
ax.set_yticks(range(len(pair_names)), list(pair_names.values()))
ax.invert_yaxis()
ax.set_xlabel("正解率（平均と95%信頼区間）")
plot.show(
    fig,
    alt="七つの方法の正解率の点と信頼区間。上から、教師モデル、蒸留と未ラベル、疑似ラベルと未ラベル、蒸留と変形、ラベル平滑化と変形、正解ラベルと変形、正解ラベル。"
    "正解ラベルだけが離れて低い。未ラベルを使う二つは、教師モデルに近く、互いの区間が重なる。",
)


def gain(one: str, other: str) -> object:
    """同じ種どうしの正解率の差。"""
    return pair.difference("accuracy", {"method": one}, {"method": other})


print("\n同じ種どうしの差")
for one in ("distill_unlabelled", "pseudo_unlabelled", "distill"):
    for other in ("hard", "hard_augment", "smooth_augment"):
        print(f"　{pair_names[one]} − {pair_names[other]}：{gain(one, other)}")
tie, same_images = gain("distill_unlabelled", "pseudo_unlabelled"), gain("distill", "smooth_augment")
print(f"　{pair_names['distill_unlabelled']} − {pair_names['pseudo_unlabelled']}：{tie}")
print(
    f"比べた設定 {pair.settings['tried_settings']} 通り。この前に試した組 {len(pair.settings['earlier_trials'])} 通り"
)
for control in ("hard", "hard_augment", "smooth_augment"):
    lead = gain("distill_unlabelled", control)
    assert lead.mean > 0.01, "1ポイントの得が確認できません"
    assert lead.mean - lead.half > 0, "得の区間が0を含みます"
assert same_images.mean - same_images.half < 0, "蒸留が、ラベル平滑化にはっきり勝っています"
assert tie.mean + tie.half < 0.01, "柔らかい確率が、疑似ラベルを1ポイント以上上回っています"

# %% [markdown]
# ラベルのない画像も使う蒸留は、同じ200枚のラベルを使うどの対照にも、1ポイントを超える差で勝ちました。
# 変形をそろえた正解ラベルにも、ラベル平滑化にも勝っています。
#
# ところが、**疑似ラベルも同じくらい勝っています**。疑似ラベルは、教師モデルの確率から、最も高いクラスだけを残したものです。
# 柔らかい確率を捨てても、得はほとんど減りませんでした。
#
# 得の出どころを分けて言うと、次のようになります。
#
# 1. 正解ラベルから正解ラベル＋変形への段差は、**データ拡張**の効果です。教師モデルは要りません。
# 2. 変形した200枚から、未ラベルを加えた1,500枚への段差は、**教師モデルの答えの付いた画像が増えた**効果です。
# 3. その答えを柔らかいまま使うことの効果は、この組では、区間の幅の中にあります。
#
# 未ラベルの画像を使わない「蒸留＋変形」も、正解ラベル＋変形には少し勝ちます。しかし、ラベル平滑化との差は、区間が0を含みます。
# 手本を柔らかくすることは効きました。柔らかさの**中身**、つまり「どのクラスに似ているか」が効いたとは、この実験からは言えません。
#
# 「蒸留で生徒モデルの正解率が上がった」は正しい文です。「埋もれた知識のおかげで上がった」は、まだ証拠のない文です。
#
# この組にたどり着くまでに、いくつもの組を試しました。その数は上に印字してあり、値は結果のファイルに残してあります。
# 変形をそろえると差の消える組もありました。うまくいった組だけを見せると、蒸留はいつも効くように見えます。
#
# 教師モデルの強さも、この結果の一部です。この教師モデルは、英字のフォントで事前学習しています。
# つまり、生徒モデルは蒸留を通して、英字の知識も間接的に受け取っています。

# %% [markdown]
# ### 確認クイズ：対照と区間
#
# <!-- quiz: q07-14 -->

# %% [markdown]
# ## 効かないとき：容量の差
#
# 教師モデルを真似るには、生徒モデルにも、それだけの表現の力（容量）が要ります。
# 約1.3万パラメータまでの、小さな生徒モデルを三つ用意します。ラベルは500枚で、変形した画像は、どの方法も同じです。
#
# - 幅3、幅16：これまでと同じ形で、二つの隠れ層の幅を小さくしたもの
# - 縮小：画像を14×14画素に縮めてから、幅10の隠れ層一つで見分けるもの

# %%
capacity = results.load("07_capacity")
small_names = {3: "幅3", 10: "縮小", 16: "幅16"}
capacity_names = {"hard_augment": "正解ラベル", "smooth_augment": "ラベル平滑化", "distill": "蒸留"}
print(f"{capacity.title}（種 {len(capacity.seeds)} 通り）")
print(f"教師モデルの正解率 {capacity.mean('accuracy', hidden=0, method='teacher')}\n")
fig, axes = plot.subplots(1, len(small_names), figsize=(9.0, 3.0))
leads = {}
for ax, (hidden, name) in zip(axes, small_names.items(), strict=True):
    for place, method in enumerate(capacity_names):
        found = capacity.mean("accuracy", hidden=hidden, method=method)
        color = "C1" if method == "distill" else "C0"
        ax.errorbar([place], [found.mean], [found.half], marker="o", capsize=4, color=color)
    ax.set_xticks(range(len(capacity_names)), list(capacity_names.values()), fontsize=8)
    ax.set_xlim(-0.5, len(capacity_names) - 0.5)
    size = capacity.where(hidden=hidden).rows[0]["parameters"]
    ax.set_title(f"{name}（{size:,} パラメータ）", fontsize=9)
    for other in ("hard_augment", "smooth_augment"):
        lead = capacity.difference("accuracy", {"method": "distill"}, {"method": other}, hidden=hidden)
        verdict = "得" if lead.mean - lead.half > 0 else "損" if lead.mean + lead.half < 0 else "はっきりしない"
        leads[hidden, other] = lead
        print(f"{name}：蒸留 − {capacity_names[other]} {lead}　{verdict}")
axes[0].set_ylabel("正解率（平均と95%信頼区間）")
plot.show(
    fig,
    alt="三つの小さな生徒モデルでの、正解ラベル、ラベル平滑化、蒸留の、正解率の点と信頼区間。縦の目盛りは図ごとに違い、幅3が最も低い。幅3の信頼区間はとても広い。縮小では三つの区間が重なる。幅16では、ラベル平滑化と蒸留が正解ラベルより高い。",
)
ours, theirs = leads[16, "hard_augment"], leads[16, "smooth_augment"]
assert ours.mean - ours.half > 0 > theirs.mean - theirs.half, "幅16の得が、本文と違います"
for lead in (leads[10, "hard_augment"], leads[10, "smooth_augment"]):
    assert lead.mean - lead.half < 0 < lead.mean + lead.half < 0.01, "縮小の差が、本文と違います"
assert all(leads[3, other].half > 0.02 for other in ("hard_augment", "smooth_augment")), "幅3の区間が、狭くなっています"

# %% [markdown]
# 三つの生徒モデルで、言えることが違います。
#
# - **幅16**：蒸留は正解ラベルに勝ちます。ただし、ラベル平滑化との差は、はっきりしません。ここでも、効いたのは手本を柔らかくすることまでです。
# - **縮小**：どちらの対照とも差がありません。区間の上の端も、1ポイントに届きません。容量が足りなければ、手本を変えても、生徒は良くなりません。
# - **幅3**：種による揺れが大きすぎて、何も言えません。隠れ層が三つのReLUだけなので、初期値によっては学習が進みません。
#
# 「得がない」と「分からない」は違います。区間が狭くて0を含むのが前者、区間が広くて0を含むのが後者です。
# 幅3の点だけを見て「小さい生徒では蒸留は損」と書いてはいけません。
#
# 研究でも、教師と生徒の大きさの関係が調べられています。
#
# - Cho and Hariharan（2019）は、正解率の高い教師モデルほど良い教師になるとは限らず、その原因は**容量の差**（capacity gap）で、小さい生徒は大きい教師を真似られない、と述べています。教師の学習を早めに止めると、和らぎました。
# - Mirzadeh et al.（2020）は、中くらいの大きさの**教師助手**（teacher assistant）を間に挟み、段階的に蒸留する方法を提案しました。一方、Cho and Hariharan（2019）は、段階的な蒸留は効かなかったと報告しています。結論は、条件によって分かれています。
# - Stanton et al.（2021）は、真似る力のある生徒でも、教師の確率との間に大きな隔たりが残ること、近づくほど正解率が上がるとも限らないことを示しました。
#
# Hinton et al.（2015）にも、関係のある観察があります。隠れ層が各300ユニット以上なら、8より高い温度の結果はほぼ同じでした。
# 各30ユニットまで小さくすると、2.5から4の温度が、それより高い温度や低い温度に勝ちました。
# 小さい生徒は、ロジットのすべてを真似る余裕がないので、大きな値だけに集中させるほうがよい、と読めます。

# %% [markdown]
# ### 確認クイズ：容量の差
#
# <!-- quiz: q07-15 -->

# %% [markdown]
# ## 見たことのない数字
#
# 埋もれた知識が本当に渡ることを示す、有名な実験があります。
# Hinton et al.（2015）は、生徒モデルに見せる画像（転移集合）から、数字3をすべて取り除きました。
# 生徒モデルは3の画像を一度も見ません。3について知る手がかりは、2や5や8の画像での、教師モデルの「少し3に似ている」という確率だけです。
#
# 生徒モデルは、3のロジットを低く学びます。どの画像でも、3の確率は低いと教わるからです。
# そこで、学習の後に、3のロジットに定数 $b$ を足します。最後の層のバイアスだけを直すのです。
#
# $$
# s_3 \leftarrow s_3 + b
# $$
#
# $b$ の決め方は二つ測りました。
#
# - **ラベルを使わない**：1,500枚の画像で3と答える割合を、教師モデルとそろえる。この画像には3も含まれるが、ラベルは使わない
# - **論文と同じ**：テストの正解率が最も高くなるようにする。テストのラベルを使うので、実際の性能の見積もりにはならない。論文の値と並べるためだけに測った
#
# 生徒モデルの学習には、3を除いた画像を変形したものを使います。温度は四通り測ります。
# 同じことを、教師モデルを使わない対照でも行います。正解ラベルだけで学習した生徒は、3を知る手がかりがありません。

# %%
withheld = results.load("07_withheld")
hinton = withheld.settings["hinton"]
paper_before, paper_after = (1 - hinton[key] / hinton["threes"] for key in ("errors_on_3", "errors_on_3_corrected"))
warm = sorted({row["temperature"] for row in withheld.rows if row["model"] == "distill"})
cases = {"正解ラベル": {"model": "hard"}} | {f"蒸留 T={T:g}": {"model": "distill", "temperature": T} for T in warm}
stages = {
    "accuracy_on_3": "直す前",
    "accuracy_on_3_corrected": "直した後（ラベルなし）",
    "accuracy_on_3_on_test": "直した後（論文の決め方）",
}
print(f"{withheld.title}（種 {len(withheld.seeds)} 通り）\n3の画像の正解率")
fig, ax = plot.subplots(figsize=(7.6, 3.4))
for shift, (key, stage) in zip((-0.25, 0.0, 0.25), stages.items(), strict=True):
    found = [withheld.mean(key, **case) for case in cases.values()]
    places = [place + shift for place in range(len(cases))]
    ax.bar(places, [f.mean for f in found], 0.24, yerr=[f.half for f in found], capsize=2, label=stage)
ax.axhline(paper_after, color="black", linewidth=0.8, linestyle=":", label="Hintonら：直した後")
ax.axhline(paper_before, color="black", linewidth=0.8, linestyle="-.", label="Hintonら：直す前")
ax.set_xticks(range(len(cases)), list(cases))
ax.set_ylim(0, 1.02)
ax.set_ylabel("3の画像の正解率")
fig.legend(loc="outside upper center", ncols=3, fontsize=8)
plot.show(
    fig,
    alt="3の画像の正解率の棒グラフ。直す前は、どの棒も低く、正解ラベルは0である。"
    "直した後（ラベルなし）は、蒸留のどの温度でも高く、正解ラベルの棒はその半分に届かない。論文の直す前と直した後の値を、水平な線で示す。",
)
for name, case in cases.items():
    values = [withheld.mean(key, **case) for key in stages]
    print(f"{name}：" + "、".join(f"{stage} {value}" for stage, value in zip(stages.values(), values, strict=True)))
print(f"教師モデル：{withheld.mean('accuracy_on_3', model='teacher')}")
print(f"論文（{hinton['student']}）：直す前 {paper_before:.3f}、直した後 {paper_after:.3f}")
print("\nすべての数字の正解率（直す前 → 直した後、ラベルなし）")
for name, case in cases.items():
    print(f"{name}：{withheld.mean('accuracy', **case)} → {withheld.mean('accuracy_corrected', **case)}")
hotter = withheld.difference(
    "accuracy_on_3_corrected", {"temperature": warm[-1]}, {"temperature": warm[0]}, model="distill"
)
print(f"3の正解率（直した後）の差：T={warm[-1]:g} − T={warm[0]:g} {hotter}")
assert abs(hotter.mean) < hotter.half, "温度による差が、区間の幅を超えています"
blind = withheld.mean("accuracy_on_3_corrected", model="hard")
assert withheld.mean("accuracy_on_3", model="hard").mean == 0, "正解ラベルだけの生徒が3と答えています"
for T in warm:
    told = withheld.mean("accuracy_on_3_corrected", model="distill", temperature=T)
    assert told.mean - told.half > blind.mean + blind.half + 0.1, "見たことのない数字の知識が確認できません"

# %% [markdown]
# 正解ラベルだけの生徒は、3と答えることがありません。バイアスを直すと3と答えるようになりますが、当たるのは一部です。
# どの数字にも自信を持てない画像を、3と呼ぶようになっただけです。すべての数字の正解率も、上がりません。
#
# 蒸留した生徒は、直す前は、やはりほとんど3と答えません。しかし、バイアスを直すと、3の画像の多くを当てます。すべての数字の正解率も上がります。
# **一度も見ていない数字の形を、ほかの数字への確率から学んだ**のです。
# バイアスが加えたのは、3と答える頻度だけです。どの画像に答えるかは、蒸留の間に学んだものです。
#
# 前の節では、柔らかい確率の得が、ラベル平滑化の得とはっきり分かれませんでした。ここでは、はっきり分かれます。
# 正解ラベルやラベル平滑化には、3の形の手がかりが一つもないからです。
# 埋もれた知識は、ほかに手がかりがないときに、働きがはっきり見えます。
#
# 温度については、予想が外れました。温度1では埋もれた知識がほとんど渡らない、と予想していました。
# 実際には、温度1でも多くが渡り、温度8との差は、区間が0を含みます。
# 変形した画像には、教師モデルの迷う画像が混ざるので、温度1でも、ほかのクラスの確率が見える大きさになるためと考えられます（確かめていません）。
#
# 論文の値には届きません。次の違いがあります。
#
# - 画像：論文は6万枚、ここでは1,500枚
# - 生徒モデル：論文は800ユニットの隠れ層が二つ、ここでは64ユニットが二つ
# - バイアス：論文の3.5は、テストの成績が最も良くなる値。ここでの主な値は、ラベルを使わずに決めた
#
# 三つ目は、見落とされがちです。論文の98.6%は、テストのラベルで選んだバイアスでの値です。
# 同じ決め方をすると、ここでは3の正解率がむしろ下がりました。全体の正解率を最大にするバイアスは、ほかの数字を3と間違えないように、控えめになるからです。

# %% [markdown]
# ### 確認クイズ：見たことのない数字
#
# <!-- quiz: q07-16 -->

# %% [markdown]
# ## 温度Tと重みαを選ぶ
#
# $T$ と $\alpha$ は、検証データで選びます。$T$ が四通り、$\alpha$ が四通りの16通りを、開発用の画像と五つの種で比べました。
# 比べる相手の「正解ラベルだけ」にも、同じ16通りの設定（学習率と重み減衰）を与えています。片方だけを念入りに選ぶと、それだけで差ができるからです。

# %%
scan = results.load("07_grid_dev")
table = scan.where(method="distill").table("score", by=["temperature", "alpha"])
scan_temperatures, alphas = (sorted({key[i] for key in table}) for i in (0, 1))
scores = np.array([[table[T, alpha].mean for alpha in alphas] for T in scan_temperatures])
halves = np.array([[table[T, alpha].half for alpha in alphas] for T in scan_temperatures])
fig, ax = plot.subplots(figsize=(5.2, 3.8))
shown = ax.imshow(scores, cmap="viridis", aspect="auto")
for i, j in itertools.product(range(len(scan_temperatures)), range(len(alphas))):
    dark = scores[i, j] < scores.mean()
    text = f"{scores[i, j]:.3f}\n±{halves[i, j]:.3f}"
    ax.text(j, i, text, ha="center", va="center", color="white" if dark else "black", fontsize=9)
ax.set_xticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
ax.set_yticks(range(len(scan_temperatures)), [f"{T:g}" for T in scan_temperatures])
ax.grid(visible=False)
ax.set_xlabel("ソフトの項の重み α")
ax.set_ylabel("温度 T")
fig.colorbar(shown, label="検証の正解率")
plot.show(
    fig,
    alt="縦が温度1、3、5、10、横がαの0.3、0.5、0.7、0.9の、4行4列の表を色で表した図。各ますに検証の正解率の平均と95%信頼区間の半幅を書いてある。ますの間の差は、半幅より小さい。",
)
once = results.load("07_grid")
best = once.settings["picked"]["distill"]
print(
    f"選ばれた設定：T={best['temperature']:g}、α={best['alpha']:g}（比べた設定は、対照と合わせて {once.settings['tried_settings']} 通り）"
)
print(f"検証：αを平均した行の幅 {np.ptp(scores.mean(1)):.4f}、Tを平均した列の幅 {np.ptp(scores.mean(0)):.4f}")
lead = once.difference("accuracy", {"method": "distill"}, {"method": "hard"})
mine, smoothed = once.by_seed("accuracy", method="distill"), pair.by_seed("accuracy", method="smooth_augment")
over_smoothing = mean_ci([mine[seed] - smoothed[seed] for seed in mine])  # 種が同じなら、画像もラベルも同じ
print(f"本番：蒸留 {once.mean('accuracy', method='distill')}、正解ラベル {once.mean('accuracy', method='hard')}")
print(f"　蒸留 − 正解ラベル＋変形 {lead}、蒸留 − ラベル平滑化＋変形 {over_smoothing}")
assert np.ptp(scores.mean(1)) > 2 * np.ptp(scores.mean(0)), "温度による差が、αによる差より小さくなっています"
assert lead.mean - lead.half > 0, "選んだ設定の得が確認できません"

# %% [markdown]
# 行の差が、列の差よりずっと大きくなりました。この組で効いたのは、温度を1から上げることです。$\alpha$ はどれを選んでも、あまり変わりません。
# 温度3以上のますどうしの差は、一つのますの区間の半幅と同じくらいか、それより小さいものです。選ばれた組は「最良の設定」ではなく、「悪くないと分かった設定の一つ」です。
#
# 選んだ設定を、選ぶのに使わなかった画像と種で測りました。正解ラベルの項も使う蒸留は、同じ変形の正解ラベルに、はっきり勝っています。
# ただし、まっさらな確認ではありません。この実験は設計を二度変え、二つ目の設計では、同じ画像と種で一度測っています。蒸留の重み減衰を強くした設計で、このときは得が消えました。
# 三つ目の設計は、その値を見る前に、開発用の値で決めました。前の設計の結果も、`experiments/history`に残してあります。
# ラベル平滑化との差は、ずっと小さくなります。柔らかい手本の得のうち、クラスの似かたの分がどれだけかは、この対照があって初めて見えます。
#
# 手順は、次の順で守ります。
#
# 1. 学習、検証、テストに分ける。
# 2. 検証で $T$ と $\alpha$ を選ぶ。対照の設定も、同じ手間をかけて選ぶ。
# 3. 選ばれた値が候補の端なら、候補を広げて、もう一度検証で選ぶ。
# 4. テストは、最後に一度だけ測る。区間を付ける。
#
# 演習07-7では、この格子を、途中で止めても再開できる形で、並列に計算します。

# %% [markdown]
# ### 確認クイズ：設定の選び方
#
# <!-- quiz: q07-17 -->

# %% [markdown]
# ## 中間層から学ぶ：ヒントと注意転移
#
# 出力だけでなく、途中の特徴も手本にできます。`tlkit.models`の、32×32画素のカラー画像のための教師モデルと生徒モデルで、形を確かめます。
# どちらも三つの段からなり、段ごとに縦横が半分になります。縦横はそろっていますが、**チャネルの数が違います**。

# %%
big, small = Teacher(num_classes=10).eval(), Student(num_classes=10).eval()
picture = torch.zeros(2, 3, 32, 32)
with torch.no_grad():
    big_maps, small_maps = big.maps(picture), small.maps(picture)
for stage, (theirs, ours) in enumerate(zip(big_maps, small_maps, strict=True), start=1):
    extra = ours.shape[1] * theirs.shape[1]
    print(
        f"段{stage}：教師 {tuple(theirs.shape)}、生徒 {tuple(ours.shape)}、1×1の回帰器の重み {ours.shape[1]}×{theirs.shape[1]} = {extra:,} 個"
    )

# %% [markdown]
# **ヒント**（FitNets; Romero et al., 2015）は、生徒の中間層（ガイド層）の特徴を、教師の中間層（ヒント層）の特徴に、二乗誤差で近づけます。
# 形をそろえるために、1×1の畳み込みの**回帰器** $r$ を挟みます。
#
# $$
# L_{\mathrm{HT}} = \frac{1}{M} \sum \bigl( r(f_S(x)) - f_T(x) \bigr)^2
# $$
#
# 学習は二段階です。
#
# 1. ヒントの損失だけで、ガイド層までの層と回帰器を学習する。ガイド層より後の層には、勾配が届かない。
# 2. 回帰器を捨て、生徒モデルの全体を、これまでの蒸留の損失で学習する。
#
# **注意転移**（attention transfer; Zagoruyko and Komodakis, 2017）は、特徴そのものではなく、「どの位置が強く反応したか」だけを近づけます。
# チャネル方向に二乗を平均すると、チャネルの数によらない地図ができます。長さを1にそろえて比べます。
#
# $$
# A(h, w) = \frac{1}{C} \sum_{c} f_c(h, w)^2, \qquad Q = \frac{A}{\|A\|_2}, \qquad L_{\mathrm{AT}} = \frac{1}{H W} \sum_{h, w} \bigl( Q_S(h, w) - Q_T(h, w) \bigr)^2
# $$
#
# | | ヒント | 注意転移 |
# |---|---|---|
# | 近づけるもの | 特徴のすべての値 | 位置ごとの反応の強さ |
# | チャネル数が違うとき | 回帰器（1×1の畳み込み）が要る | そのまま比べられる |
# | 縦横が違うとき | そろえる必要がある | そろえる必要がある |
# | 特徴の大きさ | 合わせる | 無視する（長さを1にする） |
# | 学習の進め方 | 先にヒント、後で蒸留 | 蒸留の損失に足す |
#
# 数字の教師モデルと、幅を4分の1にした`GlyphCNN`の生徒モデルで、両方を動かします。


# %%
def early(model: GlyphCNN, x: Tensor) -> Tensor:
    """二つ目の段の出力 (N, C, 7, 7)。"""
    return model.stages[0](model.stem(x))


seed_everything(0)
hinted = GlyphCNN(10, width=4)
regressor = nn.Conv2d(8, 32, kernel_size=1)
optimizer = torch.optim.Adam([*hinted.parameters(), *regressor.parameters()], lr=3e-3)
hints = []
for step, (x, _) in enumerate(batches(few_views, few_labels)):
    if step == 120:
        break
    with torch.no_grad():
        target = early(teacher.eval(), x)
    loss = hint_loss(regressor(early(hinted, x)), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    hints.append(loss.item())
reached = sorted({name.split(".")[0] for name, value in hinted.named_parameters() if value.grad is not None})
absent = sorted({name.split(".")[0] for name, value in hinted.named_parameters() if value.grad is None})
print(f"ヒントの損失　初めの10回の平均 {np.mean(hints[:10]):.4f}、終わりの10回の平均 {np.mean(hints[-10:]):.4f}")
print(f"勾配の届いた部品：{reached}、届かない部分を含む部品：{absent}")
assert np.mean(hints[-10:]) < 0.7 * np.mean(hints[:10]), "ヒントの損失が下がりません"
assert {"head", "classifier"} <= set(absent), "ガイド層より後の層に勾配が届いています"

# %% [markdown]
# 次に、注意転移です。交差エントロピーに $\beta L_{\mathrm{AT}}$ を足した学習と、足さない学習を比べます。


# %%
def small_cnn(beta: float) -> GlyphCNN:
    """幅4の GlyphCNN を、正解ラベルと、β倍の注意転移の損失で学習する。"""
    seed_everything(0)
    model = GlyphCNN(10, width=4)

    def loss(net: GlyphCNN, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        maps = early(net, x)
        with torch.no_grad():
            target = early(teacher.eval(), x)
        logits = net.classifier(net.head(net.stages[1](maps)))
        return F.cross_entropy(logits, y) + beta * attention_transfer_loss(maps, target)

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, batches(few_views, few_labels), loss, optimizer, steps=250, device="cpu", progress=False)
    return model.eval()


attentive = {"教師モデル": teacher, "注意転移なし": small_cnn(0.0), "注意転移あり": small_cnn(1000.0)}
some = [int((held_labels == digit).nonzero()[0]) for digit in (2, 5, 8)]
fig, axes = plot.subplots(3, 4, figsize=(6.2, 4.8))
with torch.no_grad():
    for row, index in zip(axes, some, strict=True):
        row[0].imshow(held_images[index, 0])
        for ax, model in zip(row[1:], attentive.values(), strict=True):
            strength = early(model, held_images[index][None]).square().mean(1)[0]
            ax.imshow(strength / strength.norm(), cmap="viridis")
for ax, name in zip(axes[0], ("入力", *attentive), strict=True):
    ax.set_title(name, fontsize=9)
for ax in axes.flat:
    ax.axis("off")
plot.show(
    fig,
    alt="2、5、8の画像と、三つのモデルの7行7列の注意の地図。教師モデルの地図は、筆跡の一部の位置が明るい。注意転移なしの生徒モデルの地図は、明るい位置が教師モデルと違う。"
    "注意転移ありの地図は、教師モデルの地図によく似ている。",
)
with torch.no_grad():
    target = early(teacher, held_images[:1000])
    apart = {
        name: attention_transfer_loss(early(model, held_images[:1000]), target).item()
        for name, model in attentive.items()
    }
for name, model in attentive.items():
    print(f"{name}：教師モデルとの地図の違い {apart[name]:.2e}、正解率 {accuracy(model):.3f}")
assert apart["注意転移あり"] < 0.5 * apart["注意転移なし"], "注意の地図が近づいていません"

# %% [markdown]
# 地図は、はっきり近づきました。見る場所を真似ることと、正解率が上がることは別です。一つの種で測っただけなので、正解率の優劣は言いません。
#
# 中間層を使うと、選ぶものが増えます。どの層どうしを結ぶか、重み $\beta$ をいくつにするか、いつまで足すかです。
# その分だけ、検証で選ぶ手間と、選びすぎる危険も増えます。演習07-4と07-5で、二つの損失を自分で書きます。

# %% [markdown]
# ### 確認クイズ：中間層
#
# <!-- quiz: q07-18 q07-19 -->

# %% [markdown]
# ## ラベル平滑化と自己蒸留
#
# ### ラベル平滑化は、一様な教師からの蒸留
#
# **ラベル平滑化**（label smoothing; Szegedy et al., 2016）は、正解を $(1 - \varepsilon)\, \mathrm{onehot}(y) + \varepsilon / C$ に替えます。
# 交差エントロピーは、手本について線形なので、二つに分かれます。一様分布を $u$ とします。
#
# $$
# L_{\mathrm{LS}} = (1 - \varepsilon)\, \mathrm{CE}(s, y) + \varepsilon\, H(u, q)
# = (1 - \varepsilon)\, \mathrm{CE}(s, y) + \varepsilon\, \mathrm{KL}(u \,\|\, q) + \varepsilon \log C
# $$
#
# これは、教師モデルがいつも一様分布を答え、$T = 1$、$\alpha = \varepsilon$ とした蒸留に、定数 $\varepsilon \log C$ を足したものです。勾配は、ぴったり一致します。

# %%
eps, classes = 0.1, 10
s = logits_of(plain_student, held_images[:64]).double().requires_grad_()
y = held_labels[:64]
smooth = F.cross_entropy(s, y, label_smoothing=eps)
from_uniform = DistillationLoss(temperature=1.0, alpha=eps)(
    s, torch.zeros_like(s), y
).total  # ロジットがすべて0 → 一様分布
gradients = [torch.autograd.grad(value, s)[0] for value in (smooth, from_uniform)]
print(f"損失の差 {smooth - from_uniform:.6f}、ε log C = {eps * math.log(classes):.6f}")
print(f"勾配の違いの最大 {(gradients[0] - gradients[1]).abs().max():.1e}")
assert abs((smooth - from_uniform).item() - eps * math.log(classes)) < 1e-10
assert torch.allclose(*gradients, atol=1e-12)

# %% [markdown]
# 違いの要は、正解に足すものが、画像によって変わるかどうかです。ラベル平滑化は、どの画像にも同じ分布を足します。蒸留は、画像ごとに違う分布を足します。
# だから、ラベル平滑化は「画像ごとの情報を渡さない蒸留」という、よい対照になります。
#
# 測った差は、もう見ています。200枚の組では、次のとおりでした。

# %%
for one, other in (
    ("smooth_augment", "hard_augment"),
    ("distill", "smooth_augment"),
    ("distill_unlabelled", "smooth_augment"),
):
    print(f"{pair_names[one]} − {pair_names[other]}：{gain(one, other)}")

# %% [markdown]
# 同じ200枚の画像なら、蒸留とラベル平滑化の差は小さなものです。
# Yuan et al.（2020）は、蒸留の得には、クラスの似かただけでなく、手本を柔らかくすること自体の正則化も、同じかそれ以上に効いていると論じました。この結果は、その見方と合います。
#
# 逆に、**教師モデルを**ラベル平滑化で学習すると、どうでしょうか。Müller et al.（2019）は、教師モデルの正解率は上がっても、蒸留の効果は大きく下がると報告しています。
# 平滑化は、同じクラスの画像を固まらせ、クラスどうしの似かたの情報をロジットから消すためだと説明しています。
#
# ### 自己蒸留
#
# **自己蒸留**（self-distillation）は、生徒モデルと同じ形のモデルを教師にします。圧縮ではなく、正解率のために行います。
# Furlanello et al.（2018）の**Born-Again Networks**は、学習済みのモデルを教師にして、同じ形のモデルを初めから学習し、教師を上回ることを示しました。
#
# 新しい情報は何も加わっていないのに、なぜ上がるのでしょうか。二つの説明があります。
#
# - **平均**：生徒は、自分の初期値から見つける特徴と、教師から渡される特徴の両方を持つ。二つのモデルのアンサンブルを、一つに蒸留したのに近い（Allen-Zhu and Li, 2023）
# - **正則化**：くり返すほど、使える基底の数が減る。少しなら過剰適合を抑え、やりすぎると過少適合になる（Mobahi et al., 2020）
#
# 平均が効くなら、二つの独立なモデルを平均しても上がるはずです。五つの種で並べます。どれも、同じ200枚を変形した画像で学習します。

# %%
first = [trained(HardLabels(), (few_views, few_labels), seed=seed) for seed in range(5)]
second = [trained(HardLabels(), (few_views, few_labels), seed=seed + 5) for seed in range(5)]
half_soft = FromTeacher(None, DistillationLoss(temperature=1.0, alpha=0.5))
reborn = [
    trained(half_soft, (few_views, few_labels, logits_of(model, few_views)), seed=seed + 5)
    for seed, model in enumerate(first)
]


def right(*models: nn.Module) -> float:
    """確率を平均したときの正解率。"""
    p = sum(logits_of(model, held_images).softmax(1) for model in models)
    return (p.argmax(1) == held_labels).float().mean().item()


groups = {
    "正解ラベル": [right(model) for model in second],
    "自己蒸留（同じ初期値）": [right(model) for model in reborn],
    "独立な二つの平均": [right(a, b) for a, b in zip(first, second, strict=True)],
}
print("　".join(f"{name} {mean_ci(values)}" for name, values in groups.items()))
changes = {}
for name in ("自己蒸留（同じ初期値）", "独立な二つの平均"):
    changes[name] = mean_ci([a - b for a, b in zip(groups[name], groups["正解ラベル"], strict=True)])
    print(f"{name} − 正解ラベル：{changes[name]}")
print(f"五つの平均の正解率 {right(*first):.3f}")
pairs = [
    (logits_of(a, held_images).argmax(1), logits_of(b, held_images).argmax(1))
    for a, b in zip(first, second, strict=True)
]
shared = [((a != held_labels) & (a == b)).sum().item() / (a != held_labels).sum().item() for a, b in pairs]
print(f"一方が誤った画像のうち、もう一方も同じ誤りをした割合 {mean_ci(shared)}")
assert changes["自己蒸留（同じ初期値）"].mean < 0.01, "自己蒸留が1ポイント以上の得をしています"

# %% [markdown]
# この組では、自己蒸留の得は確かめられません。二つのモデルを平均しても、わずかしか上がりません。
# 同じ200枚から学んだモデルは、初期値を変えても、同じ誤りをよくします。平均する相手が似ていれば、平均の得も小さくなります。
# 論文の結果は、大きなネットワークと、特徴が多様な写真でのものです。条件が違うところへ、結論だけを運ばないでください。

# %% [markdown]
# ### 確認クイズ：ラベル平滑化と自己蒸留
#
# <!-- quiz: q07-20 -->

# %% [markdown]
# ## モデルの圧縮
#
# 蒸留は、モデルを軽くする方法の一つです。軽さには、いくつもの測り方があります。
#
# - **パラメータ数**：保存と転送の大きさを決める
# - **計算量**：1件の推論に要る積和の回数。FLOPは積と和を別に数えるので、積和の回数（MAC）の2倍になる
# - **レイテンシ**：1件の答えが返るまでの時間。装置、バッチの大きさ、スレッドの数で変わる
#
# 畳み込みは、手で数えられるようにしておきます。入力 $C_{in}$、出力 $C_{out}$、カーネル $k \times k$、出力の縦横 $H \times W$ のとき、次のとおりです（バイアスなし）。
#
# $$
# \text{パラメータ} = C_{in}\, C_{out}\, k^2, \qquad \text{積和} = C_{in}\, C_{out}\, k^2 \cdot H W
# $$
#
# 32×32画素の教師モデルと生徒モデルで確かめます。

# %%
for name, model in {"教師 Teacher": big, "生徒 Student": small}.items():
    size = footprint(model, picture)
    print(
        f"{name}：パラメータ {size.parameters:,} 個、計算量 {size.flops / 1e6:.1f} MFLOP、保存 {size.stored_bytes / 1024:,.0f} KiB"
    )
big_size, small_size = footprint(big, picture), footprint(small, picture)
print(
    f"比：パラメータ {big_size.parameters / small_size.parameters:.0f} 倍、計算量 {big_size.flops / small_size.flops:.0f} 倍"
)

by_formula = sum(2 * a * b * 9 * side**2 for a, b, side in ((3, 16, 32), (16, 32, 16), (32, 64, 8))) + 2 * 64 * 10
weights = sum(a * b * 9 for a, b in ((3, 16), (16, 32), (32, 64))) + 2 * (16 + 32 + 64) + 64 * 10 + 10
print(f"生徒モデルを手で数えると：計算量 {by_formula / 1e6:.1f} MFLOP、パラメータ {weights:,} 個")
assert by_formula == small_size.flops
assert weights == small_size.parameters

# %% [markdown]
# パラメータの比と、計算量の比は一致しません。畳み込みの計算量は、縦横の大きさにもよるからです。
# レイテンシの比も、これらとは一致しません。小さいモデルほど、計算そのものより、層を呼び出す手間の割合が大きくなるためです。
# 時間は機械によって変わるので、この本文には書きません。`python benchmarks/compression.py`で、手元の機械の値を測れます。
#
# ### 量子化
#
# **量子化**（quantization）は、重みや特徴を、少ないビットの整数で表します。32ビットの浮動小数点数を8ビットの整数にすると、保存は約4分の1です。
# **アフィン量子化**は、実数 $r$ と整数 $q$ を、スケール $s$ とゼロ点 $z$ で結びます（Jacob et al., 2018）。
#
# $$
# r = s\,(q - z), \qquad s = \frac{r_{\max} - r_{\min}}{q_{\max} - q_{\min}}, \qquad z = \mathrm{round}\Bigl(q_{\min} - \frac{r_{\min}}{s}\Bigr)
# $$
#
# 範囲が $[-1, 3]$、整数が $0$ から $255$ なら、$s = 4 / 255 \approx 0.0157$、$z = \mathrm{round}(1 / s) = 64$ です。
# 丸めの誤差は $s / 2$ 以下です。範囲の外の値は、端に切り詰められます。
#
# - **対称量子化**：$z = 0$ とし、$s$ を絶対値の最大から決める。重みによく使う
# - **学習後量子化**（PTQ）：学習が済んだモデルを丸める。再学習は要らない
# - **量子化考慮学習**（QAT）：丸めを模擬しながら学習する。少ないビットでも、正解率を保ちやすい
#
# `tlkit`の`quantize`は、符号付きの整数（8ビットなら $-128$ から $127$）を使います。$s$ は同じで、$z$ は128だけずれます。

# %%
values = torch.tensor([[-1.0, 0.0, 0.5, 3.0]], dtype=torch.float64)
rounded = quantize(values, bits=8)
back = (rounded.values.double() - rounded.zero_point) * rounded.scale
print(
    f"s = {rounded.scale.item():.4f}、z = {rounded.zero_point.item()}（0から255の整数なら {rounded.zero_point.item() + 128}）"
)
print(f"整数 {rounded.values.tolist()[0]}、戻した値 {[round(v, 4) for v in back.tolist()[0]]}")
assert rounded.zero_point.item() + 128 == 64
assert (back - values).abs().max() <= rounded.scale / 2 + 1e-12

# %% [markdown]
# ### 枝刈り
#
# **枝刈り**（プルーニング）は、効きの小さい重みを取り除きます。
#
# - **非構造化プルーニング**：重みを一つずつ0にする。割合は高くできるが、テンソルの形は変わらない。疎な計算を速くする実装がなければ、速くならない
# - **構造化プルーニング**：チャネルや層を丸ごと取り除く。密なままで、本当に小さく、速くなる
#
# Han et al.（2015）は、学習、枝刈り、再学習の三段階で、精度を保ったまま接続を減らしました。再学習が要点です。
# 90%の重みを0にしても、密な計算の回数は変わりません。教師モデルで確かめます。

# %%
whole = footprint(teacher, held_images[:1])
for share in (0.0, 0.5, 0.9):
    pruned = prune_magnitude(teacher, share) if share else teacher
    kept_weights = sum(int((m.weight != 0).sum()) for m in pruned.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    flops = footprint(pruned, held_images[:1]).flops
    print(
        f"{share:.0%}を0に：0でない重み {kept_weights:,} 個、密な計算量 {flops / 1e6:.2f} MFLOP、正解率 {accuracy(pruned):.3f}"
    )
    assert flops == whole.flops, "密な計算量が変わりました"

# %% [markdown]
# 次の図と表は、2,000枚のラベルで乱数から学習した`GlyphCNN`を教師モデルとし、四つの方法で軽くした結果です（前の節までの教師モデルとは別のものです）。どの方法も、設定の選択にテストを使っていません。

# %%
light = results.load("07_compression")
fig, (left, right_ax) = plot.subplots(1, 2, figsize=(9.0, 3.6))
for scale, label in (("channel", "チャネルごと"), ("tensor", "テンソルで一つ")):
    bits = sorted({row["bits"] for row in light.where(model="teacher", method="quantised", scale=scale).rows})
    found = [light.mean("accuracy", model="teacher", method="quantised", scale=scale, bits=b) for b in bits]
    left.errorbar(bits, [f.mean for f in found], [f.half for f in found], marker="o", capsize=3, label=f"s は{label}")
original = light.mean("accuracy", model="teacher", method="none")
left.axhline(original.mean, color="black", linewidth=0.8, linestyle=":", label="もとの教師モデル")
left.set_xlabel("重みのビット数")
left.set_ylabel("正解率（平均と95%信頼区間）")
for tuned, label in ((0, "再学習なし"), (1, "再学習あり")):
    shares = sorted({row["sparsity"] for row in light.where(method="unstructured", tuned=tuned).rows})
    found = [light.mean("accuracy", method="unstructured", tuned=tuned, sparsity=share) for share in shares]
    right_ax.errorbar(shares, [f.mean for f in found], [f.half for f in found], marker="o", capsize=3, label=label)
right_ax.axhline(original.mean, color="black", linewidth=0.8, linestyle=":")
right_ax.set_xlabel("0にした重みの割合（非構造化）")
for ax in (left, right_ax):
    ax.legend(fontsize=8)
plot.show(
    fig,
    alt="左は重みのビット数に対する正解率の折れ線。4ビットと8ビットは、もとの教師モデルの線に重なる。2ビットでは大きく下がり、テンソルで一つのスケールのほうがさらに低い。"
    "右は0にした重みの割合に対する正解率。再学習なしでは高い割合で急に下がり、再学習ありでは高い割合でも線に近い。",
)
print(f"{light.title}（種 {len(light.seeds)} 通り）")
lines = {
    "もとの教師モデル": {"model": "teacher", "method": "none"},
    "蒸留した生徒モデル": {"method": "distilled"},
    "正解ラベルの生徒モデル": {"method": "hard"},
    "8ビットの教師モデル": {"model": "teacher", "method": "quantised", "bits": 8, "scale": "channel"},
    "8ビットの蒸留した生徒モデル": {"model": "student", "method": "quantised", "bits": 8, "scale": "channel"},
    "90%を0にして再学習": {"method": "unstructured", "sparsity": 0.9, "tuned": 1},
    "幅8へ構造化プルーニング、再学習": {"method": "structured", "width": 8, "tuned": 1},
    "幅8を初めから学習": {"method": "scratch", "width": 8},
}
for name, where in lines.items():
    row = light.where(**where).rows[0]
    print(
        f"正解率 {light.mean('accuracy', **where)}　重み {row['weight_bytes'] / 1024:6.1f} KiB　{row['flops'] / 1e6:5.2f} MFLOP　{name}"
    )
eight = light.difference("accuracy", lines["8ビットの教師モデル"], lines["もとの教師モデル"])
student_gain = light.difference("accuracy", lines["蒸留した生徒モデル"], lines["正解ラベルの生徒モデル"])
from_scratch = light.difference("accuracy", lines["幅8へ構造化プルーニング、再学習"], lines["幅8を初めから学習"])
print(f"差：8ビット − もと {eight}、蒸留 − 正解ラベル {student_gain}、構造化 − 初めから {from_scratch}")
assert from_scratch.mean - from_scratch.half < 0, "構造化プルーニングが、初めからの学習にはっきり勝っています"
assert abs(student_gain.mean) < 0.01, "蒸留が1ポイント以上の差を付けています"
assert abs(eight.mean) < 0.005, "8ビットで正解率が変わりました"

# %% [markdown]
# 読み取れることを並べます。
#
# - 8ビットの学習後量子化では、正解率が下がりません。2ビットでは壊れます。壊れ方は、スケールをチャネルごとに持つほうが軽く済みます。
# - 非構造化プルーニングは、再学習をすれば高い割合まで耐えます（更新を足した効果を除くため、0%のまま再学習した点も描いてあります）。ただし、密な計算量も、密な形での保存の大きさも変わりません。
# - 構造化プルーニングは、計算量が本当に減ります。その値打ちは「同じ大きさを初めから学習したもの」と比べて決めます。この実験では、初めから学習したものに勝っていません。この対照を省くと、小さいネットワークの実力を、枝刈りの手柄にしてしまいます。
# - 蒸留した生徒モデルと、正解ラベルの生徒モデルの差は、ここでもはっきりしません。ラベルが2,000枚あり、変形も同じだからです。
# - 蒸留した生徒モデルも、さらに量子化できます。三つの方法は、組み合わせて使えます。
#
# 何を減らすかが、方法ごとに違います。
#
# | 方法 | 減るもの | 減らないもの | 追加の学習 |
# |---|---|---|---|
# | 知識蒸留 | 形の違う小さいモデルになる（すべて） | ― | 要る |
# | 量子化 | 1個あたりのビット数 | パラメータの個数、積和の回数 | PTQは要らない、QATは要る |
# | 非構造化プルーニング | 0でない重み | 密な計算量 | ふつうは要る |
# | 構造化プルーニング | チャネル、計算量 | ― | ふつうは要る |

# %% [markdown]
# ### 確認クイズ：圧縮
#
# <!-- quiz: q07-21 q07-22 q07-23 -->

# %% [markdown]
# ## 落とし穴
#
# ここからは、エラーの出ない誤りを動かして、害を測ります。公開されている教材やコードで、実際に見かけるものです。
#
# 害は二つの値で見ます。評価用の画像での**正解率**と、教師モデルからの**隔たり** $\mathrm{KL}(p \| q)$（$T = 4$）です。
# 生徒モデルの正解率は、ラベルの少なさなど、ほかの理由でも頭打ちになります。真似に失敗したことは、隔たりのほうに、はっきり現れます。
# 断りのないものは、三つの種の平均です。正しい手順との差は、同じ種どうしで取ります。


# %%
def three(loss: object, tensors: tuple[Tensor, ...]) -> list[nn.Module]:
    """三つの種の生徒モデル。"""
    return [trained(loss, tensors, seed=seed) for seed in range(3)]


def distance(model: nn.Module, temperature: float = 4.0) -> float:
    """評価用の画像での、教師モデルからの隔たり KL(p‖q)。T² は掛けない。"""
    return kd_loss(logits_of(model, held_images), teacher_logits, temperature=temperature).item() / temperature**2


def report(name: str, models: list[nn.Module]) -> tuple[float, float]:
    """正しい手順との差を印字する。"""
    worse = [accuracy(a) - accuracy(b) for a, b in zip(models, correct, strict=True)]
    farther = [distance(a) / distance(b) for a, b in zip(models, correct, strict=True)]
    found = float(np.mean(worse)), float(np.mean(farther))
    print(f"{name}：正解率の差 {found[0]:+.3f}、隔たり {found[1]:.2f} 倍")
    return found


correct = three(only_soft, (few_views, few_labels, few_logits))
print(
    f"正しい手順：正解率 {np.mean([accuracy(m) for m in correct]):.3f}、隔たり {np.mean([distance(m) for m in correct]):.3f}"
)

# %% [markdown]
# ### 1. 訓練モードのままの教師モデル
#
# `teacher.eval()`を忘れると、バッチ正規化は、そのバッチの平均と分散で正規化します。教師モデルの答えが、一緒に入った画像によって変わるのです。
# しかも、移動統計が動くので、勾配を止めていても、教師モデル自身が変わります。
#
# 害が大きいのは、バッチの中身が偏るときです。前計算は、データを並んだ順に読みます。データがラベル順に並んでいれば、一つのバッチに同じ数字ばかりが入ります。

# %%
by_label = few_labels.argsort(stable=True)
forgotten = copy.deepcopy(teacher).train()
with torch.no_grad():
    skewed = torch.cat([forgotten(x) for x in few_views[by_label].split(100)])
agree = {"評価モード": few_logits[by_label], "訓練モード": skewed}
for name, found in agree.items():
    print(f"{name}の答えが正解と一致する割合 {(found.argmax(1) == few_labels[by_label]).float().mean():.3f}")
moved = [name for name, value in forgotten.state_dict().items() if not torch.equal(value, teacher.state_dict()[name])]
print(f"動いたもの：{sorted({name.split('.')[-1] for name in moved})}（{len(moved)} 個のテンソル）")
print(f"その後、評価モードに戻した教師モデルの正解率：{accuracy(teacher):.3f} → {accuracy(forgotten):.3f}")
harm = report("訓練モードの教師から学んだ生徒", three(only_soft, (few_views[by_label], few_labels[by_label], skewed)))
assert moved, "移動統計が動いていません"
assert harm[1] > 1.1, "訓練モードの害が確認できません"

# %% [markdown]
# `torch.no_grad()`は付けていました。それでも、教師モデルは変わりました。`eval()`と`no_grad()`は、別の仕事をします。
# `fit_distillation`と`teacher_logits`は、教師モデルを必ず評価モードで動かし、終わると元の状態に戻します。
#
# ### 2. 教師と生徒に、別の変形を見せる
#
# 教師モデルと生徒モデルのそれぞれでデータ拡張を呼ぶと、教師モデルは別の画像の答えを渡します。
# 同じ画像の、別の変形のロジットを渡して、害を測ります。

# %%
other_view = few_logits.view(60, 200, 10).roll(1, dims=0).reshape(-1, 10)
harm = report("別の変形を見せた", three(only_soft, (few_views, few_labels, other_view)))
assert harm[1] > 1.05, "別の変形の害が確認できません"

# %% [markdown]
# 元の数字は同じなので、教師の答えのクラスはほとんど変わりません。だから、正解率の差は小さく、気づきにくい誤りです。
# しかし、「この傾き方なら、ここが9に似ている」という、画像ごとの情報は失われます。生徒は教師から遠くなりました。
#
# ### 3. T²を掛けずに、αを使い回す
#
# ある温度で選んだ $\alpha$ を、温度を変えても使い続けることは、よくあります。$T^2$ があれば、釣り合いの崩れは小さく済みます。なければ、どうなるでしょうか。


# %%
def loss_of(soft: object, temperature: float, alpha: float) -> FromTeacher:
    """ソフトの項を soft(s, t, T) に替えた、蒸留の損失。"""

    def total(s: Tensor, t: Tensor, y: Tensor) -> DistillationTerms:
        close, hard = soft(s, t, temperature), F.cross_entropy(s, y)
        return DistillationTerms(alpha * close + (1 - alpha) * hard, close, hard)

    return FromTeacher(None, total)


def without_square(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    """T² を忘れた KL。"""
    log_q, p = (s / temperature).log_softmax(1), (t / temperature).softmax(1)
    return F.kl_div(log_q, p, reduction="batchmean")


labels_only = distance(live["正解ラベル＋変形"])
print(f"教師モデルからの隔たり（α = 0.5）。正解ラベルだけの生徒は {labels_only:.3f}\n　T　T²あり　T²なし")
drift = {}
for T in (1.0, 4.0, 20.0):
    squared = trained(FromTeacher(None, DistillationLoss(T, alpha=0.5)), (few_views, few_labels, few_logits))
    missing = trained(loss_of(without_square, T, 0.5), (few_views, few_labels, few_logits))
    drift[T] = distance(squared), distance(missing)
    print(f"{T:3g}　{drift[T][0]:.3f}　{drift[T][1]:.3f}")
assert abs(drift[1.0][0] - drift[1.0][1]) < 0.01, "T=1では、T²の有無で何も変わらないはずです"
assert drift[20.0][1] > 1.2 * drift[20.0][0], "T²を忘れたときの害が確認できません"

# %% [markdown]
# $T = 1$ では同じです。だから、$T = 1$ で試している間は、忘れたことに気づけません。
# 一つの種で測りました。温度を上げると、$T^2$ のない損失では、教師モデルの声が小さくなり、正解ラベルだけの学習に近づきます。
# 「温度を上げても効果がない」という結論が、係数の書き忘れから生まれることがあります。
#
# ### 4. `kl_div`の引数を取り違える
#
# 三つの書き方を比べます。どれもエラーは出ません。
#
# - 教師と生徒を入れ替える：$\mathrm{KL}(q \| p)$ になる
# - 対数を忘れる：`input`に、対数でない確率を渡す
# - 正しい順


# %%
def swapped(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    """教師と生徒が逆。"""
    log_p, q = (t / temperature).log_softmax(1), (s / temperature).softmax(1)
    return temperature**2 * F.kl_div(log_p, q, reduction="batchmean")


def no_log(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    """生徒の確率の対数を取り忘れた。"""
    q, p = (s / temperature).softmax(1), (t / temperature).softmax(1)
    return temperature**2 * F.kl_div(q, p, reduction="batchmean")


tensors = (few_views, few_labels, few_logits)
reversed_harm = report("教師と生徒が逆", three(loss_of(swapped, 4.0, 1.0), tensors))
no_log_students = three(loss_of(no_log, 4.0, 1.0), tensors)
no_log_harm = report("対数を忘れた", no_log_students)
same = few_logits[:64]
print(
    f"教師と同じロジットでの損失：正しい {kd_loss(same, same, temperature=4.0):.3f}、対数を忘れた {no_log(same, same, 4.0):.3f}"
)
assert no_log_harm[0] < -0.05, "対数を忘れた害が確認できません"
assert no_log_harm[1] > 3

# %% [markdown]
# 対数を忘れた損失は、壊れています。完全に一致しても0にならず、教師に近づくことが、損失を小さくすることと同じでなくなります。
# 入れ替えた損失は、学習は進みます。教師に近づこうとはするからです。この組では差も小さめです。だからこそ、気づきにくい誤りです。
#
# 見つけ方は簡単です。**教師と同じロジットを渡して、損失と勾配が0になるか**、**小さな例で、式のとおりに計算した値と一致するか**を確かめます。
# 前者だけでは、入れ替えを見逃します。KLは、どちらの向きでも、一致すれば0になるからです。
#
# ### 5. `reduction="mean"`
#
# 既定の`"mean"`は、バッチの件数だけでなく、クラスの数でも割ります。PyTorchは警告を出しますが、警告は見落とされます。

# %%
s, t = logits_of(plain_student, held_images[:64]), teacher_logits[:64]
log_q, p = (s / 4).log_softmax(1), (t / 4).softmax(1)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    by_mean = F.kl_div(log_q, p, reduction="mean").item()
by_batch = F.kl_div(log_q, p, reduction="batchmean").item()
print(f"batchmean {by_batch:.4f}、mean {by_mean:.4f}、比 {by_batch / by_mean:.1f}")
for classes in (10, 100, 1000):
    alpha = (0.9 / classes) / (0.9 / classes + 0.1)
    print(f"{classes:4d}クラスで、α=0.9のつもりの損失は、α={alpha:.3f}と同じ釣り合い")
assert abs(by_batch / by_mean - 10) < 1e-3

# %% [markdown]
# ソフトの項が $1/C$ になり、$\alpha$ の意味が変わります。$C$ 倍すれば元に戻るので、$\alpha$ を選び直せば、同じ損失にはなります。
# 困るのは、論文や別のコードの $\alpha$ を写したときです。1,000クラスでは、教師モデルをほとんど無視する設定になります。
#
# ### 6. テストで T と α を選ぶ
#
# 格子の実験の値を使い、選び方だけを間違えてみます。一つの種の値だけを見て、16通りから最も高い設定を選び、**その値を**報告したとします。
# 同じ設定を、ほかの四つの種の画像で測った値と比べます。種によって画像の難しさが違うので、どちらも、その種での16通りの平均からの差で表します。

# %%
keys = list(table)
by_seed = np.array(
    [
        [scan.where(method="distill", temperature=T, alpha=a, seed=seed).rows[0]["score"] for T, a in keys]
        for seed in scan.seeds
    ]
)
above = by_seed - by_seed.mean(1, keepdims=True)  # (種, 設定)
claimed, elsewhere = [], []
for row in range(len(above)):
    winner = above[row].argmax()
    claimed.append(above[row, winner])
    elsewhere.append(np.delete(above[:, winner], row).mean())
print(f"選ぶのに使った画像での値　平均より {mean_ci(claimed)}")
print(f"ほかの画像での値　　　　　平均より {mean_ci(elsewhere)}")
inflated = mean_ci(np.subtract(claimed, elsewhere))
print(f"見かけの上乗せ　　　　　　　　　　 {inflated}")
assert inflated.mean - inflated.half > 0, "選び方による上乗せが確認できません"

# %% [markdown]
# 選ぶのに使った画像では、勝った設定は平均よりはっきり高く見えます。ほかの画像では、その差は大きく縮みます。
# 設定の数が多いほど、画像が少ないほど、見かけの上乗せは大きくなります。テストを一度しか使わないのは、このためです。

# %% [markdown]
# ### 確認クイズ：落とし穴
#
# <!-- quiz: q07-24 -->

# %% [markdown]
# ## 取り違えやすいもの
#
# | 用語 | 何を指すか | 取り違えやすい点 |
# |---|---|---|
# | 教師モデル | 手本を出す、学習済みのモデル | 蒸留の間は更新しない。大きいとは限らない |
# | 生徒モデル | 手本を真似て学習するモデル | 教師の重みは引き継がない。形が違ってよい |
# | ハードラベル | 正解のクラスだけを1とする手本 | 人の付けたものとは限らない（疑似ラベルもハードラベル） |
# | ソフトターゲット | 教師モデルが出す、クラスの確率 | 画像ごとに違う。ラベル平滑化は、どの画像にも同じ |
# | 埋もれた知識（dark knowledge） | 正解でないクラスの確率に含まれる情報 | 情報があることと、得があることは別 |
# | 疑似ラベル | モデルの予測したクラスを、正解とみなすもの | 確率は捨てる。蒸留との違いは、手本の形 |
# | ラベル平滑化 | 正解に一様分布を混ぜる | 教師モデルは要らない。一様な教師からの蒸留と同じ勾配 |
# | 自己蒸留 | 同じ形のモデルを教師にする蒸留 | 圧縮にはならない。自己学習（self-training）とも違う |
# | 温度 $T$ | ロジットを割る正の数 | 予測するクラスは変わらない。推論では1に戻す |
# | $T^2$ | ソフトの項の勾配の縮みを打ち消す係数 | 確率の和を1に戻すためではない |
# | $\alpha$ | ソフトの項の重み（この教材） | 逆の実装がある |
# | $\mathrm{KL}(p \| q)$ | 教師の確率で平均した隔たり | `F.kl_div`の引数は、生徒（対数）が先、教師が後 |
# | ヒント | 中間層の特徴を、回帰器を通して合わせる | 回帰器は、学習が済んだら捨てる |
# | 注意転移 | 位置ごとの反応の強さを合わせる | Transformerの注意機構とは別のもの |
# | 容量の差 | 教師と生徒の、表現の力の隔たり | 教師が強いほど良い、とは限らない |
# | 量子化 | 値を少ないビットで表す | パラメータの個数は減らない |
# | 枝刈り（プルーニング） | 重みやチャネルを取り除く | 非構造化では、密な計算は速くならない |

# %% [markdown]
# ## E資格の範囲と、典型的な計算
#
# <div class="alert alert-info" role="note">
#
# **出題対象**（軽量化の扱いは、公式の最新版で確かめる）：蒸留の目的と手順、教師モデルと生徒モデル、ソフトターゲット、温度付きソフトマックス、KLダイバージェンスと交差エントロピー、プルーニング、量子化。
#
# **典型的な計算**
#
# 1. 温度付きソフトマックス：ロジットを先に $T$ で割ってから、指数を取る。
# 2. $\mathrm{KL}(p \| q)$ と $H(p, q)$：差は $H(p)$。対数の底（ふつうは $e$）に注意する。
# 3. 総損失：$\alpha$ がどちらの項に掛かっているかを、式から読む。
# 4. 畳み込みのパラメータ数と積和の回数：バイアスの有無、FLOPか積和かを確かめる。
# 5. アフィン量子化：$s$ と $z$ を求め、丸め、切り詰め、戻す。
#
# **コードの穴埋め**：`F.kl_div`の引数と`reduction`、`eval()`と`no_grad()`の組み合わせ。
#
# **発展**（この章では扱うが、出題の範囲を超える）：$T^2$ の導出と高温の極限、ヒント、注意転移、自己蒸留、教師助手。
#
# </div>

# %% [markdown]
# ## まとめ
#
# - 知識蒸留は、教師モデルの出力を手本にして、生徒モデルを学習する。重みは渡さない。
# - 温度は、点数とエントロピーの交換の比率。上げるとエントロピーは増えるが、予測するクラスは変わらない。
# - 損失は $\alpha\, T^2\, \mathrm{KL}(p \| q) + (1 - \alpha)\, \mathrm{CE}$。教師の確率で平均するKLを使う。
# - $T^2$ は、勾配の縮みを打ち消す。高温の極限では、中心化したロジットを合わせることになる。
# - 教師モデルは、評価モードで、勾配なしで動かし、生徒モデルと同じ画像を見せる。
# - 得の出どころは、対照で分ける。この章の組では、データ拡張と、教師の答えが付いた未ラベルの画像が効いた。柔らかさの得は、ラベル平滑化の得をはっきりとは超えなかった。
# - 生徒モデルの容量が足りないと、蒸留の得は見つからない。見たことのないクラスの形は、ソフトターゲットからなら学べる。
# - 量子化はビットを、枝刈りは重みを、蒸留はモデルそのものを小さくする。
# - $T$ と $\alpha$ は検証で選び、テストは一度だけ測る。
#
# 演習`exercises/07_distillation.ipynb`では、次の八つを自分で書きます。
#
# - 07-1：温度付きソフトマックス
# - 07-2：蒸留の損失
# - 07-3：ロジットの勾配と、高温の極限
# - 07-4：ヒントの段階
# - 07-5：注意転移の損失
# - 07-6：誤りの混ざった学習の1ステップを直す
# - 07-7：格子の探索
# - 07-8：量子化

# %% [markdown]
# ## 参考文献
#
# - 蒸留、温度、$T^2$、ロジットとの関係、抜いた数字：G. Hinton, O. Vinyals and J. Dean, “Distilling the Knowledge in a Neural Network,” NIPS 2014 Deep Learning Workshop, 2015（arXiv:1503.02531）.
# - アンサンブルの圧縮：C. Bucilă, R. Caruana and A. Niculescu-Mizil, “Model Compression,” KDD 2006.
# - ロジットを合わせる：L. J. Ba and R. Caruana, “Do Deep Nets Really Need to be Deep,” NIPS 2014（原題の終わりには疑問符が付く。arXiv:1312.6184）.
# - 同じ画像を見せる：L. Beyer, X. Zhai, A. Royer, L. Markeeva, R. Anil and A. Kolesnikov, “Knowledge Distillation: A Good Teacher Is Patient and Consistent,” CVPR 2022（arXiv:2106.05237）.
# - 容量の差、教師の早期終了：J. H. Cho and B. Hariharan, “On the Efficacy of Knowledge Distillation,” ICCV 2019（arXiv:1910.01348）.
# - 教師助手：S. I. Mirzadeh, M. Farajtabar, A. Li, N. Levine, A. Matsukawa and H. Ghasemzadeh, “Improved Knowledge Distillation via Teacher Assistant,” AAAI 2020（arXiv:1902.03393）.
# - 教師への近さと正解率：S. Stanton, P. Izmailov, P. Kirichenko, A. A. Alemi and A. G. Wilson, “Does Knowledge Distillation Really Work,” NeurIPS 2021（原題の終わりには疑問符が付く。arXiv:2106.05945）.
# - ヒント：A. Romero, N. Ballas, S. E. Kahou, A. Chassang, C. Gatta and Y. Bengio, “FitNets: Hints for Thin Deep Nets,” ICLR 2015（arXiv:1412.6550）.
# - 注意転移：S. Zagoruyko and N. Komodakis, “Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via Attention Transfer,” ICLR 2017（arXiv:1612.03928）.
# - ラベル平滑化：C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna, “Rethinking the Inception Architecture for Computer Vision,” CVPR 2016, Section 7（arXiv:1512.00567）.
# - ラベル平滑化と蒸留の関係：L. Yuan, F. E. H. Tay, G. Li, T. Wang and J. Feng, “Revisiting Knowledge Distillation via Label Smoothing Regularization,” CVPR 2020（arXiv:1909.11723）.
# - 教師をラベル平滑化で学習したとき：R. Müller, S. Kornblith and G. E. Hinton, “When Does Label Smoothing Help,” NeurIPS 2019（原題の終わりには疑問符が付く。arXiv:1906.02629）.
# - 自己蒸留：T. Furlanello, Z. C. Lipton, M. Tschannen, L. Itti and A. Anandkumar, “Born-Again Neural Networks,” ICML 2018（arXiv:1805.04770）.
# - 自己蒸留と平均：Z. Allen-Zhu and Y. Li, “Towards Understanding Ensemble, Knowledge Distillation and Self-Distillation in Deep Learning,” ICLR 2023（arXiv:2012.09816）.
# - 自己蒸留と正則化：H. Mobahi, M. Farajtabar and P. L. Bartlett, “Self-Distillation Amplifies Regularization in Hilbert Space,” NeurIPS 2020（arXiv:2002.05715）.
# - 枝刈り：S. Han, J. Pool, J. Tran and W. J. Dally, “Learning both Weights and Connections for Efficient Neural Networks,” NIPS 2015（arXiv:1506.02626）.
# - 量子化：B. Jacob, S. Kligys, B. Chen, M. Zhu, M. Tang, A. Howard, H. Adam and D. Kalenichenko, “Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,” CVPR 2018（arXiv:1712.05877）.
# - `F.kl_div`の引数と`reduction`：PyTorchのドキュメント“torch.nn.functional.kl_div”と“torch.nn.KLDivLoss”.
