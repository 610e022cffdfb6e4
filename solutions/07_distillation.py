# %% [markdown]
# # 第7章の演習 知識蒸留
#
# 上から順に実行してください。答えを書くのは`raise NotImplementedError`のある所です。
# 書いたら、すぐ下の確認セルを実行します。書く前に実行しても、「⏳ 未着手」と表示されるだけで止まりません。

# %%
import copy
import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.data import DataLoader, TensorDataset

from tlkit import data, losses, models, plot, results
from tlkit.course import check, hint, ready
from tlkit.distill import HardLabels, fit_student
from tlkit.stats import mean_ci

# %% [markdown]
# ## 演習07-1 ソフトターゲットを作る
#
# <!-- exercise: 07-1 -->
#
# 分類モデルは、クラスごとの**ロジット** $z_c$ を出し、ソフトマックスで確率にします。
# 知識蒸留では、ロジットを**温度** $T$ で割ってから確率にします。教師モデルのこの確率を、**ソフトターゲット**と呼びます。
#
# $$
# p_c = \frac{\exp(z_c / T)}{\sum_{k=1}^{C} \exp(z_k / T)}
# $$
#
# $T = 1$ なら、ふつうのソフトマックスです。$T$ を大きくすると、どのクラスの確率も $1/C$ に近づきます。
# $T$ を0に近づけると、最大のロジットのクラスだけが1になります。順位は、どの $T$ でも変わりません。
# これは、Hintonらの論文（arXiv:1503.02531、2節の式(1)）の定義です。
#
# 手で計算してみましょう。$z = (\ln 16, \ln 4, 0)$ とします。$T = 1$ なら、expの値は16、4、1なので、確率は $16/21$、$4/21$、$1/21$ です。
# $T = 2$ なら、$\exp(\tfrac{1}{2} \ln 16) = \sqrt{16} = 4$ です。expの値は4、2、1になり、確率は $4/7$、$2/7$、$1/7$ です。
#
# 式のとおりに計算すると、float32では、$z / T$ が89を超えるとexpがあふれます。温度が低いと、ふつうのロジットでも起こります。
# どのロジットから同じ数を引いても、確率は変わりません。引く数を選べば、あふれを防げます。
#
# まず、$z = (\ln 27, \ln 8, 0)$、$T = 3$ の三つの確率を手で計算し、`by_hand`に書いてください。次に、関数`soft_targets`を書きます。
#
# 満たすべき条件は次のとおりです。
#
# - 入力`logits`は`(N, C)`のテンソル。返り値の形とdtypeは、入力と同じ。行ごとの和は1
# - ロジットが±1000でも、`temperature`が0.01でも、値と勾配が有限
# - `logits`に正しい勾配が流れる。引数は書き換えない
# - `temperature`が0以下かNaNなら、`ValueError`を起こす。正の数なら、1より小さくても、整数でも受け取る
# - `torch.softmax`を使ってもよい。expから書くと、なぜあふれるかがよくわかる

# %%
# z = (ln 27, ln 8, 0)、T = 3 の三つの確率。1 / 7 のような式でも、小数でもよい
### BEGIN SOLUTION
by_hand = [3 / 6, 2 / 6, 1 / 6]  # expの値は、27、8、1の3乗根
### END SOLUTION


# %%
def soft_targets(logits: Tensor, temperature: float) -> Tensor:
    """温度付きのソフトマックス。logits (N, C)、正の数temperature → 確率 (N, C)。"""
    ### BEGIN SOLUTION
    if not temperature > 0:  # この書き方なら、NaNも断れる
        raise ValueError("temperatureは正の数にしてください。")
    highest = logits.max(dim=1, keepdim=True).values  # 行ごとの最大値。引くと、expの中は0以下になる
    weights = torch.exp((logits - highest) / temperature)
    return weights / weights.sum(dim=1, keepdim=True)
    ### END SOLUTION


# %%
check("07-1", soft_targets, by_hand)

# %% [markdown]
# ### 合格したら：教師モデルの答えに、正解のほかに何が書いてあるか
#
# 本物の教師モデルのロジットを読みます。フォントの英字で事前学習したCNNを、MNISTの2,000枚で学習し直し、数字の教師モデルにします。
# 学習に使わなかった画像で、温度ごとに、ソフトターゲットの**エントロピー** $H(p) = -\sum_c p_c \ln p_c$ を求めます。
# $\exp(H)$ は「いくつのクラスで迷っているか」を表します。一つに決めていれば1、10クラスが同じ確率なら10です。
#
# 予想してから実行してください。正解率の高い教師モデルは、$T = 1$ で、いくつのクラスで迷っているでしょうか。$T = 4$ では、どうでしょうか。


# %%
@functools.cache
def digit_split() -> tuple[data.LabeledImages, Tensor, Tensor]:
    """MNISTの5,000枚と、無作為に分けた番号。教師モデルの学習用4,000枚、学習に使わない1,000枚。"""
    found = data.load("mnist5k")
    order = torch.randperm(len(found.labels), generator=torch.Generator().manual_seed(0))
    return found, order[:4000], order[4000:]


@functools.cache
def digit_teacher(half: int = 0, weights: str | None = "letters") -> nn.Module:
    """学習用の前半（half=0）か後半（half=1）の2,000枚だけで、重みweightsから学習した、数字の教師モデル。評価モードで返す。"""
    digits, train, _ = digit_split()
    rows = train[2000 * half : 2000 * (half + 1)]
    torch.manual_seed(half)
    teacher = models.GlyphCNN(10, weights=weights)
    batches = DataLoader(
        TensorDataset(digits.images[rows], digits.labels[rows]),
        batch_size=64,
        shuffle=True,
        generator=torch.Generator().manual_seed(half),
    )
    fit_student(teacher, HardLabels(), batches, steps=150, device="cpu", progress=False)
    return teacher.eval()


def entropy(p: Tensor) -> Tensor:
    """行ごとのエントロピー [nat]。確率0の項は0とする。p (N, C) → (N,)。"""
    return -torch.xlogy(p, p).sum(dim=1)


if ready("07-1"):
    digits, _, held = digit_split()
    images, labels = digits.images[held], digits.labels[held]
    logits = digit_teacher()(images).detach()
    print(f"学習に使わなかった{len(held)}枚での正解率: {(logits.argmax(1) == labels).float().mean():.3f}")
    choices = {}
    for t in (1, 2, 4, 8, 20, 1000):
        p = soft_targets(logits, t)
        h = entropy(p).mean().item()
        choices[t] = math.exp(h)
        runner_up = p.topk(2).values[:, 1].mean().item()
        shown = f"平均のエントロピー {h:.3f} nat、exp(H) = {choices[t]:5.2f}、2位の確率の平均 {runner_up:.4f}"
        print(f"T = {t:4d}: {shown}")
    assert choices[1] < 1.5, "T = 1で、教師モデルが迷っています"
    assert 2 < choices[4] < 8, "T = 4で、確率が平らにならないか、平らになりすぎています"
    assert choices[1000] > 9.99, "高い温度で、一様分布に近づきません"

# %% [markdown]
# $T = 1$ のソフトターゲットは、正解ラベルとほとんど同じです。2位の確率が小さすぎて、生徒モデルの損失に響きません。
# 温度を上げすぎると、今度は一様分布になり、何も教えない教師になります。間の温度で、2位以下のクラスが読めるようになります。
#
# では、2位以下に書いてあることは、意味のある知識でしょうか、それとも雑音でしょうか。
# もう一つの教師モデルを、乱数の重みから、**重ならない2,000枚**で学習します。共通なのは、ネットワークの形だけです。
# 同じ画像を見せて、二つの教師モデルの「2位」を比べます。
# 雑音なら、正解以外の9クラスから無作為に選ぶのと変わらず、一致は $1/9$ ほどになるはずです。
# 比べるのは、二つの教師モデルがどちらも正解した画像です。1位はそろっているので、2位だけを比べます。
# 「4の2位は、いつも9」のように、数字だけで2位が決まることもありえます。そこで、同じ数字の別の画像と組み合わせたときの一致も求めます。
#
# もう一つ、右の図は、正解の数字ごとに、$T = 4$ のソフトターゲットを平均したものです。対角は除きました。

# %%
if ready("07-1"):
    other = digit_teacher(1, None)(images).detach()
    both_right = (logits.argmax(1) == labels) & (other.argmax(1) == labels)
    runners = [z[both_right].topk(2).indices[:, 1] for z in (logits, other)]
    agreement = (runners[0] == runners[1]).float()
    half = 1.96 * agreement.std().item() / len(agreement) ** 0.5
    print(f"もう一つの教師モデルの正解率: {(other.argmax(1) == labels).float().mean():.3f}")
    print(f"どちらも正解した{len(agreement)}枚で、2位が一致した割合: {agreement.mean():.3f} ± {half:.3f}")
    print(f"（±は、画像についての95%信頼区間。無作為なら {1 / 9:.3f}）")
    truth = labels[both_right]
    pairs = zip(truth, runners[0], strict=True)
    swapped = torch.stack([(runners[1][truth == y] == k).float().mean() for y, k in pairs])
    print(f"同じ数字の別の画像と組み合わせたときの、一致の割合: {swapped.mean():.3f}")
    assert agreement.mean() - half > 3 / 9, "二つの教師モデルの2位が、一致しません"
    assert agreement.mean() - half > swapped.mean() + 0.1, "画像を入れ替えても、2位の一致が変わりません"

    soft = soft_targets(logits, 4)
    table = torch.stack([soft[labels == digit].mean(dim=0) for digit in range(10)])
    for digit in range(10):
        near = [k for k in table[digit].argsort(descending=True).tolist() if k != digit][:2]
        print(f"正解が{digit}の画像: 次に確率が高いのは" + "、".join(f"{k}（{table[digit, k]:.3f}）" for k in near))

    fig, (left, right) = plot.subplots(1, 2, figsize=(8.4, 3.6), width_ratios=(1.25, 1))
    rest = soft_targets(logits, 1).amax(dim=1)
    sample = torch.where((labels == 7) & both_right)[0]
    sample = sample[rest[sample].argmin()]  # 教師モデルが最も迷った「7」
    for place, t in enumerate((1, 4, 20)):
        heights = soft_targets(logits[sample : sample + 1], t)[0]
        left.bar(torch.arange(10) + 0.27 * (place - 1), heights, 0.25, label=f"T = {t}")
    left.set_xticks(range(10))
    left.set_xlabel("クラス")
    left.set_ylabel("確率")
    left.set_title("一枚の「7」のソフトターゲット")
    left.legend(loc="upper left")
    inset = left.inset_axes((0.42, 0.62, 0.2, 0.36))
    inset.imshow(images[sample, 0])
    inset.axis("off")
    masked = table.clone().fill_diagonal_(float("nan"))
    shown = right.imshow(masked, cmap="cividis")
    right.grid(visible=False)
    right.set_xticks(range(10))
    right.set_yticks(range(10))
    right.set_xlabel("クラス")
    right.set_ylabel("正解の数字")
    right.set_title("T = 4の平均（対角を除く）")
    fig.colorbar(shown, ax=right, shrink=0.85, label="確率")
    plot.show(
        fig,
        alt="左は、細く傾いた一枚の7の画像と、そのソフトターゲットの棒グラフ。T = 1では7の確率が最も大きく、1と2が続く。"
        "T = 4では、7の棒が低くなり、1と2と9の棒が目立つ。T = 20では、10本の棒の高さが近い。"
        "右は、正解の数字を縦、クラスを横に並べた、T = 4の確率の平均の色つきの表（対角は空白）。9が正解のときの7と8、"
        "4が正解のときの9など、明るいます目がところどころにあり、一様ではない。",
    )

# %% [markdown]
# 二つの教師モデルは、初めの重みが違い、一枚も同じ画像を見ていないのに、2位の選び方が、偶然よりはるかに多く一致しました。
# 2位以下の確率には、「7は1にも似ている」という、正解ラベルにはない知識が入っています。これを**埋もれた知識**（dark knowledge）と呼びます。
# 同じ数字の別の画像と組み合わせると、一致は減りました。「7は1に似ている」だけでなく、「**この**7は1に似ている」ことも、入っているのです。
# 一致しない画像も多いことに注意してください。2位以下には、その教師モデルだけの癖も混ざっています。
#
# **考えてみよう**：
#
# 1. 教師モデルが学習に使った画像では、ソフトターゲットのエントロピーは、使わなかった画像より大きいでしょうか、小さいでしょうか。生徒モデルに教えるとき、何が困りますか。
# 2. $T$ が大きいとき、$p_c \approx \frac{1}{C}\left(1 + \frac{z_c - \bar{z}}{T}\right)$ となることを示してください。$\bar{z}$ は、クラスについての平均です。
# 3. ラベル平滑化も、正解以外のクラスに確率を分けます。教師モデルのソフトターゲットと、何が違うでしょうか。

# %% [markdown]
# ## 演習07-2 蒸留の損失を書く
#
# <!-- exercise: 07-2 -->
#
# 生徒モデルは、二つのものから学びます。教師モデルのソフトターゲットと、正解ラベル（ハードラベル）です。
# 教師モデルのロジットを $t$、生徒モデルのロジットを $s$ とし、どちらも**同じ温度**で確率にします。
#
# $$
# p_i = \mathrm{softmax}(t_i / T), \qquad q_i = \mathrm{softmax}(s_i / T)
# $$
#
# $$
# L = \alpha\, T^2 \, \frac{1}{N} \sum_{i=1}^{N} \underbrace{\sum_{c=1}^{C} p_{ic} \ln \frac{p_{ic}}{q_{ic}}}_{\mathrm{KL}(p_i \,\|\, q_i)}
# + (1 - \alpha) \, \frac{1}{N} \sum_{i=1}^{N} \mathrm{CE}(s_i, y_i)
# $$
#
# 1番目がソフトの項、2番目が正解ラベルの項です。$\alpha$ は**ソフトの項**の重みです。正解ラベルの項は、温度1の、ふつうの交差エントロピーです。
#
# なぜ $T^2$ を掛けるのでしょうか。温度を上げると、ソフトの項の勾配は、二つの理由で小さくなります。
# まず、ロジットを $T$ で割ったので、連鎖律から $1/T$ が掛かります。次に、$p$ と $q$ が一様分布に近づくので、二つの差も約 $1/T$ に縮みます。合わせて、約 $1/T^2$ です。
# 正解ラベルの項は縮まないので、$T^2$ を掛けないと、温度を上げるほど、教師の声が小さくなります。これは、Hintonらの論文（arXiv:1503.02531、2節）の指摘です。
# 勾配の式は、演習07-3で求めます。
#
# PyTorchの`F.kl_div(input, target)`は、間違えやすい関数です。
#
# - `input`は、生徒の**対数の**確率。`target`は、教師の確率。KLの書き方 $\mathrm{KL}(p \,\|\, q)$ とは順が逆
# - 既定の`reduction="mean"`は、全要素の平均。つまり、画像の数 $N$ だけでなく、クラスの数 $C$ でも割る。定義どおりの値は`"batchmean"`
#
# 満たすべき条件は次のとおりです。
#
# - `student_logits`と`teacher_logits`は`(N, C)`、`labels`はクラス番号`(N,)`。返り値は0次元のテンソルで、dtypeはロジットと同じ
# - 勾配は`student_logits`だけに流れ、`teacher_logits`には流れない（渡されたテンソルが勾配を要求していても）
# - 教師と生徒のロジットが同じなら、ソフトの項は0
# - ロジットが±1000でも、値が有限
# - 引数を書き換えない。装置やdtypeを決め打ちにしない。`tlkit.losses`の関数は使わない（`torch.nn.functional`は使ってよい）


# %%
def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, alpha: float
) -> Tensor:
    """蒸留の損失。生徒と教師のロジット (N, C)、正解のクラス番号 (N,)、温度T、ソフトの項の重みα → 0次元のテンソル。"""
    ### BEGIN SOLUTION
    with torch.no_grad():  # 教師には、勾配を流さない
        targets = F.softmax(teacher_logits / temperature, dim=1)
    log_probabilities = F.log_softmax(student_logits / temperature, dim=1)  # 対数の確率を、じかに求める
    soft = F.kl_div(log_probabilities, targets, reduction="batchmean") * temperature**2
    hard = F.cross_entropy(student_logits, labels)
    return alpha * soft + (1 - alpha) * hard
    ### END SOLUTION


# %%
check("07-2", distillation_loss)

# %% [markdown]
# ### 合格したら：T²がないと、教師の声はどれだけ小さくなるか
#
# 本物の教師モデルと生徒モデルで、ソフトの項と正解ラベルの項の勾配の大きさを比べます。
# 教師モデルは、MNISTの2,000枚で学習したCNNです。生徒モデルは小さな全結合のネットワークで、同じ2,000枚の正解ラベルだけで、100回更新してあります。
# この2,000枚のうち500枚で、生徒モデルの全パラメータの勾配のノルムを、温度1から20まで求めます。
#
# 予想してから実行してください。$T^2$ を掛けないと、$T = 20$ の勾配は、$T = 1$ の何分の1になるでしょうか。掛ければ、ちょうど同じになるでしょうか。


# %%
Loss = Callable[[Tensor, Tensor, Tensor, float, float], Tensor]


def without_t_squared(loss: Loss) -> Loss:
    """T²を掛け忘れた損失を、正しい損失から作る。"""

    def forgetful(s: Tensor, t: Tensor, y: Tensor, temperature: float, alpha: float) -> Tensor:
        soft = loss(s, t, y, temperature, 1.0) / temperature**2
        return alpha * soft + (1 - alpha) * loss(s, t, y, temperature, 0.0)

    return forgetful


@functools.cache
def digit_logits() -> Tensor:
    """MNISTの5,000枚すべてについての、教師モデルのロジット。画像を変形しないなら、計算は一度でよい。"""
    digits, _, _ = digit_split()
    return digit_teacher()(digits.images).detach()


def train_student(loss: Loss, temperature: float, alpha: float, steps: int, seed: int) -> nn.Module:
    """教師モデルと同じ2,000枚で、小さな生徒モデルを学習する。"""
    digits, train, _ = digit_split()
    rows = train[:2000]
    given = digits.images[rows], digits.labels[rows], digit_logits()[rows]
    batches = DataLoader(
        TensorDataset(*given), batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(seed)
    )
    torch.manual_seed(seed)
    student = models.DigitMLP(64)

    def method(model: nn.Module, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        x, y, t = batch
        return {"loss": loss(model(x), t, y, temperature, alpha)}

    fit_student(student, method, batches, steps=steps, device="cpu", progress=False)
    return student.eval()


def gradient_norm(loss: Loss, student: nn.Module, temperature: float, alpha: float) -> float:
    """500枚での損失の、生徒モデルの全パラメータについての勾配のノルム。"""
    digits, train, _ = digit_split()
    rows = train[:500]
    value = loss(student(digits.images[rows]), digit_logits()[rows], digits.labels[rows], temperature, alpha)
    return math.hypot(*(grad.norm().item() for grad in torch.autograd.grad(value, list(student.parameters()))))


if ready("07-2"):
    variants = {"T²あり": distillation_loss, "T²なし": without_t_squared(distillation_loss)}
    begun = train_student(distillation_loss, 1.0, 0.0, steps=100, seed=0)
    scale = [*range(1, 21), 100, 200]
    heights = {name: {t: gradient_norm(loss, begun, t, 1.0) for t in scale} for name, loss in variants.items()}
    hard_norm = gradient_norm(distillation_loss, begun, 1.0, 0.0)
    for t in (1, 2, 4, 10, 20, 100, 200):
        shown = "、".join(f"{name} {norms[t]:.5f}" for name, norms in heights.items())
        print(f"T = {t:3d}: ソフトの項の勾配のノルム {shown}（正解ラベルの項 {hard_norm:.5f}）")
    last = {name: norms[200] / norms[100] for name, norms in heights.items()}
    print("T = 100から200で、" + "、".join(f"{name}なら{times:.3f}倍" for name, times in last.items()))
    with_t2, forgotten = heights["T²あり"], heights["T²なし"]
    assert abs(last["T²なし"] - 1 / 4) < 0.02, "T²を掛けないとき、高い温度で1/T²に縮みません"
    assert abs(last["T²あり"] - 1) < 0.08, "T²を掛けたとき、高い温度で一定に近づきません"
    assert forgotten[20] < forgotten[1] / 8, "T²を掛けなくても、T = 20の勾配が小さくなりません"
    assert with_t2[20] > 5 * with_t2[1], "T²を掛けても、T = 1より大きくなりません"

# %% [markdown]
# $T^2$ を掛けないと、高い温度での勾配は $1/T^2$ で縮みます。$T^2$ を掛けると、温度を上げるにつれて、決まった大きさに近づきます。
# ただし、「$T^2$ を掛ければ、勾配の大きさは温度によらない」と覚えるのは、正しくありません。
# 低い温度では、ソフトの項の勾配は $q - p$ です。確率の差なので、ロジットがどれほど違っても、1を超えません。
# 高い温度では、$T^2$ を掛けた勾配は、**ロジットの差**に比例します。ロジットの差は、1よりずっと大きいことがあります。
# だから、温度を1から上げていくと、$T^2$ を掛けた勾配は、まず大きくなり、それから一定に近づきます。
# 温度を変えると、同じ $\alpha$ でも、ソフトの項の効き方が変わります。$T$ と $\alpha$ を一緒に選ぶのは、そのためです（演習07-7）。
#
# 次に、$\alpha = 0.5$ で生徒モデルを学習します。種は3個です。学習に使わなかった1,000枚で、教師モデルとのずれを測ります。
# ずれは、温度4での $T^2 \, \mathrm{KL}$ です（学習した温度によらず、同じ物差しで測ります）。比べる相手は、正解ラベルだけで学習した生徒モデルです。

# %%
if ready("07-2"):
    digits, _, held = digit_split()
    target = digit_logits()[held]

    def measured(loss: Loss, temperature: float, alpha: float) -> Tensor:
        """種ごとの、教師モデルとのずれと正解率。(3, 2)。"""
        rows = []
        for seed in range(3):
            s = train_student(loss, temperature, alpha, 200, seed)(digits.images[held]).detach()
            far = distillation_loss(s, target, digits.labels[held], 4.0, 1.0).item()
            rows.append((far, (s.argmax(1) == digits.labels[held]).float().mean().item()))
        return torch.tensor(rows)

    hard_only = measured(distillation_loss, 1.0, 0.0)
    print(f"正解ラベルだけ: 教師モデルとのずれ {mean_ci(hard_only[:, 0])}、正解率 {mean_ci(hard_only[:, 1])}")
    far = {name: {1: measured(distillation_loss, 1.0, 0.5)} for name in variants}  # T = 1 なら、どちらも同じ
    for name, loss in variants.items():
        for t in (4, 20):
            far[name][t] = measured(loss, t, 0.5)
        for t, rows in far[name].items():
            print(f"T = {t:2d}、{name}: 教師モデルとのずれ {mean_ci(rows[:, 0])}、正解率 {mean_ci(rows[:, 1])}")
    closer = {name: mean_ci(hard_only[:, 0] - far[name][20][:, 0]) for name in variants}
    for name, gain in closer.items():
        print(f"T = 20、{name}: 同じ種の、正解ラベルだけの生徒モデルより、教師モデルに近づいた量 {gain}")
    assert closer["T²あり"].mean - closer["T²あり"].half > 0.5, "T²を掛けても、教師モデルに近づきません"
    for t in (4, 20):
        better = mean_ci(far["T²あり"][t][:, 1] - hard_only[:, 1])
        print(f"T = {t:2d}、T²あり: 同じ種の、正解ラベルだけの生徒モデルとの正解率の差 {better}")
        assert better.mean - better.half < 0, "教師モデルから学んだ生徒モデルの正解率が、上がっています"
    alike = (far["T²なし"][20][:, 1] - hard_only[:, 1]).abs().max()
    assert alike < 0.02, "T²を掛け忘れると、正解率が大きく変わります"
    assert closer["T²なし"].mean < closer["T²あり"].mean / 4, "T²を掛けなくても、教師モデルに近づいています"

    fig, (left, right) = plot.subplots(1, 2, figsize=(8.4, 3.6))
    for name, norms in heights.items():
        left.plot(range(1, 21), [norms[t] for t in range(1, 21)], label=name)
    left.axhline(hard_norm, color="black", linestyle=":", linewidth=1, label="正解ラベルの項")
    left.set_yscale("log")
    left.set_ylabel("勾配のノルム")
    left.set_title("ソフトの項の勾配")
    for name, by_temperature in far.items():
        bands = [mean_ci(rows[:, 0]) for rows in by_temperature.values()]
        right.errorbar(
            list(by_temperature), [b.mean for b in bands], [b.half for b in bands], marker="o", capsize=3, label=name
        )
    right.axhline(hard_only[:, 0].mean().item(), color="black", linestyle=":", linewidth=1, label="正解ラベルだけ")
    right.set_ylim(bottom=0)
    right.set_ylabel("T²·KL（T = 4）[nat]")
    right.set_title("教師モデルとのずれ（α = 0.5で学習）")
    for ax in (left, right):
        ax.set_xticks((1, 4, 10, 20))
        ax.set_xlabel("温度 T")
        ax.legend(fontsize=8)
    plot.show(
        fig,
        alt="温度を横軸にした二つの折れ線グラフ。左は、ソフトの項の勾配のノルム（縦軸は対数）。T²なしでは、温度とともに小さくなり、"
        "正解ラベルの項の線からどんどん離れる。T²ありでは、初めに大きくなり、それからゆるやかになる。"
        "右は、学習後の生徒モデルと教師モデルのずれ（3個の種の平均と95%信頼区間）。T = 1では、二つとも正解ラベルだけの線に重なる。"
        "T²ありでは、T = 4と20で大きく下がる。T²なしでは、T = 4で少し下がり、T = 20では、正解ラベルだけの線の近くに戻る。",
    )

# %% [markdown]
# $T^2$ を掛け忘れても、学習は止まらず、エラーも出ません。正解率は、正解ラベルだけの生徒モデルと同じくらいです。
# 教師モデルの声が聞こえないまま、正解ラベルだけで学んでいるからです。誤りに気づくには、正解率ではなく、二つの項の勾配の大きさを比べます。
#
# 一方で、教師モデルに近づくことと、正解率が上がることは、同じではありません。上に印刷した正解率も見てください。
# この短い学習では、教師モデルに近づいた生徒モデルの正解率が、上がったとは言えません。条件をそろえて効果を測る方法は、演習07-7で扱います。
#
# **考えてみよう**：
#
# 1. `F.kl_div`の既定の`reduction="mean"`を使うと、10クラスでは、ソフトの項は何倍になりますか。$\alpha$ を調整すれば、同じことになるでしょうか。
# 2. $\mathrm{KL}(q \,\|\, p)$ に取り違えると、教師モデルが2位に残した可能性を、生徒モデルは捨てやすくなるでしょうか、捨てにくくなるでしょうか。
# 3. Hintonらの論文は、KLではなく交差エントロピーを使っています。生徒モデルの勾配が同じになることを示してください。損失の値が同じにならないのは、なぜでしょうか。

# %% [markdown]
# ## 演習07-3 蒸留の損失を、ロジットで微分する
#
# <!-- exercise: 07-3 -->
#
# 蒸留の損失を、生徒モデルのロジット $z$ で微分した式を自分で導き、その式を計算する関数を書いてください。
# 教師モデルのロジットを $v$、正解を $y$、標本の数を $N$、温度を $T$ とします。
#
# $$
# L = \frac{1}{N} \sum_{i=1}^{N} \left[ \alpha\, T^2 \sum_{c} p_{ic} \log \frac{p_{ic}}{q_{ic}} - (1 - \alpha) \log q^{(1)}_{i y_i} \right]
# $$
#
# $$
# p_i = \mathrm{softmax}(v_i / T), \qquad q_i = \mathrm{softmax}(z_i / T), \qquad q^{(1)}_i = \mathrm{softmax}(z_i)
# $$
#
# 求めるのは、 $N \times C$ 個の偏微分 $\partial L / \partial z_{ic}$ です。教師モデルのロジットは、定数とみなします。
# 紙の上で、次の順に進めると、見通しよく導けます。
#
# 1. $u = z / T$ と置いて、 $-\sum_c p_c \log q_c$ を $u_k$ で微分する。 $\sum_c p_c = 1$ を使うと、短い式になる
# 2. $u$ から $z$ へ戻す。連鎖律の係数が、一つ掛かる
# 3. 正解ラベルの項を微分する。 $T = 1$ で、教師の確率を「正解だけが1のベクトル」に替えればよい
# 4. $T^2$、 $\alpha$、 $1 / N$ を忘れずに掛けて、足す
#
# 満たすべき条件は次のとおりです。
#
# - `student_logits`と`teacher_logits`は、同じ形`(N, C)`の小数のテンソル、`labels`は`(N,)`の整数とする（$N \geq 1$、 $C \geq 2$）
# - `temperature`は正の数、`alpha`は0以上1以下の数とする。`alpha`を**ソフトの項**の重みとする
# - 返り値は`(N, C)`のテンソルで、dtypeは`student_logits`と同じ。 $1 / N$ まで含める
# - ロジットが数千の大きさでも、NaNにならない
# - 自動微分や数値微分は使わない（`backward`、`torch.autograd`、`torch.func`など）。`softmax`と`F.one_hot`は使ってよい
# - `student_logits`が勾配を求めるテンソルでも、返り値は計算グラフから切り離す。`z.backward(返り値)`の引数として使うため
# - 引数を書き換えない。`tlkit.losses`の関数を呼ばない
#
# 確認セルは、損失の中心差分（ロジットを一つずつ少し動かして測った傾き）とも比べます。


# %%
def logit_gradient(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, alpha: float
) -> Tensor:
    """蒸留の損失の、生徒モデルのロジットについての勾配。(N, C), (N, C), (N,) → (N, C)。"""
    ### BEGIN SOLUTION
    n, c = student_logits.shape
    with torch.no_grad():
        q, p = ((logits / temperature).softmax(dim=1) for logits in (student_logits, teacher_logits))
        soft = temperature * (q - p)  # T²と、連鎖律の1/Tを掛けたもの
        hard = student_logits.softmax(dim=1) - F.one_hot(labels, c)
        return (alpha * soft + (1 - alpha) * hard) / n
    ### END SOLUTION


# %%
check("07-3", logit_gradient)

# %% [markdown]
# ### 合格したら：温度を上げきると、何を合わせることになるか
#
# 温度 $T$ が大きいと、 $e^{z/T}$ はほぼ $1 + z/T$ です。クラスについての平均を $\bar{z}$、 $\bar{v}$ とすると、ソフトの項の勾配は次の式に近づきます。
#
# $$
# \frac{T}{N} (q_{ic} - p_{ic}) \;\longrightarrow\; \frac{(z_{ic} - \bar{z}_i) - (v_{ic} - \bar{v}_i)}{C N} \qquad (T \to \infty)
# $$
#
# 右辺は、中心化したロジットの差の二乗和を $2CN$ で割ったものの勾配です。つまり、確率ではなく、**ロジットそのもの**を合わせます。
# Hintonたちの論文の式(4)は、ロジットが標本ごとに平均0だと仮定して、中心化を省いた形です。
#
# どのくらいの温度から、この極限とみなせるのでしょうか。14×14画素に縮めたMNISTで、小さなCNNの教師モデルと、学習の途中のMLPの生徒モデルを作ります。
# 学習に使っていない256枚のロジットで、勾配と極限の式の隔たり（差のノルム ÷ 極限の式のノルム）を測ります。
# 中心化を省いた式とも比べます。
#
# 生徒モデルの学習では、損失を一度も計算しません。`z.backward(勾配)`は、ロジットの勾配を受け取り、そこから先の重みへ戻します。


# %%
def quarter_digits() -> tuple[Tensor, Tensor]:
    """14×14画素に縮め、並べ替えたMNIST。画像 (5000, 1, 14, 14) とラベル。"""
    mnist = data.load("mnist5k")
    order = torch.randperm(len(mnist.labels), generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(mnist.images[order], 2), mnist.labels[order]


def quarter_teacher(images: Tensor, labels: Tensor, steps: int = 300) -> nn.Module:
    """教師モデル。1画素までずらした画像で学習したCNN。評価モードで返す。"""
    torch.manual_seed(0)
    stem = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    body = [nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*stem, *body, nn.Flatten(), nn.Linear(288, 10))
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, steps)
    for _ in range(steps):
        rows, shift = torch.randint(len(images), (64,)), torch.randint(-1, 2, (2,)).tolist()
        optimizer.zero_grad()
        F.cross_entropy(model(images[rows].roll(shift, (2, 3))), labels[rows]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def train_by_gradient(
    gradient: Callable[[Tensor, Tensor], Tensor], images: Tensor, seed: int, steps: int = 400
) -> nn.Module:
    """隠れ層32のMLPを、ロジットの勾配だけで学習する。gradient(z, 行の番号) → z と同じ形。"""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(196, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(steps):
        rows = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        z = model(images[rows])
        z.backward(gradient(z.detach(), rows))  # 損失の値は要らない
        optimizer.step()
    return model.eval()


def matching_gradient(z: Tensor, v: Tensor, *, centred: bool = True) -> Tensor:
    """温度を無限にしたときの勾配。ロジットの差を C·N で割る。"""
    gap = z - v
    return (gap - gap.mean(dim=1, keepdim=True) if centred else gap) / gap.numel()


def apart(found: Tensor, wanted: Tensor) -> float:
    """隔たり。差のノルムを、比べる相手のノルムで割る。"""
    return float((found - wanted).norm() / wanted.norm())


if ready("07-3"):
    quarter_images, quarter_labels = quarter_digits()
    matched_teacher = quarter_teacher(quarter_images[:2000], quarter_labels[:2000])
    halfway = train_by_gradient(  # α = 0 なので、正解ラベルだけで学習する
        lambda z, rows: logit_gradient(z, z, quarter_labels[rows], 1.0, 0.0), quarter_images[:2000], seed=0, steps=100
    )
    with torch.no_grad():
        teacher_z = matched_teacher(quarter_images)
        unseen_z, unseen_v = halfway(quarter_images[2000:2256]).double(), teacher_z[2000:2256].double()
    unseen_y = quarter_labels[2000:2256]

    temperatures = [2.0**k for k in range(12)]
    by_temperature = {t: logit_gradient(unseen_z, unseen_v, unseen_y, t, 1.0) for t in temperatures}
    limits = {
        name: matching_gradient(unseen_z, unseen_v, centred=name == "中心化あり")
        for name in ("中心化あり", "中心化なし")
    }
    deviations = {name: [apart(g, limit) for g in by_temperature.values()] for name, limit in limits.items()}
    print(f"教師モデルの正解率: {(teacher_z[3000:].argmax(1) == quarter_labels[3000:]).float().mean():.3f}")
    print(f"ロジットの標準偏差: 教師 {unseen_v.std():.1f}、生徒 {unseen_z.std():.1f}")
    for t, centred, raw in zip(temperatures, *deviations.values(), strict=True):
        print(f"T = {t:6g}　隔たり: 中心化あり {centred:.4f}　中心化なし {raw:.4f}")

    centred = dict(zip(temperatures, deviations["中心化あり"], strict=True))
    slope = math.log(centred[1024] / centred[64]) / math.log(1024 / 64)
    print(f"T = 64から1024までの、両対数の傾き: {slope:.2f}")
    assert centred[1] > 0.5, "T = 1で、もう極限に近くなっています"
    assert centred[1024] < 0.02, "Tを上げても、極限に近づきません"
    assert -1.1 < slope < -0.9, "隔たりが1/Tに比例しません"
    assert deviations["中心化なし"][-1] > 0.3, "中心化しない式との隔たりが、予想と違います"

    fig, axes = plot.subplots(1, 2, figsize=(9.0, 3.6))
    for (name, values), marker in zip(deviations.items(), "os", strict=True):
        axes[0].loglog(temperatures, values, marker=marker, label=name)
    axes[0].loglog(temperatures[5:], [centred[64] * 64 / t for t in temperatures[5:]], color="black", label="1/Tの傾き")
    axes[0].set_xlabel("温度 T")
    axes[0].set_ylabel("極限の式との隔たり")
    axes[0].legend(loc="lower left")
    example = int((unseen_v - unseen_z).abs().amax(1).argmax())  # ロジットが最も食い違う画像
    shown = {f"T = {t:g}": by_temperature[t][example] for t in (1, 4, 16, 64)}
    shown["極限の式"] = limits["中心化あり"][example]
    for (name, values), marker in zip(shown.items(), "osv^x", strict=True):
        axes[1].plot(range(10), values * len(unseen_y), marker=marker, label=name)
    axes[1].axhline(0, color="black", linewidth=0.8)
    axes[1].set_xticks(range(10))
    axes[1].set_xlabel(f"クラス（正解は{int(unseen_y[example])}）")
    axes[1].set_ylabel("勾配 × N")
    axes[1].legend(fontsize=8)
    plot.show(
        fig,
        alt="左は、温度に対する、ソフトの項の勾配と極限の式との隔たりの両対数の折れ線。中心化ありの式との隔たりは、"
        "Tが大きいところで1/Tの傾きの直線に沿って下がり続ける。中心化なしの式との隔たりは、途中で止まる。"
        "右は、1枚の画像での、クラスごとの勾配。T = 1では少数のクラスだけが0から離れ、Tを上げると、すべてのクラスの値が極限の式に近づく。",
    )

# %% [markdown]
# ロジットは大きいものほど $z / T$ の1次式から外れるので、極限とみなせる温度は、ロジットの大きさで決まります。
# 上の教師モデルでは、蒸留でよく使う $T = 4$ は、極限からほど遠い温度です。中心化を省いた式には、温度を上げても近づきません。
# ネットワークのロジットの平均は、0とは限らないからです。
#
# では、勾配が近いことは、学習の結果が近いことを意味するでしょうか。温度だけを変えて（正解ラベルは使わず、 $\alpha = 1$ とする）、
# 同じ初期値と同じバッチで、生徒モデルを初めから学習します。極限の式の勾配で学習した生徒モデルと、
# 評価用の画像でのロジットの隔たりを測り、正解率も比べます。初期値とバッチの種を、5通りに変えます。

# %%
MATCHING_ARMS = {"T = 1": 1.0, "T = 4": 4.0, "T = 20": 20.0, "T = 100": 100.0}


def matching_run(gradient: Callable[..., Tensor], images: Tensor, labels: Tensor, v: Tensor, seed: int) -> dict:
    """温度ごとの、極限の式で学習した生徒モデルとのロジットの隔たりと、正解率。"""
    train, test = slice(2000), slice(3000, None)
    students = {
        name: train_by_gradient(lambda z, rows, t=t: gradient(z, v[rows], labels[rows], t, 1.0), images[train], seed)
        for name, t in MATCHING_ARMS.items()
    }
    students["極限の式"] = train_by_gradient(lambda z, rows: matching_gradient(z, v[rows]), images[train], seed)
    with torch.no_grad():
        found = {name: student(images[test]) for name, student in students.items()}
    return {
        "隔たり": {name: apart(z, found["極限の式"]) for name, z in found.items()},
        "正解率": {name: float((z.argmax(1) == labels[test]).float().mean()) for name, z in found.items()},
    }


if ready("07-3"):
    matching_runs = [matching_run(logit_gradient, quarter_images, quarter_labels, teacher_z, seed) for seed in range(5)]
    matching = {
        what: {name: np.array([run[what][name] for run in matching_runs]) for name in matching_runs[0][what]}
        for what in ("隔たり", "正解率")
    }
    for name in matching["隔たり"]:
        print(f"{name}　隔たり: {mean_ci(matching['隔たり'][name])}　正解率: {mean_ci(matching['正解率'][name])}")
    warm_or_limit = mean_ci(matching["正解率"]["T = 4"] - matching["正解率"]["極限の式"])
    print(f"正解率の差（T = 4 − 極限の式、同じ種どうし）: {warm_or_limit}")

    distance = matching["隔たり"]
    assert distance["T = 100"].mean() < 0.6 * distance["T = 20"].mean(), "T = 100で、極限に近づきません"
    assert (distance["T = 4"] > 0.3).all(), "T = 4の生徒モデルが、極限の式の生徒モデルに近すぎます"
    scores = {name: values.mean() for name, values in matching["正解率"].items()}
    assert scores["T = 1"] > scores["T = 20"] > scores["極限の式"], "温度と正解率の関係が、予想と違います"
    assert warm_or_limit.mean - warm_or_limit.half > 0, "T = 4と極限の式の差が確認できません"

    fig, axes = plot.subplots(1, 2, figsize=(8.4, 3.4))
    for ax, table in zip(axes, matching.values(), strict=True):
        found = [mean_ci(values) for values in table.values()]
        ax.errorbar(range(5), [f.mean for f in found], [f.half for f in found], marker="o", linestyle="", capsize=4)
        ax.set_xticks(range(5), list(table))
    axes[0].set_ylabel("極限の式の生徒とのロジットの隔たり")
    axes[1].set_ylabel("正解率（平均と95%信頼区間）")
    plot.show(
        fig,
        alt="温度ごとの生徒モデルを、点と信頼区間で描いた二つの図。左は、極限の式で学習した生徒モデルとのロジットの隔たりで、"
        "Tを上げるほど小さくなり、T = 100ではほとんど0になる。右は正解率で、T = 1とT = 4で高く、Tを上げるほど下がり、極限の式で最も低い。",
    )

# %% [markdown]
# $T = 100$ の生徒モデルは、ロジットを直接合わせた生徒モデルと、ほとんど同じものになりました。 $T = 1$ と $T = 4$ では、別の生徒モデルです。
# そして、この設定では、温度を上げるほど正解率が下がりました。温度を上げるほど、確率のごく小さいクラスのロジットにも、同じ強さで勾配がかかります。
# 隠れ層が32の生徒モデルが、400回の更新で、教師モデルの10個のロジットをすべて合わせるのは大変です。
# その分、正解を決める上位のロジットが、おろそかになると考えられます。
#
# Hintonたちも、生徒モデルが教師モデルよりずっと小さいときは、中くらいの温度が良く、
# 大きく負のロジットは無視するほうが助けになりうる、と述べています。ただし、良い温度は、モデルの組と学習の長さで変わります。
# ここで測ったのは、一つの教師モデルと、この大きさの生徒モデルだけです。区間は、初期値とバッチによる揺れを表します。
#
# **考えてみよう**：
#
# 1. `train_by_gradient`の`steps`を3倍にすると、温度による正解率の差は、広がりますか、縮みますか。予想してから、実行してください。
# 2. 教師モデルのロジットをすべて10倍にすると、左の図の折れ線は、どちらへどれだけ動きますか。式から答えてください。
# 3. 勾配の行の和は、いつも0です。最後の層のバイアスの和は、学習でどう動きますか（最適化手法はSGD、重み減衰なしとします）。

# %% [markdown]
# ## 演習07-4 ヒントで、生徒モデルの途中までを学習する
#
# <!-- exercise: 07-4 -->
#
# **FitNets**は、教師モデルの出力ではなく、中間層の特徴（**ヒント**）を生徒モデルに合わせさせます。学習は2段階です。
#
# 1. 生徒モデルの途中の層までを、教師モデルの中間層に合わせる（この演習で書くのは、ここです）
# 2. 生徒モデルの全体を、正解ラベルやソフトターゲットで学習する
#
# 生徒モデルの初めの $g$ 段を $u$、教師モデルの初めの $h$ 段を $v$ とします。二つの特徴は、チャネル数が違います。
# そこで、生徒モデルの特徴を、回帰器 $r$（1×1の畳み込みか線形層）でチャネル数をそろえてから比べます。回帰器も一緒に学習し、終われば捨てます。
#
# $$
# L = \frac{1}{M} \sum_{k=1}^{M} \bigl( r(u(x)) - v(x) \bigr)_k^2
# $$
#
# $M$ は、標本、チャネル、位置をまとめた要素の総数です（論文は和の½ですが、ここでは平均とします）。
#
# 満たすべき条件は次のとおりです。
#
# - `student`と`teacher`は、段を順に並べた`nn.Sequential`とする。 $g$ は`guided_depth`、 $h$ は`hint_depth`として渡される
# - `loader`は、入力とラベルの組`(x, y)`を順に返す。ラベルは使わない。一度しか回せないこともあり、1回だけまわす
# - `make_optimizer`は、パラメータの並びを受け取り、最適化手法を返す。初めに1回だけ使う
# - 更新するのは、生徒モデルの初めの $g$ 段と回帰器だけとする。この段は学習モードで通す
# - 生徒モデルの残りの段は、重みも、バッチ正規化の移動統計も、1ビットも変えない
# - 教師モデルは評価モードで、勾配を計算せずに使う。重み、移動統計、`requires_grad`は変えない
# - 渡された時点のモードは、決まっていない。終わった後のモードは問わない
# - パラメータに前の勾配が残っていても、混ぜない
# - 返り値は、更新の前の損失を順に並べた、`float`のlistとする。`tlkit.losses`の関数は呼ばない


# %%
def fit_hint(
    student: nn.Sequential,
    teacher: nn.Sequential,
    guided_depth: int,
    hint_depth: int,
    regressor: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    make_optimizer: Callable[..., torch.optim.Optimizer],
) -> list[float]:
    """生徒モデルの初めの段と回帰器を、教師モデルの中間層に合わせる。更新ごとの損失を返す。"""
    ### BEGIN SOLUTION
    lower = student[:guided_depth].train()  # 切り出しても、段は元のモデルと共有される
    target_net = teacher[:hint_depth].eval()
    optimizer = make_optimizer([*lower.parameters(), *regressor.parameters()])
    found = []
    for x, _ in loader:
        with torch.no_grad():
            target = target_net(x)
        loss = (regressor(lower(x)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found
    ### END SOLUTION


# %%
check("07-4", fit_hint)

# %% [markdown]
# ### 合格したら：ヒントは、ラベルの不足を補うか
#
# ヒントの学習には、ラベルが要りません。ラベルのある画像が50枚、ラベルのない画像が2,000枚あるとします（14×14画素のMNIST）。
# 生徒モデルは、段が4つの細いCNNです。評価用の2,000枚での正解率を、次の五つで比べます。
#
# - ラベルだけ：50枚で学習する
# - ヒント→ラベル：2,000枚のヒントで途中まで学習し、その後、50枚で全体を学習する
# - 乱数の教師→ラベル：同じ手順だが、ヒントを出す教師モデルは、学習していない乱数の重みとする
# - 蒸留だけ：2,000枚のソフトターゲットで学習する。温度は4とし、ラベルは使わない（$\alpha = 1$）
# - ヒント→蒸留：ヒントで途中まで学習し、その後、2,000枚のソフトターゲットで全体を学習する。更新の総数は、蒸留だけと同じにする
#
# 「乱数の教師」は対照です。これだけ上がるなら、効いたのは教師モデルの知識ではありません。教師モデルは、ラベルのある2,000枚で学習しました。
# 生徒モデルの初期値、50枚の選び方、バッチを、種ごとに変えます。どの順になるか、予想してから実行してください。


# %%
def staged_cnn(widths: list[int], halve: list[bool], seed: int) -> nn.Sequential:
    """14×14画素の数字のためのCNN。段を並べ、最後に分類の層を置く。halveの段は、縦横を半分にする。"""
    torch.manual_seed(seed)
    stages = []
    for inputs, outputs, pooled in zip([1, *widths], widths, halve, strict=False):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        pool = [nn.MaxPool2d(2)] if pooled else []
        stages.append(nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(), *pool))
    return nn.Sequential(*stages, nn.Sequential(nn.Flatten(), nn.Linear(9 * widths[-1], 10)))


def fit_whole(
    model: nn.Module, loss: Callable[..., Tensor], images: Tensor, seed: int, *, steps: int, shift: int = 0
) -> nn.Module:
    """モデルの全体を、loss(ロジット, 行の番号) で学習し、評価モードで返す。画像は、shift 画素まで動かす。"""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.train().parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, steps)
    for _ in range(steps):
        rows, move = torch.randint(len(images), (32,)), torch.randint(-shift, shift + 1, (2,)).tolist()
        optimizer.zero_grad()
        loss(model(images[rows].roll(move, (2, 3))), rows).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def from_labels(labels: Tensor) -> Callable[..., Tensor]:
    """正解ラベルの損失。"""
    return lambda z, rows: F.cross_entropy(z, labels[rows])


def from_soft_targets(teacher: nn.Module, images: Tensor) -> Callable[..., Tensor]:
    """ソフトターゲットの損失。画像を動かさないので、教師モデルのロジットは、前もって求めておける。"""
    with torch.no_grad():
        targets = teacher(images)
    return lambda z, rows: losses.kd_loss(z, targets[rows], temperature=4.0)


def thin_student(seed: int) -> nn.Sequential:
    """四つの段と、分類の層。"""
    return staged_cnn([6, 6, 6, 12], [True, False, False, True], seed)


def hinted(fit: Callable, teacher: nn.Sequential, images: Tensor, seed: int) -> tuple[nn.Sequential, list[float]]:
    """ヒントだけで学習した生徒モデルと、損失の記録。ラベルの代わりに −1 を渡す。"""
    student, g = thin_student(seed), torch.Generator().manual_seed(seed)
    regressor = nn.Conv2d(12, 32, 1)
    draws = (torch.randint(len(images), (32,), generator=g) for _ in range(120))
    batches = ((images[rows], torch.full((32,), -1)) for rows in draws)
    return student, fit(student, teacher, 4, 2, regressor, batches, lambda p: torch.optim.Adam(p, 0.01))


def hint_scores(
    fit: Callable, teachers: dict[str, nn.Sequential], images: Tensor, labels: Tensor, seed: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """条件ごとの正解率と、ヒントの損失の記録。"""
    pool, soft = images[:2000], from_soft_targets(teachers["学習した教師"], images[:2000])
    few = torch.randperm(2000, generator=torch.Generator().manual_seed(seed + 100))[:50]
    begun = {name: hinted(fit, teacher, pool, seed) for name, teacher in teachers.items()}

    def labelled(student: nn.Module) -> nn.Module:
        return fit_whole(student, from_labels(labels[few]), images[few], seed, steps=80)

    distilled = {
        "蒸留だけ": fit_whole(thin_student(seed), soft, pool, seed, steps=240),
        "ヒント→蒸留": fit_whole(copy.deepcopy(begun["学習した教師"][0]), soft, pool, seed, steps=120),
    }
    students = {
        "ラベルだけ": labelled(thin_student(seed)),
        "ヒント→ラベル": labelled(begun["学習した教師"][0]),
        "乱数の教師→ラベル": labelled(begun["乱数の教師"][0]),
    } | distilled
    with torch.no_grad():
        found = {name: student(images[3000:]).argmax(1) for name, student in students.items()}
    scores = {name: float((guess == labels[3000:]).float().mean()) for name, guess in found.items()}
    return scores, {name: record for name, (_, record) in begun.items()}


if ready("07-4"):
    hint_images, hint_labels = quarter_digits()
    hint_teachers = {
        name: staged_cnn([16, 32], [True, True], seed) for name, seed in (("学習した教師", 0), ("乱数の教師", 99))
    }
    fit_whole(hint_teachers["学習した教師"], from_labels(hint_labels), hint_images[:2000], 0, steps=300, shift=1)
    with torch.no_grad():
        guesses = hint_teachers["学習した教師"](hint_images[3000:]).argmax(1)
    print(f"教師モデルの正解率: {(guesses == hint_labels[3000:]).float().mean():.3f}")

    hint_runs = [hint_scores(fit_hint, hint_teachers, hint_images, hint_labels, seed) for seed in range(4)]
    hint_table = {name: np.array([scores[name] for scores, _ in hint_runs]) for name in hint_runs[0][0]}
    hint_curves = {name: np.array([record[name] for _, record in hint_runs]) for name in hint_teachers}
    for name, values in hint_table.items():
        print(f"{name}: {mean_ci(values)}")
    for name, curves in hint_curves.items():
        print(f"{name}のヒントの損失: 終わりの10回の平均は、初めの{curves[:, -10:].mean() / curves[:, 0].mean():.3f}倍")
    hint_gains = {
        "ヒント→ラベル − ラベルだけ": hint_table["ヒント→ラベル"] - hint_table["ラベルだけ"],
        "ヒント→ラベル − 乱数の教師→ラベル": hint_table["ヒント→ラベル"] - hint_table["乱数の教師→ラベル"],
        "ヒント→蒸留 − 蒸留だけ": hint_table["ヒント→蒸留"] - hint_table["蒸留だけ"],
    }
    print("差（同じ種どうし）")
    for name, values in hint_gains.items():
        print(f"　{name}: {mean_ci(values)}")

    fig, axes = plot.subplots(1, 2, figsize=(9.6, 3.6), width_ratios=(1, 1.4))
    for name, curves in hint_curves.items():
        axes[0].semilogy(range(1, 121), (curves / curves[:, :1]).mean(0), label=name)
    axes[0].set_xlabel("更新の回数")
    axes[0].set_ylabel("ヒントの損失（初めとの比）")
    axes[0].legend()
    found = [mean_ci(values) for values in hint_table.values()]
    axes[1].errorbar(range(5), [f.mean for f in found], [f.half for f in found], marker="o", linestyle="", capsize=4)
    names = ["ラベル\nだけ", "ヒント\n→ラベル", "乱数の教師\n→ラベル", "蒸留\nだけ", "ヒント\n→蒸留"]
    axes[1].set_xticks(range(5), names)
    axes[1].set_ylabel("正解率（平均と95%信頼区間）")
    plot.show(
        fig,
        alt="左は、ヒントの損失の折れ線。縦軸は対数。乱数の教師の損失のほうが、学習した教師の損失より、ずっと小さくなる。"
        "右は、五つの条件の正解率と信頼区間。ラベルだけが最も低く、乱数の教師→ラベルは少しだけ高く、ヒント→ラベルはそれより高い。"
        "蒸留だけとヒント→蒸留は、さらに高い所に、ほぼ同じ高さで並ぶ。",
    )
    for name in ("ヒント→ラベル − ラベルだけ", "ヒント→ラベル − 乱数の教師→ラベル"):
        assert hint_gains[name].mean() > 0.05, f"{name}: 差が確認できません"
    assert (hint_table["蒸留だけ"] > hint_table["ヒント→ラベル"] + 0.02).all(), "蒸留とヒントの順が、予想と違います"
    assert abs(hint_gains["ヒント→蒸留 − 蒸留だけ"].mean()) < 0.03, "ヒントを蒸留に足す効果が、予想と違います"

# %% [markdown]
# ラベルが50枚のとき、ヒントから始めた生徒モデルは、初めからラベルで学習したものより、ずっと正確でした。
# 同じ手順でも、乱数の教師のヒントには、それだけの効果がありません。効いたのは、手順ではなく、教師モデルが学んだ特徴です。
# しかも、ヒントの損失は、初めとの比で見ると、乱数の教師のほうがはるかに小さくなりました。まねやすい特徴が、分類に役立つ特徴とは限りません。
# **損失がよく下がることは、良い手本であることを意味しません。**
#
# ただし、この設定で最も効いたのは、ヒントではありません。ラベルを1枚も使わない「蒸留だけ」が、ヒントと50枚のラベルを大きく上回りました。
# ヒントは、どの特徴がどのクラスに当たるかを教えません。クラスとの対応は、50枚のラベルだけから学びます。
# ソフトターゲットは、その対応を2,000枚の画像で教えます。教師モデルのロジットが手に入るなら、まず試すのは蒸留です。
#
# 更新の総数をそろえると、蒸留の前にヒントを加えても、差は見つかりませんでした。
# 総数をそろえずに比べると、「ヒントを足すと上がった」と読み違えるおそれがあります（考えてみようの1）。
# FitNetsの論文がヒントを使うのは、深くて細い、そのままでは学習しにくい生徒モデルのためです。
# ここの生徒モデルは浅く、学習しにくくありません。区間は、初期値、50枚の選び方、バッチによる揺れだけを表します。
#
# **考えてみよう**：
#
# 1. `hint_scores`の「蒸留だけ」の更新を、「ヒント→蒸留」の第2段階と同じ120回に減らすと、表はどう変わりますか。どちらの比べ方が公平でしょうか。
# 2. 回帰器を3×3の畳み込みにすると、ヒントの損失はもっと下がります。生徒モデルの特徴は、良くなるでしょうか。
# 3. 回帰器を学習せずに、初めの乱数のまま固定すると、何が起きますか。生徒モデルのチャネル数が、教師モデルより少ないことに注意してください。

# %% [markdown]
# ## 演習07-5 注意転移の損失を書く
#
# <!-- exercise: 07-5 -->
#
# 教師モデルから学べるのは、出力だけではありません。**注意転移**（attention transfer）は、画像のどの位置で活性が強いかを、生徒モデルに伝えます。
#
# 中間層の出力 $f$ は`(N, C, H, W)`です。標本 $i$ の位置 $(h, w)$ の活性を、チャネルの二乗和で表します。
#
# $$
# A_i(h, w) = \sum_{c=1}^{C} f_i(c, h, w)^2, \qquad
# Q_i = \frac{A_i}{\lVert A_i \rVert_2}
# $$
#
# $A_i$ は $H \times W$ の地図で、 $\lVert A_i \rVert_2$ は、それを $HW$ 次元のベクトルとみなした長さです。損失は、二つの地図の差の二乗の平均です。
#
# $$
# L_{\mathrm{AT}} = \frac{1}{N H W} \sum_{i=1}^{N} \sum_{h, w} \bigl( Q_i^S(h, w) - Q_i^T(h, w) \bigr)^2
# $$
#
# チャネルの次元は、比べる前に消えます。だから、演習07-4の回帰器がなくても、チャネル数の違うモデルどうしを比べられます。
# 論文（Zagoruyko & Komodakis, 2017）の式(2)は差のノルムを使いますが、著者が公開した実装は、上のとおり二乗の平均です。ここでは実装に合わせます。
#
# 満たすべき条件は次のとおりです。
#
# - `student_maps`は`(N, C, H, W)`、`teacher_maps`は`(N, C', H, W)`とする。 $C$ と $C'$ は違ってもよい
# - $N$、 $H$、 $W$ のどれかが違えば、`ValueError`を起こす。並べた長さ $HW$ だけが同じ組（4×6と3×8など）も断る
# - 活性がすべて0の標本では $Q_i = 0$ とする。値と勾配のどちらでも、NaNを出さない
# - 生徒の地図には勾配を流し、教師の地図には流さない
# - 返り値は0次元のテンソルで、dtypeは入力と同じにする。引数を書き換えない
# - `tlkit.losses`の関数を呼ばずに、自分で計算する


# %%
def attention_loss(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """注意転移の損失。student_maps (N, C, H, W)、teacher_maps (N, C', H, W) → 0次元のテンソル。"""
    ### BEGIN SOLUTION
    if len(student_maps) != len(teacher_maps) or student_maps.shape[2:] != teacher_maps.shape[2:]:
        raise ValueError("student_mapsとteacher_mapsの、N、H、Wをそろえてください（チャネル数は違ってもかまいません）")

    def attention(maps: Tensor) -> Tensor:
        power = maps.square().sum(dim=1).flatten(1)
        length = power.norm(dim=1, keepdim=True)
        return power / length.clamp_min(torch.finfo(power.dtype).tiny)  # 長さ0なら、0のまま残る

    with torch.no_grad():
        target = attention(teacher_maps)
    return (attention(student_maps) - target).square().mean()
    ### END SOLUTION


# %%
check("07-5", attention_loss)

# %% [markdown]
# ### 合格したら：「どこを見るか」だけを教える
#
# 14×24画素の画像に、数字を二つ並べ、片方に下線を引きます。答えるのは、**下線のある数字**の種類です。
# 教師モデルは、3,500枚から学習します。生徒モデルは、チャネル数が半分で、200枚しか使えません。
#
# 生徒モデルの損失は、正解ラベルの交差エントロピーに、 $\beta L_{\mathrm{AT}}$ を足したものです。教師モデルの予測は使いません。三通りを比べます。
#
# - ラベルだけ： $\beta = 0$
# - 注意転移：同じ画像の、教師モデルの地図を使う
# - 別の画像の地図：一つ隣の画像の、教師モデルの地図を使う。損失の形と強さは同じで、中身だけが違う
#
# 三つめは**対照**です。地図の中身でなく、損失を足したことに効果があるのなら、三つめでも正解率は上がるはずです。
# もう一つ、 $Q^2$ の和のうち、下線のある側の半分にある割合も測ります。 $Q$ の長さは1なので、両側を合わせると1です。予想してください。


# %%
def underlined_pairs(rows: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """数字rowsに下線を引き、ほかの数字と並べた画像 (N, 1, 14, 24) と、下線の側（左が0、右が1）。"""
    g = torch.Generator().manual_seed(seed)
    digits = F.avg_pool2d(data.load("mnist5k").images, 2)[:, 0, 2:12, 2:12]  # 余白を除いて 10×10
    others, sides = torch.randint(len(digits), (len(rows),), generator=g), torch.randint(2, (len(rows),), generator=g)
    images = torch.zeros(len(rows), 14, 24)
    for side, start in ((0, 2), (1, 12)):
        chosen = (sides == side)[:, None, None]
        images[:, 1:11, start : start + 10] = torch.where(chosen, digits[rows], digits[others])
        images[:, 12:13, start + 2 : start + 8] = chosen.float()
    return images[:, None], sides


class MapNet(nn.Module):
    """畳み込みを三つ重ねたネットワーク。maps(x) (N, 4·width, 3, 6) を位置で平均し、分類する。"""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if inputs < 2 * width else []
        self.maps, self.head = nn.Sequential(*layers), nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.maps(x).mean(dim=(2, 3)))


def trained_map_net(
    net: MapNet, images: Tensor, labels: Tensor, steps: int, batch: int, guide: Callable[[Tensor, Tensor], Tensor | int]
) -> MapNet:
    """交差エントロピーとguide(地図, 画像の番号)の和で学習し、評価モードで返す。"""
    adam = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 0.01, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(images), (batch,))
        maps = net.maps(images[rows])
        loss = F.cross_entropy(net.head(maps.mean(dim=(2, 3))), labels[rows]) + guide(maps, rows)
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def share_on_side(maps: Tensor, sides: Tensor) -> float:
    """Q²の和のうち、下線のある側の半分にある割合の平均。"""
    squared = maps.square().sum(dim=1).square()
    halves = torch.stack([half.sum(dim=(1, 2)) for half in squared.chunk(2, dim=2)], dim=1)
    return (halves / halves.sum(dim=1, keepdim=True)).gather(1, sides[:, None]).mean().item()


@torch.no_grad()
def draw_attention(nets: dict[str, MapNet], images: Tensor, labels: Tensor) -> Any:
    """上に画像、下に名前ごとの地図。図を返す。"""
    fig, axes = plot.subplots(len(nets) + 1, len(images), figsize=(8.2, 4.2))
    for row, name in zip(axes, ["画像", *nets], strict=True):
        found = images if name == "画像" else nets[name].maps(images).square().mean(dim=1, keepdim=True)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for ax, picture in zip(row, found[:, 0], strict=True):
            ax.imshow(picture / picture.max(), cmap="gray" if name == "画像" else "viridis", extent=(0, 24, 14, 0))
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(visible=False)
    for ax, label in zip(axes[0], labels.tolist(), strict=True):
        ax.set_title(f"正解 {label}", fontsize=9)
    return fig


ATTENTION_KINDS, ATTENTION_BETA, ATTENTION_SEEDS = ["ラベルだけ", "注意転移", "別の画像の地図"], 10.0, range(10, 15)

if ready("07-5"):
    pair_labels = data.load("mnist5k").labels
    known_rows, unseen_rows = torch.randperm(5000, generator=torch.Generator().manual_seed(75)).split([3500, 1500])
    (known, _), (unseen, unseen_sides) = underlined_pairs(known_rows, seed=1), underlined_pairs(unseen_rows, seed=2)
    torch.manual_seed(75)
    map_teacher = trained_map_net(MapNet(16), known, pair_labels[known_rows], 300, 64, lambda *_: 0)

    def guided_student(kind: str, seed: int) -> MapNet:
        """kindのやり方で、200枚で学習した生徒モデル。"""
        torch.manual_seed(seed)
        few = torch.randperm(len(known))[:200]
        with torch.no_grad():
            goals = map_teacher.maps(known[few.roll(1) if kind == "別の画像の地図" else few])
        beta = 0.0 if kind == "ラベルだけ" else ATTENTION_BETA
        return trained_map_net(
            MapNet(8),
            known[few],
            pair_labels[known_rows[few]],
            200,
            32,
            lambda maps, rows: beta * attention_loss(maps, goals[rows]),
        )

    @torch.no_grad()
    def pair_score(net: MapNet) -> list[float]:
        """学習に使わない画像での、正解率と、下線のある側の割合。"""
        maps = net.maps(unseen)
        right = net.head(maps.mean(dim=(2, 3))).argmax(dim=1) == pair_labels[unseen_rows]
        return [right.float().mean().item(), share_on_side(maps, unseen_sides)]

    guided = {kind: [guided_student(kind, seed) for seed in ATTENTION_SEEDS] for kind in ATTENTION_KINDS}
    guided_scores = {kind: np.array([pair_score(net) for net in nets]) for kind, nets in guided.items()}
    print("教師モデル　正解率 {:.3f}、下線のある側の割合 {:.3f}".format(*pair_score(map_teacher)))
    for kind, scores in guided_scores.items():
        print(f"{kind}　正解率 {mean_ci(scores[:, 0])}、下線のある側の割合 {mean_ci(scores[:, 1])}")
    guided_gain = {kind: (guided_scores[kind] - guided_scores["ラベルだけ"])[:, 0] for kind in ATTENTION_KINDS[1:]}
    for kind, gain in guided_gain.items():
        print(f"「{kind}」と「ラベルだけ」の、正解率の差（同じ種どうし）: {mean_ci(gain)}")

    fig = draw_attention(
        {"教師モデル": map_teacher} | {kind: nets[0] for kind, nets in guided.items()},
        unseen[:6],
        pair_labels[unseen_rows[:6]],
    )
    plot.show(
        fig,
        alt="1行目は、二つの数字を並べ、片方に下線を引いた画像を6枚。2行目から5行目は、同じ画像への、教師モデル、ラベルだけの生徒モデル、注意転移の生徒モデル、"
        "別の画像の地図を使った生徒モデルの注意の地図（縦3、横6の格子）。"
        "教師モデルと注意転移の地図は、下線のある数字の側だけが明るい。ラベルだけの地図は、反対側にも広がる。別の画像の地図を使うと、両側に散らばる。",
    )
    assert guided_gain["注意転移"].mean() > 0.04, "注意転移の効果が確認できません"
    assert guided_gain["別の画像の地図"].mean() < 0, "別の画像の地図で、正解率が上がりました"
    assert (guided_scores["注意転移"] - guided_scores["ラベルだけ"])[:, 1].mean() > 0.05, "地図が近づいていません"

# %% [markdown]
# ラベルだけの生徒モデルも、下線の側を多く見ています。しかし、反対側の数字にも引かれます。200枚のラベルからでは、
# 「下線が場所を決める」ことと「字形が種類を決める」ことを、同時には十分に学べません。
# 注意転移は、前の半分だけを教えます。字形については何も教えないのに、正解率が上がりました。
#
# 別の画像の地図では、正解率が下がりました。損失を足すだけで良くなるのではなく、地図の中身が効いたことになります。
# ただし、二つの失敗に注意してください。教師モデルが間違った場所を見ていれば、その場所が伝わります。 $\beta$ が大きすぎれば、
# 生徒モデルは、地図をまねるだけで、分類を学びません。
#
# **考えてみよう**：
#
# 1. 下線をなくし、どちらの数字を答えてもよい課題にすると、注意転移の効果はどうなりますか。
# 2. 正規化をやめて $A$ をそのまま比べると、チャネル数の違いは何を引き起こしますか。`ATTENTION_BETA`をどう決めればよいでしょうか。
# 3. $L_{\mathrm{AT}}$ の計算に、ラベルは要りません。残りの3,300枚は、どう使えますか。

# %% [markdown]
# ## 演習07-6 蒸留の1回の更新から、誤りを見つけて直す
#
# <!-- exercise: 07-6 -->
#
# 次の関数は、知識蒸留の更新を1回だけ行うつもりで書かれたものです。例外は起きず、有限の損失が返ります。しかし、誤りが**五つ**あります。


# %%
def buggy_step(
    student: nn.Module,
    teacher: nn.Module,
    batch: tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    augment: Callable[[Tensor], Tensor],
    temperature: float,
    alpha: float,
) -> float:
    """蒸留の1回の更新のつもりの関数（虫が五匹います）。"""
    x, y = batch
    student.train()
    teacher.train()
    student_logits = student(augment(x))
    teacher_logits = teacher(augment(x))
    log_q = (student_logits / temperature).log_softmax(dim=1)
    p = (teacher_logits / temperature).softmax(dim=1)
    soft = F.kl_div(log_q, p, reduction="batchmean")
    hard = F.cross_entropy(student_logits, y)
    loss = alpha * soft + (1 - alpha) * hard
    loss.backward()
    optimizer.step()
    return loss.item()


# %% [markdown]
# 数字の画像で動かし、害を測ります。教師モデルは、バッチ正規化とドロップアウトのあるネットワークで、正しいラベルの3,500枚から学習します。
# 生徒モデルには、そのうちの500枚だけを使います。ただし、ラベルの3割は乱数で付け直しました。蒸留の効果と誤りの害を、見えやすくするためです。
# `augment`は、画像を1枚ずつ、縦横に2画素までずらします。
#
# `optimizer`には、二つのモデルの全部のパラメータを渡します。教師と生徒を一つの`nn.Module`にまとめ、その`parameters()`を渡すと、こうなります。

# %%
STEP_SETTING = {"temperature": 8.0, "alpha": 0.9}
step_digits = data.load("mnist5k")
step_images, step_labels = F.avg_pool2d(step_digits.images, 2), step_digits.labels
step_pool, step_test = torch.randperm(5000, generator=torch.Generator().manual_seed(76)).split([3500, 1500])


def jitter(x: Tensor) -> Tensor:
    """画像 (N, 1, 14, 14) を1枚ずつ、縦横に2画素までずらす。"""
    padded, places = F.pad(x, (2, 2, 2, 2))[:, 0], torch.arange(14)
    down, right = torch.randint(5, (2, len(x), 1)) + places
    return padded[torch.arange(len(x))[:, None, None], down[:, :, None], right[:, None, :]][:, None]


def trained_step_teacher(seed: int) -> nn.Module:
    """正しいラベルで学習した教師モデル。学習モードのまま返す。"""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (196, 256):
        layers += [nn.Linear(inputs, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.5)]
    model = nn.Sequential(*layers, nn.Linear(256, 10))
    adam = torch.optim.Adam(model.parameters(), lr=0.003, fused=True)
    for _ in range(500):
        rows = step_pool[torch.randint(len(step_pool), (64,))]
        adam.zero_grad()
        F.cross_entropy(model(jitter(step_images[rows])), step_labels[rows]).backward()
        adam.step()
    return model


@torch.no_grad()
def step_accuracy(model: nn.Module) -> float:
    """テストの画像（変形しない）での、評価モードの正解率。モードは元に戻す。"""
    mode = model.training
    found = model.train(False)(step_images[step_test]).argmax(dim=1)
    model.train(mode)
    return (found == step_labels[step_test]).float().mean().item()


def noisy_sample(seed: int) -> tuple[Tensor, Tensor]:
    """生徒モデルに使う500枚と、3割を乱数で付け直したラベル。"""
    g = torch.Generator().manual_seed(seed)
    rows = step_pool[torch.randperm(len(step_pool), generator=g)[:500]]
    wrong = torch.rand(500, generator=g) < 0.3
    return step_images[rows], torch.where(wrong, torch.randint(10, (500,), generator=g), step_labels[rows])


def distilled(update: Callable[..., float], teacher: nn.Module, seed: int, steps: int = 400) -> tuple[float, float]:
    """updateで生徒モデルを学習し、終わった後の生徒モデルと教師モデルの正解率を返す。渡された教師モデルは変えない。"""
    torch.manual_seed(seed)
    teacher, (images, labels) = copy.deepcopy(teacher), noisy_sample(seed)
    student = nn.Sequential(nn.Flatten(), nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 10))
    both = torch.optim.Adam([*student.parameters(), *teacher.parameters()], lr=0.005, fused=True)
    for _ in range(steps):
        rows = torch.randint(500, (8,))
        update(student, teacher, (images[rows], labels[rows]), both, jitter, **STEP_SETTING)
    return step_accuracy(student), step_accuracy(teacher)


step_teacher = trained_step_teacher(76)
buggy_student_score, buggy_teacher_score = distilled(buggy_step, step_teacher, seed=0)
print(f"教師モデルのテストの正解率: 前 {step_accuracy(step_teacher):.3f}、後 {buggy_teacher_score:.3f}")
print(f"生徒モデルのテストの正解率: 後 {buggy_student_score:.3f}（でたらめに答えると 0.1）")
assert buggy_teacher_score < 0.3 < 0.8 < step_accuracy(step_teacher), "教師モデルが壊れることが確認できません"

# %% [markdown]
# 生徒が学べないだけでなく、手本だったはずの教師モデルまで壊れました。
#
# 誤りを五つとも見つけて、直してください。変形した画像を $\tilde{x}_i = \mathrm{augment}(x)_i$、教師モデルと生徒モデルのロジットを $t$、$s$ とします。
#
# $$
# L = \alpha \, T^2 \cdot \frac{1}{N} \sum_{i=1}^{N} \mathrm{KL}\!\left(
#   \mathrm{softmax}\!\left(\frac{t(\tilde{x}_i)}{T}\right) \,\middle\|\, \mathrm{softmax}\!\left(\frac{s(\tilde{x}_i)}{T}\right)
# \right) + (1 - \alpha) \cdot \frac{1}{N} \sum_{i=1}^{N} \mathrm{CE}\bigl(s(\tilde{x}_i),\, y_i\bigr)
# $$
#
# 満たすべき条件は次のとおりです。
#
# - `batch`は`(x, y)`の組とする。`augment(x)`は乱数を使い、呼ぶたびに違う結果を返す。二つのモデルには、同じ画像を見せる
# - 教師モデルは、動かない手本とする。重みと移動統計を変えず、パラメータに勾配を届かせない。答えは、いつ聞いても同じにする
# - `teacher`は、学習モードで渡されることも、評価モードで渡されることもある。`optimizer`が、教師モデルのパラメータも持っていることもある
# - `student`は学習モードで渡される。1回だけ通し、モードを変えない
# - `optimizer.step()`は1回だけ呼ぶ。呼ぶ前から残っていた勾配を混ぜない
# - 返り値は、更新の前の損失 $L$ を表す`float`とする
# - `tlkit.losses`と`tlkit.distill`の関数を呼ばずに、自分で計算する


# %%
def distill_step(
    student: nn.Module,
    teacher: nn.Module,
    batch: tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    augment: Callable[[Tensor], Tensor],
    temperature: float,
    alpha: float,
) -> float:
    """蒸留の1回の更新。更新の前の損失を返す。"""
    ### BEGIN SOLUTION
    ### STUB raise NotImplementedError("この行を消し、下の五つの誤りを直してください")
    ### STUB x, y = batch
    ### STUB student.train()
    ### STUB teacher.train()
    ### STUB student_logits = student(augment(x))
    ### STUB teacher_logits = teacher(augment(x))
    ### STUB log_q = (student_logits / temperature).log_softmax(dim=1)
    ### STUB p = (teacher_logits / temperature).softmax(dim=1)
    ### STUB soft = F.kl_div(log_q, p, reduction="batchmean")
    ### STUB hard = F.cross_entropy(student_logits, y)
    ### STUB loss = alpha * soft + (1 - alpha) * hard
    ### STUB loss.backward()
    ### STUB optimizer.step()
    ### STUB return loss.item()
    ### ALLOW teacher.eval()
    ### ALLOW optimizer.zero_grad()
    x, y = batch
    x = augment(x)  # 1回だけ。同じ画像を二つのモデルに見せる
    teacher.eval()
    with torch.no_grad():
        p = (teacher(x) / temperature).softmax(dim=1)
    student_logits = student(x)
    log_q = (student_logits / temperature).log_softmax(dim=1)
    soft = F.kl_div(log_q, p, reduction="batchmean")
    hard = F.cross_entropy(student_logits, y)
    loss = alpha * temperature**2 * soft + (1 - alpha) * hard
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
    ### END SOLUTION


# %%
check("07-6", distill_step)

# %% [markdown]
# ### 合格したら：どの誤りが、どれだけ害になるか
#
# 誤った関数と直した関数を、同じ条件で比べます。さらに、直した関数はそのままにして、**外から**一つずつ壊します。
#
# - 教師が学習モード：呼ばれるたびに、教師モデルを学習モードに戻す
# - 変形が別々：教師モデルにだけ、変形し直した画像を見せる
# - 教師も更新：更新のたびに、同じ損失で、教師モデルのほうも更新する
# - $T^2$ なし：`alpha`を、 $\alpha' = \alpha / (\alpha + (1 - \alpha) T^2)$ に替える
# - 勾配を消さない：更新の直前に、これまでの全部の勾配の和に替える
#
# $T^2$ を忘れた損失 $\alpha \, \mathrm{KL} + (1 - \alpha) \, \mathrm{CE}$ は、 $\alpha'$ の正しい損失の定数倍です。
# Adamの更新は、損失を定数倍してもほとんど変わりません。だから、上の替え方は、 $T^2$ を忘れたことと同じになります。
#
# 比べる相手として、正解ラベルだけの学習（`alpha = 0`）も行います。
# 予想してください。いちばん害の大きい誤りはどれですか。害がほとんどない誤りはありますか。正解ラベルだけの学習より悪くなるものは、いくつありますか。


# %%
class AlwaysTraining(nn.Module):
    """呼ばれるたびに、中のモデルを学習モードに戻す。"""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner.train()(x)


class AnotherView(nn.Module):
    """渡された画像の代わりに、other()の画像を、中のモデルに見せる。"""

    def __init__(self, inner: nn.Module, other: Callable[[], Tensor]) -> None:
        super().__init__()
        self.inner, self.other = inner, other

    def forward(self, _: Tensor) -> Tensor:
        return self.inner(self.other())


def pile_up(model: nn.Module, kept: dict[Tensor, Tensor]) -> None:
    """モデルの勾配を、これまでの勾配の和に替える。"""
    for parameter in model.parameters():
        if parameter.grad is not None:
            kept[parameter] = kept[parameter] + parameter.grad if parameter in kept else parameter.grad.clone()
            parameter.grad = kept[parameter].clone()


def drag(student: nn.Module, teacher: nn.Module, x: Tensor, adam: torch.optim.Optimizer, scale: float) -> None:
    """生徒モデルを止めて、蒸留の損失で、教師モデルのほうを更新する。"""
    t = STEP_SETTING["temperature"]
    with torch.no_grad():
        goal = (student(x) / t).log_softmax(dim=1)
    found = (teacher.train(False)(x) / t).log_softmax(dim=1)
    student.zero_grad()  # 勾配のないパラメータは動かない
    (scale * t**2 * (found.exp() * (found - goal)).sum(dim=1).mean()).backward()
    adam.step()
    teacher.zero_grad()


def sabotaged(update: Callable[..., float], fault: str) -> Callable[..., float]:
    """updateの中身は変えずに、外からfaultの誤りを起こす。"""
    kept: dict[Tensor, Tensor] = {}

    def step(student, teacher, batch, optimizer, augment, temperature, alpha):  # noqa: ANN001, ANN202
        seen = []
        watched = {
            "教師が学習モード": AlwaysTraining(teacher),
            "変形が別々": AnotherView(teacher, lambda: augment(batch[0])),
        }
        weights = {"正解ラベルだけ": 0.0, "T²なし": alpha / (alpha + (1 - alpha) * temperature**2)}
        if fault == "勾配を消さない":
            hook = optimizer.register_step_pre_hook(lambda *_: pile_up(student, kept))
        loss = update(
            student,
            watched.get(fault, teacher),
            batch,
            optimizer,
            lambda x: seen.append(augment(x)) or seen[-1],
            temperature,
            weights.get(fault, alpha),
        )
        if fault == "勾配を消さない":
            hook.remove()
        if fault == "教師も更新":
            drag(student, teacher, seen[-1], optimizer, alpha)
        return loss

    return step


STEP_FAULTS = ["正解ラベルだけ", "教師が学習モード", "変形が別々", "T²なし", "教師も更新", "勾配を消さない"]


def draw_faults(axes: np.ndarray, rows: dict[str, list[tuple[float, float]]]) -> None:
    """左に生徒モデル、右に教師モデルの正解率。名前ごとの棒。"""
    for axis, scores, title in zip(axes, (0, 1), ("生徒モデル", "教師モデル"), strict=True):
        found = [mean_ci([pair[scores] for pair in pairs]) for pairs in rows.values()]
        colors = [plot.COLORS[{"直した関数": 2, "正解ラベルだけ": 4}.get(name, 1)] for name in rows]
        axis.barh(range(len(rows)), [f.mean for f in found], xerr=[f.half for f in found], color=colors, capsize=3)
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set_xlim(0, 1)
        axis.set_xlabel("テストの正解率（平均と95%信頼区間）")
        axis.set_title(title)
    axes[0].invert_yaxis()  # 縦軸は共有されている
    axes[1].tick_params(labelleft=False)


if ready("07-6"):
    step_runs = {"直した関数": distill_step}
    step_runs |= {name: sabotaged(distill_step, name) for name in STEP_FAULTS} | {"五つとも": buggy_step}
    step_rows = {
        name: [distilled(update, step_teacher, seed) for seed in range(10, 15)] for name, update in step_runs.items()
    }
    for name, pairs in step_rows.items():
        student_mean, teacher_mean = (mean_ci(list(column)) for column in zip(*pairs, strict=True))
        print(f"{name}　生徒モデル {student_mean}　教師モデル {teacher_mean}")

    fig, axes = plot.subplots(1, 2, figsize=(8.4, 3.6), sharey=True)
    draw_faults(axes, step_rows)
    plot.show(
        fig,
        alt="左は生徒モデル、右は学習の後の教師モデルの、テストの正解率の横棒グラフ。直した関数では、生徒モデルは正解ラベルだけの学習を大きく上回る。"
        "教師が学習モードのときと変形が別々のときは、少し下がる。T²なしでは、さらに下がる。"
        "教師も更新するときは、正解ラベルだけより低く、教師モデルの正解率も0.1の近くまで落ちる。勾配を消さないときと五つともでは、生徒モデルはでたらめに近い。",
    )

    def cost_of(name: str) -> np.ndarray:
        """直した関数との、生徒モデルの正解率の差（同じ種どうし）。"""
        return np.subtract(step_rows["直した関数"], step_rows[name])[:, 0]

    alpha, squared = STEP_SETTING["alpha"], STEP_SETTING["temperature"] ** 2
    print(f"T²を忘れると、α = {alpha} は、α = {alpha / (alpha + (1 - alpha) * squared):.3f} と同じ意味になる")
    print("直した関数と比べて失った、生徒モデルの正解率（同じ種どうし）")
    for name in STEP_FAULTS:
        print(f"　{name}: {mean_ci(cost_of(name))}")
    assert cost_of("正解ラベルだけ").mean() > 0.08, "蒸留の効果が確認できません"
    assert cost_of("T²なし").mean() > 0.04, "T²を忘れた害が確認できません"
    assert cost_of("変形が別々").mean() > 0, "別々に変形した害が確認できません"
    assert cost_of("教師も更新").mean() > cost_of("正解ラベルだけ").mean(), "教師モデルを動かした害が確認できません"
    assert max(teacher_score for _, teacher_score in step_rows["教師も更新"]) < 0.5, "教師モデルが壊れていません"
    assert cost_of("勾配を消さない").mean() > 0.3, "勾配を消さない害が確認できません"

# %% [markdown]
# 一つだけでも致命的なのは、勾配を消さない誤りです。古い画像の勾配がたまり続け、更新の向きが、いまの画像と関係なくなります。
#
# 教師モデルも更新すると、正解ラベルだけの学習より悪くなりました。二つのモデルの差を縮めるには、教師モデルを生徒モデルに近づけてもよいからです。
# 学習を始めたばかりの生徒モデルに、教師モデルが合わせてしまいます。
#
# $T^2$ を忘れても、例外は起きません。$\alpha$ の意味が、黙って変わるだけです。変わり方は温度によるので、温度を比べる実験をすると、
# 実は温度と重みを同時に変えたことになります。
#
# 学習モードの教師モデルと、別々の変形は、この設定では害の小さい誤りです。評価モードで測った教師モデルの正解率も、ほとんど落ちません。
# だからこそ、正解率を見ていても気づけません。この演習の確認が、正解率でなく「呼ぶ前と後で、何が変わってはいけないか」を調べたのは、そのためです。
#
# **考えてみよう**：
#
# 1. `noisy_sample`の0.3を0にして、付け直しをなくすと、「$T^2$ なし」の順位はどう変わりますか。小さな $\alpha$ で十分な課題だとしたら、誤りが得に見えることもあります。
# 2. 画像をクラスの順に並べ、混ぜずにバッチを作ると、学習モードの教師モデルの害はどうなりますか。バッチ正規化の統計から予想してください。
# 3. `optimizer`が生徒モデルのパラメータだけを持つなら、`torch.no_grad()`を忘れても、正解率は変わりません。それでも失われるものは何ですか。

# %% [markdown]
# ## 演習07-7 温度と重みを、検証だけで選ぶ
#
# <!-- exercise: 07-7 -->
#
# 温度 $T$ と重み $\alpha$ を、格子（全部の組み合わせ）の中から選びます。
# 設定 $(T, \alpha)$ を種 $s$ で学習したときの、検証の正解率を $v_s(T, \alpha)$ とします。
#
# $$
# (\hat{T}, \hat{\alpha}) = \operatorname*{arg\,max}_{(T, \alpha)} \frac{1}{S} \sum_{s=1}^{S} v_s(T, \alpha)
# $$
#
# テストで測るのは $(\hat{T}, \hat{\alpha})$ だけで、一度だけです。テストを見て選ぶと、その値は新しいデータでの見積もりになりません。
#
# 格子は時間がかかります。そこで、計算を**executor**に送ります。executorは、Pythonの標準ライブラリ`concurrent.futures`が決めた
# 「仕事の送り先」の形です。スレッド、プロセス、ほかの機械（daskなど）のどれにも、同じ書き方で送れます。
#
# - `executor.submit(f, x, y)`は、`f(x, y)`という仕事を送り、すぐに`Future`（あとで届く結果の引換券）を返す
# - `as_completed(futures)`は、終わった`Future`から順に返す。送った順とは限らない
# - `future.result()`は結果を返す。仕事が例外で終わったときは、その例外をここで送出する
#
# 途中で電源が落ちても続きから測れるように、済んだ結果は辞書`finished`に残します。
# 本物では、この辞書をファイルに書きます（`tlkit.distill.sweep`がその例です）。
# 次の二つの関数を書いてください。設定は`(3.0, 0.7)`のような組、種は整数です。
#
# `run_grid`が満たすべき条件は、次のとおりです。
#
# - `evaluate(setting, seed)`は、検証の正解率を返す。自分では呼ばず、そのまま`executor`に送る（lambdaなどで包むと、ほかのプロセスに送れない）
# - `finished`は、`{(設定, 種): 正解率}`という形の、済んだ結果の辞書を表す。ここにある組は送らない（正解率が0.0の組も済んでいる）
# - 残りの組を全部送ってから、結果を待つ
# - 一つ終わるたびに、`finished`に書き入れる。送った順や、全部の終わりを待たない
# - 例外で終わった組があっても、ほかの組をすべて受け取って書き入れる。その後で、起きた例外を送出する（`raise ExceptionGroup(文, 例外のlist)`でまとめられる）
# - 返り値は`{設定: [種の順の正解率]}`とする。設定は`settings`の順に、値は`seeds`の順に並べる。`finished`には今の格子にない組もあるが、表には入れない
# - `executor`は呼んだ側のものなので、閉じない。`finished`のほかの引数は書き換えない
#
# `choose_and_test`が満たすべき条件は、次のとおりです。
#
# - `table`は`run_grid`の返り値で、値は大きいほど良い（負のこともある）。種についての平均が最も高い設定を選ぶ
# - 同点なら、`table`で先にある設定を選ぶ
# - NaN（発散した学習）が一つでもある設定は選ばない。どの設定にもNaNがあれば、`ValueError`を送出する
# - `test(setting)`は、選んだ設定について一度だけ呼ぶ
# - 返り値は`{"setting": 選んだ設定, "validation": その検証の平均, "test": testの返した値}`とする


# %%
def run_grid(
    evaluate: Callable[[tuple, int], float],
    settings: list[tuple],
    seeds: list[int],
    finished: dict[tuple, float],
    executor: Executor,
) -> dict[tuple, list[float]]:
    """まだ測っていない（設定, 種）をexecutorで測り、finishedに書き入れる。{設定: [種の順の値]} を返す。"""
    ### BEGIN SOLUTION
    left = [(setting, seed) for setting in settings for seed in seeds if (setting, seed) not in finished]
    futures = {executor.submit(evaluate, *pair): pair for pair in left}
    failed = []
    for future in as_completed(futures):
        try:
            finished[futures[future]] = future.result()
        except Exception as error:
            failed.append(error)
    if failed:
        raise ExceptionGroup("例外で終わった組があります。", failed)
    return {setting: [finished[setting, seed] for seed in seeds] for setting in settings}
    ### END SOLUTION


def choose_and_test(table: dict[tuple, list[float]], test: Callable[[tuple], Any]) -> dict[str, Any]:
    """検証の平均が最も高い設定を選び、その設定だけを一度テストする。"""
    ### BEGIN SOLUTION
    means = {setting: sum(values) / len(values) for setting, values in table.items()}
    usable = {setting: mean for setting, mean in means.items() if not math.isnan(mean)}
    if not usable:
        raise ValueError("どの設定にもNaNがあるので、選べません。")
    best = max(usable, key=usable.get)  # maxは、同点なら先にあるものを返す
    return {"setting": best, "validation": usable[best], "test": test(best)}
    ### END SOLUTION


# %%
check("07-7", run_grid, choose_and_test)

# %% [markdown]
# ### 合格したら：途中で止めて、続きから測り、一度だけテストする
#
# MNISTの数字1,000枚で、教師モデル（フォントの英字で事前学習した畳み込みネットワーク）をファインチューニングします。
# 生徒モデルは、隠れ層の幅が64の多層パーセプトロンです。同じ1,000枚で、 $T$ と $\alpha$ の16通りを、三つの種で測ります。
#
# 1. 20組を測った所で、電源が落ちたことにする。もう一度呼んで、残りだけが測られることを確かめる
# 2. 検証の平均をヒートマップにする
# 3. 選んだ設定と、正解ラベルだけの学習を、検証に使っていない画像と新しい十個の種でテストする
#
# ここで種が変えるのは、生徒モデルの初期値とバッチの引き方だけです。また、正解ラベルだけの学習の学習率は、選んでいません。
# 教師モデルと画像の分け方も種ごとに変え、正解ラベルだけの学習の学習率と重み減衰も検証で選んだ実験（`07_grid`）の差を、並べて表示します。


# %%
def tuned_teacher(images: Tensor, labels: Tensor, steps: int = 80) -> nn.Module:
    """フォントの英字で事前学習したGlyphCNNを、渡したラベルでファインチューニングした教師モデル。"""
    torch.manual_seed(0)
    teacher = models.GlyphCNN(10, weights="letters")
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = torch.randint(len(images), (50,))
        optimizer.zero_grad()
        F.cross_entropy(teacher(images[rows]), labels[rows]).backward()
        optimizer.step()
    return teacher.eval()


def grid_student(setting: tuple, seed: int, images: Tensor, labels: Tensor, logits: Tensor) -> nn.Module:
    """設定 (T, α) の損失で、150回更新した生徒モデル。"""
    with initial_lock:  # torchの既定の乱数は、スレッドの間で共有されている
        torch.manual_seed(seed)
        student = models.DigitMLP(64)
    own = torch.Generator().manual_seed(seed)  # この学習だけの乱数
    distillation = losses.DistillationLoss(*setting)
    optimizer = torch.optim.AdamW(student.parameters(), lr=7e-3, fused=True)
    for _ in range(150):
        rows = torch.randint(len(images), (50,), generator=own)
        optimizer.zero_grad()
        distillation(student(images[rows]), logits[rows], labels[rows]).total.backward()
        optimizer.step()
    return student.eval()


def powered_until(calls: Callable, limit: int) -> Callable:
    """Limit回まではcallsを呼び、その後は「電源が落ちた」例外を出す関数。"""
    numbers = itertools.count()

    def call(setting: tuple, seed: int) -> float:
        if next(numbers) >= limit:
            raise RuntimeError("電源が落ちました")
        return calls(setting, seed)

    return call


initial_lock = threading.Lock()

if ready("07-7"):
    pool = data.load("mnist5k")
    order = torch.randperm(len(pool.labels), generator=torch.Generator().manual_seed(7))
    few, held, unseen = order[:1000], order[1000:3000], order[3000:]
    teacher = tuned_teacher(pool.images[few], pool.labels[few])
    with torch.no_grad():
        teacher_logits = teacher(pool.images[few])
    run_counts = []

    def accuracy_on(rows: Tensor, setting: tuple, seed: int) -> float:
        """一つの設定と種の、rowsの画像での正解率。"""
        student = grid_student(setting, seed, pool.images[few], pool.labels[few], teacher_logits)
        with torch.no_grad():
            return float((student(pool.images[rows]).argmax(1) == pool.labels[rows]).float().mean())

    def validated(setting: tuple, seed: int) -> float:
        """検証の正解率。"""
        run_counts.append((setting, seed))
        return accuracy_on(held, setting, seed)

    temperatures, alphas = (1.0, 3.0, 5.0, 10.0), (0.3, 0.5, 0.7, 0.9)
    grid = list(itertools.product(temperatures, alphas))
    finished = {}
    with ThreadPoolExecutor(2) as executor:
        try:
            run_grid(powered_until(validated, 20), grid, [0, 1, 2], finished, executor)
        except Exception as error:
            print(f"{len(finished)}組を測った所で止まりました（{type(error).__name__}）")
        table = run_grid(validated, grid, [0, 1, 2], finished, executor)
    print(f"続きから測ったのは{len(run_counts) - 20}組です")
    assert len(run_counts) == len(set(run_counts)) == len(grid) * 3, "済んだ組が、もう一度測られました"

    fresh = range(100, 110)
    chosen = choose_and_test(table, lambda setting: [accuracy_on(unseen, setting, seed) for seed in fresh])
    hard_only = [accuracy_on(unseen, (1.0, 0.0), seed) for seed in fresh]
    gains = mean_ci([a - b for a, b in zip(chosen["test"], hard_only, strict=True)])
    lucky = max(table, key=lambda setting: max(table[setting]))
    t, a = chosen["setting"]
    print(f"選んだ設定: T = {t:g}、α = {a:g}（検証の平均 {chosen['validation']:.3f}）")
    once, mean = max(table[lucky]), np.mean(table[lucky])
    print(f"最も高い一つの種だけで選ぶと: T = {lucky[0]:g}、α = {lucky[1]:g}（その種 {once:.3f}、平均 {mean:.3f}）")
    print(f"テスト: 選んだ設定 {mean_ci(chosen['test'])}、正解ラベルだけ {mean_ci(hard_only)}、差 {gains}")
    tuned = results.load("07_grid").difference("accuracy", {"method": "distill"}, {"method": "hard"})
    print(f"相手の学習率と重み減衰も選んだ実験: 差 {tuned}")
    assert gains.mean > 0.002, "蒸留の得が確認できません"

    heat = np.array([[np.mean(table[t, a]) for a in alphas] for t in temperatures])
    warm = heat[1:].mean() - heat[0].mean()
    print(f"検証の平均の差: T = 3以上とT = 1 {warm:.3f}、T = 3以上の設定の間の幅 {np.ptp(heat[1:]):.3f}")
    assert warm > 0.004, "温度を上げる効果が確認できません"

    fig, ax = plot.subplots(figsize=(5.4, 3.8))
    ax.grid(False)
    ax.imshow(heat, cmap="Blues", aspect="auto")
    for (row, column), value in np.ndenumerate(heat):
        dark = value > (heat.min() + heat.max()) / 2
        ax.text(column, row, f"{value:.3f}", ha="center", va="center", color="white" if dark else "black")
    place = alphas.index(chosen["setting"][1]) - 0.5, temperatures.index(chosen["setting"][0]) - 0.5
    ax.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor=plot.COLORS[1], linewidth=3, clip_on=False))
    ax.set_xticks(range(4), [f"{a:g}" for a in alphas])
    ax.set_yticks(range(4), [f"{t:g}" for t in temperatures])
    ax.set_xlabel("α（ソフトの項の重み）")
    ax.set_ylabel("温度T")
    plot.show(
        fig,
        alt="温度Tを縦、αを横に取った4行4列のヒートマップ。値は検証の正解率の、三つの種についての平均。"
        "T = 1の行が最も淡く、T = 3以上の三つの行はどれも濃くて、互いの差は小さい。選んだ設定が枠で囲まれている。",
        caption="検証の正解率の平均。枠は選んだ設定。",
    )

# %% [markdown]
# **考えてみよう**
#
# 1. 16個の設定の実力がまったく同じで、検証の平均には標準偏差 $\sigma$ の誤差が独立に加わるとします。最も高い平均は、ほんとうの実力より高く出ますか、低く出ますか。設定を増やすと、どうなりますか。
# 2. 上の1から、検証の平均を「新しいデータでの正解率」として報告してはいけない理由を説明してください。
# 3. `ThreadPoolExecutor`を`ProcessPoolExecutor`に替えると、この`validated`は送れません。なぜですか。どこに置けば送れますか。
# 4. 選ばれた $T$ の隣の設定との差は、種によるばらつきより大きいですか。 $T$ の値そのものについて、何が言えますか。

# %% [markdown]
# ## 演習07-8 重みをint8に量子化し、元に戻す
#
# <!-- exercise: 07-8 -->
#
# 蒸留は小さいモデルを**学習し直す**圧縮でした。**量子化**は、同じモデルの重みを、少ないビットの整数で表します。
# float32の重みをint8にすると、1要素が4バイトから1バイトになります。
# 学習が済んだ後に行うものを**学習後量子化**（PTQ）、丸めの誤差を入れながら学習するものを**量子化考慮学習**（QAT）と呼びます。ここではPTQを書きます。
#
# 実数 $w$ を、整数 $q$ と、目盛りの幅 $s$（scale）、0.0に当たる整数 $z$（ゼロ点）で近似します。$a$ と $b$ は、丸める範囲の端です。
#
# $$
# q = \mathrm{clip}\bigl(\mathrm{round}(w / s) + z,\; -128,\; 127\bigr), \qquad \hat{w} = (q - z)\, s
# $$
#
# | | 範囲 | scale | ゼロ点 |
# | --- | --- | --- | --- |
# | 非対称 | $a = \min(0, \min w)$、$b = \max(0, \max w)$ | $s = (b - a) / 255$ | $z = \mathrm{round}(-128 - a / s)$ |
# | 対称 | $-\max \lvert w \rvert$ から $\max \lvert w \rvert$ | $s = \max \lvert w \rvert / 127$ | $z = 0$ |
#
# 範囲に0を必ず含めるので、0.0はちょうど整数 $z$ になります。ReLUの後や余白の0を、誤差なしで表すためです。
# いちばん近い整数に丸めるので、誤差 $\lvert \hat{w} - w \rvert$ は $s/2$ 以下です。
#
# 手で計算してみます。$w = (-1,\ 0,\ 0.304,\ 1.55)$ を、非対称に量子化します。
# $a = -1$、$b = 1.55$ なので、$s = 2.55 / 255 = 0.01$、$z = \mathrm{round}(-128 + 100) = -28$ です。
#
# | $w$ | $w / s$ | $q$ | $\hat{w} = (q + 28) \times 0.01$ | 誤差 |
# | --- | --- | --- | --- | --- |
# | −1 | −100 | −128 | −1 | 0 |
# | 0 | 0 | −28 | 0 | 0 |
# | 0.304 | 30.4 | 2 | 0.30 | 0.004 |
# | 1.55 | 155 | 127 | 1.55 | 0 |
#
# 同じ $w$ を対称に量子化すると、$s$、$z$、$q$ はいくつになるでしょうか。書く前に計算してみてください。
#
# `quantize`と`dequantize`を書いてください。満たすべき条件は次のとおりです。
#
# - `w`は2次元以上の重み`(C, …)`で、0番目の次元が出力チャネルとする。`nn.Parameter`を渡してもよく、返り値に勾配を残さない
# - `quantize`は`(q, scale, zero_point)`を返す。`q`は`w`と同じ形のint8、`scale`は`w`と同じdtype、`zero_point`はint8とする
# - `per_channel=False`なら、`scale`と`zero_point`はテンソル全体で一つの、0次元のテンソルとする
# - `per_channel=True`なら、出力チャネルごとに求め、形を`(C, 1, …, 1)`（次元の数は`w`と同じ）にする
# - 範囲の幅が0（すべて0）なら、$s = 1$ とする
# - `dequantize`は $(q - z)\,s$ を、`scale`と同じdtypeで返す。$q - z$ は−128から127に収まるとは限らない
# - 引数を書き換えない。`tlkit.distill`の関数を呼ばずに、自分で計算する


# %%
def quantize(w: Tensor, *, symmetric: bool = False, per_channel: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """重みをint8に量子化する。w (C, …) → 整数q (C, …)、scale、zero_point。"""
    ### BEGIN SOLUTION
    with torch.no_grad():
        axes = tuple(range(1 if per_channel else 0, w.ndim))
        low = w.amin(axes, keepdim=per_channel).clamp(max=0)  # 範囲を0まで広げる
        high = w.amax(axes, keepdim=per_channel).clamp(min=0)
        width = w.abs().amax(axes, keepdim=per_channel) / 127 if symmetric else (high - low) / 255
        scale = width + (width == 0)  # すべて0なら1にして、0で割らない
        zero_point = torch.zeros_like(scale) if symmetric else (-128 - low / scale).round()
        q = ((w / scale).round() + zero_point).clamp(-128, 127)
        return q.to(torch.int8), scale, zero_point.to(torch.int8)
    ### END SOLUTION


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """整数から元の値の近似に戻す。q (C, …) → (C, …)。"""
    ### BEGIN SOLUTION
    return (q.to(scale.dtype) - zero_point) * scale  # int8のまま引くと、桁があふれる
    ### END SOLUTION


# %%
check("07-8", quantize, dequantize)

# %% [markdown]
# ### 合格したら：テンソル全体か、チャネルごとか
#
# ImageNetで学習したEfficientNet-Lite0の、畳み込みと全結合の重みをすべて量子化して戻し、ロジットがどれだけ変わるかを調べます。
# このネットワークは、畳み込みの直後に**バッチ正規化**を置きます。推論では、畳み込みの重みに $\gamma / \sqrt{\sigma^2 + \varepsilon}$ を掛けておけば、正規化の計算を省けます。
# これを、バッチ正規化の**折り込み**と呼びます。折り込んでも、ネットワークの出力は変わりません。
#
# 次の四つを比べます。どれも対称な量子化で、活性化は浮動小数点数のままです。
#
# - 折り込む前の重みを、テンソル全体で一つの $s$ で量子化する。または、出力チャネルごとの $s$ で量子化する
# - 折り込んだ後の重みを、同じ二通りで量子化する
#
# ロジットの誤差は、浮動小数点数のロジットとの差の大きさを、ロジットの標準偏差で割った値です。
# 折り込みで損をするのは、どちらの量子化でしょうか。予想してから実行してください。


# %%
def folded(network: nn.Module) -> nn.Module:
    """バッチ正規化を、直前の畳み込みに折り込んだ写し。"""
    network = copy.deepcopy(network).eval()
    for block in list(network.modules()):
        children = list(block.named_children())
        for (_, conv), (name, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                moments = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
                conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *moments)
                setattr(block, name, nn.Identity())
    return network


def rounded_network(
    forward: Callable[..., Any], back: Callable[..., Tensor], network: nn.Module, **how: bool
) -> tuple[nn.Module, list[float]]:
    """forwardで量子化し、backで戻した重みを持つ写しと、層ごとの、チャネルの相対誤差の中央値。"""
    network, errors = copy.deepcopy(network), []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            w = layer.weight.detach()
            restored = back(*forward(w, symmetric=True, **how))
            relative = (restored - w).flatten(1).norm(dim=1) / w.flatten(1).norm(dim=1).clamp(min=1e-12)
            errors.append(float(relative.median()))
            layer.weight.data = restored
    return network, errors


if ready("07-8"):
    small = torch.tensor([[-1.0, 0.0, 0.304, 1.55]])
    for symmetric in (False, True):
        q, scale, zero_point = quantize(small, symmetric=symmetric)
        kind = "対称　" if symmetric else "非対称"
        print(f"{kind}: s = {float(scale):.4f}、z = {int(zero_point)}、q = {q.tolist()[0]}")

    weight = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    ours = dequantize(*quantize(weight, symmetric=True, per_channel=True))
    scales = weight.abs().amax((1, 2, 3)) / 127
    library = torch.fake_quantize_per_channel_affine(weight, scales, torch.zeros(6, dtype=torch.int32), 0, -128, 127)
    print(f"PyTorchの量子化との差の最大: {float((ours - library).abs().max()):.1g}")

    plain = models.EfficientNetLite0().eval()
    crops = torch.stack([models.imagenet_input(photo.image[:224, :224]) for photo in data.photos()])
    with torch.inference_mode():
        exact = plain(crops)
    errors, logit_errors = {}, {}
    for place, network in {"折り込む前": plain, "折り込んだ後": folded(plain)}.items():
        for unit, per_channel in {"テンソル全体": False, "チャネルごと": True}.items():
            changed, errors[place, unit] = rounded_network(quantize, dequantize, network, per_channel=per_channel)
            with torch.inference_mode():
                logits = changed(crops)
            logit_errors[place, unit] = float((logits - exact).square().mean().sqrt() / exact.std())
            print(f"{place}、{unit}: ロジットの誤差 {logit_errors[place, unit]:.2f}")

    fig, axes = plot.subplots(ncols=2, figsize=(8.2, 3.4), width_ratios=(3, 2))
    drawn = [
        ("折り込む前", "テンソル全体", "s"),
        ("折り込んだ後", "テンソル全体", "o"),
        ("折り込んだ後", "チャネルごと", "^"),
    ]
    for place, unit, marker in drawn:
        axes[0].plot(errors[place, unit], linestyle="none", marker=marker, markersize=4, label=f"{place}、{unit}")
    axes[0].set(
        xlabel="層（入力から順に）", ylabel="重みの相対誤差（中央値）", yscale="log", ylim=(2e-3, 1), title="層ごと"
    )
    axes[0].legend(fontsize=8, loc="upper right")
    for offset, (unit, hatch) in zip((-0.2, 0.2), {"テンソル全体": "", "チャネルごと": "//"}.items(), strict=True):
        heights = [logit_errors[place, unit] for place in ("折り込む前", "折り込んだ後")]
        axes[1].bar([offset, 1 + offset], heights, width=0.36, hatch=hatch, edgecolor="white", label=unit)
    axes[1].set_xticks([0, 1], ["折り込む前", "折り込んだ後"])
    axes[1].set(ylabel="ロジットの誤差", title="ネットワーク全体")
    axes[1].legend(fontsize=8)
    plot.show(
        fig,
        alt="左は、層ごとに、チャネルの相対誤差の中央値を描いた対数の図。チャネルごとの量子化は、どの層でもいちばん小さい。"
        "テンソル全体の量子化は、折り込むとさらに大きくなる層が多い。右はロジットの誤差の棒グラフ。折り込むと、テンソル全体だけが大きく増える。",
    )
    pairs = zip(errors["折り込んだ後", "テンソル全体"], errors["折り込んだ後", "チャネルごと"], strict=True)
    assert all(whole > each for whole, each in pairs), "チャネルごとの誤差が、小さくありません"
    assert logit_errors["折り込んだ後", "テンソル全体"] > 2 * logit_errors["折り込んだ後", "チャネルごと"], (
        "チャネルごとに分ける効果が確認できません"
    )
    change = abs(logit_errors["折り込んだ後", "チャネルごと"] - logit_errors["折り込む前", "チャネルごと"])
    assert change < 0.05, "チャネルごとの量子化が、折り込みで変わりました"

# %% [markdown]
# 折り込みは、出力チャネルごとに違う数を掛けます。対称な量子化では、チャネルの全部の値が $c$ 倍なら、そのチャネルの $s$ も $c$ 倍になり、整数は同じです。
# だから、チャネルごとの量子化は折り込みの影響を受けません。テンソル全体では、いちばん大きいチャネルが $s$ を決めるので、小さいチャネルは少ない段で表されます。
#
# チャネルごとの $s$ を保存するための追加は、チャネル1本につき数バイトです。畳み込みや全結合の出力に $s$ を掛けるのはチャネルごとに1回なので、計算もほとんど増えません。
# 活性化の量子化では、事情が違います。入力チャネルごとに $s$ を変えると、和の途中で単位がそろわないので、テンソル全体で一つの $s$ が使われます。ReLUの後の値は負にならないので、非対称が向きます。
#
# ここで測ったのは丸めの誤差だけで、速さではありません。整数の積和を速く実行するには、そのための命令と実装が必要です。
#
# **考えてみよう**：
#
# 1. 同じ重みを、0から255の整数（uint8）で表すと、ゼロ点はいくつになりますか。$s$ と $\hat{w}$ は変わりますか。
# 2. 値の範囲が $[-1, 3]$ の活性化を、uint8に非対称で量子化します。$s$ と $z$ を求めてください。対称なint8では、段のうちどれだけが使われませんか。
# 3. 1個だけ飛び抜けて大きい重みがあるとき、最大値で $s$ を決めると、ほかの重みの誤差はどうなりますか。範囲を狭めて端を切ると、何が良くなり、何が悪くなりますか。
