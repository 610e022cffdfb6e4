# %% [markdown]
# # 第2章の演習 ファインチューニング
#
# 上から順に実行してください。答えを書くのは`raise NotImplementedError`のある所です。
# 書いたら、すぐ下の確認セルを実行します。書く前に実行しても、「⏳ 未着手」と表示されるだけで止まりません。

# %%
import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from tlkit import data, plot
from tlkit.course import check, hint, ready
from tlkit.data.glyphs import glyphs
from tlkit.finetune import extract_features
from tlkit.models import GlyphCNN
from tlkit.results import load as load_results
from tlkit.stats import mean_ci
from tlkit.training import fit

# %% [markdown]
# ## 演習02-1 動かないはずのバックボーンを止める
#
# <!-- exercise: 02-1 -->
#
# この演習では、`model.classifier`を分類層、それ以外のすべてを**バックボーン**と呼びます。特徴は`model.features(x)`で計算します。
# 次の関数は、バックボーンを凍結するつもりで書かれたものです。よく見かける書き方ですが、凍結になっていません。


# %%
def freeze_by_flag(model: torch.nn.Module) -> torch.nn.Module:
    """凍結したつもりの関数（虫がいます）。"""
    for name, weight in model.named_parameters():
        weight.requires_grad = "classifier" in name
    return model


# %% [markdown]
# まず、虫が動くところを見ます。フォントの英字で学習したCNNに、かすれた手書き数字を学習させます。
# かすれた数字とは、背景を灰色にし、濃淡の差を小さくした画像です。学習するのは、新しい分類層だけのはずです。


# %%
def train_steps(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    y: torch.Tensor,
    steps: int,
    seed: int = 0,
    set_to_none: bool = True,
) -> None:
    """無作為な50枚で、steps回更新する。モードは変えないので、先にmodel.train()を呼んでおく。"""
    g = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(x), (50,), generator=g)
        loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad(set_to_none=set_to_none)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def features_and_accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, float]:
    """評価モードでの特徴と正解率。"""
    model.eval()
    found = model.features(x)
    return found, (model.classifier(found).argmax(dim=1) == y).float().mean().item()


mnist = data.load("mnist5k")
mnist_order = torch.randperm(len(mnist.labels), generator=torch.Generator().manual_seed(0))
digit_images, digit_labels = mnist.images[mnist_order], mnist.labels[mnist_order]
digit_shifts = {"かすれた数字": 0.3 + 0.4 * digit_images, "白黒を反転した数字": 1 - digit_images}

torch.manual_seed(0)
bugged = freeze_by_flag(GlyphCNN(10, weights="letters"))
faint = digit_shifts["かすれた数字"]
state_before = {name: value.clone() for name, value in bugged.state_dict().items()}
features_before, _ = features_and_accuracy(bugged, faint[1000:1200], digit_labels[1000:1200])
bugged.train()
train_steps(bugged, torch.optim.SGD(bugged.parameters(), lr=0.1), faint[:500], digit_labels[:500], steps=20)
features_after, _ = features_and_accuracy(bugged, faint[1000:1200], digit_labels[1000:1200])

print("動いたもの:")
for name, value in bugged.state_dict().items():
    if not torch.equal(value, state_before[name]):
        print(f"　{name}")
bugged_change = ((features_after - features_before).norm() / features_before.norm()).item()
print(f"同じ画像の特徴の変化: 元の大きさの{bugged_change:.0%}")
assert bugged_change > 0.2, "移動統計の変化による、特徴の変化が確認できません"

# %% [markdown]
# バックボーンの重みは一つも動いていません。しかし、BatchNormの移動統計が動き、特徴が変わりました。
# 移動統計は勾配で学習するものではなく、学習モードで画像を通すたびに、指数移動平均で書き換わるからです。
#
# $$
# \hat\mu \leftarrow (1 - m)\, \hat\mu + m\, \mu_{\mathrm{batch}}, \qquad
# \hat\sigma^2 \leftarrow (1 - m)\, \hat\sigma^2 + m\, \sigma^2_{\mathrm{batch}}
# $$
#
# $m$ は`momentum`（既定では0.1）です。`requires_grad`は、この式のどこにも出てきません。
#
# 虫はもう一匹います。学習の途中で凍結すると、前の更新で使った勾配が`.grad`に残ります。
# オプティマイザが見るのは`requires_grad`ではなく`.grad`です。0で埋めただけでは、モーメンタムと重み減衰が重みを動かし続けます。
#
# 本当に凍結する関数`freeze_backbone`を書いてください。方法は自由です。`train`を差し替えても、フックを使ってもかまいません。
#
# 満たすべき条件は次のとおりです。
#
# - `model.classifier`のほかは、すべてバックボーンとする。`model`が直接持つパラメータも含む。分類層は、モデルの最後に登録されているとは限らない
# - バックボーンのパラメータは、どれも`requires_grad`が`False`、`.grad`が`None`になる
# - バックボーンは、呼んだ直後から、`model.train()`を呼んだ後も、評価モードのときと同じ計算をする。移動統計は動かず、特徴は入力だけで決まる。`model(x)`と`model.features(x)`のどちらで呼んでも、そうなる
# - 学習モードで動作の変わる部品は、BatchNormとDropoutだけとは限らない
# - 分類層はふつうに学習でき、`model.train()`と`model.eval()`に従う。分類層の中にも、BatchNormやDropoutがあってよい
# - `model.train()`は、これまでどおり`model`を返す。同じクラスの別のモデルには影響しない
# - 同じモデルに2回呼んでも壊れない。呼んだだけでは、どの値も変わらない
# - 受け取ったモデルそのものを返す


# %%
def freeze_backbone(model: torch.nn.Module) -> torch.nn.Module:
    """model.classifierのほかを凍結する。受け取ったモデルを返す。"""
    ### BEGIN SOLUTION
    for name, parameter in model.named_parameters():
        if not name.startswith("classifier."):
            parameter.requires_grad_(False)
            parameter.grad = None  # 残すと、モーメンタムと重み減衰が動かし続ける
    original = model.train

    def train(mode: bool = True) -> torch.nn.Module:
        original(mode)
        for name, child in model.named_children():
            if name != "classifier":
                child.eval()
        return model

    model.train = train
    return model.train(model.training)
    ### END SOLUTION


# %%
check("02-1", freeze_backbone)

# %% [markdown]
# ### 合格したら：凍結は、何を守るか
#
# かすれた数字と、白黒を反転した数字で、`freeze_by_flag`と`freeze_backbone`を比べます。
# 測るのは二つの正解率です。
#
# - ターゲット：学習に使わなかった数字の正解率
# - ソース：変わった後の特徴に、**英字を学習したときの分類層**を載せ、学習に使わなかった書体の英字で測った正解率
#
# ソースの正解率は、元の課題をどれだけ覚えているかを表します。正しく凍結すれば、特徴は変わらないので、少しも下がらないはずです。
# 虫のいる凍結では、二つの正解率はどう動くでしょうか。予想してから実行してください。

# %%
if ready("02-1"):
    letters = glyphs("letters")
    held_out = letters.of_family("Computer Modern")  # 事前学習に使わなかった書体
    letter_images, letter_labels = letters.images[held_out], letters.labels[held_out]
    letter_classifier = GlyphCNN.pretrained("letters").classifier
    freezers = {"requires_gradだけ": freeze_by_flag, "freeze_backbone": freeze_backbone}
    curves = {}
    for shift, images in digit_shifts.items():
        for title, freeze in freezers.items():
            torch.manual_seed(0)
            model = freeze(GlyphCNN(10, weights="letters"))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            points, first = [], None
            for turn in range(5):
                now, target = features_and_accuracy(model, images[1000:1300], digit_labels[1000:1300])
                source_features, _ = features_and_accuracy(model, letter_images, letter_labels)
                with torch.no_grad():
                    source = (letter_classifier(source_features).argmax(dim=1) == letter_labels).float().mean().item()
                first = now if first is None else first
                points.append((target, source))
                if turn < 4:
                    model.train()
                    train_steps(model, optimizer, images[:500], digit_labels[:500], steps=10, seed=turn)
            change = ((now - first).norm() / first.norm()).item()
            curves[shift, title] = points
            print(f"{shift}／{title}: 特徴の変化{change:.0%}、ターゲット{points[-1][0]:.3f}、", end="")
            print(f"ソース{points[0][1]:.3f} → {points[-1][1]:.3f}")
    assert all(
        curves[shift, "freeze_backbone"][0][1] == curves[shift, "freeze_backbone"][-1][1] for shift in digit_shifts
    )
    assert all(
        points[0][1] - points[-1][1] > 0.2 for (_, title), points in curves.items() if title == "requires_gradだけ"
    )

    gain = curves["かすれた数字", "requires_gradだけ"][-1][0] - curves["かすれた数字", "freeze_backbone"][-1][0]
    assert gain > 0.1, "かすれた数字で、移動統計が合うことによる上昇が確認できません"

    fig, axes = plot.subplots(1, 2, figsize=(7.6, 4.2), sharey=True)
    for place, (ax, name) in enumerate(zip(axes, ("ターゲット（数字）", "ソース（英字）"), strict=True)):
        for (shift, title), points in curves.items():
            ax.plot([10 * i for i in range(5)], [p[place] for p in points], marker="o", label=f"{shift}／{title}")
        ax.set_title(name)
        ax.set_xlabel("更新の回数")
    axes[0].set_ylabel("正解率")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    plot.show(
        fig,
        alt="更新の回数に対する正解率の折れ線グラフ。左はターゲットの数字で、どの線も上がる。右はソースの英字。"
        "freeze_backboneの線は、二つとも水平で重なる。requires_gradだけの凍結では、どちらの数字でもソースの正解率が下がる。",
    )

# %% [markdown]
# 虫のいる凍結は、ソースの正解率を下げました。一方、かすれた数字では、ターゲットの正解率は虫のいるほうが高くなりました。
# 移動統計がターゲットの画像に合わせて変わるからです。この効果をわざと使う方法もあり、適応的バッチ正規化（AdaBN）と呼ばれます。
#
# **考えてみよう**：
#
# 1. かすれた数字と白黒を反転した数字で、虫がターゲットに与えた影響は違いましたか。平均と分散を合わせ直すだけで消せる違いは、どちらでしょうか。
# 2. 特徴を一度だけ計算して取っておく方法（演習01-3）を、`freeze_by_flag`と組み合わせると、何が起きますか。

# %% [markdown]
# ## 演習02-2 層別学習率の組を作る
#
# <!-- exercise: 02-2 -->
#
# 入力に近い段ほど、どの課題にも使える汎用的な特徴を持ちます。出力に近い段ほど、元の課題に合わせた特徴を持ちます。
# そこで、入力に近い段ほど小さな学習率を使う方法があります。これを**層別学習率**（discriminative fine-tuning）と呼びます。
#
# ネットワークを、入力側から順に $L$ 個の段に分けます。出力から数えて $k$ 番めの段の学習率を、次のように決めます。分類層が $k = 0$ です。
#
# $$
# \eta_k = \frac{\eta_{\mathrm{base}}}{d^{\,k}} \qquad (k = 0, 1, \dots, L - 1)
# $$
#
# $d$ が`decay`です。PyTorchのオプティマイザには、パラメータと学習率の組を、`dict`の`list`で渡します。
#
# ```python
# [{"params": [...], "lr": 0.001}, {"params": [...], "lr": 0.0026}, ...]
# ```
#
# この`list`を作る関数を書いてください。組に入れ忘れたパラメータは、警告もなく、学習から漏れます。
#
# 満たすべき条件は次のとおりです。
#
# - `stages`は、部品（`nn.Module`）を入力側から順に並べた`list`で、最後が分類層
# - 学習できるパラメータは、どれもちょうど一度だけ組に入る。入力の段も、段が直接持つパラメータも忘れない
# - 凍結された（`requires_grad`が`False`の）パラメータは入れない
# - 学習するもののない段は、組を作らない。ただし、$k$ には数える
# - 二つの段が共有するパラメータは、入力に近い段の（小さいほうの）学習率で、一度だけ入れる
# - `params`は`list`にする（何度でも読めるように）。ほかの名前を`dict`に加えてもよい
# - 組の順番と、一つの段をいくつの組に分けるかは、自由に決めてよい
# - `stages`も、パラメータも書き換えない


# %%
def layerwise_groups(stages: list[torch.nn.Module], base_lr: float, decay: float) -> list[dict]:
    """層別学習率の組。stagesは入力側から順、最後が分類層。"""
    ### BEGIN SOLUTION
    groups, seen = [], set()
    for i, stage in enumerate(stages):
        params = [p for p in stage.parameters() if p.requires_grad and id(p) not in seen]
        seen.update(map(id, params))
        if params:
            k = len(stages) - 1 - i  # 出力から数えた段の番号
            groups.append({"params": params, "lr": base_lr / decay**k})
    return groups
    ### END SOLUTION


# %%
check("02-2", layerwise_groups)

# %% [markdown]
# ### 合格したら：段ごとに、重みはどれだけ動くか
#
# フォントの英字で学習したCNNを、手書き数字100枚でファインチューニングします。
# 学習率がどの段でも同じとき（`decay`が1）と、`decay`が2.6のときを比べます。2.6は、この方法を提案したULMFiTの論文の値です。
#
# 段ごとに、重みの動きを、元の重みの大きさで割って測ります。
#
# $$
# r = \frac{\lVert w_{\mathrm{after}} - w_{\mathrm{before}} \rVert}{\lVert w_{\mathrm{before}} \rVert}
# $$
#
# 正解率は、学習に使わなかった画像（設定を選ぶための開発用）で測り、学習する画像と分類層の初期値を変えて3回くり返します。
# 入力の段の動きは、何分の1になるでしょうか。正解率は上がるでしょうか。


# %%
def glyph_stages(model: GlyphCNN) -> list[torch.nn.Module]:
    """GlyphCNNの段。入力側から順で、最後が分類層。"""
    return [model.stem, *model.stages, model.head, model.classifier]


STAGE_NAMES = ["stem", "stages.0", "stages.1", "head", "classifier"]


def flat_weights(stages: list[torch.nn.Module]) -> list[torch.Tensor]:
    """段ごとに、すべてのパラメータを1列に並べた写し。"""
    return [torch.nn.utils.parameters_to_vector(stage.parameters()).detach().clone() for stage in stages]


def relative_moves(before: list[torch.Tensor], after: list[torch.Tensor]) -> list[float]:
    """段ごとの、重みの動き ÷ 元の重みの大きさ。"""
    return [((b - a).norm() / a.norm()).item() for a, b in zip(before, after, strict=True)]


if ready("02-2"):
    moves, scores = {1.0: [], 2.6: []}, {1.0: [], 2.6: []}
    for seed in range(3):
        rows = torch.randperm(4000, generator=torch.Generator().manual_seed(seed))[:100]  # 残りの1,000枚は測定に使う
        for decay in moves:
            torch.manual_seed(seed)
            tuned = GlyphCNN(10, weights="letters")
            parts = glyph_stages(tuned)
            start = flat_weights(parts)
            optimizer = torch.optim.Adam(layerwise_groups(parts, 0.003, decay))
            tuned.train()
            train_steps(tuned, optimizer, digit_images[rows], digit_labels[rows], steps=60, seed=seed)
            moves[decay].append(relative_moves(start, flat_weights(parts)))
            scores[decay].append(features_and_accuracy(tuned, digit_images[4000:], digit_labels[4000:])[1])
    average = {decay: torch.tensor(values).mean(dim=0).tolist() for decay, values in moves.items()}
    for decay, title in ((1.0, "同じ学習率"), (2.6, "decay 2.6")):
        listed = "、".join(f"{name} {move:.3f}" for name, move in zip(STAGE_NAMES, average[decay], strict=True))
        print(f"{title}: 重みの動き {listed}")
        print(f"　開発用の正解率 {mean_ci(scores[decay])}")
    print(f"正解率の差（decay 2.6 − 同じ学習率）{mean_ci([b - a for a, b in zip(*scores.values(), strict=True)])}")
    assert average[2.6][0] < 0.2 * average[1.0][0], "入力の段の動きが、小さくなっていません"

    fig, ax = plot.subplots()
    for decay, title in ((1.0, "同じ学習率"), (2.6, "decay 2.6")):
        ax.plot(STAGE_NAMES, average[decay], marker="o", label=title)
    ax.set_yscale("log")
    ax.set_xlabel("段（左が入力、右が分類層）")
    ax.set_ylabel("重みの動き ÷ 元の大きさ")
    ax.legend()
    plot.show(
        fig,
        alt="段ごとの重みの相対的な動きの折れ線グラフ（縦軸は対数）。同じ学習率でも段によって動きは違う。"
        "decay 2.6では、入力に近い段ほど動きが小さくなり、入力の段では同じ学習率の5分の1を下回る。分類層の動きは小さくならない。",
    )

# %% [markdown]
# `decay`は、確かに入力に近い段の動きを抑えました。ただし、動きを抑えることと、正解率が上がることは別です。
# 同じ種どうしの差の区間が0をまたぐなら、この実験からは、どちらが良いとも言えません。
#
# **考えてみよう**：
#
# 1. Adamでは、更新の大きさがほぼ学習率で決まります。SGDに替えると、図の「同じ学習率」の線はどう変わるでしょうか。
# 2. 2.6は、3層のLSTM言語モデルで選ばれた値です。段が10個あるネットワークにそのまま使うと、入力の段の学習率はどうなりますか。

# %% [markdown]
# ## 演習02-3 斜め三角の学習率
#
# <!-- exercise: 02-3 -->
#
# 新しい分類層は乱数なので、ファインチューニングの初めには、でたらめな向きの大きな勾配がバックボーンへ流れます。
# 初めから大きな学習率を使うと、事前学習済みの重みが崩れます。小さな学習率のままでは、ターゲットへ移るまでの時間が長くなります。
# そこで、短い間だけ学習率を上げ、残りの長い間で下げます。これを**斜め三角**（slanted triangular）の学習率と呼びます（Howard & Ruder 2018、式3）。
#
# 更新の総数を $T$、今のステップを $t = 0, 1, \dots, T - 1$、学習率の最大を $\eta_{\max}$ とします。
# 初めに、山のステップ $\mathrm{cut}$ と、山の何割の高さにいるかを表す $p$ を求めます。
#
# $$
# \mathrm{cut} = \max(1,\ \lfloor T \cdot \mathrm{cut\_frac} \rfloor), \qquad
# p = \begin{cases}
# \dfrac{t}{\mathrm{cut}} & (t < \mathrm{cut}) \\
# \max\left(0,\ 1 - \dfrac{t - \mathrm{cut}}{\mathrm{cut} \cdot (1/\mathrm{cut\_frac} - 1)}\right) & (t \geq \mathrm{cut})
# \end{cases}
# $$
#
# 次に、$p$ を学習率に直します。最小の学習率は、最大の $1/\mathrm{ratio}$ 倍です。
#
# $$
# \eta_t = \eta_{\max} \cdot \frac{1 + p \cdot (\mathrm{ratio} - 1)}{\mathrm{ratio}}
# $$
#
# 二つの $\max$ は論文の式にはなく、切り捨てで式が壊れないように加えたものです。
# $T \cdot \mathrm{cut\_frac} < 1$ なら $\mathrm{cut}$ が0になり、整数にならなければ、終わりのほうで $p$ が負になるからです。
#
# 満たすべき条件は次のとおりです。
#
# - `step`は0から数え、`0 <= step < total_steps`とする。`total_steps`は1以上、`cut_frac`は`0 < cut_frac < 1`とする
# - 返り値は、ステップ`step`の学習率を表す一つの数
# - 下り坂の分母は、式のとおり $\mathrm{cut} \cdot (1/\mathrm{cut\_frac} - 1)$ とする
# - `tlkit.finetune`の関数を呼ばずに、自分で計算する


# %%
def slanted_triangular(step: int, total_steps: int, peak: float, cut_frac: float = 0.1, ratio: float = 32) -> float:
    """斜め三角の学習率。step (0 始まり)、total_steps、最大 peak → そのステップの学習率。"""
    ### BEGIN SOLUTION
    cut = max(1, int(total_steps * cut_frac))  # 正の数なので、int は切り捨てになる
    p = step / cut if step < cut else max(0.0, 1 - (step - cut) / (cut * (1 / cut_frac - 1)))
    return peak * (1 + p * (ratio - 1)) / ratio
    ### END SOLUTION


# %%
check("02-3", slanted_triangular)

# %% [markdown]
# ### 合格したら：三つの予定を比べる
#
# 斜め三角、一定、コサインで下げては戻す予定（PyTorchの`CosineAnnealingWarmRestarts`、3周期）を比べます。
# フォントの英字で学習したCNNの全体を、手書き数字100枚に60ステップでファインチューニングします。
# 学習率の最大は二つ試します。ちょうどよい0.003と、大きすぎる0.02です。種は6個です。
#
# 予想してから実行してください。予定による差は、どちらの最大で大きいでしょうか。

# %%
handwritten = data.load("mnist5k")
SCHEDULE_STEPS = 60


def restart_rates(peak: float) -> list[float]:
    """CosineAnnealingWarmRestartsの学習率を、3周期分取り出す。"""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=SCHEDULE_STEPS // 3)
    rates = []
    for _ in range(SCHEDULE_STEPS):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def score_on(model: torch.nn.Module, indices: torch.Tensor) -> float:
    """手書き数字の、番号indicesの画像での正解率。"""
    model.eval()
    with torch.inference_mode():
        return (model(handwritten.images[indices]).argmax(1) == handwritten.labels[indices]).float().mean().item()


def digit_loss(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """画像とラベルの組のクロスエントロピー。"""
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])


def accuracy_with(rates: list[float], seed: int) -> float:
    """学習率の列ratesで、英字のCNNを数字100枚に移す。使わなかった500枚での正解率を返す。"""
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    model = GlyphCNN(10, weights="letters")
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)  # 下の予定が掛ける値を、そのまま学習率にする
    scheduler = LambdaLR(optimizer, lambda step: rates[min(step, SCHEDULE_STEPS - 1)])
    few = TensorDataset(handwritten.images[order[:100]], handwritten.labels[order[:100]])
    loader = DataLoader(few, batch_size=10, shuffle=True, generator=torch.Generator().manual_seed(seed))
    fit(model, loader, digit_loss, optimizer, steps=len(rates), scheduler=scheduler, device="cpu", progress=False)
    return score_on(model, order[-500:])


if ready("02-3"):
    rate_lists = {
        "斜め三角": lambda peak: [slanted_triangular(t, SCHEDULE_STEPS, peak) for t in range(SCHEDULE_STEPS)],
        "余弦の再始動": restart_rates,
        "一定": lambda peak: [peak] * SCHEDULE_STEPS,
    }
    peak_rates = [0.003, 0.02]
    schedule_scores = {
        (name, peak): np.array([accuracy_with(rates_of(peak), seed) for seed in range(6)])
        for peak in peak_rates
        for name, rates_of in rate_lists.items()
    }
    for peak in peak_rates:
        print(f"最大の学習率 {peak}")
        for name, rates_of in rate_lists.items():
            lead = mean_ci(schedule_scores["斜め三角", peak] - schedule_scores[name, peak])
            verdict = "" if name == "斜め三角" else f"。斜め三角との差 {lead}"
            verdict += "（区間は0を含む）" if 0 < abs(lead.mean) <= lead.half else ""
            average = np.mean(rates_of(peak)) / peak
            print(
                f"　{name}: 正解率 {mean_ci(schedule_scores[name, peak])}、学習率の平均は最大の{average:.2f}倍{verdict}"
            )

    fig, (left, right) = plot.subplots(1, 2, figsize=(8.4, 3.4))
    for place, (name, rates_of) in enumerate(rate_lists.items()):
        left.plot(np.array(rates_of(0.02)) / 0.02, label=name)
        bars = [mean_ci(schedule_scores[name, peak]) for peak in peak_rates]
        offsets = np.arange(2) + 0.12 * (place - 1)
        right.errorbar(
            offsets,
            [bar.mean for bar in bars],
            [bar.half for bar in bars],
            marker="os^"[place],
            linestyle="",
            capsize=4,
            label=name,
        )
    left.set_xlabel("ステップ")
    left.set_ylabel("学習率（最大を1とする）")
    left.set_ylim(0, 1.2)
    left.legend(loc="upper center", ncols=3, fontsize=8)
    right.set_xticks([0, 1], [f"最大 {peak}" for peak in peak_rates])
    right.set_xlim(-0.5, 1.5)
    right.set_ylabel("正解率（平均と95%信頼区間）")
    right.legend(loc="lower left", fontsize=8)
    plot.show(
        fig,
        alt="左は三つの予定の学習率。斜め三角は短く上がって長く下がり、コサインは下がっては最大に戻るのを3回くり返し、一定は変わらない。"
        "右は正解率。最大0.003では三つの点が近い。最大0.02では、斜め三角が高く、ほかの二つは大きく下がる。",
    )
    lead_small, lead_large = (
        (schedule_scores["斜め三角", peak] - schedule_scores["一定", peak]).mean() for peak in peak_rates
    )
    assert lead_large > 0.15, "大きすぎる学習率での差が確認できません"
    assert abs(lead_small) < lead_large / 3, "ちょうどよい学習率でも、差が大きくなりました"

# %% [markdown]
# 最大がちょうどよければ、三つの予定の差は小さく、斜め三角がいつも勝つわけでもありません。
# 区間が0を含んでも、差がないことの証明にはなりません。含まなくても、6個の種での小さな差です。
# 予定の形を選ぶ前に、学習率の大きさを合わせるほうが先です。
#
# 最大が大きすぎると、差がはっきり出ます。斜め三角の利点は、ここでは、学習率を決め損ねたときの強さです。
#
# **考えてみよう**：
#
# 1. 斜め三角とコサインでは、学習率の平均はほぼ同じです。それでも、大きな最大では正解率が違いました。初めの数ステップに注目して、理由を考えてください。
# 2. 予定ごとに最大を選び直して比べるには、どのデータで選び、どのデータで比べればよいですか。

# %% [markdown]
# ## 演習02-4 上の段から解凍する
#
# <!-- exercise: 02-4 -->
#
# **段階的解凍**（gradual unfreezing）では、初めに分類層だけを学習し、出力に近い段から順に、学習する段を増やします。
# 乱数から始まる分類層の大きな勾配が、事前学習済みの特徴を壊すのを防ぐためです。
#
# エポックの初めに呼び、出力に近い`count`個の段だけを学習させる関数を書いてください。段が $L$ 個のとき、入力側から数えて $i$ 番め（0始まり）の段は、次のときに学習します。
#
# $$
# i \geq L - \mathrm{count}
# $$
#
# 満たすべき条件は次のとおりです。
#
# - `stages`は、部品を入力側から順に並べた`list`で、最後が分類層。`count`は0以上の整数で、段の数より大きければ、すべての段が学習する
# - 学習する段は、`requires_grad`が`True`で、学習モードになる
# - 凍結する段は、`requires_grad`が`False`、`.grad`が`None`になり、段の部品がすべて評価モードになる
# - `count`を増やしながら呼んでも、減らしながら呼んでもよい。結果は、前にどう呼んだかによらない
# - パラメータのない段（`Flatten`など）も、1個と数える
# - 学習する段の`.grad`には触れない。パラメータの値も、`stages`の並びも変えない
# - `model.train()`を呼んだ後で、この関数を呼ぶことにする。だから、演習02-1のような、モードを保つ仕掛けは要らない
# - 返り値は使わない（`None`でよい）


# %%
def unfreeze_top(stages: list[torch.nn.Module], count: int) -> None:
    """出力に近いcount個の段だけを学習させ、残りを凍結する。"""
    ### BEGIN SOLUTION
    for i, stage in enumerate(stages):
        trains = i >= len(stages) - count
        stage.train(trains)
        stage.requires_grad_(trains)
        if not trains:
            for parameter in stage.parameters():
                parameter.grad = None
    ### END SOLUTION


# %%
check("02-4", unfreeze_top)

# %% [markdown]
# ### 合格したら：残った勾配の罠を動かす
#
# 学習の途中で入力の段を凍結し、その後の20回の更新で、重みがどれだけ動くかを測ります。
# 凍結の方法は、`requires_grad`だけを変える方法と、`unfreeze_top`の二つです。
#
# `optimizer.zero_grad()`の既定は、`.grad`を`None`にします。このときは、次の更新の前に残った勾配が消えるので、罠は現れません。
# 罠が現れるのは、`set_to_none=False`で0を入れるときや、勾配をためるために`zero_grad()`を呼ばないときです。ここでは`set_to_none=False`で試します。

# %%
if ready("02-4"):
    optimizers = {
        "SGD（モーメンタムあり）": lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9),
        "SGD（重み減衰あり）": lambda weights: torch.optim.SGD(weights, lr=0.01, weight_decay=0.01),
        "AdamW": lambda weights: torch.optim.AdamW(weights, lr=0.001),
    }
    for title, make in optimizers.items():
        stem_moves = {}
        for way in ("requires_gradだけ", "unfreeze_top"):
            torch.manual_seed(0)
            network = GlyphCNN(10, weights="letters")
            parts = glyph_stages(network)
            optimizer = make(network.parameters())
            network.train()
            train_steps(network, optimizer, digit_images[:500], digit_labels[:500], steps=10)
            if way == "unfreeze_top":
                unfreeze_top(parts, 4)
            else:
                for weight in network.stem.parameters():
                    weight.requires_grad = False
            before = flat_weights(parts[:1])
            train_steps(network, optimizer, digit_images[:500], digit_labels[:500], steps=20, set_to_none=False)
            stem_moves[way] = relative_moves(before, flat_weights(parts[:1]))[0]
        print(f"{title}: 凍結した段の動き " + "、".join(f"{way} {move:.2%}" for way, move in stem_moves.items()))
        assert stem_moves["requires_gradだけ"] > 0, "残った勾配による動きが確認できません"
        assert stem_moves["unfreeze_top"] == 0, "凍結したはずの段が動きました"

# %% [markdown]
# ### 段階的解凍の図
#
# 手書き数字200枚で、5エポックの段階的解凍をします。8回の更新を1エポックと数えます。エポック $e$（0始まり）では、上の $e + 1$ 個の段が学習します。
# エポックごとに、各段の重みがどれだけ動いたかを図にします。白いマスは、少しも動かなかった段です。
#
# オプティマイザは、初めに一度だけ、すべてのパラメータで作ります。凍結した段は`.grad`が`None`なので、更新が飛ばされます。

# %%
if ready("02-4"):
    torch.manual_seed(0)
    network = GlyphCNN(10, weights="letters")
    parts = glyph_stages(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    table = []
    for epoch in range(5):
        before = flat_weights(parts)
        network.train()
        unfreeze_top(parts, epoch + 1)
        train_steps(network, optimizer, digit_images[:200], digit_labels[:200], steps=8, seed=epoch)
        table.append(relative_moves(before, flat_weights(parts)))
        _, score = features_and_accuracy(network, digit_images[4000:], digit_labels[4000:])
        print(f"エポック{epoch}: 学習する段 {'、'.join(STAGE_NAMES[4 - epoch :])}／開発用の正解率 {score:.3f}")
    for epoch, row in enumerate(table):
        assert all((move > 0) == (i >= 4 - epoch) for i, move in enumerate(row)), "凍結したはずの段が動きました"

    fig, ax = plot.subplots()
    shown = torch.tensor(table).T
    drawn = ax.imshow(shown.where(shown > 0, torch.nan), cmap="Blues", aspect="auto", vmin=0, vmax=1.6 * shown.max())
    for (i, epoch), move in np.ndenumerate(shown.numpy()):
        ax.text(epoch, i, f"{move:.3f}" if move > 0 else "0", ha="center", va="center")
    ax.grid(visible=False)
    ax.set_yticks(range(5), STAGE_NAMES)
    ax.set_xticks(range(5))
    ax.set_xlabel("エポック")
    fig.colorbar(drawn, label="重みの動き ÷ 元の大きさ")
    plot.show(
        fig,
        alt="横軸がエポック、縦軸が段（上が入力、下が分類層）の表。マスの数は、そのエポックでの重みの相対的な動き。"
        "最初は分類層だけが動き、1エポックごとに、動く段が一つずつ入力側へ広がる。凍結中の段のマスは、ちょうど0である。",
    )

# %% [markdown]
# **考えてみよう**：
#
# 1. 新しく解凍された段のAdamは、過去の勾配の平均と二乗平均を持たないところから始まります。解凍した直後の更新の大きさは、ほかの段と比べてどうなるでしょうか。
# 2. 5エポックで学習をやめると、入力の段は1エポックしか学習しません。段階的解凍と、層別学習率（演習02-2）は、どこが似ていて、どこが違いますか。

# %% [markdown]
# ## 演習02-5 最良の重みを、本当に残す
#
# <!-- exercise: 02-5 -->
#
# 少ないデータのファインチューニングでは、学習を続けるうちに過剰適合が始まります。そこで、検証の値が最良だったエポックのモデルを残します。
# 次の関数は、そのつもりで書かれたものです。しかし、残っていません。


# %%
def keep_best_by_name(network: torch.nn.Module, one_epoch: Callable, score_of: Callable, count: int) -> torch.nn.Module:
    """最良のモデルを残したつもりの関数（虫がいます）。"""
    top, best_model = 0.0, network
    for _ in range(count):
        one_epoch(network)
        score = score_of(network)
        if score > top:
            top, best_model = score, network  # 最良のモデルを残した……つもり
    return best_model


# %% [markdown]
# 動かして確かめます。学習のまねとして、エポックの番号を重みに書き込みます。検証の値は、2番目を最良と決めておきます。

# %%
stamps, planned_scores = iter([1, 2, 3, 4]), iter([0.6, 0.9, 0.5, 0.4])
tiny = torch.nn.Linear(1, 1)
returned = keep_best_by_name(
    tiny,
    one_epoch=lambda network: torch.nn.init.constant_(network.weight, next(stamps)),
    score_of=lambda _network: next(planned_scores),
    count=4,
)
print(f"検証が最良だったのは2エポック目です。返ったモデルの重みは、{returned.weight.item():.0f}エポック目のものです。")
assert returned is tiny, "同じモデルに、もう一つの名前が付いただけのはず"

# %% [markdown]
# `best_model = network`は、写しを作りません。同じモデルに、もう一つの名前を付けるだけです。学習が進めば、「最良のモデル」も一緒に変わります。
# 例外は起きず、正解率ももっともらしいので、気づくのは難しい誤りです。
# 医用画像のベンチマークMedMNISTの公式の実験コードも、2023年に直されるまで、同じ誤りを含んでいました。
#
# 正しく残す関数を書いてください。エポック $e$ の検証の値を $s_e$ とすると、残すのは次のエポックの重みです。
#
# $$
# e^\ast = \min \left\{ e \;:\; s_e = \max_{e'} s_{e'} \right\}
# $$
#
# 満たすべき条件は次のとおりです。
#
# - エポックごとに、`train_epoch(model)`を学習モードで1回、`validate(model)`を評価モードで、勾配を記録せずに1回呼ぶ。モードは`model.train()`と`model.eval()`で変える
# - `validate`は、大きいほど良い数を返す。負の数やNaNのこともある
# - 同じ値が並んだら、先のエポックを残す。NaNのエポックは、最良にしない
# - 最良を更新できないエポックが`patience`回続いたら止める（NaNも数える）。続かなくても、多くて`epochs`回で終わる
# - 終わったら、`model`を最良のエポックの状態に戻す。BatchNormの移動統計も含む。最良が一度もなければ、最後のままにする
# - パラメータのオブジェクトと`requires_grad`は、もとのままにする（最適化手法が、同じパラメータを持っている）
# - 返り値は、検証の値の`list`（行ったエポックの数だけ）。`tlkit.training`は使わない


# %%
def train_keeping_best(
    model: torch.nn.Module,
    train_epoch: Callable[[torch.nn.Module], object],
    validate: Callable[[torch.nn.Module], float],
    epochs: int,
    patience: int,
) -> list[float]:
    """検証で最良だったエポックの重みに戻す学習。検証の値の列を返す。"""
    ### BEGIN SOLUTION
    ### ALLOW train_epoch(model)
    best, best_state, waited = -math.inf, None, 0
    scores = []
    for _ in range(epochs):
        model.train()
        train_epoch(model)
        model.eval()
        with torch.no_grad():
            scores.append(validate(model))
        if scores[-1] > best:  # NaN との比較は、いつも偽
            best, waited = scores[-1], 0
            best_state = copy.deepcopy(model.state_dict())  # 参照ではなく、写し
        else:
            waited += 1
            if waited == patience:
                break
    if best_state is not None:
        model.load_state_dict(best_state)
    return scores
    ### END SOLUTION


# %%
check("02-5", train_keeping_best)

# %% [markdown]
# ### 合格したら：過剰適合する課題で、最良と最後を比べる
#
# 英字のCNNを手書き数字200枚に移します。ただし、半分のラベルを乱数に置きかえ、学習率は下げずに学習を続けます。
# 続けるうちに、誤ったラベルまで覚え込むはずです。検証の200枚とテストの1,000枚のラベルは、正しいままです。
#
# `keep_best_by_name`でも同じ学習をします。返ってきた「最良のモデル」のテストの正解率は、どのモデルと一致するでしょうか。

# %%
OVERFIT_EPOCHS = 12


def overfitting_task(seed: int) -> tuple[GlyphCNN, Callable, Callable, Callable]:
    """誤ったラベルのある課題。モデルと、1エポックの学習、検証の値、テストの値の関数を返す。"""
    g = torch.Generator().manual_seed(seed)
    few, validation, test = torch.randperm(5000, generator=g)[:1400].split([200, 200, 1000])
    labels = handwritten.labels[few].clone()
    labels[:100] = torch.randint(10, (100,), generator=g)
    loader = DataLoader(TensorDataset(handwritten.images[few], labels), batch_size=20, shuffle=True, generator=g)
    torch.manual_seed(seed)
    model = GlyphCNN(10, weights="letters")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

    def one_epoch(network: torch.nn.Module) -> None:
        fit(network, loader, digit_loss, optimizer, epochs=1, device="cpu", progress=False)

    return model, one_epoch, lambda network: score_on(network, validation), lambda network: score_on(network, test)


if ready("02-5"):

    def curve_kept_last(seed: int) -> tuple[list[float], float, float]:
        """検証の値の列と、残したモデルと最後のモデルの、テストの正解率。"""
        model, one_epoch, validation_score, test_score = overfitting_task(seed)
        seen, last = [], []

        def validate_and_peek(network: torch.nn.Module) -> float:
            """検証の値を返す。最後のエポックだけは、テストの値も控える（選択には使わない）。"""
            seen.append(validation_score(network))
            if len(seen) == OVERFIT_EPOCHS:
                last.append(test_score(network))
            return seen[-1]

        curve = train_keeping_best(model, one_epoch, validate_and_peek, OVERFIT_EPOCHS, OVERFIT_EPOCHS)
        return curve, test_score(model), last[0]

    validation_curves, kept_scores, last_scores = zip(*(curve_kept_last(seed) for seed in range(6)), strict=True)
    gain_of_keeping = mean_ci(np.subtract(kept_scores, last_scores))
    print(
        f"テストの正解率: 最良のエポック {mean_ci(kept_scores)}、最後のエポック {mean_ci(last_scores)}、差 {gain_of_keeping}"
    )

    model, one_epoch, validation_score, test_score = overfitting_task(seed=0)
    aliased = keep_best_by_name(model, one_epoch, validation_score, OVERFIT_EPOCHS)
    print(f"種0: 最良 {kept_scores[0]:.3f}、最後 {last_scores[0]:.3f}、名前だけ残したモデル {test_score(aliased):.3f}")
    assert test_score(aliased) == last_scores[0], "名前だけ残したモデルは、最後のモデルと同じはず"
    assert gain_of_keeping.mean > 0.04, "最良のエポックに戻す効果が確認できません"

    fig, ax = plot.subplots()
    numbers = np.arange(1, OVERFIT_EPOCHS + 1)
    ax.plot(numbers, np.transpose(validation_curves), color=plot.COLORS[4], linestyle="-", linewidth=0.8)
    ax.plot(
        numbers, np.mean(validation_curves, axis=0), color=plot.COLORS[0], linestyle="-", label="検証（6個の種の平均）"
    )
    best_numbers = [int(np.argmax(curve)) + 1 for curve in validation_curves]
    ax.plot(best_numbers, np.max(validation_curves, axis=1), "o", color=plot.COLORS[1], label="残したエポック")
    ax.set_xlabel("エポック")
    ax.set_ylabel("検証の正解率")
    ax.legend(loc="lower right")
    plot.show(
        fig,
        alt="エポックに対する検証の正解率。6個の種の細い線は大きく上下し、平均の線は初めの数エポックで山になり、その後は低いままになる。"
        "残したエポックを示す点は、多くが山の近くにある。",
    )

# %% [markdown]
# **考えてみよう**：
#
# 1. 図の「残したエポック」の検証の正解率は、そのモデルのテストの正解率より高めに出ます。12個の値の最大を選んだことから、理由を説明してください。演習02-7で、この差を測ります。
# 2. 検証の画像が20枚しかなかったら、残したエポックは信用できますか。

# %% [markdown]
# ## 演習02-6 分類層を、線形プローブの解から始める
#
# <!-- exercise: 02-6 -->
#
# 新しい課題の分類層は、ふつう乱数から始めます。このまま全層を学習すると、初めのうちは、でたらめな分類層に合わせて特徴が動かされます。
# **LP-FT**は、この順番を変えます。先に分類層だけを解き（線形プローブ、LP）、そこから全層を学習します（ファインチューニング、FT）。
#
# この演習では、前半のLPを書きます。特徴 $f_i$ はすでに計算してあるので、分類層の重み $W$ とバイアス $b$ だけの問題です。
#
# $$
# \min_{W, b} \; \frac{1}{N} \sum_{i=1}^{N} \ell_{\mathrm{CE}}(W f_i + b,\; y_i) + \frac{\lambda}{2} \lVert W \rVert_F^2
# $$
#
# この目的関数は**凸**です。谷は一つなので、どこから始めても、どんな方法で解いても、同じ最小値に着きます。着くまで反復してください。
#
# 満たすべき条件は次のとおりです。
#
# - `features`は`(N, D)`、`labels`は`(N,)`の整数で、`l2`が $\lambda$ を表す。クラスは3個以上で、どのクラスも`labels`に現れる
# - `model.classifier`（`nn.Linear`）の`weight`と`bias`に、最小点の値を書き込む。層やパラメータを差し替えない
# - 罰則は重みだけに掛ける。バイアスには掛けない
# - 目的関数の値と最小値の差は $10^{-4}$ 以下とする。特徴の大きさが次元ごとに違うこともある
# - 分類層でない部分は変えない。値、移動統計、モード、`requires_grad`のどれも、呼ぶ前のままにする
# - 呼んだ後に、勾配（`grad`）を残さない。返り値は`model`か`None`とする
# - `max_iter`は反復の上限を表す。反復しない解き方なら、使わなくてよい
# - `tlkit.finetune`の関数を呼ばずに、自分で計算する


# %%
def warm_start_head(
    model: torch.nn.Module, features: torch.Tensor, labels: torch.Tensor, l2: float, max_iter: int = 1000
) -> torch.nn.Module | None:
    """分類層を、線形プローブの最小点に置く。features (N, D), labels (N,)。"""
    ### BEGIN SOLUTION
    head = model.classifier
    weight, bias = (torch.zeros_like(value, requires_grad=True) for value in (head.weight, head.bias))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=max_iter)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = torch.nn.functional.linear(features, weight, bias)
        objective = torch.nn.functional.cross_entropy(logits, labels) + l2 / 2 * weight.square().sum()
        objective.backward()
        return objective

    optimizer.step(closure)  # 収束するまで、この1回の中で反復する
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    ### END SOLUTION


# %%
check("02-6", warm_start_head)

# %% [markdown]
# ### 合格したら：最初の数歩で、特徴はどれだけ動くか
#
# フォントの英字で事前学習したネットワークを、MNISTの50枚に移します。全層を学習しますが、分類層の出発点が違います。
#
# 1. 乱数から：新しい分類層の初期値のまま始める
# 2. 線形プローブから：`warm_start_head`の解から始める
#
# 1歩ごとに、学習に使わない画像の特徴が、初めの特徴からどれだけ離れたかを測ります。$\Phi_t$ は、$t$ 歩の後の特徴を並べた行列です。
#
# $$
# \text{特徴の変化} = \frac{\lVert \Phi_t - \Phi_0 \rVert_F}{\lVert \Phi_0 \rVert_F}
# $$
#
# 最後に、正解率を二つのデータで測ります。MNISTの残りと、学習にまったく使わないUCIの手書き数字（**分布外**）です。
# 論文（Kumarほか、2022）は、差が大きいのは分布外だと主張しています。
#
# 予想を書き留めてください。最適化手法をSGDからAdamに替えても、特徴の変化は同じ形になるでしょうか。
#
# バッチ正規化は評価モードのまま学習し、勾配による変化だけを見ます。学習率は、下の実験とは別の種で、MNISTの側の正解率だけを見て選びました。


# %%
def few_digits(labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """訓練の50枚（クラスごとに5枚）と、残りから500枚の、番号。"""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    few = torch.cat([order[labels[order] == digit][:5] for digit in range(10)])
    return few, order[~torch.isin(order, few)][:500]


@torch.no_grad()
def accuracy_of(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """評価モードでの正解率。"""
    return (model.eval()(images).argmax(dim=1) == labels).float().mean().item()


def feature_changes(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    few: tuple[torch.Tensor, torch.Tensor],
    held: torch.Tensor,
) -> list[float]:
    """全層を30歩だけ学習する。特徴の変化を、WATCHEDの歩で測る。"""
    with torch.no_grad():
        start = model.eval().features(held)
    changes = []
    for step in range(1, 31):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(few[0]), few[1]).backward()
        optimizer.step()
        if step in WATCHED:
            with torch.no_grad():
                changes.append(((model.features(held) - start).norm() / start.norm()).item())
    return changes


WATCHED = [1, 2, 5, 10, 20, 30]
OPTIMIZERS = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.003, momentum=0.9),
    "Adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.001),
}

if ready("02-6"):
    mnist, uci = data.load("mnist5k"), data.load("uci_digits")
    scores, moved, first_losses = {}, {}, {}  # 手法 → 種の順に並べた値
    for seed in range(5):
        few, held = few_digits(mnist.labels, seed)
        digits = mnist.images[few], mnist.labels[few]
        tests = {"MNIST": (mnist.images[held], mnist.labels[held]), "UCI": (uci.images[:500], uci.labels[:500])}

        def measure(model: torch.nn.Module, method: str, tests: dict = tests) -> None:
            for title, test in tests.items():
                scores.setdefault((method, title), []).append(accuracy_of(model, *test))

        torch.manual_seed(seed)
        cold = GlyphCNN(10, weights="letters").eval()
        with torch.no_grad():
            features = cold.features(digits[0])
        warm = copy.deepcopy(cold)
        warm_start_head(warm, features, digits[1], l2=0.01)
        measure(warm, "線形プローブだけ")
        for start, initial in (("乱数から", cold), ("線形プローブから", warm)):
            with torch.no_grad():
                loss = torch.nn.functional.cross_entropy(initial(digits[0]), digits[1])
            first_losses.setdefault(start, []).append(loss.item())
        for optimizer_name, make in OPTIMIZERS.items():
            for start, initial in (("乱数から", cold), ("線形プローブから", warm)):
                model = copy.deepcopy(initial)
                changes = feature_changes(model, make(model), digits, mnist.images[held[:100]])
                moved.setdefault((optimizer_name, start), []).append(changes)
                measure(model, f"{optimizer_name}／{start}")

    for start, values in first_losses.items():
        print(f"学習を始める前の損失　{start}: {mean_ci(values)}")
    for (method, title), values in scores.items():
        print(f"{title}の正解率　{method}: {mean_ci(values)}")
    print("線形プローブから始めたときと、ほかとの差（同じ種どうし）")
    for optimizer_name in OPTIMIZERS:
        for other in (f"{optimizer_name}／乱数から", "線形プローブだけ"):
            for title in tests:
                ours, theirs = scores[f"{optimizer_name}／線形プローブから", title], scores[other, title]
                print(f"　{title}、{optimizer_name}、相手は {other}: {mean_ci(np.subtract(ours, theirs))}")

    fig, axes = plot.subplots(1, 2, figsize=(7.6, 3.4), sharey=True)
    for ax, optimizer_name in zip(axes, OPTIMIZERS, strict=True):
        for start, marker in (("乱数から", "o"), ("線形プローブから", "s")):
            intervals = [mean_ci(list(column)) for column in zip(*moved[optimizer_name, start], strict=True)]
            middle, half = ([getattr(i, part) for i in intervals] for part in ("mean", "half"))
            ax.errorbar(WATCHED, middle, half, marker=marker, capsize=4, label=start)
        ax.set_xscale("log")
        ax.set_xticks(WATCHED, [str(step) for step in WATCHED])
        ax.minorticks_off()
        ax.set_title(optimizer_name)
        ax.set_xlabel("更新の回数")
    axes[0].set_ylabel("特徴の変化（平均と95%信頼区間）")
    axes[0].legend()
    plot.show(
        fig,
        alt="更新の回数に対する特徴の変化の折れ線グラフ。左はSGD、右はAdam。"
        "SGDでは、乱数から始めると数歩で大きく動き、線形プローブから始めるとほとんど動かない。"
        "Adamでは、1歩目はどちらも同じくらい動き、その後は、線形プローブから始めたほうが大きく動く。",
    )
    early = {key: mean_ci([changes[2] for changes in per_seed]) for key, per_seed in moved.items()}
    assert early["SGD", "乱数から"].mean > 10 * early["SGD", "線形プローブから"].mean, "SGDでの変化の差が確認できません"
    assert early["Adam", "乱数から"].mean < 3 * early["Adam", "線形プローブから"].mean, "Adamでも差が出ました"

# %% [markdown]
# 線形プローブの解では、学習を始める前から損失が小さくなっています。だから、特徴へ流れる勾配も小さくなります。
# SGDの1歩は勾配に比例するので、線形プローブから始めると、特徴は少ししか動きません。
#
# Adamは、勾配をその大きさで割ってから進みます。勾配が小さくても、1歩の幅は学習率で決まります。
# 特徴が動くかどうかは、出発点だけでは決まりません。最適化手法も関わります。
#
# 正解率の差は、特徴の変化ほどはっきりしません。種は5個で、UCIの正解率は種によって大きく揺れるからです。
# 上の差の表で、区間が0をまたぐ行を数えてから、次の問いに進んでください。
#
# **考えてみよう**：
#
# 1. MNISTとUCIのどちらで、二つの出発点の差が大きくなりましたか。区間に0が入り、差があると言えないのはどれですか。「差があると言えない」と「差がない」の違いも説明してください。
# 2. 論文の説明は「学習で特徴が壊れるから、分布外の正解率が下がる」です。Adamで線形プローブから始めると、特徴は大きく動きました。UCIの正解率は、線形プローブだけと比べて下がりましたか。論文の説明と合わないなら、その理由として考えられることを一つ挙げ、確かめる実験を考えてください。
# 3. この実験では、転移元も分布外のデータも一つです。UCIも手書き数字なので、MNISTで学んだことが、そのまま役立つ可能性があります。どんなデータを加えれば、論文の主張をより公平に試せますか。

# %% [markdown]
# ## 演習02-7 テストで選ぶと、どれだけ水増しになるか
#
# <!-- exercise: 02-7 -->
#
# 種やエポックを変えると、チェックポイントの候補がいくつもできます。全部をテストデータで測り、最も良かった値を報告したくなります。
# しかし、テストの値は、有限の枚数で測った数です。どの候補も、運の分だけ上下しています。最大を選ぶと、実力と一緒に、運の良さも選んでしまいます。
#
# どれだけ水増しになるかを測ります。実験を $R$ 回くり返し、候補が $K$ 個あるとします。
# くり返し $r$ での候補 $k$ の正解率を、検証データでは $V_{rk}$、テストデータでは $A_{rk}$ とします。
#
# $$
# h_r = A_{r, c_r}, \quad c_r = \min \arg\max_k V_{rk}, \qquad
# o_r = \max_k A_{rk}, \qquad
# d_r = o_r - h_r
# $$
#
# $h_r$ は、検証で選んだ候補のテストの値です。$o_r$ は、テストで選んだときの値です。次の四つを、この順に返す関数を書いてください。
#
# 1. `honest`：$h_r$ の平均
# 2. `optimistic`：$o_r$ の平均
# 3. `gap`：$d_r$ の平均
# 4. `half`：`gap`の95%信頼区間の半幅 $t_{0.975,\, R-1}\, s / \sqrt{R}$（$s$ は $d_r$ の不偏標準偏差）
#
# 満たすべき条件は次のとおりです。
#
# - `validation`と`test`は、同じ形`(R, K)`のNumPyの配列で、$R \geq 2$、$K \geq 1$ とする
# - 候補は、くり返しごとに選び直す。検証の値が同じなら、番号の小さい候補を選ぶ
# - $d_r$ がどれも等しいとき、`half`は0になる（NaNにしない）
# - 引数を書き換えない。`tlkit.stats`を使わずに、自分で計算する（`scipy.stats.t.ppf`は使ってよい）


# %%
def selection_report(validation: np.ndarray, test: np.ndarray) -> tuple[float, float, float, float]:
    """検証で選んだ成績、テストで選んだ成績、その差の平均と区間の半幅。validation, test (R, K)。"""
    ### BEGIN SOLUTION
    repeats = len(test)
    honest = test[np.arange(repeats), validation.argmax(axis=1)]  # (R,)
    optimistic = test.max(axis=1)  # (R,)
    inflation = optimistic - honest
    half = stats.t.ppf(0.975, repeats - 1) * inflation.std(ddof=1) / np.sqrt(repeats)
    return float(honest.mean()), float(optimistic.mean()), float(inflation.mean()), float(half)
    ### END SOLUTION


# %%
check("02-7", selection_report)

# %% [markdown]
# ### 合格したら：同じ実力の20個から選ぶ
#
# 英字のCNNの特徴の上に、線形層を学習します（線形プローブ）。学習に使うのは、同じ50枚の手書き数字です。
# 変えるのは種（線形層の初期値とバッチの順）だけで、20個のモデルを作ります。手順が同じなので、実力はほとんど同じはずです。
#
# 残りの画像から、検証とテストを $N$ 枚ずつ引き、報告される正解率を比べます。引き直しは50回です。
# もし20個のモデルの誤りが互いに独立で、実力 $p$ が等しければ、水増しは次の値に近くなります。$Z_k$ は独立な標準正規分布です。
#
# $$
# \sqrt{\frac{p (1 - p)}{N}}\; \mathbb{E}\left[\max_{k = 1, \dots, K} Z_k\right]
# $$
#
# 実際のモデルは、同じ難しい画像で一緒に間違えます。測った差は、この式より大きいでしょうか、小さいでしょうか。

# %%
CANDIDATES, RESAMPLES = 20, 50
probe_features, probe_labels = extract_features(
    GlyphCNN.pretrained("letters"), DataLoader(TensorDataset(handwritten.images, handwritten.labels), batch_size=500)
)
probe_features = (probe_features - probe_features.mean(0)) / (probe_features.std(0) + 1e-6)
probe_order = torch.randperm(len(probe_labels), generator=torch.Generator().manual_seed(0))
unseen = probe_order[50:]


def probe_hits(seed: int) -> np.ndarray:
    """種seedで線形層を学習し、学習に使わなかった画像ごとに、当たれば1、外れれば0を返す。"""
    torch.manual_seed(seed)
    head = torch.nn.Linear(probe_features.shape[1], 10)
    fifty = TensorDataset(probe_features[probe_order[:50]], probe_labels[probe_order[:50]])
    loader = DataLoader(fifty, batch_size=10, shuffle=True, generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    fit(head, loader, digit_loss, optimizer, epochs=20, device="cpu", progress=False)
    with torch.inference_mode():
        return (head(probe_features[unseen]).argmax(1) == probe_labels[unseen]).numpy().astype(float)


if ready("02-7"):
    hits = np.stack([probe_hits(seed) for seed in range(CANDIDATES)])  # (K, 残りの枚数)
    test_sizes = [100, 400, 1600]
    reports = {}
    for size in test_sizes:
        draws = [np.random.default_rng([size, r]).permutation(len(unseen)) for r in range(RESAMPLES)]
        reports[size] = selection_report(
            np.stack([hits[:, rows[:size]].mean(axis=1) for rows in draws]),
            np.stack([hits[:, rows[size : 2 * size]].mean(axis=1) for rows in draws]),
        )
        print("N = {}: 検証で選ぶ {:.3f}、テストで選ぶ {:.3f}、水増し {:.4f} ± {:.4f}".format(size, *reports[size]))

    ability = hits.mean(axis=1)
    pairs = np.corrcoef(hits)[np.triu_indices(CANDIDATES, k=1)]
    expected_max = np.random.default_rng(0).normal(size=(50_000, CANDIDATES)).max(axis=1).mean()
    independent = np.sqrt(ability.mean() * (1 - ability.mean()) / np.array(test_sizes)) * expected_max
    correlated = independent * np.sqrt(1 - pairs.mean())
    print(f"残りの全部での正解率 {ability.mean():.3f}（20個の標準偏差 {ability.std(ddof=1):.4f}）")
    print(f"誤りの相関の平均 {pairs.mean():.2f}。独立なら {independent.round(4)}、相関を入れると {correlated.round(4)}")

    fig, ax = plot.subplots()
    gaps, halves = ([reports[size][i] for size in test_sizes] for i in (2, 3))
    ax.errorbar(test_sizes, gaps, halves, marker="o", capsize=4, label="測った水増し")
    ax.plot(test_sizes, independent, marker="s", label="誤りが独立なときの式")
    ax.plot(test_sizes, correlated, marker="^", label="相関を入れた式")
    ax.set_xscale("log")
    ax.set_xticks(test_sizes, [str(size) for size in test_sizes])
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.set_xlabel("テストの枚数 N")
    ax.set_ylabel("正解率の水増し")
    ax.legend()
    plot.show(
        fig,
        alt="テストの枚数に対する正解率の水増しの折れ線グラフ。測った水増しも二つの式も、枚数が増えるほど小さくなる。"
        "測った値は、独立なときの式よりずっと小さく、相関を入れた式の近くか、少し下にある。",
    )
    assert gaps[0] - halves[0] > 0.01, "テストで選ぶことによる水増しが確認できません"
    assert gaps[0] > 2 * gaps[2], "枚数を増やしても、水増しが小さくなりません"
    assert gaps[0] < 0.7 * independent[0], "誤りの相関の影響が確認できません"

# %% [markdown]
# 20個の候補に、実力の差はほとんどありません。それでも、テストで選ぶと、少ない枚数では正解率が高く見えます。
# 独立の式は、この例の水増しを大きく見積もりすぎます。誤りの相関の平均を $\rho$ とし、$\sqrt{1 - \rho}$ を掛けると、測った値に近づきます。
# どの候補も一緒に間違える画像では、候補どうしの差がつかないからです。
#
# 測った値が、相関を入れた式より小さめになることがあります。候補の実力には少しだけ差があり、検証で選んだ候補も、平均より少し良いからです。
# なお、50回の引き直しは同じ画像を使い回すので、区間は引き方による揺れだけを表します。
#
# **考えてみよう**：
#
# 1. 誤りの相関が小さくなる候補（構造と学習データの違うモデルなど）から選ぶと、水増しは大きくなりますか、小さくなりますか。
# 2. 論文の表に「5回のうち最良」と書かれていたら、あなたの「5回の平均」と比べてよいでしょうか。

# %% [markdown]
# ## 演習02-8 研究課題：四つの手法を、同じ条件で比べる
#
# <!-- exercise: 02-8 -->
#
# 「どの手法がよいか」を調べるには、手法のほかの条件をそろえなければなりません。
# そこで、手法の違いを一つの関数に集めます。学習のくり返しも、データの分け方も、どの手法でも同じものを使います。
#
# `GlyphCNN`を、入力側から五つの段に分けます。`model.stem`、`model.stages[0]`、`model.stages[1]`、`model.head`、`model.classifier`です。
# 最後の`model.classifier`が**分類層**です。`model.head`は特徴を作る段で、分類層ではありません。名前が紛らわしいので、注意してください。
#
# | `method` | 学習する段 | 学習率 |
# |---|---|---|
# | `"head"` | 分類層だけ | `base_lr` |
# | `"last_block"` | `model.head`と分類層 | どちらも`base_lr` |
# | `"discriminative"` | すべて | 層別学習率（下の式） |
# | `"scratch"` | すべて。初めに全部を再初期化する | どの段も`base_lr` |
#
# 層別学習率では、分類層を $k = 0$ として、出力側から $k$ 段目の学習率を次のようにします。$\gamma$ が`decay`です。
#
# $$
# \eta_k = \frac{\eta_{\mathrm{base}}}{\gamma^{k}} \qquad (k = 0, 1, \dots, 4)
# $$
#
# `prepare`は、モデルをその場で書き換え、オプティマイザに渡す組を返します。満たすべき条件は次のとおりです。
#
# - 返り値は、`{"params": …, "lr": …}`の`list`とする。学習するパラメータが、ちょうど一つの組に入る。凍結したものは入れない
# - 凍結する段では、`requires_grad`を`False`にする。`model.train()`の後も、段の全体が評価モードと同じに振る舞う（移動統計が動かず、Dropoutも働かない）
# - 学習する段では、`requires_grad`を`True`にし、`model.train()`で学習モードになる。`model.eval()`では、どの段も評価モードになる
# - `model.train()`と`model.eval()`は、もとのとおりモデルを返す
# - 呼ぶ前の勾配を残さない。どのパラメータの`grad`も`None`にする
# - `"scratch"`では、作ったばかりのモデルと同じように初期化する。BatchNormの係数と移動統計も初めに戻す。関数の中で乱数の種を固定しない
# - `"scratch"`のほかでは、重みと移動統計を変えない
# - 同じモデルに、別の`method`で何度呼んでもよい。前の手法の設定が残ってはいけない
# - 層を作り直さず、渡されたモデルの層をそのまま使う。`tlkit.finetune`の関数は呼ばない


# %%
def prepare(model: torch.nn.Module, method: str, base_lr: float, decay: float) -> list[dict]:
    """手法のとおりにモデルを用意し、オプティマイザに渡す組を返す。"""
    ### BEGIN SOLUTION
    model.zero_grad()
    if method == "scratch":
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # BatchNorm では、移動統計も初めに戻る

    stages = [model.stem, *model.stages, model.head, model.classifier]
    learned = {"head": 1, "last_block": 2}.get(method, len(stages))  # 出力側から数えた、学習する段の数
    groups, frozen = [], []
    for k, stage in enumerate(reversed(stages)):
        stage.requires_grad_(k < learned)
        if k < learned:
            rate = base_lr / decay**k if method == "discriminative" else base_lr
            groups.append({"params": list(stage.parameters()), "lr": rate})
        else:
            frozen.append(stage)

    def train(mode: bool = True) -> torch.nn.Module:
        torch.nn.Module.train(model, mode)
        for stage in frozen:
            stage.eval()
        return model

    model.train = train  # このモデルの train() だけを置き換える。次に呼べば、上書きされる
    return groups
    ### END SOLUTION


# %%
check("02-8", prepare)

# %% [markdown]
# ### 合格したら：手法 × 枚数 × 種
#
# フォントの英字（数字を含まない）で事前学習したネットワークを、数字に移します。手順は次のとおりです。
#
# 1. **問いを決める**：手法の順位は、訓練の枚数で変わるか
# 2. **そろえる**：更新の回数、バッチの大きさ、最適化手法（Adam）、学習率の予定、データの分け方
# 3. **選ぶ**：手法ごとの学習率は、開発用の画像だけで選ぶ。テストの画像は、選ぶことに使わない
# 4. **くり返す**：種を変えて測り、平均に区間を添える。手法の差は、同じ種どうしで引き算する
# 5. **言えないことを書く**
#
# ここでは、二つを並べて見ます。左は、あなたの`prepare`で今から行う小さな実験（枚数は2通り、種は3個）です。
# 右は、同じ手順を大きくした記録です（`experiments/02_methods.py`）。学習率と更新の回数は、記録で選ばれたものを使います。
#
# `DATASET`を書き換えると、同じコードのまま、別のデータで左の実験ができます。
# 同梱の`"uci_digits"`のほか、ネットワークが使えるなら`"mnist"`や`"fashion_mnist"`も選べます。
#
# 実行する前に、予想を書き留めてください。20枚のとき、四つの手法はどんな順に並ぶでしょうか。100枚では、どうでしょうか。

# %%
DATASET = "mnist5k"  # ほかに "uci_digits"、"mnist"、"fashion_mnist"
OWN_SIZES, OWN_SEEDS = (20, 100), (0, 1, 2)
TITLES = {
    "scratch": "乱数から",
    "head": "分類層だけ",
    "last_block": "最後の段と分類層",
    "discriminative": "層別学習率",
}


def split_for(labels: torch.Tensor, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """訓練のn枚（クラスごとに同じ枚数）と、テストの1,000枚の番号。nを増やしても、少ないほうの画像を含む。"""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    pool, test = order[:-1000], order[-1000:]
    classes = int(labels.max()) + 1
    return torch.cat([pool[labels[pool] == c][: n // classes] for c in range(classes)]), test


def learn(model: torch.nn.Module, groups: list[dict], few: TensorDataset, steps: int, seed: int) -> None:
    """どの手法にも共通の学習。Adamと、1周期の学習率の予定を使う。"""
    g = torch.Generator().manual_seed(seed)
    loader = DataLoader(few, batch_size=min(32, len(few)), shuffle=True, drop_last=True, generator=g)
    optimizer = torch.optim.Adam(groups)
    peaks = [group["lr"] for group in optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peaks, total_steps=steps)

    def loss(net: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(net(batch[0]), batch[1])

    fit(model, loader, loss, optimizer, steps=steps, scheduler=scheduler, device="cpu", progress=False)


if ready("02-8"):
    record = load_results("02_methods")
    target = data.load(DATASET)
    own = {}  # （手法, 枚数）→ 種の順に並べた正解率
    for seed in OWN_SEEDS:
        for n in OWN_SIZES:
            few, test = split_for(target.labels, n, seed)
            for method in TITLES:
                torch.manual_seed(seed)
                model = GlyphCNN(len(target.classes), weights="letters")
                rate = record.settings["picked"][f"small/{method}/plain"]["lr"]
                groups = prepare(model, method, rate, record.settings["decay"])
                images = TensorDataset(target.images[few], target.labels[few])
                learn(model, groups, images, record.settings["steps"], seed)
                with torch.no_grad():
                    answers = model.eval()(target.images[test]).argmax(dim=1)
                own.setdefault((method, n), []).append((answers == target.labels[test]).float().mean().item())
    for method, title in TITLES.items():
        print(f"{title}: " + "、".join(f"{n}枚 {mean_ci(own[method, n])}" for n in OWN_SIZES))

# %% [markdown]
# 二つの曲線を並べます。記録のほうには、対照をもう一つ加えます。乱数から始め、訓練の画像に変形（回転や移動）を加えて学習したものです。

# %%
if ready("02-8"):
    sizes = sorted({row["n"] for row in record.rows})
    fig, axes = plot.subplots(1, 2, figsize=(8.4, 3.8), sharey=True)
    for method, title in TITLES.items():
        mine = [mean_ci(own[method, n]) for n in OWN_SIZES]
        full = [record.mean("accuracy", n=n, method=method, augment=False) for n in sizes]
        for ax, x, cis in ((axes[0], OWN_SIZES, mine), (axes[1], sizes, full)):
            ax.errorbar(x, [ci.mean for ci in cis], [ci.half for ci in cis], marker="o", capsize=4, label=title)
    control = [record.mean("accuracy", n=n, method="scratch", augment=True) for n in sizes]
    middle, half = ([getattr(ci, part) for ci in control] for part in ("mean", "half"))
    axes[1].errorbar(sizes, middle, half, marker="s", capsize=4, label="乱数から（変形つき）")
    titles = (f"自分の実験（{DATASET}、種{len(OWN_SEEDS)}個）", f"記録（mnist5k、種{len(record.seeds)}個）")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_xscale("log")
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()
        ax.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
        ax.set_title(title)
        ax.set_xlabel("訓練の画像の枚数")
    axes[0].set_ylabel("正解率（平均と95%信頼区間）")
    axes[1].legend(loc="lower right", fontsize=8)
    plot.show(
        fig,
        alt="訓練の枚数に対する正解率の折れ線グラフ。左は自分の実験、右は記録。線は、乱数から、分類層だけ、最後の段と分類層、層別学習率。"
        "右には、乱数から変形つきで学習した対照もある。枚数が少ないほど、線の間隔は広い。"
        "右の図で、分類層だけの学習は、20枚では乱数からより高く、500枚では低い。",
    )

# %% [markdown]
# 次に、差を見ます。同じ種どうしで引き算すると、画像の選び方によるばらつきが消えます。
# 対照は二つです。変形なしで学習した「乱数から」と、変形つきで学習した「乱数から」です。事前学習では変形を使ったので、変形の効果を事前学習の効果と取り違えないように、両方と比べます。

# %%
if ready("02-8"):
    print("自分の実験：乱数からとの差（変形なしどうし）")
    for method in list(TITLES)[1:]:
        gaps = {n: mean_ci(np.subtract(own[method, n], own["scratch", n])) for n in OWN_SIZES}
        print(f"　{TITLES[method]}: " + "、".join(f"{n}枚 {gap}" for n, gap in gaps.items()))

    gains = {}
    for ours, control in ((False, False), (True, True), (False, True)):
        kinds = ["変形つき" if flag else "変形なし" for flag in (ours, control)]
        print(f"記録：{kinds[0]}の手法と、{kinds[1]}の乱数からとの差")
        for method in list(TITLES)[1:]:
            one, other = {"method": method, "augment": ours}, {"method": "scratch", "augment": control}
            gains[method, ours, control] = [record.difference("accuracy", one, other, n=n) for n in sizes]
            shown = "、".join(f"{n}枚 {gap}" for n, gap in zip(sizes, gains[method, ours, control], strict=True))
            print(f"　{TITLES[method]}: {shown}")

    print("記録：平均の順の1番目と2番目の差（変形なし）")
    for n in sizes:
        means = {method: record.mean("accuracy", n=n, method=method, augment=False).mean for method in TITLES}
        best, second = sorted(means, key=means.get, reverse=True)[:2]
        gap = record.difference("accuracy", {"method": best}, {"method": second}, n=n, augment=False)
        print(f"　{n}枚: {TITLES[best]} − {TITLES[second]} = {gap}")

    few_gain, many_gain = gains["head", False, False][0], gains["head", False, False][-1]
    assert few_gain.mean - few_gain.half > 0, "最も少ない枚数で、分類層だけの学習の利得が確認できません"
    assert many_gain.mean + many_gain.half < 0, "最も多い枚数で、分類層だけの学習の損失が確認できません"

# %% [markdown]
# ### 報告を書く
#
# 図と表をもとに、次の問いに答える短い報告を書いてください。どの答えにも、根拠になる行（手法、枚数、区間）を添えます。
#
# 1. **言えること**：枚数ごとに、最も平均の高い手法はどれですか。2番目との差の区間は、0を含みますか。含むなら、「最もよい」と言わずに書き直してください。
# 2. **手元と記録**：自分の実験の順位は、記録の順位と一致しましたか。種が3個のときと記録の種の数のときで、区間の幅を比べてください。3個だけで結論を出すと、どこを間違えましたか。
# 3. **変形の効果**：対照を変形つきに替えると、利得はどれだけ残りましたか。「事前学習のおかげ」と言ってよいのは、どの枚数の、どの比べ方ですか。
#
# 次に、**このデータが示していないこと**を、少なくとも四つ挙げてください。次の手がかりを使ってかまいません。
#
# - 転移元は、英字のフォントで1回だけ事前学習した、一つのネットワークです。種を変えても、転移元は変わりません。区間が表していないばらつきは何ですか。
# - 転移元に数字はありません。もし数字が入っていたら、何を測ったことになりますか。
# - 更新の回数は、どの手法も枚数によらず同じです。学習を長くしたら、順位が変わりそうな手法はどれですか。
# - 自分の実験では、開発用の画像を分けていません。記録の開発で選んだ学習率を借りています。`DATASET`を替えたとき、その学習率は公平ですか。
# - ネットワークは小さく、画像は28×28画素の白黒です。写真と大きなネットワークについて、何を言えますか。
# - 同じデータから、多くの枚数と手法を比べました。区間がたまたま0を外れたものは、どう扱えばよいですか。
#
# 最後に、挙げたうちの一つを選び、それを確かめる実験を、そろえる条件と変える条件に分けて設計してください。
