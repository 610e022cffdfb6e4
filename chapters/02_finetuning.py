# %% [markdown]
# # 第2章 ファインチューニング
#
# **学習目標**
# - ファインチューニング、特徴抽出、線形プローブ、ゼロからの学習を、更新する部分と要るデータで区別できる
# - どの層が使い回せるかを、層ごとに写す実験の図から読み取れる
# - 学習率を小さくする理由を、移した特徴の壊れ方と、ソースでの正解率の低下で説明できる
# - 層別学習率、斜め三角の学習率、段階的解凍、LP-FTを、式とコードの両方で書ける
# - 凍結しても動くバッチ正規化など、エラーの出ない誤りを、実行して見つけられる
# - 学習済みの重みが役に立つ場合と立たない場合を、対照と信頼区間で示せる
#
# **シラバスとの対応**：転移学習（ファインチューニング）、事前学習。シラバスには版があります。受験の前に、必ず公式の最新版を確かめてください。
#
# **範囲**：ファインチューニングの定義と手順、凍結、過剰適合、データ拡張は出題対象です。層別学習率、段階的解凍、LP-FT、LoRA、層ごとの転移の実験は発展です。

# %% [markdown]
# ## 困りごとから
#
# 前章では、学習済みの重みを移すと、ラベルが少ないときに得をすることを見ました。
# では、移した重みをどう扱えばよいでしょうか。凍結すれば壊れませんが、ソースの課題に向いたままです。
# すべて更新すればターゲットに合いますが、せっかくの特徴を壊すおそれがあります。
#
# 凍結と更新の間には、たくさんの選択肢があります。どの層を、どのくらいの速さで、いつから動かすか。
# この章では、その選択肢を一つずつ動かし、効くものと効かないものを測ります。

# %%
import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tlkit import data, plot, results
from tlkit.course import quiz
from tlkit.data.glyphs import glyphs
from tlkit.finetune import (
    GradualUnfreezing,
    extract_features,
    fit_head,
    param_groups,
    set_freeze,
    slanted_triangular,
    stage_names,
)
from tlkit.models import EfficientNetLite0, GlyphCNN, imagenet_input
from tlkit.seeding import seed_everything
from tlkit.stats import mean_ci
from tlkit.training import fit

seed_everything(0)
model = GlyphCNN(num_classes=10, weights="letters")  # フォントの英字で学習した重み。分類の層だけは乱数
for name in stage_names(model):
    count = sum(p.numel() for p in model.get_submodule(name).parameters())
    print(f"{name:12}パラメータ {count:>6,} 個")

# %% [markdown]
# この章の実験の多くは、この小さな畳み込みネットワーク（CNN）を使います。
# フォントの英字52種類で事前学習した重みを、手書き数字10種類に移します。事前学習に、数字は一枚も使っていません。
#
# 出力の数が違うので、最後の層`classifier`だけは写せません。乱数の重みから始めます。
# 入力側の層ほど画像に共通の形を、出力側の層ほど元の課題に固有の形を表す、と言われます。後で確かめます。

# %% [markdown]
# ## ファインチューニングとは
#
# **ファインチューニング**（fine-tuning）は、事前学習済みの重みを初期値として、ターゲットのデータで学習を続けることです。
# 重みの一部だけを更新する場合も含みます。隣の言葉と並べて、違いを確かめます。
#
# | 方法 | 初期値 | 更新する部分 | ターゲットのラベル |
# |---|---|---|---|
# | ゼロからの学習 | 乱数 | すべて | 要る |
# | 特徴抽出 | 事前学習済み | なし（特徴を取り出すだけ） | 特徴の使い方による |
# | 線形プローブ | 事前学習済み | 最後の線形層だけ | 要る |
# | 部分的なファインチューニング | 事前学習済み | 出力側のいくつかの層 | 要る |
# | 全体のファインチューニング | 事前学習済み | すべて | 要る |
# | パラメータ効率的ファインチューニング（PEFT） | 事前学習済み | 追加した少数のパラメータ | 要る |
# | 教師なしドメイン適応（03章） | 事前学習済みか乱数 | すべてか一部 | 要らない。ソースのラベルは使う |
# | 文脈内学習 | 事前学習済み | なし（入力に例を並べる） | 例の分だけ要る |
#
# 「転移学習は凍結、ファインチューニングは更新」と対にする説明を見かけます。しかし転移学習は総称で、ファインチューニングはその方法の一つです。
# また、「少し学習すればファインチューニング」でもありません。初期値が事前学習済みかどうかが要点です。
#
# 式で書くと、違いは初期値 $\theta_0$ だけです。
#
# $$
# \min_{\theta} \; \frac{1}{N} \sum_{i=1}^{N} \ell\bigl(f_\theta(x_i),\, y_i\bigr), \qquad
# \theta_0 = \begin{cases} \text{乱数} & \text{ゼロからの学習} \\ \theta_{\text{ソース}} & \text{ファインチューニング} \end{cases}
# $$
#
# 最小にする関数は同じです。それでも結果が変わるのは、更新の回数が限られ、ラベルが少なく、たどり着く場所が出発点によって変わるからです。

# %% [markdown]
# ## 最小のコード
#
# 手書き数字から、学習に100枚、選択（検証）に1,000枚を取ります。最後の測定（テスト）は、種を変えた実験でだけ行います。
# 学習のくり返しは`tlkit.training.fit`に任せ、方法の違いは、凍結の範囲と学習率だけで表します。

# %%
mnist = data.load("mnist5k")
order = torch.randperm(len(mnist.labels), generator=torch.Generator().manual_seed(0))
train_rows, validation_rows = order[:100], order[100:1100]


def loader_of(rows: Tensor, batch_size: int = 25) -> DataLoader:
    """行番号の画像を、決まった順に並べ替えながら返すローダー。"""
    generator = torch.Generator().manual_seed(0)
    return DataLoader(
        TensorDataset(mnist.images[rows], mnist.labels[rows]), batch_size, shuffle=True, generator=generator
    )


def classification_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """交差エントロピー。"""
    images, labels = batch
    return F.cross_entropy(model(images), labels)


@torch.inference_mode()
def accuracy(model: nn.Module, rows: Tensor) -> float:
    """評価モードでの正解率。"""
    return (model.eval()(mnist.images[rows]).argmax(1) == mnist.labels[rows]).float().mean().item()


def finetune(
    model: nn.Module, groups: list[dict], rows: Tensor = train_rows, epochs: int = 30, **options: object
) -> nn.Module:
    """グループごとの学習率で学習する。"""
    fit(model, loader_of(rows), classification_loss, torch.optim.Adam(groups), epochs=epochs, progress=False, **options)
    return model


def new_model(weights: str | None = "letters") -> nn.Module:
    """いつも同じ乱数の分類の層を持つ、新しいモデル。"""
    torch.manual_seed(0)
    return GlyphCNN(num_classes=10, weights=weights)


# ゼロから
scratch = new_model(weights=None)
finetune(scratch, param_groups(scratch, 3e-3, decay=1.0))
# 最後の線形層だけ
head_only = set_freeze(new_model(), "all")
finetune(head_only, param_groups(head_only, 3e-3))
# すべての層を、同じ学習率で
everything = set_freeze(new_model(), "none")
finetune(everything, param_groups(everything, 3e-3, decay=1.0))

for name, trained in {"ゼロから": scratch, "最後の層だけ": head_only, "すべての層": everything}.items():
    learned = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    print(f"{name}: 学習するパラメータ {learned:>6,} 個、検証の正解率 {accuracy(trained, validation_rows):.3f}")

# %% [markdown]
# `set_freeze`が凍結の範囲を決め、`param_groups`が学習率のグループを作ります。方法を替えても、ほかのコードは変わりません。
#
# この結果は、一通りの分け方と初期値で測っただけです。ここから優劣を言ってはいけません。種を変えた比較は、この章の後半で行います。

# %% [markdown]
# ## どこまで動かすか：データの量と、ソースとの近さ
#
# 更新の範囲は、次の表を出発点にして考えます。
#
# | | ソースとターゲットが似ている | 似ていない |
# |---|---|---|
# | **ラベルが少ない** | 凍結して、最後の層だけを学習する | 入力側の層だけを借りる。負の転移に注意する |
# | **ラベルが多い** | 全体を、小さな学習率で更新する | 全体を更新する。ゼロからの学習と必ず比べる |
#
# 理由は二つの力の釣り合いです。更新するパラメータを増やすほど、ターゲットに合わせられます。
# しかし、ラベルが少ないと過剰適合が起き、移した特徴も壊れます。似ていないほど、合わせる必要が大きくなります。
#
# この表は規則ではなく、実験の順番を決めるための見当です。四つのます目のそれぞれを、後で実験の値で埋めます。

# %% [markdown]
# ## どの層が使い回せるか
#
# Yosinski et al.（2014）は、ネットワークを入力側から $k$ 段だけ写し、残りを乱数から学習する実験をしました。
# 写した段を凍結する場合と、続けて更新する場合を比べると、どの段までがほかの課題にも役立つかが分かります。
#
# 同じ実験を、英字から手書き数字への転移で行いました。比べるのは次の四つです。
#
# - **英字・凍結**：英字で学習した $k$ 段を写して凍結し、残りを学習する
# - **英字・更新**：同じく写した後、すべての段を学習する
# - **乱数・凍結（較正あり）**：学習していない $k$ 段を凍結する（対照）
# - **乱数・凍結（較正なし）**：同じ対照だが、バッチ正規化の移動統計を合わせない
#
# 対照の「較正」とは、凍結する前に、ターゲットの画像でバッチ正規化の移動統計を測り直すことです。
# 乱数の重みの移動統計は、平均0、分散1という初期値のままです。そのまま凍結すると、層を重ねるごとに値の大きさが合わなくなります。

# %%
layers = results.load("02_layers")
print(f"{layers.title}\n種 {len(layers.seeds)} 通り\n")
curves = {
    "英字・更新": {"source": "letters", "mode": "tuned", "calibrated": False},
    "英字・凍結": {"source": "letters", "mode": "frozen", "calibrated": False},
    "乱数・凍結（較正あり）": {"source": "random", "mode": "frozen", "calibrated": True},
    "乱数・凍結（較正なし）": {"source": "random", "mode": "frozen", "calibrated": False},
}
depths = [1, 2, 3, 4]

fig, axes = plot.subplots(1, 2, figsize=(7.6, 3.8), sharey=True)
for ax, n in zip(axes, (100, 500), strict=True):
    start = layers.mean("accuracy", n=n, k=0, **curves["英字・更新"])
    ax.axhline(start.mean, color="black", linewidth=0.8, linestyle=":", label="一段も写さない（ゼロから）")
    for label, where in curves.items():
        points = [layers.mean("accuracy", n=n, k=k, **where) for k in depths]
        ax.errorbar(depths, [p.mean for p in points], [p.half for p in points], marker="o", capsize=3, label=label)
    ax.set_xticks(depths, ["1\nstem", "2\nstages.0", "3\nstages.1", "4\nhead"])
    ax.set_xlabel("写した段の数 k（と、その終わりの段）")
    ax.set_title(f"手書き数字 {n}枚", fontsize=10)
axes[0].set_ylabel("正解率（平均と95%信頼区間）")
axes[0].legend(fontsize=8)
plot.show(
    fig,
    alt="写した段の数に対する正解率の折れ線グラフ。左は100枚、右は500枚。英字の段を写すと3段まで上がり、4段目まで凍結すると下がる。"
    "500枚では、4段とも凍結するとゼロからの線を下回る。乱数の段の凍結は、段が増えるほど下がる。較正の有無による差は小さい。",
)


def layer_difference(n: int, k: int, ours: str, control: str) -> object:
    """二つの条件の、同じ種どうしの正解率の差。"""
    return layers.difference("accuracy", curves[ours], curves[control], n=n, k=k)


for n in (100, 500):
    first = layer_difference(n, 1, "英字・凍結", "乱数・凍結（較正あり）")
    last = layer_difference(n, 4, "英字・凍結", "英字・更新")
    artefacts = [layer_difference(n, k, "乱数・凍結（較正なし）", "乱数・凍結（較正あり）") for k in (3, 4)]
    print(f"{n}枚、1段を凍結：英字 − 乱数（較正あり） {first}")
    print(f"{n}枚、4段：凍結 − 更新 {last}")
    print(f"{n}枚、乱数の段を凍結：較正なし − 較正あり 3段 {artefacts[0]}、4段 {artefacts[1]}")
assert last.mean + last.half < 0, "深い段の凍結による低下が確認できません"
assert artefacts[0].mean + artefacts[0].half < 0, "較正しない対照の低下が確認できません"

# %% [markdown]
# 入力側から1段だけを凍結したときは、英字の段と乱数の段で、はっきりした差がありません。
# この小さな課題では、最初の段は何であっても、残りの段が合わせてしまいます。学習済みの重みが効くのは、2段目と3段目です。
#
# 4段目まで凍結すると、正解率は下がります。500枚では、ゼロからの学習にも負けます。
# 4段目の`head`は、英字を見分けるための組み合わせを表します。そのままでは数字に合わないのです。
# 続けて更新すれば、4段を写しても失うものはわずかです。「入力側は共通、出力側は固有」という説明は、この結果と合います。
#
# ただし、Yosinski et al.（2014）は、もう一つの理由を挙げています。途中で切り離すと、隣り合う段の噛み合い（共適応）が壊れる、という理由です。
# 出力側の低下がどちらの理由によるかは、この図だけでは分かりません。
#
# 較正しない対照は、3段で少し低くなりました。4段では、較正の有無による差がはっきりしません。
# 実は、初めの実験では学習率の候補が0.1までしかなく、較正しない4段の正解率は、ずっと低く見えていました。
# 較正しない特徴は値が小さいので、分類の層には大きな学習率が要ります。候補を1.0まで広げると、差はほとんど消えました。
# 選ばれた値が候補の端にあるときは、候補を広げて測り直してください。対照の設定を手抜きすると、移した重みの利得を大きく見せてしまいます。

# %% [markdown]
# ## なぜ学習率を小さくするか
#
# 分類の層は乱数から始まるので、初めのうちは間違った勾配を手前の層へ送ります。
# 学習率を $\eta$、最初の一歩での手前の層の勾配を $g$ とすると、重みは $-\eta g$ だけ動きます。
# このとき、特徴 $\phi_\theta(x)$ の変化は、一次の近似で次のようになります。
#
# $$
# \phi_{\theta - \eta g}(x) - \phi_\theta(x) \approx -\eta\, J_\theta(x)\, g
# $$
#
# $J_\theta(x)$ は、特徴を重みで微分した行列です。変化は $\eta$ に比例します。
# 学習率が大きいと、分類の層が正しい向きを覚える前に、移した特徴が壊れてしまいます。
#
# 壊れたことは、ソースの課題で測れます。数字で学習した後のネットワークに、元の英字の分類の層を付け直し、英字の正解率を測るのです。
# 英字の評価には、事前学習で学習に使わなかった書体を使います。ただし、この書体は事前学習でエポックを選ぶのに使ったので、学習の前の値は少し高めに出ます。

# %%
forgetting = results.load("02_forgetting")
rates = sorted({row["lr"] for row in forgetting.rows if row["method"] == "full"})
before = forgetting.rows[0]["source_before"]
names = {"full": "全体・同じ学習率", "discriminative": "層別学習率", "head": "最後の層だけ"}

fig, (left, right) = plot.subplots(1, 2, figsize=(7.2, 3.2), sharex=True)
for method, label in names.items():
    for ax, key in ((left, "accuracy"), (right, "source_accuracy")):
        points = [forgetting.mean(key, method=method, lr=lr) for lr in rates]
        ax.errorbar(rates, [p.mean for p in points], [p.half for p in points], marker="o", capsize=3, label=label)
right.axhline(before, color="black", linestyle=":", linewidth=0.8, label="学習の前")
left.set_title("ターゲット（手書き数字）", fontsize=10)
right.set_title("ソース（英字、学習に使わない書体）", fontsize=10)
for ax in (left, right):
    ax.set_xscale("log")
    ax.set_xlabel("分類の層の学習率")
left.set_ylabel("正解率（平均と95%信頼区間）")
right.legend(fontsize=8)
plot.show(
    fig,
    alt="学習率に対する正解率の二つの折れ線グラフ。左のターゲットでは、中ほどの学習率で最も高い。"
    "右のソースでは、最後の層だけの学習は水平のまま動かない。ほかの二つは学習率が大きいほど下がり、層別学習率のほうが緩やかである。",
)
picked = forgetting.settings["lr"]
for method in ("full", "discriminative"):
    at = {"method": method, "lr": picked[method]}
    target, source = forgetting.mean("accuracy", **at), forgetting.mean("source_accuracy", **at)
    print(
        f"{names[method]}：開発用の画像で選んだ学習率 {picked[method]:g}、ターゲット {target}、ソース {before:.3f} → {source}"
    )
forgotten = forgetting.mean("source_accuracy", method="full", lr=rates[-1])
assert forgotten.mean + forgotten.half < before - 0.3, "大きな学習率での忘却が確認できません"

# %% [markdown]
# 左の図だけを見ていると、学習率は大きめでも良さそうに見えます。右の図は、その裏で何が失われたかを示します。
# ターゲットの正解率がほとんど変わらない範囲でも、ソースの正解率は大きく下がります。
#
# 新しい課題を学ぶと、前の課題の性能が失われることを**破壊的忘却**（catastrophic forgetting）と呼びます（McCloskey and Cohen, 1989）。
# <!-- textlint-disable prh -->
# 「破滅的忘却」とも訳されます。
# <!-- textlint-enable prh -->
#
# ソースの課題をもう使わないなら、忘却そのものは困りません。それでも測る価値があるのは、移した特徴がどれだけ残っているかが分かるからです。
# 両方の課題を使い続けるなら、凍結する、学習率を下げる、ソースのデータを混ぜるといった備えが要ります。

# %% [markdown]
# ## 層別学習率
#
# 入力側の層ほど、どの課題にも共通な特徴を持つなら、入力側ほど小さく動かせばよいはずです。
# **層別学習率**（discriminative fine-tuning）は、段ごとに学習率を変えます。出力側から $k$ 段目の学習率を次のように決めます。
#
# $$
# \eta_k = \frac{\eta}{\gamma^{\,k}}, \qquad k = 0, 1, 2, \dots \quad (k = 0 \text{ が分類の層})
# $$
#
# Howard and Ruder（2018）は、言語モデルのファインチューニングで $\gamma = 2.6$ を使いました。
# 論文の説明は、うまくいくことを経験的に見つけた、というものだけです。3層のLSTMの言語モデルで選ばれた値です。理論から導かれた数ではありません。
#
# 同じ2.6でも、段の数が多いネットワークでは意味が変わります。

# %%
lite0 = EfficientNetLite0(num_classes=10)
for name, network in {"GlyphCNN": model, "EfficientNet-Lite0": lite0}.items():
    groups = param_groups(network, base_lr=1e-3, decay=2.6)
    print(f"{name}（{len(groups)} 段）")
    for group in (groups[0], groups[-2], groups[-1]):
        print(f"　{group['name']:12}学習率 {group['lr']:.1e}")
    covered = sum(p.numel() for group in groups for p in group["params"])
    assert covered == sum(p.numel() for p in network.parameters()), "グループから漏れたパラメータがあります"

# %% [markdown]
# 段が多いと、入力側の学習率は分類の層の数千分の一になります。これは、ほとんど凍結と同じです。
# $\gamma$ は、段の分け方と一緒に選ぶ値です。GlyphCNNで $\gamma$ を変えると、次のようになりました。

# %%
at_decay = forgetting.where(method="decay")
decays = sorted({row["decay"] for row in at_decay.rows})
fig, ax = plot.subplots(figsize=(5.2, 3.0))
for key, label in {"accuracy": "ターゲット（手書き数字）", "source_accuracy": "ソース（英字）"}.items():
    points = [at_decay.mean(key, decay=decay) for decay in decays]
    ax.errorbar(decays, [p.mean for p in points], [p.half for p in points], marker="o", capsize=3, label=label)
for decay in decays:
    target, source = at_decay.mean("accuracy", decay=decay), at_decay.mean("source_accuracy", decay=decay)
    print(
        f"γ = {decay:g}（選ばれた学習率 {at_decay.where(decay=decay).rows[0]['lr']:g}）: ターゲット {target}、ソース {source}"
    )
ax.set_xscale("log")
ax.set_xticks(decays, [f"{d:g}" for d in decays])
ax.minorticks_off()
ax.set_xlabel("段ごとに学習率を割る数 γ（学習率は γ ごとに選び直した）")
ax.set_ylabel("正解率（平均と95%信頼区間）")
ax.legend()
plot.show(
    fig,
    alt="γに対する正解率の折れ線グラフ。ターゲットの正解率は、どのγでもほとんど同じ。ソースの正解率はγによって大きく変わるが、"
    "γの順には並ばない。γが4以上では高い。",
)

# %% [markdown]
# 分類の層の学習率は、$\gamma$ ごとに、開発用の画像でのターゲットの正解率だけを見て選び直しました。
# ターゲットの正解率は、$\gamma$ を変えてもほとんど動きません。2.6が特別に良い値だとは言えません。
#
# ソースの正解率は大きく変わりますが、$\gamma$ の順には並びません。$\gamma$ によって、選ばれた学習率が違うからです。
# ターゲットだけを見て選ぶと、同じくらい良い設定の中から、忘却の大きいものを選んでしまうことがあります。

# %% [markdown]
# ## 学習率の予定を立てる
#
# 学習率は、時間でも変えられます。初めは小さくして、分類の層が落ち着くのを待ちます。
# 次に上げて、良い場所へ速く移ります。最後は下げて、細かく合わせます。
#
# Howard and Ruder（2018）の**斜め三角の学習率**（slanted triangular learning rates）は、短い上りと長い下りでこれを実現します。
# 更新の総数を $T$、上りの割合を $c$、最大と最小の比を $r$ とすると、$t$ 回目の学習率は次のとおりです。
#
# $$
# t_c = \lfloor T c \rfloor, \qquad
# p = \begin{cases} t / t_c & (t < t_c) \\ 1 - \dfrac{t - t_c}{t_c (1/c - 1)} & (t \geq t_c) \end{cases}, \qquad
# \eta_t = \eta_{\max} \cdot \frac{1 + p (r - 1)}{r}
# $$
#
# よく使われるもう一つの予定が、**余弦の再始動**（`CosineAnnealingWarmRestarts`、Loshchilov and Hutter, 2017）です。
# 余弦の曲線で下げ、決まった周期で最大値に戻します。二つを並べます。

# %%
total = 300


def rates_of(make_scheduler: object) -> list[float]:
    """更新ごとの学習率。"""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = make_scheduler(optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


slanted = rates_of(lambda optimizer: slanted_triangular(optimizer, total, cut_frac=0.1, ratio=32))
restarts = rates_of(lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=100))

fig, ax = plot.subplots(figsize=(5.2, 2.8))
ax.plot(slanted, label="斜め三角（c = 0.1、r = 32）")
ax.plot(restarts, label="余弦の再始動（周期100）")
ax.set_ylim(top=0.0135)
ax.set_xlabel("更新の回数 t")
ax.set_ylabel("学習率")
ax.legend()
plot.show(
    fig,
    alt="更新の回数に対する学習率の折れ線グラフ。斜め三角は、初めの1割で直線的に上がり、残りで直線的に下がる。"
    "余弦の再始動は、余弦の曲線で0近くまで下がり、100回ごとに最大値へ戻る。",
)
assert max(slanted) == slanted[30], "斜め三角の頂点が、上りの終わりにありません"
assert abs(slanted[0] - 0.01 / 32) < 1e-12, "斜め三角の初めの値が、最大値の1/32ではありません"

# %% [markdown]
# ファインチューニングで再始動を使うときは、注意が要ります。戻った直後の大きな学習率が、移した特徴をもう一度壊すからです。
# 予定は、`fit`の`scheduler`に渡します。どちらも更新のたびに1回進めます。エポックごとに進めると、周期が何倍にも延びます。

# %% [markdown]
# ## 段階的解凍
#
# **段階的解凍**（gradual unfreezing）は、初めは分類の層だけを学習し、エポックが進むごとに、出力側から一段ずつ学習に加えます（Howard and Ruder, 2018）。
# 分類の層が落ち着いてから手前の段を動かすので、でたらめな勾配が入力側に届きません。
#
# $$
# \text{エポック } e \text{ で学習する段の数} = \min(1 + e,\ \text{段の総数}) \qquad (e = 0, 1, 2, \dots)
# $$
#
# 最適化手法は、全部の段のグループを持ったまま作ります。凍結した段には勾配がないので、動きません。
# 各エポックの終わりに、それぞれの段が、初めの重みからどれだけ動いたかを測ります。

# %%
unfreezing_model = new_model()
names_in_order = stage_names(unfreezing_model)
initial = {name: value.clone() for name, value in unfreezing_model.named_parameters()}
moved: list[list[float]] = []


def record_distance(network: nn.Module) -> float:
    """段ごとに、初めの重みからの相対的な距離を記録する。検証の正解率を返す。"""
    row = []
    for stage in names_in_order:
        now = {f"{stage}.{key}": value for key, value in network.get_submodule(stage).named_parameters()}
        change = sum((value - initial[name]).square().sum() for name, value in now.items())
        row.append((change / sum(initial[name].square().sum() for name in now)).sqrt().item())
    moved.append(row)
    return accuracy(network, validation_rows)


finetune(
    unfreezing_model,
    param_groups(unfreezing_model, 3e-3, decay=2.6),
    epochs=8,
    on_epoch=GradualUnfreezing(unfreezing_model),
    validate=record_distance,
    restore_best=False,
)

fig, ax = plot.subplots(figsize=(5.2, 3.0))
for stage, distances in zip(names_in_order, zip(*moved, strict=True), strict=True):
    ax.plot(range(1, 9), [d if d > 0 else float("nan") for d in distances], marker="o", label=stage)  # 距離0は描かない
ax.set_yscale("log")
ax.set_xlabel("終わったエポックの数")
ax.set_ylabel("初めの重みからの相対的な距離（対数目盛）")
ax.legend(fontsize=8)
plot.show(
    fig,
    alt="エポックに対する、段ごとの重みの動きの折れ線グラフ。classifierは初めから動く。"
    "head、stages.1、stages.0、stemは、この順に1エポックずつ遅れて動き始め、入力側ほど動きが小さい。",
)
assert moved[0][0] == 0.0, "凍結した段が動きました"
assert moved[0][-1] > 0.0, "分類の層が動いていません"
assert all(distance > 0.0 for distance in moved[-1]), "最後まで動かない段があります"

# %% [markdown]
# ## LP-FT：先に線形プローブ、それから全体
#
# 分類の層が乱数だから、特徴が壊れるのでした。それなら、分類の層だけを先に求めておけばよいはずです。
# **LP-FT**（linear probing then fine-tuning）は、次の二段階です（Kumar et al., 2022）。
#
# 1. 特徴 $\phi(x_i)$ を凍結し、分類の層 $(W, b)$ だけを最適にする（線形プローブ）
# 2. その分類の層から始めて、全体をファインチューニングする
#
# $$
# \min_{W, b}\; \frac{1}{N}\sum_{i=1}^{N} \ell\bigl(W \phi(x_i) + b,\, y_i\bigr) + \frac{\lambda}{2} \lVert W \rVert_F^2
# $$
#
# 一段階目は凸な問題なので、最小値が一つに決まります。`fit_head`は特徴を一度だけ計算し、L-BFGS法で解きます。
# 二段階目の初めの数歩で、特徴がどれだけ動くかを比べます。

# %%
FIRST_STEPS = 20
features_before, _ = extract_features(
    new_model(), DataLoader(TensorDataset(mnist.images[validation_rows], mnist.labels[validation_rows]), 500)
)


def feature_change(network: nn.Module) -> float:
    """検証の画像の特徴が、事前学習済みの特徴から動いた割合。"""
    loader = DataLoader(TensorDataset(mnist.images[validation_rows], mnist.labels[validation_rows]), 500)
    now, _ = extract_features(network, loader)
    return ((now - features_before).norm() / features_before.norm()).item()


changes: dict[str, list[float]] = {}
for name in ("乱数の分類の層から", "線形プローブの解から"):
    network = new_model()
    if name == "線形プローブの解から":
        fit_head(network, loader_of(train_rows))
        print(
            f"線形プローブの後：検証の正解率 {accuracy(network, validation_rows):.3f}、特徴の変化 {feature_change(network):.3f}"
        )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
    changes[name] = [0.0]
    for _ in range(FIRST_STEPS):
        fit(network, loader_of(train_rows), classification_loss, optimizer, steps=1, progress=False)
        changes[name].append(feature_change(network))

fig, ax = plot.subplots(figsize=(5.2, 2.8))
for name, values in changes.items():
    ax.plot(values, marker="o", markersize=3, label=name)
ax.set_xticks(range(0, FIRST_STEPS + 1, 5))
ax.set_xlabel("全体の更新の回数")
ax.set_ylabel("特徴の変化の割合")
ax.legend()
plot.show(
    fig,
    alt="更新の回数に対する、特徴の変化の割合の折れ線グラフ。乱数の分類の層から始めると、線形プローブの解から始めるより、特徴が大きく動く。",
)

# %% [markdown]
# 乱数の分類の層から始めると、最初の2歩で特徴が大きく動き、その後は戻りません。線形プローブの解から始めると、動きは緩やかです。
# 線形プローブの解では、分類の層についての勾配がほぼ0で、損失も小さくなっています。だから、特徴へ流れる勾配も小さくなります。
#
# Kumar et al.（2022）は、特徴が壊れると、学習データと分布の違うデータで正解率が下がりやすいことを示しました。
# ただし、ここで使ったのはSGDです。Adamは勾配をその大きさで割るので、勾配が小さくても一歩の幅は変わりません。演習02-6で、二つを比べます。

# %% [markdown]
# ## 方法とデータの量を、種を変えて比べる
#
# ここまでの部品を組み合わせて、方法を並べます。英字から手書き数字への転移で、ラベルの数を変えながら測ります。
#
# - **ゼロから**：乱数の重みから、すべての層を学習する
# - **最後の層だけ**：特徴を凍結する
# - **最後の段と分類の層**：出力側の一段を加える
# - **全体**：すべての層を、同じ学習率で更新する
# - **層別学習率**：すべての層を更新し、入力側ほど学習率を小さくする
# - **LP-FT**：線形プローブの解から、全体を更新する
# - **ULMFiT型**：層別学習率、斜め三角の学習率、段階的解凍を一緒に使う
#
# 学習率は、方法ごとに開発用の画像で選びました。ゼロからの学習には、データ拡張を使った対照も加えます。
# 事前学習がデータ拡張を使っているので、拡張なしのゼロからとだけ比べると、利得を大きく見せてしまうからです（01章）。

# %%
methods = results.load("02_methods")
print(f"{methods.title}\n種 {len(methods.seeds)} 通り。同じ種では、どの方法も同じ画像を使う\n")
titles = {
    "scratch": "ゼロから",
    "head": "最後の層だけ",
    "last_block": "最後の段と分類の層",
    "full": "全体",
    "discriminative": "層別学習率",
    "lp_ft": "LP-FT",
    "ulmfit": "ULMFiT型",
}
sizes = sorted({row["n"] for row in methods.rows})

fig, axes = plot.subplots(1, 2, figsize=(7.6, 3.8), sharey=True)
for ax, augment in zip(axes, (False, True), strict=True):
    for method, label in titles.items():
        if not any(row["method"] == method and row["augment"] == augment for row in methods.rows):
            continue
        points = [methods.mean("accuracy", method=method, augment=augment, n=n) for n in sizes]
        ax.errorbar(sizes, [p.mean for p in points], [p.half for p in points], marker="o", capsize=3, label=label)
    ax.set_xscale("log")
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    ax.set_xlabel("手書き数字のラベルの数 N")
    ax.set_title("データ拡張あり" if augment else "データ拡張なし", fontsize=10)
axes[0].set_ylabel("正解率（平均と95%信頼区間）")
axes[0].legend(fontsize=8)
plot.show(
    fig,
    alt="ラベルの数に対する正解率の折れ線グラフ。左はデータ拡張なし、右はあり。どちらでもラベルが少ないほど、"
    "移した方法がゼロからの学習を上回り、ラベルが増えると差が縮む。",
)

# %%
for augment in (False, True):
    print(f"データ拡張{'あり' if augment else 'なし'}：ゼロから（拡張も同じ）との差")
    for method, label in titles.items():
        if method == "scratch" or not any(
            row["method"] == method and row["augment"] == augment for row in methods.rows
        ):
            continue
        pair = {"method": method, "augment": augment}, {"method": "scratch", "augment": augment}
        gains = [methods.difference("accuracy", *pair, n=n) for n in (sizes[0], sizes[-1])]
        print(f"　{label}: N = {sizes[0]} で {gains[0]}、N = {sizes[-1]} で {gains[1]}")
fair = methods.difference(
    "accuracy", {"method": "discriminative", "augment": True}, {"method": "scratch", "augment": True}, n=sizes[0]
)
assert fair.mean - fair.half > 0.03, "データ拡張をそろえた比較で、利得が確認できません"

print(f"\nデータ拡張あり、N = {sizes[0]}：LP-FTと、ほかの方法との差")
for method in ("head", "full", "discriminative", "ulmfit"):
    lead = methods.difference("accuracy", {"method": "lp_ft"}, {"method": method}, augment=True, n=sizes[0])
    print(f"　{titles[method]}: {lead}")
frozen_many = methods.difference("accuracy", {"method": "head"}, {"method": "full"}, augment=True, n=sizes[-1])
assert frozen_many.mean + frozen_many.half < 0, "ラベルが多いときの、凍結の不利が確認できません"

# %% [markdown]
# この課題から読み取れることは、四つあります。
#
# 1. ラベルが最も少ないとき、移した方法はどれも、データ拡張をそろえたゼロからの学習に勝ちます。
# 2. 最後の層だけの学習は、ラベルが少ないうちは全体の更新に劣りません。しかし早く頭打ちになり、ラベルが多いときは最も低くなります。
# 3. ラベルが少ないときは、LP-FTが最も高くなりました。ただし、LP-FTだけは、一段階目の分類の層にL2正則化をかけています。始め方と正則化のどちらが効いたかは、この比較では分かりません。
# 4. ラベルが多いとき、移した方法の間の差はほとんどありません。ゼロからの学習との差も、ごくわずかです。大規模な物体検出でも、長く学習すればゼロからの学習は追いつくと報告されています（He et al., 2019）。
#
# 層別学習率は、全体の更新より少し高くなりましたが、区別がつくのはラベルが最も少ないときだけです。段階的解凍と学習率の予定を足しても、さらに良くなるとは言えません。
# 「この方法が一番」と言えるのは、課題、ラベルの数、選んだ学習率の範囲を述べたときだけです。
# また、事前学習は一度きりで、その種は変えていません。区間は、ターゲットの側の揺れだけを表します。

# %% [markdown]
# ## ImageNetの重みは、どこで勝つか
#
# 大きな写真の集まりで学習した重みなら、何にでも効くのでしょうか。EfficientNet（Tan and Le, 2019）の小型版であるEfficientNet-Lite0で、二つの課題を試します。

# %%
imagenet = results.load("02_imagenet")
print(f"{imagenet.title}\n種 {len(imagenet.seeds)} 通り\n")

sets = {"photos_grey": "白黒の写真の切り抜き", "mnist5k": "手書き数字"}
imagenet_titles = {
    "small_cnn": "小さなCNN・ゼロから",
    "scratch": "Lite0・ゼロから",
    "head": "Lite0・最後の層だけ",
    "last_block": "Lite0・最後の段と分類の層",
    "discriminative": "Lite0・層別学習率",
}
per_class = sorted({row["per_class"] for row in imagenet.rows})

fig, axes = plot.subplots(1, 2, figsize=(7.6, 3.8), sharey=True)
for ax, (name, title) in zip(axes, sets.items(), strict=True):
    for method, label in imagenet_titles.items():
        measured = [
            c
            for c in per_class
            if any(r["set"] == name and r["per_class"] == c and r["method"] == method for r in imagenet.rows)
        ]
        points = [imagenet.mean("accuracy", set=name, per_class=c, method=method) for c in measured]
        ax.errorbar(measured, [p.mean for p in points], [p.half for p in points], marker="o", capsize=3, label=label)
    ax.set_xscale("log")
    ax.set_xticks(per_class, [str(c) for c in per_class])
    ax.minorticks_off()
    ax.set_xlabel("1クラスの枚数")
    ax.set_title(title, fontsize=10)
axes[0].set_ylabel("正解率（平均と95%信頼区間）")
axes[1].legend(fontsize=8)
plot.show(
    fig,
    alt="1クラスの枚数に対する正解率の折れ線グラフ。左の白黒の写真では、ImageNetの重みから始めた方法が、ゼロからの学習を大きく上回る。"
    "右の手書き数字では、小さなCNNをゼロから学習する方法に並ばれるか、追い越される。",
)
gains = {}
for name, title in sets.items():
    for count in (per_class[0], per_class[-1]):
        pair = {"method": "discriminative"}, {"method": "small_cnn"}
        gains[name, count] = imagenet.difference("accuracy", *pair, set=name, per_class=count)
        print(f"{title}、1クラス{count}枚：層別学習率 − 小さなCNN {gains[name, count]}")
photo, digit = gains["photos_grey", per_class[-1]], gains["mnist5k", per_class[-1]]
assert photo.mean - photo.half > 0.1, "写真での利得が確認できません"
assert digit.mean + digit.half < 0, "手書き数字での不利が確認できません"

# %% [markdown]
# 白黒の写真では、ImageNetの重みから始めた方法が、ゼロからの学習を大きく引き離します。枚数を増やしても、差は縮みません。
# 色を除いても、輪郭や模様を見分ける段が役立つからだと考えられます。
#
# 手書き数字では、逆になりました。小さなCNNをゼロから学習したほうが、枚数が増えるほど有利です。
# 理由として考えられることは、三つあります。
#
# - 28画素の線画を拡大して渡すので、写真で学んだ細かな模様の段が使われない
# - 数字を見分けるには、小さなネットワークの表現力で足りている
# - 大きなネットワークは、この更新の回数では、線画に合わせきれない
#
# どれが主な理由かは、この実験からは分かりません。一方、同じLite0をゼロから学習すると、数字でもさらに低くなります。
# 「ImageNetの重みは役に立たなかった」のではありません。大きなネットワークを使うなら役に立ちますが、小さなネットワークをゼロから学習する、もっと安い方法に負けたのです。
# 対照に何を置くかで、結論が変わります。
#
# この結果には、三つの限りがあります。写真は01章と同じ9枚で、新しい写真での確かめではありません。
# 更新の回数は方法によって違い、Lite0のゼロからの学習は、もっと長く学習すれば上がります。区間は、6個の種による揺れだけを表します。

# %% [markdown]
# ### 表のます目を、実験で埋める
#
# この章の初めの表に戻ります。「似ている」には白黒の写真、「似ていない」には手書き数字を当て、ImageNetの重みから始めた方法と、ゼロからの小さなCNNを並べます。
# 平均が最も高い方法と、それと区間で見分けられない方法を書き出します。

# %%
for name, similarity in {"photos_grey": "似ている", "mnist5k": "似ていない"}.items():
    for count, amount in ((per_class[0], "少ない"), (per_class[-1], "多い")):
        table = {}
        for method, label in imagenet_titles.items():
            if any(r["set"] == name and r["per_class"] == count and r["method"] == method for r in imagenet.rows):
                table[method] = imagenet.mean("accuracy", set=name, per_class=count, method=method).mean
        best = max(table, key=table.get)
        gaps = {
            m: imagenet.difference("accuracy", {"method": best}, {"method": m}, set=name, per_class=count)
            for m in table
            if m != best
        }
        ties = [imagenet_titles[m] for m, gap in gaps.items() if gap.mean - gap.half <= 0]
        print(f"{similarity}、ラベルが{amount}（{sets[name]}、1クラス{count}枚）: {imagenet_titles[best]}")
        print(f"　見分けられない方法: {'、'.join(ties) if ties else 'なし'}")

# %% [markdown]
# 初めの表は、およその見当としては合っています。似ているソースでは、ラベルの多い少ないにかかわらず、移した方法が勝ちます。
# 似ていないソースでは、ラベルが増えると、ゼロからの小さなネットワークが勝ちます。
#
# 表と合わない点もあります。似ていてラベルが多い場合に、全体の更新が最後の層だけの学習を上回るとは言えませんでした。
# 1クラス30枚は、この大きさのネットワークにとって、まだ「多い」とは言えないからでしょう。「少ない」「多い」に、どこでも通じる境目はありません。

# %% [markdown]
# ## 過剰適合を見張る
#
# 学習済みの重みから始めても、**過剰適合**（overfitting）は起きます。20枚だけで全体を更新し、学習と検証の損失を記録します。

# %%
tiny_rows = train_rows[:20]
overfitted = new_model()
losses: dict[str, list[float]] = {"学習（20枚）": [], "検証（500枚）": []}


def record_losses(network: nn.Module) -> float:
    """評価モードでの、学習と検証の損失を記録する。検証の損失を返す。"""
    for values, rows in zip(losses.values(), (tiny_rows, validation_rows[:500]), strict=True):
        values.append(F.cross_entropy(network(mnist.images[rows]), mnist.labels[rows]).item())
    return values[-1]


EPOCHS = 40
groups = param_groups(overfitted, 3e-3, decay=1.0)
finetune(overfitted, groups, tiny_rows, EPOCHS, validate=record_losses, mode="min", restore_best=False)
lowest = min(range(EPOCHS), key=losses["検証（500枚）"].__getitem__)

fig, ax = plot.subplots(figsize=(5.2, 2.8))
for name, values in losses.items():
    ax.plot(range(1, EPOCHS + 1), values, label=name)
ax.axvline(lowest + 1, color="black", linestyle=":", linewidth=0.8, label="検証の損失が最小")
ax.set_yscale("log")
ax.set_xlabel("エポック")
ax.set_ylabel("損失（対数目盛）")
ax.legend()
plot.show(
    fig,
    alt="エポックに対する損失の折れ線グラフ。学習の損失は下がり続けて0に近づく。検証の損失は途中で最小になり、その後は下がらない。",
)
print(f"最後の損失：学習 {losses['学習（20枚）'][-1]:.4f}、検証 {losses['検証（500枚）'][-1]:.3f}")

# %% [markdown]
# 学習の損失は、0に向かって下がり続けます。検証の損失は、初めのうちの最小値から増えていきます。二つの線の隔たりが、過剰適合の印です。
#
# 防ぎ方は、二つの種類に分けられます。
#
# - **動かす量を減らす**：凍結する、学習率を下げる、早く止める（検証で最良の重みに戻す）、重み減衰を使う
# - **見せるデータを増やす**：データ拡張を使う、ラベルを増やす
#
# `fit`は、`validate`に渡した値が最良だったエポックの重みに戻します。戻すかどうかは`restore_best`で選べます。

# %% [markdown]
# ## 前処理とデータ拡張
#
# ### 正規化は重みの一部である
#
# 学習済みの重みは、決まった前処理の入力で学習されました。前処理が変わると、入力の分布が変わります。
# エラーは出ません。正解率が黙って下がります。
#
# Lite0の正しい前処理は、画素値を−1から1にすることです。ほかの流儀で渡すと、写真への答えがどう変わるかを見ます。

# %%
imagenet_model = EfficientNetLite0().eval()
correct = torch.stack([imagenet_input(photo.image) for photo in data.photos()])  # −1 から 1
unit = (correct + 1) / 2  # 0 から 1
statistics = (
    torch.tensor([0.485, 0.456, 0.406]),
    torch.tensor([0.229, 0.224, 0.225]),
)  # torchvision の重みの多くが使う値
mean, std = (values.view(1, 3, 1, 1) for values in statistics)
inputs = {
    "−1から1（正しい）": correct,
    "0から1": unit,
    "0から255": unit * 255,
    "別の重みの平均と標準偏差": (unit - mean) / std,
    "赤と青を入れ替え": correct.flip(1),
}
with torch.inference_mode():
    answers = {name: imagenet_model(x).softmax(1) for name, x in inputs.items()}
right = answers["−1から1（正しい）"]
chosen = right.argmax(1)
for name, probabilities in answers.items():
    same = (probabilities.argmax(1) == chosen).sum().item()
    kept = probabilities.gather(1, chosen[:, None]).mean().item()
    print(f"{name}: 正しい前処理と同じ答え {same}/{len(chosen)} 枚、その答えの確率の平均 {kept:.2f}")

# %% [markdown]
# どの渡し方でも、エラーは出ません。答えの確率は下がり、正しい前処理とは別の答えが増えました。0から255のまま渡すと、ほとんど読めなくなります。
# この9枚は例にすぎないので、割合を一般の値と思わないでください。前処理は重みと組にして扱う、という点が要点です。
#
# 学習のときと使うときで前処理が食い違う場合も、同じことが起きます。前処理の関数を一か所に置き、両方から呼ぶのが確実です。
#
# ### データ拡張は、ラベルを変えない変形に限る
#
# **データ拡張**（data augmentation）は、ラベルが変わらない変形を加えて、見かけの枚数を増やします。
# 何がラベルを変えないかは、課題によります。写真の左右反転は、猫を猫のまま保ちます。
# しかし数字の180度回転は6を9に変え、左右反転は存在しない字を作ります。医用画像の左右反転も、臓器の左右を変えてしまいます。

# %% [markdown]
# ## 落とし穴
#
# ここからは、エラーの出ない誤りを動かします。多くは、実際の教材や公開コードにあったものです。
#
# ### 1. 凍結しても動くバッチ正規化
#
# バッチ正規化（Ioffe and Szegedy, 2015）の**移動統計**（running statistics）は、勾配ではなく、順伝播で更新されます。
# `requires_grad = False`は勾配を止めるだけなので、`train()`のままなら移動統計は動き続けます。
#
# 英字の特徴を「凍結」したつもりで、明るさのずれた数字で分類の層だけを学習します。その後、元の英字を正しく読めるかを測ります。

# %%
letters = glyphs("letters")
unused_fonts = letters.of_family("Computer Modern")  # 事前学習の学習に使わなかった書体
letter_images, letter_labels = letters.images[unused_fonts], letters.labels[unused_fonts]
letter_head = GlyphCNN.pretrained("letters").classifier
brighter = DataLoader(TensorDataset(mnist.images[train_rows] * 0.5 + 0.5, mnist.labels[train_rows]), 25)


@torch.inference_mode()
def letter_accuracy(network: nn.Module) -> float:
    """元の英字の分類の層を付けたときの、英字の正解率。"""
    return (letter_head(network.eval().features(letter_images)).argmax(1) == letter_labels).float().mean().item()


print(f"学習の前              : 英字の正解率 {letter_accuracy(new_model()):.3f}")
kept_accuracy = {}
for name in ("requires_gradだけ", "set_freeze"):
    network = new_model()
    if name == "set_freeze":
        set_freeze(network, "all")
    else:
        network.requires_grad_(False)
        network.classifier.requires_grad_(True)
    saved = {key: value.clone() for key, value in network.state_dict().items() if not key.startswith("classifier")}
    fit(
        network,
        brighter,
        classification_loss,
        torch.optim.Adam(network.classifier.parameters(), lr=1e-2),
        epochs=20,
        progress=False,
    )
    changed = sum(not torch.equal(value, network.state_dict()[key]) for key, value in saved.items())
    kept_accuracy[name] = letter_accuracy(network)
    print(f"{name:12}で凍結: 動いたテンソル {changed} 個、英字の正解率 {kept_accuracy[name]:.3f}")
assert kept_accuracy["set_freeze"] == letter_accuracy(new_model()), "凍結した特徴が変わりました"
assert kept_accuracy["requires_gradだけ"] < kept_accuracy["set_freeze"] - 0.02, "移動統計による低下が確認できません"

# %% [markdown]
# 学習できるパラメータは、どちらも分類の層だけです。それでも、移動統計の動いたネットワークは、元の課題を忘れました。
# 移動統計を新しいデータに合わせること自体は、ドメイン適応の方法の一つです（03章のAdaBN）。知らずに行うのが誤りなのです。
#
# ### 2. グループから漏れた層
#
# 学習率のグループを手で書くと、名前を挙げ忘れた層は更新されません。次は、ResNet-18の段の名前を並べた、よくある書き方です。

# %%
from torchvision.models import resnet18

network = resnet18(weights=None, num_classes=10)
by_hand = [
    {"params": getattr(network, name).parameters(), "lr": 1e-3}
    for name in ("layer1", "layer2", "layer3", "layer4", "fc")
]
optimizer = torch.optim.SGD(by_hand, lr=1e-3)
in_groups = {id(p) for group in optimizer.param_groups for p in group["params"]}
left_out = [name for name, p in network.named_parameters() if p.requires_grad and id(p) not in in_groups]
print(f"グループにないパラメータ: {left_out}（{sum(network.get_parameter(name).numel() for name in left_out):,} 個）")

covered = [p for group in param_groups(network, 1e-3) for p in group["params"]]
assert len(covered) == len({id(p) for p in covered}) == len(list(network.parameters())), "漏れか重なりがあります"

# %% [markdown]
# 入力の層と、その次のバッチ正規化が抜けています。「凍結なし」のつもりで、入力側の層だけが凍結されていました。
# 学習の前に、「学習するパラメータの集まり」と「グループの中身」が一致するかを確かめてください。
#
# ### 3. 最適化手法から外すだけの凍結
#
# 凍結したい層を、最適化手法に渡さないだけで済ませるコードもあります。重みは動きません。しかし、計算は減りません。
# 勾配は、使われないのに最後まで計算されるからです。

# %%
from torch.utils.flop_counter import FlopCounterMode

images, labels = torch.zeros(2, 3, 224, 224), torch.zeros(2, dtype=torch.long)
costs = {}
for name in ("すべてを更新", "最適化手法から外すだけ", "requires_gradで凍結"):
    network = resnet18(weights=None, num_classes=10)
    if name == "requires_gradで凍結":
        set_freeze(network, "all")
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(network(images), labels).backward()
    gradients = sum(p.grad.numel() for p in network.parameters() if p.grad is not None)
    costs[name] = counter.get_total_flops()
    print(f"{name}: 1回の更新 {costs[name] / 1e9:.1f} GFLOP、計算された勾配 {gradients:,} 個")
assert costs["最適化手法から外すだけ"] == costs["すべてを更新"], "計算量が変わりました"
assert costs["requires_gradで凍結"] < 0.5 * costs["すべてを更新"], "凍結しても計算量が減っていません"

# %% [markdown]
# ### 4. 凍結した後に残った勾配
#
# 学習の途中で層を凍結すると、直前の勾配が`.grad`に残っていることがあります。`zero_grad(set_to_none=False)`は、それを消さずに0で埋めます。
# 勾配が0でも、慣性（モメンタム）や重み減衰があれば、最適化手法は重みを動かします。

# %%
drift = {}
for name in ("0で埋める", "Noneにする"):
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.02, momentum=0.9)
    for step in range(20):
        if step == 10:
            frozen_at = layer.weight.detach().clone()
            layer.requires_grad_(False)
        x = torch.ones(8, 4)
        if layer.weight.requires_grad:
            optimizer.zero_grad()
            (layer(x) - 1).square().mean().backward()
        else:
            optimizer.zero_grad(set_to_none=name == "Noneにする")
        optimizer.step()
    drift[name] = (layer.weight - frozen_at).norm().item()
    print(f"{name}: 凍結した後に動いた距離 {drift[name]:.4f}")
assert drift["0で埋める"] > 0.001, "残った慣性による動きが確認できません"
assert drift["Noneにする"] == 0.0, "凍結した重みが動きました"

# %% [markdown]
# `.grad`が`None`のパラメータは、最適化手法が読み飛ばします。`set_freeze`は、凍結するときに`.grad`を`None`にします。
#
# ### 5. `best_model = model`
#
# 検証で最良だったモデルを取っておくつもりで、次のように書いた例があります。代入は写しを作りません。同じモデルに、別の名前を付けるだけです。

# %%
network = new_model()
optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)  # わざと大きくして、正解率が上下するようにする
best_score, best_model, best_copy, scores = -1.0, None, None, []
for _ in range(7):
    fit(network, loader_of(train_rows), classification_loss, optimizer, epochs=1, progress=False)
    scores.append(accuracy(network, validation_rows))
    if scores[-1] > best_score:
        best_score, best_model = scores[-1], network  # 誤り。学習を続けると best_model も変わる
        best_copy = copy.deepcopy(network.state_dict())  # 正しい。その時点の写し

print("検証の正解率: " + "、".join(f"{score:.3f}" for score in scores))
print(f"記録した最良の値 {best_score:.3f}、best_model の値 {accuracy(best_model, validation_rows):.3f}")
network.load_state_dict(best_copy)
print(f"写しから戻した値 {accuracy(network, validation_rows):.3f}")
assert accuracy(network, validation_rows) == best_score, "最良の重みに戻っていません"

# %% [markdown]
# `network.state_dict()`も、値ではなく参照を返します。`copy.deepcopy`か、テンソルごとの`clone()`が要ります。
#
# ### 6. テストデータで選ぶ
#
# モデルをいくつも作り、テストの正解率が最も高いものを報告すると、値は実力より高くなります。実力が同じモデルでも、です。
#
# 100枚で学習した線形プローブを20個作ります。学習に使う画像が違うだけで、作り方は同じです。
# 100枚のテストで最も良かったものを選び、ほかの2,000枚で測り直します。これを、テストの100枚を変えて40回くり返します。

# %%
from sklearn.linear_model import LogisticRegression

pool, held = order[:2000], order[2000:]
with torch.inference_mode():
    all_features = new_model().eval().features(mnist.images).numpy()
all_labels = mnist.labels.numpy()
probes = []
for seed in range(20):
    rows = pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:100]]
    probes.append(LogisticRegression(C=0.1, max_iter=500).fit(all_features[rows], all_labels[rows]))
correct_answers = torch.stack(
    [torch.from_numpy(probe.predict(all_features[held]) == all_labels[held]) for probe in probes]
).float()

reported, remeasured = [], []
for seed in range(40):
    shuffled = torch.randperm(len(held), generator=torch.Generator().manual_seed(seed))
    small_test, fresh = shuffled[:100], shuffled[100:2100]
    winner = correct_answers[:, small_test].mean(1).argmax()
    reported.append(correct_answers[winner, small_test].mean().item())
    remeasured.append(correct_answers[winner, fresh].mean().item())
optimism = mean_ci([a - b for a, b in zip(reported, remeasured, strict=True)])
print(f"選ぶのに使ったテストでの値 {mean_ci(reported)}")
print(f"ほかの画像での値           {mean_ci(remeasured)}")
print(f"差                         {optimism}")
assert optimism.mean - optimism.half > 0, "選び方による過大な評価が確認できません"

# %% [markdown]
# 差は、モデルの良さではなく、選び方が作ったものです。選ぶのは検証データ、報告するのは一度だけ使うテストデータ、と分けます。
# 学習率、止めるエポック、方法を選ぶことも、モデルを選ぶことと同じです。演習02-7では、この差を理論の値と比べます。
#
# ### 7. `pretrained=True`
#
# torchvisionの古い書き方です。0.13から非推奨になり、どの重みを使うかを名前で指定する`weights`に替わりました。

# %%
import warnings

from torchvision.models import ResNet18_Weights

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    resnet18(pretrained=False)
print(f"警告 {len(caught)} 件。初めの1件: {str(caught[0].message).split(',')[0]}")

weights = ResNet18_Weights.DEFAULT
preprocess = weights.transforms()
print(f"weights={weights}、ImageNetの正解率 {weights.meta['_metrics']['ImageNet-1K']['acc@1']} %")
print(f"組になる前処理: 大きさ {preprocess.crop_size}、平均 {preprocess.mean}、標準偏差 {preprocess.std}")

# %% [markdown]
# `weights`には前処理と正解率の記録が付いています。重みと前処理を、別々に覚えておく必要がありません。
# `tlkit.models.TransferModel`は、どのバックボーンでも`normalize`で正しい前処理を行います。

# %% [markdown]
# ## 発展：LoRAを30行で
#
# 大きなモデルでは、全体の更新を課題ごとに保存するだけでも大変です。
# **低ランク適応**（LoRA）は、元の重み $W \in \mathbb{R}^{m \times n}$ を凍結し、低ランクの差だけを学習します（Hu et al., 2022）。
#
# $$
# h = W x + \frac{\alpha}{r} B A x, \qquad A \in \mathbb{R}^{r \times n}, \quad B \in \mathbb{R}^{m \times r}, \quad r \ll \min(m, n)
# $$
#
# $B$ を0から始めるので、学習の前の出力は元のモデルと同じです。学習するパラメータは $mn$ 個から $r(m + n)$ 個に減ります。
# 学習の後で $W + \frac{\alpha}{r} B A$ を計算しておけば、推論の計算は元のモデルと変わりません。


# %%
class LoRALinear(nn.Module):
    """線形層に低ランクの差を加える。x (N, n) → (N, m)。元の重みは凍結する。"""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * (x @ self.a.T) @ self.b.T

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """差を元の重みに足した、ふつうの線形層。"""
        layer = copy.deepcopy(self.base)
        layer.weight += self.scale * self.b @ self.a
        return layer


network = set_freeze(new_model(), "all")
before_lora = network.eval()(mnist.images[validation_rows])
full_size = network.head[1].weight.numel()
network.head[1] = LoRALinear(network.head[1], rank=4, alpha=8.0)
assert torch.equal(network.eval()(mnist.images[validation_rows]), before_lora), "学習の前の出力が変わりました"

learned = [p for p in network.parameters() if p.requires_grad]
finetune(network, [{"params": learned, "lr": 3e-3}])
lora = network.head[1]
print(f"線形層の重み {full_size:,} 個に対して、LoRAのパラメータ {lora.a.numel() + lora.b.numel():,} 個")
print(f"検証の正解率: {accuracy(network, validation_rows):.3f}")

after_lora = network(mnist.images[validation_rows])
network.head[1] = lora.merged()
gap = (network(mnist.images[validation_rows]) - after_lora).abs().max().item()
print(f"差を足し込んだ後の出力の違い: 最大 {gap:.0e}")
assert gap < 1e-4, "足し込みの前後で出力が変わりました"

# %% [markdown]
# 一つの線形層にLoRAを加え、分類の層と一緒に学習しました。元の重みは一つも変わっていません。
# 課題ごとに保存するのは、LoRAのパラメータと分類の層だけです。
#
# このネットワークは小さいので、LoRAを使う必要はありません。効果が大きいのは、元の重みが桁違いに大きいときです。
# 正解率を一つの種だけで比べて、LoRAの優劣を言うこともできません。

# %% [markdown]
# ## 取り違えやすいもの
#
# | 用語 | 何を指すか | 取り違えやすい点 |
# |---|---|---|
# | ファインチューニング | 学習済みの重みを初期値に、学習を続ける | 凍結する層があってもよい。転移学習の反対語ではない |
# | 特徴抽出 | 学習済みの重みで特徴を計算する | 重みは更新しない |
# | 線形プローブ | 凍結した特徴の上で、線形層だけを学習する | 特徴の良さを測る道具としても使う |
# | 凍結 | パラメータを更新しないこと | バッチ正規化の移動統計は、別に止める必要がある |
# | 評価モード（`eval`） | ドロップアウトとバッチ正規化の動きを切り替える | 勾配は止まらない |
# | `requires_grad = False` | 勾配を計算しない | 移動統計とドロップアウトは止まらない |
# | `torch.no_grad()` | その中の計算を記録しない | 評価モードにはならない |
# | 破壊的忘却 | 新しい課題を学ぶと、前の課題の性能が失われる | ターゲットでの過剰適合とは別。ソースで測る |
# | 負の転移 | 移さない場合より、ターゲットで悪くなる | 対照（ゼロから）がなければ言えない |
# | 層別学習率 | 場所（段）によって学習率を変える | 時間で変えるのは学習率の予定 |
# | 段階的解凍 | 学習する段を、時間とともに増やす | 層別学習率と一緒に使える |
# | LP-FT | 線形プローブの解から、全体を更新する | 線形プローブで終わる方法とは違う |
# | LoRA | 低ランクの差だけを学習する | 元の重みは凍結する。推論の前に足し込める |

# %% [markdown]
# ## 確認クイズ
#
# 先に自分で答えを決めてください。コードのセルに記号を書いて実行すると、正誤と理由が表示されます。
#
# <!-- quiz -->

# %% [markdown]
# ## まとめ
#
# - ファインチューニングは、学習済みの重みを初期値にして学習を続けること。凍結する層があってもよい。
# - 入力側の段は多くの課題に使い回せる。出力側の段は元の課題に固有なので、続けて更新する。対照にも、設定を選ぶ手間を惜しまない。
# - 学習率が大きいと、移した特徴が壊れる。壊れたことは、ソースの正解率で測れる。
# - 層別学習率、学習率の予定、段階的解凍、LP-FTは、どれも「乱数の分類の層が特徴を壊す」ことに備える。
# - ラベルが少ないほど、移した重みと、LP-FTのような備えが効く。ラベルが増えると、方法の差は消えていく。
# - 学習済みの重みが役に立つかどうかは、ソースとの近さで決まる。ゼロからの小さなネットワークを、必ず対照に置く。
# - 前処理は重みの一部として扱う。凍結には、`requires_grad`だけでなく、バッチ正規化と残った勾配の始末も要る。
# - 選ぶデータと報告するデータを分ける。最良の重みは、参照ではなく写しで残す。
#
# 演習`exercises/02_finetuning.ipynb`では、凍結、層別学習率、斜め三角の学習率、段階的解凍、最良の重みの保存、線形プローブの最適解を自分で書き、方法とデータの量を比べる研究課題に取り組みます。

# %% [markdown]
# ## 参考文献
#
# - 層ごとの転移：J. Yosinski, J. Clune, Y. Bengio and H. Lipson, “How transferable are features in deep neural networks,” NIPS 27, 3320–3328, 2014（原題の終わりには疑問符が付く）.
# - 層別学習率、斜め三角の学習率、段階的解凍：J. Howard and S. Ruder, “Universal Language Model Fine-tuning for Text Classification,” ACL 2018（arXiv:1801.06146）.
# - 余弦の再始動：I. Loshchilov and F. Hutter, “SGDR: Stochastic Gradient Descent with Warm Restarts,” ICLR 2017.
# - LP-FTと、特徴の壊れ方：A. Kumar, A. Raghunathan, R. Jones, T. Ma and P. Liang, “Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution,” ICLR 2022（arXiv:2202.10054）.
# - LoRA：E. J. Hu et al., “LoRA: Low-Rank Adaptation of Large Language Models,” ICLR 2022（arXiv:2106.09685）.
# - バッチ正規化：S. Ioffe and C. Szegedy, “Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift,” ICML 2015.
# - データを増やせばゼロからの学習が追いつくこと：K. He, R. Girshick and P. Dollár, “Rethinking ImageNet Pre-training,” ICCV 2019.
# - 破壊的忘却：M. McCloskey and N. J. Cohen, “Catastrophic Interference in Connectionist Networks: The Sequential Learning Problem,” Psychology of Learning and Motivation, 24, 109–165, 1989.
# - EfficientNet：M. Tan and Q. V. Le, “EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks,” ICML 2019.
