# %% [markdown]
# # 第3章の演習 ドメイン適応
#
# 上から順に実行してください。答えを書くのは`raise NotImplementedError`のある所です。
# 書いたら、すぐ下の確認セルを実行します。書く前に実行しても、「⏳ 未着手」と表示されるだけで止まりません。

# %%
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from sklearn.datasets import make_moons
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset, TensorDataset

import tlkit.nn
from tlkit import data, losses, plot
from tlkit.course import check, hint, ready
from tlkit.losses.mmd import median_bandwidth
from tlkit.stats import mean_ci

# %% [markdown]
# ## 演習03-1 勾配反転層
#
# <!-- exercise: 03-1 -->
#
# DANNでは、ドメイン識別器が、特徴を見てソースかターゲットかを当てます。特徴抽出器は、それを当てにくくします。
# 特徴抽出器、ラベル分類器、ドメイン識別器のパラメータを $\theta_f$、$\theta_y$、$\theta_d$ とします。
# ラベルの損失を $L_y$、ドメインの損失を $L_d$ とし、二つを一つの式にまとめます。
#
# $$
# E(\theta_f, \theta_y, \theta_d) = L_y(\theta_f, \theta_y) - \lambda L_d(\theta_f, \theta_d)
# $$
#
# 求めるのは、最小や最大ではなく、**鞍点**です。
# $\theta_f$ と $\theta_y$ は $E$ を小さくし、$\theta_d$ は $E$ を大きく（つまり $L_d$ を小さく）します。
#
# $$
# (\hat\theta_f, \hat\theta_y) = \operatorname*{arg\,min}_{\theta_f, \theta_y} E(\theta_f, \theta_y, \hat\theta_d), \qquad
# \hat\theta_d = \operatorname*{arg\,max}_{\theta_d} E(\hat\theta_f, \hat\theta_y, \theta_d)
# $$
#
# 勾配法の更新は、次のようになります（$\mu$ は学習率）。
#
# $$
# \theta_f \leftarrow \theta_f - \mu \left( \frac{\partial L_y}{\partial \theta_f} - \lambda \frac{\partial L_d}{\partial \theta_f} \right), \qquad
# \theta_y \leftarrow \theta_y - \mu \frac{\partial L_y}{\partial \theta_y}, \qquad
# \theta_d \leftarrow \theta_d - \mu \frac{\partial L_d}{\partial \theta_d}
# $$
#
# 和 $L_y + L_d$ をふつうに逆伝播したものと比べると、違うのは $\partial L_d / \partial \theta_f$ の係数だけです。
# $+1$ が $-\lambda$ に変わっています。そこで、特徴とドメイン識別器の間に、次の「関数」を挟みます。
# これが**勾配反転層**（gradient reversal layer, GRL）です。
#
# $$
# R_\lambda(x) = x, \qquad \frac{d R_\lambda}{d x} = -\lambda I
# $$
#
# 恒等写像の微分は $I$ なので、二つの式を同時に満たす関数はありません。だから、逆伝播の規則を自分で書きます。
# すると、$L_y + L_d$ の逆伝播1回で、上の三つの更新がすべて求まります。
# これは、GaninとLempitskyの論文（ICML 2015、3節）の方法です。2016年のJMLRの論文にもあります。
#
# PyTorchでは、`torch.autograd.Function`を継承すると、逆伝播の規則を書けます。
# `forward`の`ctx`に置いた値は、`backward`の`ctx`から読めます。`backward`の`grad`は、下流から届いた勾配です。
# 下のひな形を埋めてください。ひな形を使わずに、別の方法で`gradient_reversal`を書いてもかまいません。
#
# 満たすべき条件は次のとおりです。
#
# - 返り値は、`x`と同じ形、同じdtype、同じ値のテンソル。`x`そのものは書き換えない
# - 逆伝播では、下流から届いた勾配の $-\lambda$ 倍を`x`に返す。$\lambda = 0$ なら0になる
# - `x`の形は自由（0次元、空、転置したものも含む）。`x`が勾配を要求しなくても動く
# - 反転するのは、この層を通った勾配だけ。`x`が別の枝にも使われるとき、その枝の勾配は変えない。届いた勾配も書き換えない
# - 違う`lambda_`で何度呼んでも、それぞれの`lambda_`で反転する
# - 勾配を`create_graph=True`で求めれば、もう一度微分できる
# - `lambda_`はPythonの数。負か、有限でない（無限大かNaNの）`lambda_`には、`ValueError`を起こす（符号を変えるのは、この層の仕事）


# %%
class ReverseGradient(torch.autograd.Function):
    """順伝播は恒等写像、逆伝播は-λ倍。"""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor, lambda_: float) -> torch.Tensor:
        """xと同じ値を返す。backwardで使うものは、ctxに置く。"""
        ### BEGIN SOLUTION
        ctx.lambda_ = lambda_
        return x
        ### END SOLUTION

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: torch.Tensor) -> tuple:
        """forwardの引数（ctxを除く）ごとの勾配を、同じ順に並べて返す。"""
        ### BEGIN SOLUTION
        return -ctx.lambda_ * grad, None  # 数であるλには、勾配がない
        ### END SOLUTION


def gradient_reversal(x: torch.Tensor, lambda_: float) -> torch.Tensor:
    """勾配反転。x (任意の形)、0以上の有限な数lambda_ → xと同じ値。"""
    ### BEGIN SOLUTION
    if not (math.isfinite(lambda_) and lambda_ >= 0):
        raise ValueError("lambda_は0以上の有限な数にしてください。符号は、この層が変えます。")
    return ReverseGradient.apply(x, lambda_)
    ### END SOLUTION


# %%
check("03-1", gradient_reversal)

# %% [markdown]
# ### 合格したら：符号一つで、何が変わるか
#
# 2次元の点で、小さなDANNを作ります。ソースには二つのクラスがあり、横軸でも縦軸でも見分けられます。
# ターゲットは、ソースを横に動かしたものです。縦軸は動いていないので、縦軸だけを見る特徴なら、どちらのドメインでも使えます。
# 特徴抽出器は、2次元から2次元への線形変換です。
#
# 初めに、1回の逆伝播で求めた勾配を、二つのオプティマイザで交互に最小化するときの勾配と比べます。
# 一方のオプティマイザは $\theta_d$ だけを動かして $L_d$ を小さくし、もう一方は $\theta_f$ と $\theta_y$ を動かして $L_y - \lambda L_d$ を小さくします。


# %%
def toy_domains(seed: int, count: int = 200) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """2次元の点。ソース (N, 2)、ラベル (N,)、横に3動かしたターゲット (N, 2)。ターゲットのラベルも同じ並び。"""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    centres = (2.0 * labels - 1)[:, None].expand(count, 2)
    source, target = (centres + 0.6 * torch.randn(count, 2, generator=g) for _ in range(2))
    return source, labels, target + torch.tensor([3.0, 0.0])


class ToyNet(torch.nn.Module):
    """線形の特徴抽出器、ラベル分類器、ドメイン識別器。"""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.extractor, self.label_classifier, self.domain_classifier = (torch.nn.Linear(2, 2) for _ in range(3))

    def losses(self, layer: Callable, lambda_: float, given: tuple) -> tuple[torch.Tensor, torch.Tensor]:
        """ラベルの損失とドメインの損失。layerは、ドメイン識別器の手前に置く層。"""
        source, labels, target = given
        features = self.extractor(torch.cat([source, target]))
        domains = (torch.arange(len(features)) >= len(source)).long()  # ソースが0、ターゲットが1
        label_loss = torch.nn.functional.cross_entropy(self.label_classifier(features[: len(source)]), labels)
        return label_loss, torch.nn.functional.cross_entropy(self.domain_classifier(layer(features, lambda_)), domains)

    @torch.no_grad()
    def accuracy(self, x: torch.Tensor, labels: torch.Tensor) -> float:
        return (self.label_classifier(self.extractor(x)).argmax(dim=1) == labels).float().mean().item()


def pass_through(x: torch.Tensor, _: float) -> torch.Tensor:
    """符号を忘れた層。λ = 1なら、何もしないのと同じ。"""
    return x


def cut_off(x: torch.Tensor, _: float) -> torch.Tensor:
    """ドメインの損失を、特徴抽出器に伝えない層。識別器は、見ているだけになる。"""
    return x.detach()


def two_optimizer_gradients(net: ToyNet, lambda_: float, given: tuple, update_first: bool) -> list[torch.Tensor]:
    """二つの損失を別々に逆伝播する。update_firstなら、識別器を先に更新してから、特徴抽出器の勾配を求める。"""
    adversary = list(net.domain_classifier.parameters())
    theirs = torch.autograd.grad(net.losses(cut_off, lambda_, given)[1], adversary)
    if update_first:
        with torch.no_grad():
            for weight, gradient in zip(adversary, theirs, strict=True):
                weight -= 0.1 * gradient
    label_loss, domain_loss = net.losses(pass_through, lambda_, given)
    rest = [*net.extractor.parameters(), *net.label_classifier.parameters()]
    return [*torch.autograd.grad(label_loss - lambda_ * domain_loss, rest), *theirs]


if ready("03-1"):
    given = tuple(value.double() if value.is_floating_point() else value for value in toy_domains(0))
    net = ToyNet(0).double()
    once = torch.autograd.grad(sum(net.losses(gradient_reversal, 0.7, given)), list(net.parameters()))
    gaps = {}
    for title, update_first in (("識別器を更新する前に、両方の勾配を求める", False), ("識別器を先に更新する", True)):
        separate = two_optimizer_gradients(net, 0.7, given, update_first)
        gaps[update_first] = max((a - b).abs().max().item() for a, b in zip(once, separate, strict=True))
        print(f"{title}: 勾配反転の1回の逆伝播との差の最大 {gaps[update_first]:.1e}")
    assert gaps[False] < 1e-12, "1回の逆伝播と、二つのオプティマイザの勾配が一致しません"
    assert gaps[True] > 1e-4, "先に更新しても、勾配が変わりませんでした"

# %% [markdown]
# 同じパラメータで求めれば、二つの方法の勾配は、丸め誤差を除いて一致します。
# GRLは、新しい目的関数ではなく、同じ更新を1回の逆伝播で済ませる書き方です。
# 交互に更新すると、2番めの勾配は、更新された識別器に対するものになるので、違う値になります。
#
# 次に、三つの層で学習します。どれも、ふつうの勾配法で $L_y + L_d$ を小さくするだけです。種は6個です。
#
# - 勾配反転：`gradient_reversal`で、λは1
# - ソースだけ：ドメインの損失を特徴抽出器に伝えない（識別器は、特徴を観察するだけ）
# - 符号を忘れた：勾配をそのまま伝える
#
# 予想してから実行してください。ドメイン識別器の損失は、それぞれどこへ行くでしょうか。でたらめに答える識別器の損失は $\ln 2$ です。


# %%
def train_toy(layer: Callable, seed: int, lambda_: float = 1.0, steps: int = 200) -> np.ndarray:
    """勾配法で学習し、10ステップごとの（ドメインの損失、ターゲットの正解率）を返す。形は (steps / 10 + 1, 2)。"""
    given = toy_domains(seed)
    net, rows = ToyNet(seed), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(steps + 1):
        label_loss, domain_loss = net.losses(layer, lambda_, given)
        if step % 10 == 0:
            rows.append((domain_loss.item(), net.accuracy(given[2], given[1])))
        optimizer.zero_grad()
        (label_loss + domain_loss).backward()
        optimizer.step()
    return np.array(rows)


if ready("03-1"):
    toy_layers = {"勾配反転": gradient_reversal, "ソースだけ": cut_off, "符号を忘れた": pass_through}
    toy_curves = {name: np.stack([train_toy(layer, seed) for seed in range(6)]) for name, layer in toy_layers.items()}
    for name, curves in toy_curves.items():
        print(f"{name}: ドメインの損失 {mean_ci(curves[:, -1, 0])}、ターゲットの正解率 {mean_ci(curves[:, -1, 1])}")
    last = {name: curves[:, -1] for name, curves in toy_curves.items()}
    gain = mean_ci(last["勾配反転"][:, 1] - last["ソースだけ"][:, 1])
    print(f"同じ種での、正解率の差（勾配反転 − ソースだけ）: {gain}。ln 2 = {math.log(2):.3f}")
    assert gain.mean - gain.half > 0.2, "勾配反転による上昇が確認できません"
    assert abs(last["勾配反転"][:, 0].mean() - math.log(2)) < 0.1
    assert last["符号を忘れた"][:, 0].mean() < last["ソースだけ"][:, 0].mean() / 2
    assert last["符号を忘れた"][:, 1].mean() < last["ソースだけ"][:, 1].mean() + 0.05

    fig, axes = plot.subplots(1, 2, figsize=(8.4, 3.6))
    for place, (ax, title) in enumerate(zip(axes, ("ドメインの損失", "ターゲットの正解率"), strict=True)):
        for name, curves in toy_curves.items():
            bands = [mean_ci(column) for column in curves[:, :, place].T]
            centre, half = (np.array(values) for values in zip(*bands, strict=True))
            steps = 10 * np.arange(len(centre))
            (line,) = ax.plot(steps, centre, label=name)
            ax.fill_between(steps, centre - half, centre + half, color=line.get_color(), alpha=0.2, linewidth=0)
        ax.set_xlabel("更新の回数")
        ax.set_title(title)
    axes[0].axhline(math.log(2), color="black", linestyle=":", linewidth=1, label="ln 2（でたらめ）")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    plot.show(
        fig,
        alt="更新の回数に対する折れ線グラフ（6個の種の平均と95%信頼区間）。左のドメインの損失は、勾配反転では下がり切らずにln 2の近くで揺れ、"
        "ソースだけではゆっくり下がり、符号を忘れた層では0近くまで下がる。"
        "右のターゲットの正解率は、勾配反転だけが上がり、ほかの二つは半分の近くにとどまる。",
    )

# %% [markdown]
# 三つの違いは、ドメインの損失から特徴抽出器へ届く勾配の係数だけです。
# 勾配反転では、識別器に見分けられない特徴が残り、ターゲットでも使えました。
# 符号を忘れると、特徴抽出器は識別器に**協力**し、ドメインの違いをはっきりさせます。ドメインの損失が下がるので、学習は順調に見えます。
# ドメインの損失がすぐに0へ近づいたら、まず符号を疑ってください。
#
# **考えてみよう**：
#
# 1. ドメインの損失が $\ln 2$ なら、ドメイン不変な特徴だと言えるでしょうか。識別器の学習が足りないときは、どうなりますか。
# 2. この例では、横軸もクラスを見分ける手がかりでした。勾配反転は、その手がかりを捨てています。捨てると困るのは、どんなときでしょうか。
# 3. `train_toy`の`lambda_`を3に、学習率を0.3に変えてみましょう。鞍点を求める学習は、最小化と何が違いますか。

# %% [markdown]
# ## 演習03-2 λの予定
#
# <!-- exercise: 03-2 -->
#
# 学習の初めは、ドメイン識別器がまだ何も見分けられません。その識別器から来る勾配は、ほとんど雑音です。
# そこで、勾配反転層の係数 $\lambda$ を0から始め、1に近づけます。論文の予定は次の式です。
#
# $$
# \lambda_p = \frac{2}{1 + \exp(-\gamma p)} - 1
# $$
#
# $p$ は学習の進み具合で、済んだ更新（ステップ）の数を、更新の総数で割ったものです。0から1まで動きます。
# $\gamma$ は立ち上がりの速さで、論文は10です。この式は、GaninとLempitskyの論文（ICML 2015）にあります。
#
# 手で計算してみましょう。$\gamma = 10$、$p = 0.5$ なら、$\exp(-5) \approx 0.0067$ です。
# したがって $\lambda = 2 / 1.0067 - 1 \approx 0.987$ となります。学習の半分で、もう1に近い値です。
# $p$ に比例すると考えて0.5と答えるのは、よくある誤りです。
#
# 満たすべき条件は次のとおりです。
#
# - 返り値はPythonの数（`float`）。テンソルにはしない
# - `progress`は0以上1以下の数。それ以外（NaNも）には`ValueError`を起こす（エポックの番号や百分率を渡した誤りに気づくため）
# - `gamma`は正の数。10000のような大きな値でも、計算があふれない


# %%
def dann_lambda(progress: float, gamma: float = 10.0) -> float:
    """勾配反転層の係数。progress (0から1の進み具合)、立ち上がりの速さgamma → λ。"""
    ### BEGIN SOLUTION
    if not 0.0 <= progress <= 1.0:
        raise ValueError("progressは0以上1以下の数（済んだステップの数 / 総数）にしてください。")
    return 2.0 / (1.0 + math.exp(-gamma * progress)) - 1.0
    ### END SOLUTION


# %%
check("03-2", dann_lambda)

# %% [markdown]
# ### 合格したら：エポックごとに進めると、何が起きるか
#
# 公開されている実装には、$\lambda$ をエポックの初めに一度だけ計算するものがあります。そのエポックの間、$\lambda$ は変わりません。
# 10エポックと100エポックの学習で、ステップごとに計算した $\lambda$ と比べます。
#
# もう一つ、$\gamma$ の既定値も確かめます。ライブラリtllibのGRLは、$\gamma$ にあたる引数`alpha`の既定値が1.0です。
#
# 予想してから実行してください。差がいちばん大きいのは、学習のどこでしょうか。$\gamma = 1$ では、$\lambda$ はいくつで終わるでしょうか。


# %%
def lambda_curves(schedule: Callable, epochs: int, steps: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """全ステップのλ。ステップごとに計算したものと、エポックの初めに計算したもの。stepsは1エポックのステップの数。"""
    total = epochs * steps
    per_step = np.array([schedule(t / total) for t in range(total)])
    return per_step, np.array([schedule((t // steps) / epochs) for t in range(total)])


if ready("03-2"):
    schedule_gaps = {}
    for epochs in (10, 100):
        per_step, per_epoch = lambda_curves(dann_lambda, epochs)
        gap = np.abs(per_step - per_epoch)
        schedule_gaps[epochs] = (gap.mean(), gap.max())
        place = f"進み具合 {gap.argmax() / len(gap):.3f}"
        print(f"{epochs}エポック: 差の平均 {gap.mean():.4f}、最大 {gap.max():.3f}（{place}）")
        early = [values[:100].mean() for values in (per_step, per_epoch)]
        print(f"　初めのエポックのλの平均: ステップごと {early[0]:.3f}、エポックごと {early[1]:.3f}")
    assert schedule_gaps[10][1] > 0.4, "10エポックで、大きな差が確認できません"
    assert schedule_gaps[10][0] > 5 * schedule_gaps[100][0], "エポックの数による違いが確認できません"

    grid = np.linspace(0, 1, 1001)
    by_gamma = {gamma: np.array([dann_lambda(p, gamma) for p in grid]) for gamma in (10.0, 1.0)}
    passed_at = grid[np.argmax(by_gamma[10.0] > 0.9)]
    print(f"γ = 10: λが0.9を超える進み具合 {passed_at:.3f}、学習を通したλの平均 {by_gamma[10.0].mean():.3f}")
    print(f"γ = 1: 終わりのλ {by_gamma[1.0][-1]:.3f}、学習を通したλの平均 {by_gamma[1.0].mean():.3f}")
    assert passed_at < 1 / 3, "λの立ち上がりが、学習の初めの3分の1に収まりません"
    assert by_gamma[1.0][-1] < 0.5 < by_gamma[10.0].mean(), "γによる違いが確認できません"

    fig, (left, right) = plot.subplots(1, 2, figsize=(8.4, 3.4), sharey=True)
    per_step, per_epoch = lambda_curves(dann_lambda, 10)
    progress = np.arange(len(per_step)) / len(per_step)
    left.plot(progress, per_step, label="ステップごと")
    left.plot(progress, per_epoch, label="エポックごと")
    left.fill_between(progress, per_epoch, per_step, color="0.85", label="差")
    left.set_title("10エポック、γ = 10")
    for gamma, values in by_gamma.items():
        right.plot(grid, values, label=f"γ = {gamma:g}")
    right.plot(grid, grid, label="比例（よくある誤解）")
    right.set_title("γによる違い")
    left.set_ylabel("λ")
    for ax in (left, right):
        ax.set_xlabel("進み具合 p")
    left.legend(loc="lower right", fontsize=8)
    right.set_ylim(-0.05, 1.25)  # 上に凡例の場所を空ける
    right.legend(loc="upper center", ncols=3, fontsize=8)
    plot.show(
        fig,
        alt="進み具合pに対するλの図。左は10エポックの学習で、ステップごとのλは滑らかに上がり、エポックごとのλは階段になる。"
        "初めのエポックの間、階段は0のままで、差がいちばん大きい。右では、γが10なら初めの3分の1で1に近づき、"
        "γが1なら終わりでも半分に届かず、比例の直線より下にある。",
    )

# %% [markdown]
# エポックごとの計算では、初めのエポックの間、適応がまったく行われません。差は、$\lambda$ が急に変わる学習の初めに集まります。
# エポックの数が多ければ、差は小さくなります。エポックの少ない学習ほど、ステップごとに計算することが大切です。
#
# $\gamma = 1$ では、学習が終わっても $\lambda$ は1の半分に届きません。「λは1まで上がる」という説明は、$\gamma$ が十分に大きいときの話です。
# この図が示すのは、$\lambda$ の違いだけです。正解率がどう変わるかは、データで確かめる必要があります。
#
# **考えてみよう**：
#
# 1. 途中で学習を打ち切る設定で、総ステップ数を長めに書いておくと、$\lambda$ はどうなりますか。
# 2. 学習を再開するとき、ステップの番号を0に戻してしまうと、何が起きますか。
# 3. $\lambda_p = \tanh(\gamma p / 2)$ とも書けることを示してください。

# %% [markdown]
# ## 演習03-3 MMDを、学習に使える損失にする
#
# <!-- exercise: 03-3 -->
#
# 演習01-1では、帯域幅を与えられたMMD²を、二つの標本の違いを測る**統計量**として求めました。
# ここでは、特徴抽出器を学習する**損失**にします。損失には、統計量にはなかった注文が付きます。
# 特徴の大きさは学習の間に変わるので、帯域幅はそのつどデータから決めます。値だけでなく、勾配も正しくなければなりません。
#
# $x_1, \dots, x_N$ と $y_1, \dots, y_M$ を縦につなぎ、$z_1, \dots, z_{N+M}$ とします。帯域幅の基準は、異なる2点の距離の二乗の中央値から決めます。
# カーネルは、幅の違う五つのRBFカーネルの**平均**です。
#
# $$
# \sigma_{\mathrm{med}}^2 = \frac{1}{2} \operatorname*{median}_{i < j} \lVert z_i - z_j \rVert^2, \qquad
# k(a, b) = \frac{1}{5} \sum_{c \in C} \exp\left(-\frac{\lVert a - b \rVert^2}{2 c^2 \sigma_{\mathrm{med}}^2}\right), \qquad
# C = \left\{ \tfrac{1}{2}, \tfrac{1}{\sqrt{2}}, 1, \sqrt{2}, 2 \right\}
# $$
#
# 損失は、偏りのない推定（U統計量）です。
#
# $$
# L = \frac{1}{N(N-1)} \sum_{i \neq j} k(x_i, x_j) + \frac{1}{M(M-1)} \sum_{i \neq j} k(y_i, y_j) - \frac{2}{NM} \sum_{i,j} k(x_i, y_j)
# $$
#
# 満たすべき条件は次のとおりです。
#
# - 入力`x`は`(N, D)`、`y`は`(M, D)`のテンソルで、$N \neq M$ でもよい（$N, M \geq 2$）。返り値は0次元のテンソルで、dtypeは入力と同じ
# - 勾配は`x`と`y`の両方に流れる。ただし $\sigma_{\mathrm{med}}$ は定数とみなし、勾配を流さない
# - 中央値は $i < j$ の組すべてで取る（別の点どうしなら、距離が0の組も数える）。組が偶数個のときの流儀（`torch.median`の値か、中央の二つの平均か）は問わない
# - `x`と`y`に同じ点があっても、有限な勾配を返す
# - すべての点が同じ場所にあるときは、損失と勾配が0になる（NaNにしない）
# - 値は負にもなる。0で切り上げない
# - 引数を書き換えない。`tlkit.losses`の関数を呼ばずに、自分で計算する


# %%
def mmd_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """五つのRBFカーネルの平均による、偏りのないMMD²。x (N, D), y (M, D) → 0次元のテンソル。"""
    ### BEGIN SOLUTION
    n, m = len(x), len(y)
    z = torch.cat([x, y])
    squared = (z[:, None, :] - z[None, :, :]).square().sum(dim=2)  # (N+M, N+M)。平方根は取らない
    with torch.no_grad():
        pairs = squared[torch.ones_like(squared).triu(diagonal=1).bool()]  # i < j の組
        variance = pairs.median().clamp(min=1e-12) / 2  # 全点が一致すると中央値は0
    widths = [0.5, 2**-0.5, 1.0, 2**0.5, 2.0]
    kernel = torch.stack([torch.exp(-squared / (2 * c**2 * variance)) for c in widths]).mean(dim=0)
    within_x = (kernel[:n, :n].sum() - n) / (n * (n - 1))  # 対角は、ちょうど1
    within_y = (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return within_x + within_y - 2 * kernel[:n, n:].mean()
    ### END SOLUTION


# %%
check("03-3", mmd_loss)

# %% [markdown]
# ### 合格したら：帯域幅を1に決めると、何が起こるか
#
# 帯域幅を $\sigma = 1$ に決めた損失を、比べる相手にします。
# まず、平均だけが違う二つの正規分布から点を引き、次元 $D$ を上げながら、`x`への勾配の大きさを測ります。5組の点で測り、その平均を図にします。
#
# 標準正規分布の2点の距離の二乗は、平均が $2D$ です。$\sigma = 1$ のカーネルの値は、およそ何になるでしょうか。


# %%
def sigma_one_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """帯域幅を1に決めたMMD²（U統計量）。こう書いてはいけない例。"""

    def within(z: torch.Tensor) -> torch.Tensor:
        return (sigma_one_kernel(z, z).sum() - len(z)) / (len(z) * (len(z) - 1))

    return within(x) + within(y) - 2 * sigma_one_kernel(x, y).mean()


def sigma_one_kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.exp(-(a[:, None] - b[None]).square().sum(dim=2) / 2)


def gradient_norm(loss: Callable[..., torch.Tensor], dimension: int, seed: int) -> float:
    """平均だけが違う32点ずつで、lossのxへの勾配のノルム。"""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(32, dimension, generator=g).requires_grad_()
    y = torch.randn(32, dimension, generator=g) + 0.5
    return torch.autograd.grad(loss(x, y), x)[0].norm().item()


if ready("03-3"):
    dimensions = [2, 8, 32, 128, 512]
    mmd_losses = {"σ = 1": sigma_one_loss, "中央値から決めたσ": mmd_loss}
    norms = {
        name: np.array([[gradient_norm(loss, d, seed) for seed in range(5)] for d in dimensions])
        for name, loss in mmd_losses.items()
    }
    print("勾配のノルム（5組の平均）")
    for row, d in enumerate(dimensions):
        print(f"D = {d:3d}: " + "、".join(f"{name} {values[row].mean():.2e}" for name, values in norms.items()))

    fig, ax = plot.subplots()
    for (name, values), marker in zip(norms.items(), "os", strict=True):
        ax.plot(dimensions, values.mean(axis=1), marker=marker, label=name)
    ax.set_xscale("log", base=2)
    ax.set_yscale("symlog", linthresh=1e-12)
    ax.set_ylim(-2e-13, 1)
    ax.set_yticks([0, 1e-12, 1e-8, 1e-4, 1])
    ax.set_xticks(dimensions, [str(d) for d in dimensions])
    ax.set_xlabel("次元 D")
    ax.set_ylabel("xへの勾配のノルム")
    ax.legend(loc="center right")
    plot.show(
        fig,
        alt="次元に対する勾配のノルムの折れ線グラフ。縦軸は対数で、下の端は0。中央値から決めたσでは、次元とともにゆるやかに小さくなる。"
        "σ = 1では急に小さくなり、128次元と512次元ではちょうど0になる。",
    )
    assert (norms["σ = 1"][-2:] == 0).all(), "高い次元で、σ = 1の勾配が0になりません"
    assert (norms["中央値から決めたσ"] > 1e-4).all(), "中央値から決めた帯域幅で、勾配が小さすぎます"

# %% [markdown]
# float32では、$e^{-104}$ より小さい数は0になります。$\sigma = 1$ のカーネルは、高い次元では、どの2点の間でもちょうど0です。
# 微分もちょうど0なので、学習率をいくら上げても、何も動きません。損失の値も0に近いので、「ドメインがそろった」ように見えてしまいます。
#
# 次に、本物の二つのドメインで、点の集まりを損失で動かします。UCIの手書き数字は8×8画素、つまり64次元の点です。
# MNISTは、数字の入っている中央の20×20を切り抜き、8×8に縮めます。二つを合わせて、画素ごとに平均0、標準偏差1にそろえます（BatchNormを通した特徴と同じ大きさです）。
# UCIの80点を、MNISTの80点に向けて、勾配降下で動かします。どちらの損失でも、歩幅と回数は同じです。
#
# 動かした後の違いは、動かすのに使わなかったMNISTで測ります。ラベルも付けたままにして、動かした点を手本にした最近傍法で、MNISTの数字を当てます。


# %%
def digits8(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """8×8の手書き数字。画素 (N, 64) とラベル (N,)。nameは"uci_digits"か"mnist5k"。"""
    if name == "uci_digits":
        found = data.load(name, size=8)
        return found.images.flatten(1), found.labels
    found = data.load(name)
    return torch.nn.functional.adaptive_avg_pool2d(found.images[:, :, 4:24, 4:24], 8).flatten(1), found.labels


def draw_digits(name: str, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """無作為に選んだcount枚。"""
    pixels8, labels8 = digits8(name)
    rows = torch.randperm(len(labels8), generator=torch.Generator().manual_seed(seed))[:count]
    return pixels8[rows], labels8[rows]


def move(loss: Callable[..., torch.Tensor], start: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """lossの勾配で、startの点を100回動かす。"""
    points = start.clone()
    for _ in range(100):
        points.requires_grad_()
        (slope,) = torch.autograd.grad(loss(points, goal), points)
        points = (points - 500 * slope).detach()
    return points


def nearest_accuracy(points: torch.Tensor, labels: torch.Tensor, images: torch.Tensor, wanted: torch.Tensor) -> float:
    """pointsを手本にした最近傍法の正解率。"""
    return (labels[torch.cdist(images, points).argmin(dim=1)] == wanted).float().mean().item()


if ready("03-3"):
    cloud, cloud_labels = draw_digits("uci_digits", 80, seed=0)
    drawn, drawn_labels = draw_digits("mnist5k", 480, seed=1)
    pooled8 = torch.cat([cloud, drawn[:80]])
    cloud, drawn = ((z - pooled8.mean(0)) / pooled8.std(0).clamp(min=0.1) for z in (cloud, drawn))
    goal, fresh, fresh_labels = drawn[:80], drawn[80:], drawn_labels[80:]

    places = {"動かす前": cloud} | {name: move(loss, cloud, goal) for name, loss in mmd_losses.items()}
    gaps, travels = {}, {}
    for name, points in places.items():
        gaps[name] = losses.mmd2(points, fresh).item()
        travels[name] = (points - cloud).norm(dim=1).mean().item()
        hit = nearest_accuracy(points, cloud_labels, fresh, fresh_labels)
        print(
            f"{name}: 動いた距離の平均 {travels[name]:.2e}、新しいMNISTとのMMD² {gaps[name]:.4f}、最近傍法の正解率 {hit:.3f}"
        )
    print(f"（MNISTどうしのMMD² {losses.mmd2(goal, fresh).item():.4f}）")
    assert travels["σ = 1"] < 0.05 * travels["中央値から決めたσ"], "σ = 1でも、点が動いています"
    assert gaps["σ = 1"] > 0.9 * gaps["動かす前"] > 0.05, "σ = 1でも、違いが縮まっています"
    assert gaps["中央値から決めたσ"] < 0.2 * gaps["動かす前"], "中央値から決めた帯域幅で、違いが縮まりません"

    pca = PCA(2).fit(torch.cat([cloud, goal]).numpy())
    fig, axes = plot.subplots(1, 3, figsize=(8.4, 3.2), sharex=True, sharey=True)
    for ax, (name, points) in zip(axes, places.items(), strict=True):
        for z, label, marker in ((goal, "MNIST", "o"), (points, "UCI", "^")):
            ax.scatter(*pca.transform(z.numpy()).T, s=14, marker=marker, alpha=0.7, label=label)
        ax.set_title(name)
    fig.supxlabel("第1主成分")
    axes[0].set_ylabel("第2主成分")
    axes[0].legend(fontsize=8)
    plot.show(
        fig,
        alt="MNISTとUCIの点を主成分2本で描いた三つの散布図。動かす前は、二つの集まりの中心がずれている。"
        "σ = 1で動かした後も、動かす前と見分けがつかない。中央値から決めたσで動かすと、UCIの点の多くがMNISTの点の間に広がる。",
    )

# %% [markdown]
# 中央値から決めた帯域幅では、UCIの点がMNISTの間に広がり、使わなかったMNISTとの違いもほとんど消えました。$\sigma = 1$ の点は、ほとんど動きません。
# 一方で、最近傍法の正解率に注目してください。分布がそろっても、正解率は、そろった分だけ上がるわけではありません。
# MMDはラベルを見ないので、「3」の点を「8」の場所へ動かしても、損失は小さくなります。
#
# あなたの損失が距離の差の配列を丸ごと作るなら、記憶は $(N + M)^2 D$ に比例します。`tlkit.losses.mmd2`は、この配列を作らずに、同じ値と勾配を求めます。
#
# **考えてみよう**：
#
# 1. $\sigma_{\mathrm{med}}$ にも勾配を流すと、損失は、$x$ と $y$ を同じ割合で広げても変わらない関数になります。学習では何が困るでしょうか。止めた場合と比べてください。
# 2. $\sigma = 1$ で失敗した図を、$\sigma = 1$ のMMD²の値だけを見て、失敗だと見抜けるでしょうか。
# 3. ターゲットの正解ラベルが少しだけあるなら、この損失に何を足すと、「3」を「8」の場所へ動かすことを防げますか。

# %% [markdown]
# ## 演習03-4 CORALの損失を書く
#
# <!-- exercise: 03-4 -->
#
# CORAL（correlation alignment）は、二つのドメインの**共分散行列**をそろえます。名前に「相関」とありますが、使うのは相関行列ではありません。
# Deep CORALの損失は、共分散行列の差のフロベニウスノルムの二乗です。
#
# $$
# C_x = \frac{1}{N - 1} \sum_{i=1}^{N} (x_i - \bar{x})(x_i - \bar{x})^\top, \qquad
# L_{\mathrm{CORAL}} = \frac{1}{4 D^2} \lVert C_x - C_y \rVert_F^2
# $$
#
# $C_y$ は、$y$ の $M$ 点から同じように求めます。定数 $1/(4D^2)$ は論文のとおりにします。
# 定数が違ったり、論文にない平均の差の項を足したりした実装が、実際に出回っています。損失の重みを論文の値に合わせても、それでは同じ強さになりません。
#
# 満たすべき条件は次のとおりです。
#
# - 入力`x`は`(N, D)`、`y`は`(M, D)`のテンソルで、$N \neq M$ でも、$D > N$ でもよい（$N, M, D \geq 2$）
# - 返り値は0次元のテンソルで、dtypeは入力と同じ。`x`と`y`の両方に、有限な勾配が流れる
# - 値の動かない特徴（分散が0の列）があってもよい
# - 引数を書き換えない。`tlkit.losses`の関数を呼ばずに、自分で計算する（`torch.cov`は使ってよい）


# %%
def coral_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Deep CORALの損失。x (N, D), y (M, D) → 0次元のテンソル。"""
    ### BEGIN SOLUTION
    difference = torch.cov(x.T) - torch.cov(y.T)  # (D, D)。torch.covは行を特徴とみなし、N − 1で割る
    return difference.square().mean() / 4  # D²個の要素の平均なので、D²で割ったことになる
    ### END SOLUTION


# %%
check("03-4", coral_loss)

# %% [markdown]
# ### 合格したら：CORALに見えるもの、見えないもの
#
# 2次元の点の組を4種類作り、CORALの損失、線形のMMD²、RBFのMMD²の三つで、違いを検出できるかを調べます。
#
# - 同じ分布：どちらも標準正規分布
# - 平均だけ違う：片方を平行移動する
# - 共分散だけ違う：片方に相関を付ける
# - 形だけ違う：片方を、平均と共分散が同じ四つのかたまりにする
#
# 値の大きさは、そのままでは比べられません。そこで、**並べ替え検定**を使います。二つの標本を混ぜて分け直し、値を99回測り直します。
# もとの値が、もとを含む100個の中の上位5個に入れば、「検出した」とします。同じ分布なら、検出の割合は平均5%です。標本を20回引き直します。
#
# 結果を見る前に、3×4の表を自分で埋めてみてください。


# %%
SAMPLE_KINDS = ["同じ分布", "平均だけ違う", "共分散だけ違う", "形だけ違う"]


def sample_pair(kind: str, seed: int, count: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    """kindの種類の、2次元の点の組。それぞれ (count, 2)。"""
    g = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, count, 2, generator=g)
    if kind == "平均だけ違う":
        return x, noise + 0.5
    if kind == "共分散だけ違う":
        return x, noise @ torch.tensor([[1.0, 0.8], [0.0, 0.6]])  # 共分散は [[1, 0.8], [0.8, 1]]
    if kind == "形だけ違う":
        corners = torch.randint(2, (count, 2), generator=g) * 2.0 - 1
        return x, 0.95 * corners + (1 - 0.95**2) ** 0.5 * noise  # 平均 0、共分散は単位行列
    return x, noise


def is_detected(
    choose: Callable[..., Callable[..., torch.Tensor]], x: torch.Tensor, y: torch.Tensor, seed: int
) -> bool:
    """並べ替え検定で、x と y の値が上位5%に入るか。choose(x, y)が、測る関数を返す。"""
    measure, mixed = choose(x, y), torch.cat([x, y])
    g, found = torch.Generator().manual_seed(seed), measure(x, y)
    shuffled = (mixed[torch.randperm(len(mixed), generator=g)] for _ in range(99))
    return sum(bool(measure(z[: len(x)], z[len(x) :]) >= found) for z in shuffled) < 5


def linear_mmd(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """線形カーネルのMMD²。平均の差の二乗に等しい。"""
    return (x.mean(0) - y.mean(0)).square().sum()


def rbf_mmd_for(x: torch.Tensor, y: torch.Tensor) -> Callable[..., torch.Tensor]:
    """演習03-3と同じ、五つのカーネルのMMD²。並べ替えても全体の中央値は同じなので、帯域幅は一度だけ決める。"""
    sigma = median_bandwidth(x, y)
    widths = [c * sigma for c in (0.5, 2**-0.5, 1, 2**0.5, 2)]
    return lambda a, b: losses.mmd2(a, b, bandwidth=widths)


if ready("03-4"):
    measures = {
        "CORAL": lambda *_: coral_loss,
        "線形のMMD²": lambda *_: linear_mmd,
        "RBFのMMD²": rbf_mmd_for,
    }
    detected = {
        name: [np.mean([is_detected(choose, *sample_pair(kind, s), s) for s in range(20)]) for kind in SAMPLE_KINDS]
        for name, choose in measures.items()
    }
    for name, rates in detected.items():
        print(f"{name}: " + "、".join(f"{kind} {rate:.2f}" for kind, rate in zip(SAMPLE_KINDS, rates, strict=True)))
    same, mean, spread, shape = (
        dict(zip(measures, column, strict=True)) for column in zip(*detected.values(), strict=True)
    )
    assert max(same.values()) <= 0.3, "同じ分布を、違うと言いすぎます"
    assert min(mean["線形のMMD²"], mean["RBFのMMD²"]) > 0.7 > 0.3 > mean["CORAL"], "平均の差の見え方が、予想と違います"
    assert min(spread["CORAL"], spread["RBFのMMD²"]) > 0.7 > 0.3 > spread["線形のMMD²"], (
        "共分散の差の見え方が、予想と違います"
    )
    assert shape["RBFのMMD²"] > 0.7 > 0.3 > max(shape["CORAL"], shape["線形のMMD²"]), "形の差の見え方が、予想と違います"

    fig, ax = plot.subplots(figsize=(6.4, 3.4))
    for offset, (name, hatch) in zip((-0.27, 0, 0.27), zip(detected, ("", "//", ".."), strict=True), strict=True):
        ax.bar(np.arange(4) + offset, detected[name], width=0.25, hatch=hatch, edgecolor="white", label=name)
    ax.axhline(0.05, color="black", linestyle=":", label="偶然の5%")
    ax.set_xticks(range(4), SAMPLE_KINDS)
    ax.set_ylabel("検出した割合")
    ax.set_ylim(0, 1.05)
    fig.legend(loc="outside lower center", ncols=4, fontsize=8)
    plot.show(
        fig,
        alt="4種類の組ごとに、三つの量が違いを検出した割合の棒グラフ。同じ分布では、どれも0に近い。"
        "平均だけ違う組は線形のMMDとRBFのMMD、共分散だけ違う組はCORALとRBFのMMD、形だけ違う組はRBFのMMDだけが、高い割合で検出する。",
    )

# %% [markdown]
# CORALは平均の差を見ません。線形のMMDは平均の差しか見ません。形の違いまで見えたのは、RBFのMMDだけです。
# ただし、見えるものが多い損失ほど、学習が良くなるとは限りません。本物の数字で確かめます。
#
# ネットワークを使わないCORAL（Sun、Feng、Saenko、2016）は、式だけで共分散をそろえます。ソースの特徴を白色化し、ターゲットの共分散で色を付け直します。
#
# $$
# x' = (x - \bar{x})\, (C_x + I)^{-1/2}\, (C_y + I)^{1/2}
# $$
#
# $I$ を足すのは、値のほとんど動かない画素があっても、逆行列を安定させるためです。
# UCIの手書き数字と、8×8に縮めたMNISTの間を、両方の向きで試します。分類器はロジスティック回帰です。
# どちらのドメインの特徴も、ソースの平均と標準偏差で規格化します。その上で、次の四つと、上限の目安としてターゲットのラベルで学習したものを比べます。
#
# - そのまま：何も合わせない
# - 平均だけ：それぞれのドメインの平均を引く
# - 共分散だけ：上の式で共分散を合わせ、平均の差は残す
# - 平均と共分散：両方を合わせる（論文の手順に近い）
#
# ターゲットのラベルは、評価のほかには使いません。学習に500枚ずつ、評価に別の1,000枚を使い、引き直しを8回します。


# %%
def matrix_power(symmetric: torch.Tensor, power: float) -> torch.Tensor:
    """正定値の対称行列のべき乗。"""
    values, vectors = torch.linalg.eigh(symmetric)
    return (vectors * values**power) @ vectors.T


def recolour(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """平均を引いたsourceの共分散を、targetの共分散に合わせる。"""
    source_cov, target_cov = (torch.cov(z.T) + torch.eye(z.shape[1]) for z in (source, target))
    return (source - source.mean(0)) @ matrix_power(source_cov, -0.5) @ matrix_power(target_cov, 0.5)


def adapted_accuracies(
    measure: Callable[..., torch.Tensor], source: str, target: str, seed: int
) -> tuple[dict[str, float], float]:
    """合わせ方ごとの正解率と、measureが共分散を合わせる前の何倍になったか。"""
    x, x_labels = draw_digits(source, 500, seed)
    y, y_labels = draw_digits(target, 1500, seed + 100)
    centre, scale = x.mean(0), x.std(0).clamp(min=0.1)
    x, y = (x - centre) / scale, (y - centre) / scale
    seen, test, shift = y[:500], y[500:], y[:500].mean(0)
    recoloured = recolour(x, seen)
    trained = {
        "そのまま": (x, x_labels, test),
        "平均だけ": (x, x_labels, test - shift),
        "共分散だけ": (recoloured, x_labels, test),
        "平均と共分散": (recoloured, x_labels, test - shift),
        "ターゲットのラベル": (seen - shift, y_labels[:500], test - shift),
    }
    scores = {
        name: LogisticRegression(C=0.1, max_iter=2000).fit(fit_x.numpy(), fit_y).score(test_x.numpy(), y_labels[500:])
        for name, (fit_x, fit_y, test_x) in trained.items()
    }
    return scores, float(measure(recoloured, test) / measure(x, test))


if ready("03-4"):
    directions = {"UCI→MNIST": ("uci_digits", "mnist5k"), "MNIST→UCI": ("mnist5k", "uci_digits")}
    runs = {
        way: [adapted_accuracies(coral_loss, *names, seed) for seed in range(8)] for way, names in directions.items()
    }
    accuracies = {
        way: {name: np.array([scores[name] for scores, _ in found]) for name in found[0][0]}
        for way, found in runs.items()
    }
    for way, table in accuracies.items():
        print(f"{way}（平均 ± 95%信頼区間の半幅）")
        for name, values in table.items():
            print(f"　{name}: {mean_ci(values)}")
        print(f"　平均だけ − そのまま: {mean_ci(table['平均だけ'] - table['そのまま'])}")
        print(f"　平均と共分散 − 平均だけ: {mean_ci(table['平均と共分散'] - table['平均だけ'])}")
        print(f"　評価用の画像とのCORALの損失: 合わせる前の{mean_ci([ratio for _, ratio in runs[way]])}倍")

    fig, ax = plot.subplots(figsize=(6.8, 3.4))
    for offset, (way, table), marker in zip((-0.08, 0.08), accuracies.items(), "os", strict=True):
        found = [mean_ci(values) for values in table.values()]
        ax.errorbar(
            np.arange(5) + offset, [r.mean for r in found], [r.half for r in found], fmt=marker, capsize=4, label=way
        )
    ax.set_xticks(range(5), list(accuracies["UCI→MNIST"]), fontsize=9)
    ax.set_ylim(0, 1)
    ax.set_ylabel("正解率（平均と95%信頼区間）")
    ax.legend()
    plot.show(
        fig,
        alt="五つの条件での、ターゲットの正解率と信頼区間を、二つの向きについて点で描いた図。どちらの向きでも、平均だけを合わせると上がる。"
        "共分散だけではほとんど上がらず、平均と共分散を合わせても平均だけと同じ高さにある。ターゲットのラベルで学習したものは、ずっと高い。",
    )
    for table in accuracies.values():
        help_of_means = mean_ci(table["平均だけ"] - table["そのまま"])
        help_of_covariance = mean_ci(table["平均と共分散"] - table["平均だけ"])
        assert help_of_means.mean - help_of_means.half > 0.02, "平均を合わせる効果が確認できません"
        assert abs(help_of_covariance.mean) < 0.03, "共分散を合わせる効果が、予想と違います"
        assert (table["平均と共分散"] < table["ターゲットのラベル"] - 0.2).all(), "残った差が、予想と違います"

# %% [markdown]
# この組では、平均を合わせると正解率が上がりました。共分散まで合わせると、CORALの損失は評価用の画像でも小さくなりますが、正解率は、平均だけのときと変わりません。
# 平均を残したまま共分散だけを合わせても、ほとんど効果がありません。ターゲットのラベルで学習した値までは、まだ大きな差があります。
# 全体の共分散は、「クラスごとの散らばり」と「クラスの中心の散らばり」の和です。全体をそろえても、クラスごとの位置が合うとは限りません。
#
# これは、この特徴（画素）と、この二つのデータでの結果です。論文は、学習済みのネットワークの特徴などで、CORALの効果を報告しています。
# 効くかどうかは、ドメインの違いが、平均や共分散に表れているかで決まります。区間は、引き直しによる揺れだけを表します。
#
# **考えてみよう**：
#
# 1. 特徴を全部0.1倍にするネットワークなら、CORALの損失は何倍になりますか。学習でこの近道を防ぐのは、どの損失でしょうか。演習03-3の損失では、同じ近道が使えますか。
# 2. 平均の差を足したCORALを使うと、上の検出の表は、どう変わりますか。それは「良い実装」でしょうか、「別の損失」でしょうか。
# 3. 平均を合わせるだけの方法は、ターゲットのラベルの割合がソースと大きく違うとき、どう失敗しますか。

# %% [markdown]
# ## 演習03-5 DANNの1回の更新
#
# <!-- exercise: 03-5 -->
#
# **DANN**（domain-adversarial neural network）の更新を1回分だけ書きます。モデルは、次のように呼べます。勾配反転層は、モデルの中にあります。
#
# ```python
# class_logits, domain_logits = model(x, lambda_)  # (N, C)と(N, 2)
# ```
#
# 最小にする損失は、三つの交差エントロピーの和です。$f$ は特徴抽出器、$c$ は分類器、$d$ はドメイン識別器を表します。
#
# $$
# L = \underbrace{\frac{1}{N}\sum_{i=1}^{N} \ell\bigl(c(f(x_i^S)),\, y_i^S\bigr)}_{\text{クラス}}
#   + \underbrace{\frac{1}{2N}\sum_{i=1}^{N} \ell\bigl(d(f(x_i^S)),\, 0\bigr)
#   + \frac{1}{2M}\sum_{j=1}^{M} \ell\bigl(d(f(x_j^T)),\, 1\bigr)}_{\text{ドメイン}}
# $$
#
# 式に $\lambda$ は現れません。$\lambda$ は、ドメインの損失の勾配が特徴抽出器へ戻るときにだけ、$-\lambda$ 倍として掛かります。
#
# 満たすべき条件は次のとおりです。
#
# - `source_x`は $N$ 件、`target_x`は $M$ 件で、`source_y`は`(N,)`の整数とする。$N$ と $M$ は違ってもよい。二つのドメインは同じ重みにする
# - ドメインのラベルは、ソースが0、ターゲットが1とする。ターゲットのクラスのラベルは渡されない
# - ソースとターゲットは、別々に、1回ずつモデルに通す。1つのバッチにつながない。バッチ正規化に、ドメインごとの統計を使わせるため
# - `lambda_`は、どちらの呼び出しにもそのまま渡す
# - `optimizer.step()`は1回だけ呼ぶ。呼ぶ前から残っていた勾配を混ぜない
# - モデルは学習モードで渡される。モードを変えない
# - 返り値は`{"class": クラスの損失, "domain": ドメインの損失}`とする。どちらも、更新の前の値を表す`float`とする
# - `tlkit.adapt`の損失を呼ばずに、自分で計算する


# %%
def dann_step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    source_x: torch.Tensor,
    source_y: torch.Tensor,
    target_x: torch.Tensor,
    lambda_: float,
) -> dict[str, float]:
    """DANNの1回の更新。modelは学習モード。source_x (N, …), source_y (N,), target_x (M, …)。"""
    ### BEGIN SOLUTION
    optimizer.zero_grad()
    class_logits, source_logits = model(source_x, lambda_)
    target_logits = model(target_x, lambda_)[1]
    class_loss = torch.nn.functional.cross_entropy(class_logits, source_y)
    source_loss = -source_logits.log_softmax(dim=1)[:, 0].mean()  # ラベル0との交差エントロピー
    target_loss = -target_logits.log_softmax(dim=1)[:, 1].mean()  # ラベル1との交差エントロピー
    domain_loss = (source_loss + target_loss) / 2
    (class_loss + domain_loss).backward()
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}
    ### END SOLUTION


# %%
check("03-5", dann_step)

# %% [markdown]
# ### 合格したら：λを大きくすると、何が起きるか
#
# 二つの三日月を、対の中心の周りに回して、ターゲットを作ります。回す角度は、45°と135°の二通りです。ソースにだけラベルがあります。
# 小さなネットワークを、`dann_step`で400回更新します。 $\lambda$ は、固定した値と、演習03-2の予定（0から1へ上げる）を試します。
#
# 測るものは三つです。どれも、学習に使わない点で測ります。
#
# - ターゲットの正解率
# - DANNの中の識別器が、ドメインを当てた割合
# - **新しい識別器**が、ドメインを当てた割合。学習を終えた特徴から、近傍15点の多数決で当てる。半分の点を手本に、残りで測る
#
# 予想を書き留めてください。
#
# 1. 45°のとき、 $\lambda$ を0から100まで大きくすると、ターゲットとソースの正解率は、それぞれどう変わるか
# 2. 二つの識別器の正解率は、同じになるか
# 3. 135°のとき、特徴からドメインが見分けにくくなれば、ターゲットの正解率は上がるか


# %%
class MoonNet(torch.nn.Module):
    """平面の点を分類するDANN。x (N, 2) → （クラス (N, 2), ドメイン (N, 2)）。"""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.features = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh())
        self.label_classifier = nn.Linear(16, 2)
        self.domain_classifier = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x: torch.Tensor, lambda_: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.features(x)
        return self.label_classifier(h), self.domain_classifier(tlkit.nn.gradient_reversal(h, lambda_))


def moons(angle: float, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """三日月の対の中心の周りにangle度だけ回した、二つの三日月。点 (N, 2) とラベル (N,)。"""
    x, y = make_moons(count, noise=0.1, random_state=seed)
    radian = math.radians(angle)
    turn = [[math.cos(radian), -math.sin(radian)], [math.sin(radian), math.cos(radian)]]
    return torch.tensor((x - [0.5, 0.25]) @ np.transpose(turn)).float(), torch.tensor(y)


def fresh_domain_accuracy(source: np.ndarray, target: np.ndarray) -> float:
    """特徴から、新しい識別器でドメインを当てた割合。奇数番目の点を手本にし、偶数番目の点で測る。"""
    features = StandardScaler().fit_transform(np.concatenate([source, target]))
    domains = np.repeat([0, 1], [len(source), len(target)])
    return KNeighborsClassifier(15).fit(features[1::2], domains[1::2]).score(features[::2], domains[::2])


def moon_scores(update: Callable, angle: float, strength: float | str, seed: int, steps: int = 400) -> list[float]:
    """update（DANNの1回の更新）で学習して測った、ターゲットの正解率、中の識別器の正解率、新しい識別器の正解率、ソースの正解率。"""
    torch.manual_seed(seed)
    model = MoonNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    (source_x, source_y), (target_x, _) = moons(0, 200, seed), moons(angle, 200, 1000 + seed)
    for step in range(steps):
        lambda_ = tlkit.nn.dann_lambda(step / steps) if strength == "予定" else strength
        update(model, optimizer, source_x, source_y, target_x, lambda_)
    (held_x, held_y), (test_x, test_y) = moons(0, 400, 2000 + seed), moons(angle, 400, 3000 + seed)
    with torch.no_grad():
        held, test = model(held_x), model(test_x)
        features = [model.features(x).numpy() for x in (held_x, test_x)]
    domains = torch.cat([held[1].argmax(1) == 0, test[1].argmax(1) == 1])
    found = (test[0].argmax(1) == test_y, domains, held[0].argmax(1) == held_y)
    target, inner, source = (right.float().mean().item() for right in found)
    return [target, inner, fresh_domain_accuracy(*features), source]


def draw_moons(axes: np.ndarray, means: dict[tuple, list]) -> None:
    """左に、ドメインを当てた割合とターゲットの正解率。右に、45°でのλごとの値。"""
    for (angle, strengths), marker, color in zip(MOON_RUNS.items(), "os", plot.COLORS, strict=False):
        for index, strength in enumerate(strengths):
            target, _, fresh, _ = means[angle, strength]
            bar = {"fmt": marker, "color": color, "capsize": 3, "label": None if index else f"{angle}°"}
            axes[0].errorbar(fresh.mean, target.mean, target.half, fresh.half, **bar)
            below = strength in (0.3, 100.0)
            place = (-4, -14) if below else (4, 5)
            axes[0].annotate(
                f"λ={strength:g}" if strength != "予定" else "予定",
                (fresh.mean, target.mean),
                place,
                textcoords="offset points",
                fontsize=8,
                ha="right" if below else "left",
            )
    axes[0].set_xlabel("新しい識別器がドメインを当てた割合")
    axes[0].set_ylabel("ターゲットの正解率")
    axes[0].set_xlim(0.5, 0.9)
    axes[0].set_ylim(0, 1.1)
    axes[0].legend(title="回した角度", loc="center left", bbox_to_anchor=(0, 0.32))
    fixed = [strength for strength in MOON_RUNS[45] if strength != "予定"]
    for column, marker, title in ((3, "o", "ソースの正解率"), (2, "s", "新しい識別器"), (1, "^", "中の識別器")):
        found = [means[45, strength][column] for strength in fixed]
        axes[1].errorbar(
            range(len(fixed)), [f.mean for f in found], [f.half for f in found], marker=marker, capsize=3, label=title
        )
    axes[1].axhline(0.5, color="black", linestyle=":", linewidth=1)
    axes[1].set_xticks(range(len(fixed)), [f"{strength:g}" for strength in fixed])
    axes[1].set_xlabel("λ（45°）")
    axes[1].set_ylabel("割合")
    axes[1].set_ylim(0.3, 1.05)
    axes[1].legend(loc="lower left", fontsize=8)


MOON_RUNS = {45: [0.0, 0.3, 3.0, 100.0, "予定"], 135: [0.0, 1.0]}

if ready("03-5"):
    moon_table = {
        (angle, strength): np.array([moon_scores(dann_step, angle, strength, seed) for seed in range(20, 25)])
        for angle, strengths in MOON_RUNS.items()
        for strength in strengths
    }
    moon_means = {key: [mean_ci(column) for column in rows.T] for key, rows in moon_table.items()}
    for (angle, strength), (target, inner, fresh, source) in moon_means.items():
        print(f"{angle}°　λ = {strength}　正解率: ターゲット {target}　ソース {source}")
        print(f"　　　ドメインを当てた割合: 中の識別器 {inner}　新しい識別器 {fresh}")

    fig, axes = plot.subplots(1, 2, figsize=(8.6, 3.8))
    draw_moons(axes, moon_means)
    plot.show(
        fig,
        alt="左は、横軸が新しい識別器がドメインを当てた割合、縦軸がターゲットの正解率の散布図。平均と95%信頼区間。"
        "45°では、λが0から0.3になると、点は左上へ動き、正解率が大きく上がる。"
        "135°では、λが0から1になると、点は左へ動くが、正解率は低いまま変わらない。"
        "右は、45°でのλごとの折れ線グラフ。λを大きくすると、中の識別器は0.5に近づくが、新しい識別器はそれより高い所にとどまる。"
        "ソースの正解率は、λが大きいと下がる。",
    )
    found = {strength: moon_table[45, strength] for strength in MOON_RUNS[45]}
    print("45°での差（同じ種どうし）")
    print(f"　ターゲットの正解率、λ = 0.3 と 0: {mean_ci((found[0.3] - found[0.0])[:, 0])}")
    for strength in (3.0, 100.0):
        print(f"　ターゲットの正解率、λ = {strength:g} と 0.3: {mean_ci((found[strength] - found[0.3])[:, 0])}")
    print(f"　ソースの正解率、λ = 100 と 0.3: {mean_ci((found[100.0] - found[0.3])[:, 3])}")
    print(f"　λ = 100での、新しい識別器と中の識別器: {mean_ci(found[100.0][:, 2] - found[100.0][:, 1])}")
    assert (found[0.3] - found[0.0])[:, 0].mean() > 0.2, "45°で、DANNの効果が確認できません"
    assert (found[0.3] - found[3.0])[:, 0].mean() > 0.05, "λを大きくしすぎた害が、ターゲットで確認できません"
    assert (found[0.3] - found[100.0])[:, 3].mean() > 0.08, "λを大きくしすぎた害が、ソースで確認できません"
    assert (found[100.0][:, 2] - found[100.0][:, 1]).mean() > 0.05, "二つの識別器の差が確認できません"
    assert (moon_table[135, 0.0] - moon_table[135, 1.0])[:, 2].mean() > 0.08, "135°で、特徴が近づいていません"
    assert moon_table[135, 1.0][:, 0].mean() < 0.2, "135°で、正解率が上がりました"

# %% [markdown]
# 45°では、ほどよい $\lambda$ で、ターゲットの正解率が大きく上がります。
# $\lambda$ をさらに大きくすると、ターゲットの正解率は下がります。ただし、下がり方は $\lambda$ の順には並びません。
# 競い合う学習は不安定で、どの角度で重なるかが、 $\lambda$ や種によって変わるからだと考えられます。
# ソースの正解率は、 $\lambda$ が大きいほど下がります。ドメインを隠すために、分類に必要な情報まで、特徴から消えたと考えられます。
#
# $\lambda$ が大きいと、中の識別器の正解率は0.5に近づきます。しかし、新しい識別器は、まだドメインを見分けます。
# 中の識別器が負けたことは、その識別器が追いつけなかったことしか意味しません。これだけを見て「ドメイン不変になった」と言うことはできません。
#
# 135°では、ドメインが見分けにくくなっても、正解率は低いままです。
# 回した三日月のすぐ近くには、ソースの**反対のクラス**の三日月があります。ラベルを見ない手法は、近いほうへ重ねます。
# ドメイン不変であることは、ターゲットで正しく分類できることを意味しません。
#
# ここでは、仕組みを見るために、ターゲットの正解率で $\lambda$ を比べました。
# 実際の教師なしドメイン適応では、ターゲットのラベルがないので、この図は描けません。
#
# **考えてみよう**：
#
# 1. ちょうど180°回すと、二つのドメインの入力の分布は同じになります。適応しないモデルのターゲットの正解率は、いくつになりますか。Ben-Davidの上界のどの項が大きくなりますか。
# 2. 135°のとき、ターゲットのラベルを1クラス1件だけもらえるなら、どう使いますか。

# %% [markdown]
# ## 演習03-6 バッチ正規化の統計を、ターゲットで測り直す
#
# <!-- exercise: 03-6 -->
#
# **AdaBN**（adaptive batch normalization）は、重みを一つも学習しません。
# ソースで学習したモデルの、バッチ正規化の移動平均と移動分散だけを、ターゲットの入力で測り直します。ターゲットのラベルは要りません。
#
# $l$ 番目のバッチ正規化の層に、$b$ 番目のバッチ（$B$ 個）を通したときの、バッチの平均を $m_{l,b}$、不偏分散を $v_{l,b}$ とします。
#
# $$
# \mu_l \leftarrow \frac{1}{B} \sum_{b=1}^{B} m_{l,b}, \qquad
# \sigma_l^2 \leftarrow \frac{1}{B} \sum_{b=1}^{B} v_{l,b}
# $$
#
# どのバッチも同じ重みです。最後のバッチだけ小さくても、重みは変えません。これは、PyTorchの`momentum=None`と同じ約束です。
#
# 満たすべき条件は次のとおりです。
#
# - `loader`は、画像のバッチ`x`を順に返す。ジェネレーターのように、一度しか回せないこともある
# - バッチ正規化は、1dと2dのどちらもある。部品の奥にあるものも、凍結されたものも、すべて測り直す
# - $m_{l,b}$ と $v_{l,b}$ は、すべてのバッチ正規化がそのバッチの統計で正規化しているときの値とする。ソースの統計は残さない
# - ドロップアウトなど、学習モードで雑音を加える部品は、測る間も働かせない
# - 移動統計だけを変える。`num_batches_tracked`は $B$ になる。重み、 $\gamma$、 $\beta$、`requires_grad`は変えない
# - 部品ごとの学習・評価のモードと、層ごとの`momentum`は、呼ぶ前の値に戻す
# - 勾配は計算しない。返り値は、渡されたモデルそのものとする
# - `tlkit.adapt`の関数を呼ばずに、自分で書く


# %%
def adapt_batchnorm(model: torch.nn.Module, loader: Iterable[torch.Tensor]) -> torch.nn.Module:
    """バッチ正規化の移動統計を、loaderの画像で測り直す。"""
    ### BEGIN SOLUTION
    modes = [(m, m.training) for m in model.modules()]
    momenta = {m: m.momentum for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)}
    model.eval()
    for layer in momenta:
        layer.reset_running_stats()
        layer.momentum = None  # バッチごとの統計の、単純な平均
        layer.train()
    with torch.no_grad():
        for x in loader:
            model(x)
    for layer, momentum in momenta.items():
        layer.momentum = momentum
    for module, mode in modes:
        module.training = mode
    return model
    ### END SOLUTION


# %%
check("03-6", adapt_batchnorm)

# %% [markdown]
# ### 合格したら：統計を測り直すだけで、どこまで直るか
#
# MNISTの数字で、バッチ正規化のある小さなCNNを学習します。ターゲットは、同じ数字の見え方を変えたものです。
#
# - 低コントラスト： $0.3 + 0.35x$。どの画像にも、同じ変換を掛ける
# - 雑音：画素ごとに、標準偏差0.3の雑音を足す
# - 反転： $1 - x$。どの画像にも、同じ変換を掛ける
# - 背景がばらばら： $\lvert x - b \rvert$。 $b$ は0から0.6の間で、画像ごとに違う
# - 0から2だけ：見え方は変えず、ターゲットに0、1、2の数字だけがある（**ラベルシフト**）
#
# 初めの畳み込みの出力は、入力の1次式です。すぐ後のバッチ正規化が、平均と分散をそろえます。
# この二つから、予想を立ててください。完全に直るものと、まったく直らないものは、どれですか。見え方を変えないターゲットでは、どうなりますか。


# %%
def batchnorm_cnn(seed: int, images: torch.Tensor, labels: torch.Tensor, steps: int = 150) -> torch.nn.Module:
    """14×14画素の数字を分類する、バッチ正規化のあるCNN。学習して、評価モードで返す。"""
    torch.manual_seed(seed)
    nn = torch.nn
    stem = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    body = [nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*stem, *body, nn.Linear(256, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(steps):
        rows = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
        optimizer.step()
    return model.eval()


def changed_looks(images: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """見え方を変えた画像。名前 → (N, 1, 14, 14)。"""
    g = torch.Generator().manual_seed(seed)
    return {
        "低コントラスト": 0.3 + 0.35 * images,
        "雑音": images + 0.3 * torch.randn(images.shape, generator=g),
        "反転": 1 - images,
        "背景がばらばら": (images - 0.6 * torch.rand(len(images), 1, 1, 1, generator=g)).abs(),
        "0から2だけ": images,
    }


@torch.no_grad()
def digit_accuracy(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """モデルのモードのままで測った正解率。"""
    return (model(images).argmax(dim=1) == labels).float().mean().item()


def adabn_scores(adapt: Callable, seed: int) -> dict[tuple[str, int], float]:
    """（ターゲット, 統計に使った枚数）→ 学習にも統計にも使わない画像での正解率。枚数0は、測り直す前。"""
    mnist = data.load("mnist5k")
    images = torch.nn.functional.avg_pool2d(mnist.images, 2)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, unlabelled, test = order[:3000], order[3000:4000], order[4000:]
    model = batchnorm_cnn(seed, images[train], mnist.labels[train])
    scores = {("ソースと同じ", 0): digit_accuracy(model, images[test], mnist.labels[test])}
    for name, target in changed_looks(images, seed).items():
        shifted = name == "0から2だけ"
        few, held = (rows[mnist.labels[rows] < 3] if shifted else rows for rows in (unlabelled, test))
        scores[name, 0] = digit_accuracy(model, target[held], mnist.labels[held])
        for count in ADABN_COUNTS:
            adapted = adapt(copy.deepcopy(model), target[few[:count]].split(64))
            scores[name, count] = digit_accuracy(adapted, target[held], mnist.labels[held])
    return scores


ADABN_COUNTS = [8, 32, 128, 256]

if ready("03-6"):
    adabn_runs = [adabn_scores(adapt_batchnorm, seed) for seed in range(10, 15)]
    adabn_table = {key: mean_ci([run[key] for run in adabn_runs]) for key in adabn_runs[0]}
    adabn_names = list(dict.fromkeys(name for name, _ in adabn_table))[1:]
    print(f"ソースと同じ見え方での正解率: {adabn_table['ソースと同じ', 0]}")
    for name in adabn_names:
        print(f"{name}　前: {adabn_table[name, 0]}")
        print("　後: " + "　".join(f"{count}枚 {adabn_table[name, count]}" for count in ADABN_COUNTS))

    fig, axes = plot.subplots(1, 2, figsize=(8.4, 3.6), sharey=True)
    places = np.arange(len(adabn_names))
    for shift, count, title in ((-0.2, 0, "前"), (0.2, ADABN_COUNTS[-1], f"後（{ADABN_COUNTS[-1]}枚）")):
        found = [adabn_table[name, count] for name in adabn_names]
        axes[0].bar(places + shift, [f.mean for f in found], 0.4, yerr=[f.half for f in found], capsize=3, label=title)
    axes[0].axhline(adabn_table["ソースと同じ", 0].mean, color="black", linestyle=":", label="ソースと同じ見え方")
    axes[0].set_xticks(places, ["低コント\nラスト", "雑音", "反転", "背景が\nばらばら", "0から2\nだけ"])
    axes[0].set_ylabel("正解率（平均と95%信頼区間）")
    axes[0].legend(loc="upper right", fontsize=8)
    for name in ("低コントラスト", "雑音", "0から2だけ"):
        found = [adabn_table[name, count] for count in ADABN_COUNTS]
        axes[1].errorbar(
            ADABN_COUNTS, [f.mean for f in found], [f.half for f in found], marker="o", capsize=3, label=name
        )
    axes[1].set_xscale("log")
    axes[1].set_xticks(ADABN_COUNTS, [str(count) for count in ADABN_COUNTS])
    axes[1].minorticks_off()
    axes[1].set_xlabel("統計に使ったターゲットの枚数")
    axes[1].legend(loc="lower right", fontsize=8)
    axes[0].set_ylim(0, 1.3)
    axes[0].set_yticks(np.arange(0, 1.01, 0.2))
    plot.show(
        fig,
        alt="左は、ターゲットごとに、統計を測り直す前と後の正解率を並べた棒グラフ。低コントラストは、ソースと同じ見え方の正解率まで直る。"
        "雑音は途中まで直る。反転と背景がばらばらのときは、ほとんど直らない。0から2だけのときは、前より悪くなる。"
        "右は、統計に使った枚数に対する正解率の折れ線グラフ。どれも32枚でほぼ決まり、それより増やしても少ししか上がらない。",
    )

    def adabn_change(name: str) -> np.ndarray:
        return np.array([run[name, ADABN_COUNTS[-1]] - run[name, 0] for run in adabn_runs])

    print(f"測り直した後と前の差（{ADABN_COUNTS[-1]}枚、同じ種どうし）")
    for name in adabn_names:
        print(f"　{name}: {mean_ci(adabn_change(name))}")
    assert adabn_change("低コントラスト").mean() > 0.3, "低コントラストで、効果が確認できません"
    assert adabn_change("雑音").mean() > 0.1, "雑音で、効果が確認できません"
    assert adabn_table["反転", ADABN_COUNTS[-1]].mean < 0.5, "反転が、AdaBNで直りました"
    assert adabn_change("0から2だけ").mean() < -0.1, "ラベルシフトの害が確認できません"

# %% [markdown]
# 低コントラストは、画像のすべてに同じ $ax + b$（$a > 0$）を掛けたものです。畳み込みの後の平均と分散を測り直せば、変換は消えます。
# 反転も同じ形ですが、 $a = -1$ です。分散で割っても、符号は戻りません。背景がばらばらなときは、画像ごとに違う変換なので、
# ターゲット全体の一組の統計では直せません。
#
# 0から2だけのときは、見え方が何も変わっていません。直すものがないのに、正解率は下がりました。
# 平均と分散が変わったのは、数字の割合が違うからです。AdaBNは、割合の違いも見え方の違いとして打ち消します。
# 実際のターゲットでは、クラスの割合は分かりません。だから、この失敗は、正解率を測るまで見えません。
#
# **考えてみよう**：
#
# 1. 統計に使うバッチを、1枚ずつ（`split(1)`）にすると、どうなりますか。バッチの分散の計算から説明してください。
# 2. ターゲットの割合が、ソースと同じになるように画像を選べれば、ラベルシフトの害は消えます。ラベルなしで、どう選びますか。演習03-9の考え方が使えます。

# %% [markdown]
# ## 演習03-7 ドメイン適応の上界を、データで測る
#
# <!-- exercise: 03-7 -->
#
# ターゲットの誤り率 $\varepsilon_T(h)$ は、ターゲットのラベルがなければ測れません。Ben-Davidたちは、これを三つの項で上から抑えました。
#
# $$
# \varepsilon_T(h) \leq \varepsilon_S(h) + \tfrac{1}{2}\, d_{\mathcal{H}\Delta\mathcal{H}}(D_S, D_T) + \lambda^*, \qquad
# \lambda^* = \min_{h' \in \mathcal{H}} \left[ \varepsilon_S(h') + \varepsilon_T(h') \right]
# $$
#
# - $\varepsilon_S(h)$：ソースでの誤り率
# - $d_{\mathcal{H}\Delta\mathcal{H}}$：仮説の集合 $\mathcal{H}$ で見た、二つの分布の違い。ここでは、演習01-4のプロキシA距離 $\hat{d}_A = 2(1 - 2\varepsilon)$ で代用する
# - $\lambda^*$：**一つの**分類器で、両方のドメインをどこまで正しく分類できるか
#
# $\varepsilon$ はドメイン識別器の誤り率で、二つのドメインの誤り率の平均です。
# たとえば $\varepsilon = 0.1$ なら、$\hat{d}_A = 2(1 - 0.2) = 1.6$ です。上界に足すのは、その半分の0.8です。
#
# 三つの項と、その和を返す関数を書いてください。標本は、学習用と評価用に分けて渡されます。
#
# 満たすべき条件は次のとおりです。
#
# - 初めの四つの引数は、どれも特徴`(n, D)`とラベル`(n,)`の組で、件数は四つとも違ってよい
# - `fit(x, y, weight)`は、重みつきで分類器を学習し、`x`からラベルを予測する関数を返す。`weight`を省くと、どの行も同じ重みになる。分類器は、どれも渡された`fit`で学習する
# - 学習には学習用だけを使い、誤り率は評価用だけで測る
# - `source_error`の $h$ は、ソースだけで学習する。`joint_error`の $h'$ は、両方のドメインで学習した一つの分類器とする
# - 両方のドメインで学習するときは、二つのドメインの重みの和を等しくする。誤り率はドメインごとに求める
# - 返り値は`{"source_error": …, "divergence": …, "joint_error": …, "bound": …}`とする。`divergence`は $\hat{d}_A$、`bound`は上界の右辺とする
# - 負の距離も、1を超える上界も、そのまま返す。引数を書き換えない


# %%
def bound_terms(
    source_train: tuple[np.ndarray, np.ndarray],
    source_test: tuple[np.ndarray, np.ndarray],
    target_train: tuple[np.ndarray, np.ndarray],
    target_test: tuple[np.ndarray, np.ndarray],
    fit: Callable,
) -> dict[str, float]:
    """上界の三つの項と、その和。初めの四つは、特徴(n, D)とラベル(n,)の組。fit(x, y, weight) → 予測する関数。"""
    ### BEGIN SOLUTION
    (xs, ys), (xt, yt) = source_train, target_train
    both = np.concatenate([xs, xt])
    equal = np.repeat([1 / len(xs), 1 / len(xt)], [len(xs), len(xt)])
    source_only = fit(xs, ys)
    discriminator = fit(both, np.repeat([0, 1], [len(xs), len(xt)]), equal)
    joint = fit(both, np.concatenate([ys, yt]), equal)

    (us, vs), (ut, vt) = source_test, target_test
    source_error = np.mean(source_only(us) != vs)
    mistaken = (np.mean(discriminator(us) != 0) + np.mean(discriminator(ut) != 1)) / 2
    joint_error = np.mean(joint(us) != vs) + np.mean(joint(ut) != vt)
    divergence = 2 * (1 - 2 * mistaken)
    return {
        "source_error": float(source_error),
        "divergence": float(divergence),
        "joint_error": float(joint_error),
        "bound": float(source_error + divergence / 2 + joint_error),
    }
    ### END SOLUTION


# %%
check("03-7", bound_terms)

# %% [markdown]
# ### 合格したら：上界は、ターゲットの誤り率をどれだけ言い当てるか
#
# MNISTの数字をソースとし、ターゲットを六通りに変えます。特徴は8×8に縮めた画素、分類器はロジスティック回帰です。
#
# - 別のMNIST：同じ分布から取った別の画像
# - 隅の印：どの画像にも、隅に同じ白い四角がある（撮影装置の印のようなもの）
# - UCI：別の書き手の数字
# - 180度回転、白黒の反転
# - ラベルの入れ替え：画像はMNISTのままで、ラベルだけを一つずつずらす
#
# ターゲットのラベルがあるので、ほんとうのターゲットの誤り率も測れます。三つの項と並べて描きます。
# 距離が大きくても転移できるのは、どれでしょうか。距離がほぼ0でも転移できないのは、どれでしょうか。


# %%
def small_pixels(images: torch.Tensor) -> np.ndarray:
    """8×8に縮めた画素(n, 64)。"""
    return torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1).numpy()


def stamped(images: torch.Tensor) -> torch.Tensor:
    """左上の隅に白い四角を置いた写し。"""
    marked = images.clone()
    marked[:, :, :4, :4] = 1
    return marked


def fit_logistic(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> Callable:
    """ロジスティック回帰。weightは、平均が1になるように直してから使う。"""
    scaled = None if weight is None else weight / weight.mean()
    return LogisticRegression(max_iter=200).fit(x, y, scaled).predict


Part = tuple[np.ndarray, np.ndarray]  # 特徴(n, D)とラベル(n,)


def four_parts(source: Part, target: Part) -> tuple[Part, Part, Part, Part]:
    """ソースとターゲットを、それぞれ前半と後半に分ける。"""
    return tuple(
        (x[half], y[half]) for x, y in (source, target) for half in (slice(0, len(x) // 2), slice(len(x) // 2, None))
    )


if ready("03-7"):
    pool, uci = data.load("mnist5k"), data.load("uci_digits")
    mnist_pixels, mnist_labels = small_pixels(pool.images), pool.labels.numpy()
    targets = {
        "別のMNIST": (mnist_pixels, mnist_labels),
        "隅の印": (small_pixels(stamped(pool.images)), mnist_labels),
        "UCI": (small_pixels(uci.images), uci.labels.numpy()),
        "180度回転": (small_pixels(pool.images.rot90(2, (2, 3))), mnist_labels),
        "白黒の反転": (small_pixels(1 - pool.images), mnist_labels),
        "ラベルの入れ替え": (mnist_pixels, (mnist_labels + 1) % 10),
    }
    bounds = {}
    for name, (pixels, labels) in targets.items():
        measured = []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            rows = rng.permutation(len(mnist_labels))[:2000]  # 前半1,000枚がソース、後半がターゲット
            others = rng.permutation(len(labels))[:1000] if name == "UCI" else rows[1000:]
            source_part = mnist_pixels[rows[:1000]], mnist_labels[rows[:1000]]
            parts = four_parts(source_part, (pixels[others], labels[others]))
            truth = np.mean(fit_logistic(*parts[0])(parts[3][0]) != parts[3][1])
            measured.append(bound_terms(*parts, fit_logistic) | {"target_error": truth})
        bounds[name] = {key: mean_ci([m[key] for m in measured]) for key in measured[0]}
    titles = {"source_error": "ソースの誤り率", "divergence": "距離", "joint_error": "λ*", "bound": "上界"}
    for name, found in bounds.items():
        listed = "、".join(f"{title} {found[key]}" for key, title in titles.items())
        print(f"{name}: {listed}、測ったターゲットの誤り率 {found['target_error']}")
    marked, swapped = bounds["隅の印"], bounds["ラベルの入れ替え"]
    assert marked["divergence"].mean > 1.9 > 0.25 > marked["target_error"].mean, "距離だけが大きい例が確認できません"
    assert abs(swapped["divergence"].mean) < 0.2 < 1 < swapped["joint_error"].mean, "λ*だけが大きい例が確認できません"
    assert swapped["target_error"].mean > 0.9 > 0.5 > bounds["別のMNIST"]["bound"].mean
    assert all(found["bound"].mean > found["target_error"].mean for found in bounds.values())

    fig, ax = plot.subplots(figsize=(7.2, 3.8))
    left = np.zeros(len(bounds))
    for key, title, share, hatch in (
        ("source_error", "ソースの誤り率", 1, ""),
        ("divergence", "距離の半分", 0.5, "//"),
        ("joint_error", "λ*", 1, ".."),
    ):
        width = np.array([share * found[key].mean for found in bounds.values()])
        ax.barh(list(bounds), width, left=left, label=title, height=0.6, hatch=hatch, edgecolor="white")
        left += width
    truths = [found["target_error"] for found in bounds.values()]
    ax.errorbar(
        [t.mean for t in truths],
        range(len(truths)),
        xerr=[t.half for t in truths],
        fmt="kD",
        capsize=4,
        label="測ったターゲットの誤り率",
    )
    ax.axvline(1, color="black", linestyle=":")
    ax.invert_yaxis()
    ax.set_xlabel("誤り率（点線は1）")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    plot.show(
        fig,
        alt="六つのターゲットについて、上界の三つの項を積み上げた横棒グラフと、測ったターゲットの誤り率の点。"
        "隅の印では、距離の項が1に達して上界は1を超えるが、測った誤り率は別のMNISTと変わらない。"
        "ラベルの入れ替えでは、距離の項はほぼ0で、λ*だけで1を超え、測った誤り率も1に近い。"
        "白黒の反転では、距離もλ*も大きい。UCIでは距離が大きくλ*は小さく、測った誤り率は中ほどにある。",
    )

# %% [markdown]
# 上界が1を超えたら、誤り率について何も言っていません。隅の印では、上界は1を超えましたが、転移はうまくいきました。
# 反対に、ラベルの入れ替えでは、距離は0に近いのに、転移は失敗しました。距離を小さくする方法は、$\lambda^*$ を小さくしてくれません。
#
# この推定には、次の限界があります。
#
# - 定理の $d_{\mathcal{H}\Delta\mathcal{H}}$ は、二つの仮説の食い違う場所で測る距離です。線形のドメイン識別器で測った値は、それより小さいことがあります。だから「推定した上界」は、保証ではなく目安です
# - どの項も、分類器の集合と特徴に依存します。別の特徴を使えば、三つとも変わります
# - $\lambda^*$ の推定には、ターゲットのラベルを使います。失敗の原因を調べる診断には使えますが、手法や設定を選ぶために使ってはいけません
# - $\lambda^*$ は最小値です。有限の標本で学習した一つの分類器で測るので、真の値より大きめになります
#
# ### もう一つ：距離を小さくすると、λ*はどうなるか
#
# ソースを数字の6と9、ターゲットを180度回転した6と9にします。回転した6は、9に見えます。
# 特徴を主成分にし、次元を減らすと、二つのドメインは見分けにくくなります。ドメイン適応がめざす「ドメイン不変表現」に近づきます。
# ターゲットの誤り率も下がるでしょうか。

# %%
if ready("03-7"):
    six_nine = np.flatnonzero(np.isin(mnist_labels, [6, 9]))
    turned = targets["180度回転"][0]
    sizes = [32, 16, 8, 4, 2, 1]
    by_size = {}
    for size in sizes:
        measured = []
        for seed in range(10):
            rows = np.random.default_rng(seed).permutation(six_nine)
            first, second = np.array_split(rows, 2)
            parts = four_parts((mnist_pixels[first], mnist_labels[first]), (turned[second], mnist_labels[second]))
            reducer = PCA(size, svd_solver="full").fit(
                np.concatenate([parts[0][0], parts[2][0]])
            )  # 学習用だけ、ラベルなし
            parts = tuple((reducer.transform(x), y) for x, y in parts)
            truth = np.mean(fit_logistic(*parts[0])(parts[3][0]) != parts[3][1])
            measured.append(bound_terms(*parts, fit_logistic) | {"target_error": truth})
        by_size[size] = {key: mean_ci([m[key] for m in measured]) for key in measured[0]}
    curves = {
        "距離の半分": ("divergence", 0.5),
        "λ*": ("joint_error", 1),
        "測ったターゲットの誤り率": ("target_error", 1),
        "ソースの誤り率": ("source_error", 1),
    }
    for size in (sizes[0], sizes[-1]):
        print(
            f"{size}次元: "
            + "、".join(f"{title} {share * by_size[size][key].mean:.3f}" for title, (key, share) in curves.items())
        )
    most, least = by_size[sizes[0]], by_size[sizes[-1]]
    assert most["divergence"].mean - least["divergence"].mean > 1, "距離が小さくなりません"
    assert least["joint_error"].mean - most["joint_error"].mean > 0.4, "λ*が大きくなりません"
    assert min(found["target_error"].mean for found in by_size.values()) > 0.8, "ターゲットの誤り率が下がりました"

    fig, ax = plot.subplots(figsize=(5.6, 3.9))
    for title, (key, share) in curves.items():
        means = [share * by_size[size][key].mean for size in sizes]
        ax.errorbar(
            range(len(sizes)),
            means,
            [share * by_size[size][key].half for size in sizes],
            marker="o",
            capsize=4,
            label=title,
        )
    ax.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    ax.set_xlabel("主成分の数（右ほど、ドメインを見分けにくい）")
    ax.set_ylabel("誤り率と、距離の半分")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    plot.show(
        fig,
        alt="主成分の数を32から1まで減らしたときの折れ線グラフ。距離の半分は1の近くから0の近くまで下がる。"
        "入れ替わるように、λ*は1の近くまで上がる。測ったターゲットの誤り率は、どこでも1に近いまま変わらない。ソースの誤り率は、どこでも0に近い。",
    )

# %% [markdown]
# 見分けられない特徴にすると、距離は小さくなりました。しかし、代わりに $\lambda^*$ が大きくなり、ターゲットの誤り率は下がりません。
# 残った特徴では、回転した6がもとの9に重なります。一つの分類器で、両方のドメインを正しく分類することは、もうできません。
#
# **考えてみよう**：
#
# 1. $\varepsilon_S(h) = 0.05$、ドメイン識別器の誤り率が0.4、$\lambda^* = 0.1$ のとき、上界はいくつですか。手で計算し、`bound_terms`の式と比べてください。
# 2. ターゲットのラベルがないとき、「距離を小さくしたら $\lambda^*$ が大きくなった」ことに、どうすれば気づけるでしょうか。
# 3. 別のMNISTでも、上界は測った誤り率よりかなり大きくなりました。三つの項のうち、どれが余分でしょうか。

# %% [markdown]
# ## 演習03-8 ドメイン識別器から、重要度重みを作る
#
# <!-- exercise: 03-8 -->
#
# **共変量シフト**では、$P(Y \mid X)$ は同じまま、$P(X)$ だけが変わります。ソースの標本に重みを付ければ、ターゲットでの損失の期待値を求められます。
#
# $$
# \mathbb{E}_{x \sim p_T}[\ell(x)] = \sum_x p_S(x) \, \frac{p_T(x)}{p_S(x)} \, \ell(x) = \mathbb{E}_{x \sim p_S}[w(x)\, \ell(x)], \qquad
# w(x) = \frac{p_T(x)}{p_S(x)}
# $$
#
# この $w$ を**重要度重み**、比 $p_T / p_S$ を**密度比**と呼びます。分子がターゲットです。
# 次の例では、ターゲットに多い点Bの重みが大きくなります。重みのソースでの平均は、$0.8 \times 0.5 + 0.2 \times 3 = 1$ です。
#
# | 点 | $p_S$ | $p_T$ | $w = p_T / p_S$ |
# | --- | --- | --- | --- |
# | A | 0.8 | 0.4 | 0.5 |
# | B | 0.2 | 0.6 | 3 |
#
# 密度そのものを推定しなくても、密度比は求められます。ソース $n_S$ 件とターゲット $n_T$ 件で、ドメイン識別器を学習します。
# 識別器の答える確率 $P(T \mid x)$ が正しければ、ベイズの定理から次のとおりです。
#
# $$
# P(T \mid x) = \frac{n_T \, p_T(x)}{n_S \, p_S(x) + n_T \, p_T(x)}
# \quad \Longrightarrow \quad
# w(x) = \frac{n_S}{n_T} \cdot \frac{P(T \mid x)}{1 - P(T \mid x)}
# $$
#
# 重みが一部の標本に偏ると、少ない標本で学習するのと同じことになります。その目安が**実効標本数**です。
#
# $$
# n_{\mathrm{eff}} = \frac{\left( \sum_i w_i \right)^2}{\sum_i w_i^2}
# $$
#
# `importance_weights`と`effective_sample_size`を書いてください。満たすべき条件は次のとおりです。
#
# - `target_probability`は、ソースの各行について識別器が答えた $P(T \mid x)$ で、`(N,)`のNumPy配列とする。$N$ は`n_source`と違ってもよい
# - 返り値は`(N,)`の配列とする。一つの行の重みは、その行の確率と二つの件数だけで決まる。平均を1にそろえたり、大きな重みを切ったりしない
# - 確率は0以上1未満とする。そうでない値（1、負の数、NaNなど）が一つでもあれば、`ValueError`にする。確率が1の点では、$p_S(x) = 0$ となり、密度比が決まらない
# - `effective_sample_size`の引数は、0以上の重み`(N,)`で、少なくとも一つは正とする。返り値は一つの数
# - 引数を書き換えない。`tlkit.adapt`の関数を呼ばずに、自分で計算する


# %%
def importance_weights(target_probability: np.ndarray, n_source: int, n_target: int) -> np.ndarray:
    """密度比p_T / p_S。target_probability (N,) → (N,)。"""
    ### BEGIN SOLUTION
    if not np.all((target_probability >= 0) & (target_probability < 1)):  # NaNも、ここで見つかる
        raise ValueError("確率は0以上1未満でなければなりません。")
    return n_source / n_target * target_probability / (1 - target_probability)
    ### END SOLUTION


def effective_sample_size(weights: np.ndarray) -> float:
    """実効標本数。weights (N,) → 1以上N以下の数。"""
    ### BEGIN SOLUTION
    return float(weights.sum() ** 2 / (weights**2).sum())
    ### END SOLUTION


# %%
check("03-8", importance_weights, effective_sample_size)

# %% [markdown]
# ### 合格したら：重みは、いつ効くか
#
# 共変量シフトの論文（Shimodaira 2000）の数値例にならい、曲線 $y = x^3 - x$ に雑音を加えたデータで実験します。
# ソースの $x$ は平均0.5、標準偏差0.5の正規分布です。ターゲットは標準偏差0.3で、平均を0.5から−1まで動かします。どちらも100件です。
#
# モデルは二つです。直線は曲線を表せません（**モデルの誤設定**）。3次式は表せます。
# ターゲットで測った曲線との2乗誤差を、重みの有無で比べます。重みは、ターゲットのラベルを使わずに求めます。
# 識別器は $(1, x, x^2)$ のロジスティック回帰です。二つの正規分布の密度比は、この形で正しく表せます。
#
# 重みは、二つのモデルのどちらを助けるでしょうか。ターゲットが遠ざかると、どうなるでしょうか。


# %%
def curve(x: np.ndarray) -> np.ndarray:
    """どちらのドメインでも同じ、xとyの関係。"""
    return x**3 - x


def crossfitted_probability(source_x: np.ndarray, target_x: np.ndarray, seed: int) -> np.ndarray:
    """ソースの各行のP(T|x)。どの行も、その行を学習に使わなかった識別器で求める。"""
    x = np.concatenate([source_x, target_x])
    domains = np.repeat([0, 1], [len(source_x), len(target_x)])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    answers = cross_val_predict(
        LogisticRegression(C=100), np.column_stack([x, x**2]), domains, cv=folds, method="predict_proba"
    )
    return answers[: len(source_x), 1]


def excess(x: np.ndarray, y: np.ndarray, degree: int, weight: np.ndarray, test_x: np.ndarray) -> float:
    """重みつき最小2乗法であてはめた多項式と、曲線との2乗誤差の平均。"""
    fitted = np.polyfit(x, y, degree, w=np.sqrt(weight))  # polyfitは、重みの2乗を誤差の2乗に掛ける
    return float(np.mean((np.polyval(fitted, test_x) - curve(test_x)) ** 2))


if ready("03-8"):
    centres = [0.5, 0.25, 0.0, -0.25, -0.5, -0.75, -1.0]
    series = [(name, weighted) for name in ("直線", "3次式") for weighted in (False, True)]
    errors = {key: {centre: [] for centre in centres} for key in series}
    effective = {centre: [] for centre in centres}
    for centre in centres:
        for seed in range(30):
            rng = np.random.default_rng(seed)
            x = rng.normal(0.5, 0.5, 100)
            y = curve(x) + 0.3 * rng.normal(size=100)
            target_x, test_x = rng.normal(centre, 0.3, 100), rng.normal(centre, 0.3, 2000)
            ratio = importance_weights(crossfitted_probability(x, target_x, seed), 100, 100)
            effective[centre].append(effective_sample_size(ratio))
            for name, weighted in series:
                weight = ratio if weighted else np.ones(100)
                errors[name, weighted][centre].append(excess(x, y, 1 if name == "直線" else 3, weight, test_x))
    gains = {
        name: {
            centre: mean_ci(np.subtract(errors[name, True][centre], errors[name, False][centre])) for centre in centres
        }
        for name in ("直線", "3次式")
    }
    for centre in centres:
        print(f"ターゲットの平均{centre:+.2f}: 実効標本数{np.mean(effective[centre]):.1f}、", end="")
        print("、".join(f"{name}の誤差の変化{found[centre]}" for name, found in gains.items()))
    near, far = gains["直線"][0.0], gains["直線"][-1.0]
    assert near.mean + near.half < -0.1, "直線で、重みの効果が確認できません"
    assert all(gain.mean > -0.002 for gain in gains["3次式"].values()), "3次式が、重みで良くなりました"
    assert far.mean > 0, "直線で、重みの逆効果が確認できません"
    assert np.mean(effective[-1.0]) < 5 < 30 < np.mean(effective[0.0]), "実効標本数の減少が確認できません"
    assert np.std(errors["直線", True][-1.0]) > 20 * np.std(errors["直線", True][0.0])

    fig, (left, right) = plot.subplots(1, 2, figsize=(8.4, 3.9), width_ratios=[1, 1.25])
    rng = np.random.default_rng(0)
    x = rng.normal(0.5, 0.5, 100)
    y = curve(x) + 0.3 * rng.normal(size=100)
    target_x = rng.normal(0.0, 0.3, 100)
    ratio = importance_weights(crossfitted_probability(x, target_x, 0), 100, 100)
    grid = np.linspace(-1, 1.7, 100)
    left.plot(grid, curve(grid), color="black", linestyle=":", label="曲線")
    left.scatter(x, y, s=4 + 20 * ratio, alpha=0.4, color=plot.COLORS[0], label="ソース（大きさが重み）")
    left.plot(target_x, np.full(100, -1.45), "|", color=plot.COLORS[2], label="ターゲットのx")
    for weight, title, color, line in (
        (np.ones(100), "重みなしの直線", plot.COLORS[1], "--"),
        (ratio, "重みつきの直線", plot.COLORS[2], "-"),
    ):
        left.plot(
            grid, np.polyval(np.polyfit(x, y, 1, w=np.sqrt(weight)), grid), color=color, linestyle=line, label=title
        )
    left.set_ylim(-1.6, 2.6)
    left.set_xlabel("x")
    left.set_ylabel("y")
    left.legend(fontsize=8, loc="upper left")
    for (name, weighted), found in errors.items():
        summary = [mean_ci(found[centre]) for centre in centres]
        title = f"{name}、重み{'つき' if weighted else 'なし'}"
        right.errorbar(
            range(len(centres)), [s.mean for s in summary], [s.half for s in summary], marker="o", label=title
        )
    right.set_yscale("log")
    right.set_xticks(
        range(len(centres)),
        [f"{centre:g}\n({np.mean(effective[centre]):.0f})".replace("-", "−") for centre in centres],
        fontsize=8,
    )
    right.set_xlabel("ターゲットの平均（かっこ内は実効標本数）")
    right.set_ylabel("ターゲットでの2乗誤差")
    right.legend(fontsize=8)
    plot.show(
        fig,
        alt="左は、ソースの散布図と二つの直線。重みなしの直線は、ソース全体の傾きに合う。重みつきの直線は、ターゲットのある0の近くで曲線に沿う。"
        "右は、ターゲットの平均に対する2乗誤差の折れ線グラフ（縦軸は対数）。直線は、平均が−0.5になるまでは重みつきのほうが誤差が小さいが、"
        "−1では逆転する。3次式は、どこでも重みなしのほうが小さく、ターゲットが遠いほど差が広がる。実効標本数は、左から右へ減っていく。",
    )

# %% [markdown]
# 重みは、直線の誤差を大きく減らしました。直線は曲線の全体には合わないので、「どこで合わせるか」を重みが決めるからです。
# 正しいモデルの3次式では、重みのない学習がすでに曲線を学んでいます。重みは、実効標本数を減らすだけでした。
#
# ターゲットが遠ざかると、実効標本数は数件まで減り、直線でも、重みつきのほうが悪くなりました。
# 重要度重み付けには、$p_T(x) > 0$ の所で $p_S(x) > 0$ であること（台の包含）が要ります。満たしていても、重なりが小さければ分散が大きくなり、役に立ちません。
# 実効標本数は、ターゲットのラベルがなくても計算できます。使う前に、必ず確かめてください。
#
# **考えてみよう**：
#
# 1. 深いネットワークは、たいていの曲線を十分に表せます。この実験から考えると、重要度重みの効き目はどうなりそうですか。
# 2. 重みを逆数（$p_S / p_T$）にすると、直線はどこに合いますか。図の左で予想してください。
# 3. 識別器の特徴を $x$ だけにすると、密度比を正しく表せなくなります。標準偏差の違いは、どのように見落とされるでしょうか。

# %% [markdown]
# ## 演習03-9 予測だけから、ラベルシフトの重みを推定する
#
# <!-- exercise: 03-9 -->
#
# ソースとターゲットの同時分布 $P(X, Y)$ の違い方は、何が動き、何が動かないかで分けられます。
#
# | 名前 | $P(X)$ | $P(Y \mid X)$ | $P(Y)$ | $P(X \mid Y)$ | 例 |
# |---|---|---|---|---|---|
# | 共変量シフト | **動く** | 同じ | ふつう動く | ふつう動く | 年齢の構成だけが違う二つの病院。同じ画像なら、診断も同じ |
# | ラベルシフト | ふつう動く | ふつう動く | **動く** | 同じ | 流行期と平常期。病気ごとの写り方は同じで、割合だけが違う |
# | 概念シフト | 同じことが多い | **動く** | ふつう動く | ふつう動く | 診断の基準が変わり、同じ画像のラベルが変わる |
#
# ラベルシフトなら、ターゲットのラベルが一つもなくても、クラスの割合の変化を推定できます。
# 使うのは、ソースで学習した分類器の**予測** $h(x)$ だけです（Liptonほか、2018）。
#
# $P(X \mid Y)$ が同じなら、$P(h(X) \mid Y)$ も同じです。求める重みを $w_j = p_T(y = j) / p_S(y = j)$ とすれば、次の式が成り立ちます。
#
# $$
# \underbrace{p_T(h = i)}_{\mu_i}
# = \sum_j p(h = i \mid y = j)\, p_T(y = j)
# = \sum_j \underbrace{p_S(h = i,\, y = j)}_{C_{ij}}\, w_j
# $$
#
# 右辺の $C$ は、ソースの側で測れます。左辺の $\mu$ は、ターゲットの予測を数えるだけです。どちらも標本の割合で置き換えます。
#
# $$
# \hat C_{ij} = \frac{1}{N} \sum_{k=1}^{N} \mathbf{1}[\hat y^S_k = i,\ y^S_k = j], \qquad
# \hat\mu_i = \frac{1}{M} \sum_{k=1}^{M} \mathbf{1}[\hat y^T_k = i], \qquad
# \hat C\, \hat w = \hat\mu
# $$
#
# 満たすべき条件は次のとおりです。
#
# - `source_predictions`と`source_labels`は長さ $N$、`target_predictions`は長さ $M$ の整数のNumPyの配列で、値は0以上`classes`未満とする
# - ソースの標本は、分類器の学習に使わなかったものとする（学習に使った標本では、$\hat C$ の対角が大きく出る）
# - $N$ と $M$ は違ってよい。ソースのラベルの割合は一様とは限らない。ターゲットでは、一度も予測されないクラスがあってよい
# - 分類器は正確でなくてよい。二つのクラスをいつも取り違える分類器でも、$\hat C$ に逆行列があれば推定できる。入力には、必ず逆行列がある
# - 返り値は、クラスの順に並べた長さ`classes`の1列（テンソル、配列、`list`のどれか）。連立一次方程式の解をそのまま返す
# - 解は負になることもある。0に切り上げたり、合計を1にそろえたりしない
# - 引数を書き換えない。`tlkit.adapt`の関数を呼ばずに、自分で計算する


# %%
def label_shift_weights(
    source_predictions: np.ndarray, source_labels: np.ndarray, target_predictions: np.ndarray, classes: int
) -> np.ndarray:
    """クラスごとの重みp_T(y)/p_S(y)の推定。予測とラベル (N,)、ターゲットの予測 (M,) → (C,)。"""
    ### BEGIN SOLUTION
    joint = np.zeros((classes, classes))  # 行が予測、列がラベル。全体の合計が1
    for i in range(classes):
        for j in range(classes):
            joint[i, j] = np.mean((source_predictions == i) & (source_labels == j))
    shares = [np.mean(target_predictions == i) for i in range(classes)]
    return np.linalg.solve(joint, shares)
    ### END SOLUTION


# %%
check("03-9", label_shift_weights)

# %% [markdown]
# ### 合格したら：推定した割合で、予測を直す
#
# 手書き数字で試します。ソースは、どの数字も同じ枚数です。ターゲットでは、0、1、2の合計の割合 $s$ を変えます。$s = 0.3$ なら、変化はありません。
# 分類器はロジスティック回帰で、$14 \times 14$ に縮めた画像を入力にします。混同 $\hat C$ は、学習に使わなかったソースの画像で測ります。
#
# 推定した重みで、予測の確率を直せます（Saerensほか、2002）。負の重みは、ここで0に切り上げます。
#
# $$
# \tilde p(y \mid x) = \frac{\hat w_y\, p_S(y \mid x)}{\sum_{y'} \hat w_{y'}\, p_S(y' \mid x)}
# $$
#
# この式は、$p_S(y \mid x)$ が正しい確率であることを求めます。そこで、正則化の強さが違う二つの分類器を比べます。
# 強い正則化の分類器は、どの画像でも確率が控えめになります。ソースの対数損失も、その分だけ大きくなります。
#
# 最後に、仮定を破ります。数字の割合は変えずに、画像だけをぼかします。$P(X \mid Y)$ が動くので、ラベルシフトではなく、共変量シフトに近い場面です。
#
# 予想を書き留めてから実行してください。割合の推定は、三つの場面のどこで外れるでしょうか。正解率は、いつも上がるでしょうか。


# %%
def shifted_rows(pool: np.ndarray, share: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """0、1、2の合計の割合がshareの、size枚の番号。pool (枚数, 10) は、列ごとに一つの数字の番号。"""
    few = round(size * share)
    parts = (pool[:, :3], few), (pool[:, 3:], size - few)
    return np.concatenate([rng.choice(part.ravel(), count, replace=False) for part, count in parts])


def prior_report(
    estimate: Callable,
    classifier: LogisticRegression,
    held: tuple[np.ndarray, np.ndarray],
    target: tuple[np.ndarray, np.ndarray],
) -> dict[str, float]:
    """割合の誤差（全変動距離）と、補正の前後の正解率。estimateは重みを推定する関数、held、targetは（画像, ラベル）。"""
    images, labels = target
    probabilities = classifier.predict_proba(images)
    predictions = probabilities.argmax(axis=1)
    weights = estimate(classifier.predict(held[0]), held[1], predictions, 10)
    weights = np.asarray(weights, dtype=float).clip(min=0)
    true, naive = (np.bincount(values, minlength=10) / len(values) for values in (labels, predictions))
    estimated = weights * np.bincount(held[1], minlength=10)
    return {
        "予測の割合": np.abs(naive - true).sum() / 2,
        "推定した割合": np.abs(estimated / estimated.sum() - true).sum() / 2,
        "補正前": (predictions == labels).mean(),
        "補正後": ((weights * probabilities).argmax(axis=1) == labels).mean(),
        "正しい割合で補正": ((probabilities * true).argmax(axis=1) == labels).mean(),
    }


def halved(images: torch.Tensor) -> np.ndarray:
    """14×14に縮めた画像。(N, 1, 28, 28) → (N, 196)。"""
    return torch.nn.functional.avg_pool2d(images, 2).flatten(1).numpy()


SHARES, BLURRED = [0.3, 0.5, 0.7, 0.9], "ぼかし"
REGULARIZERS = {"弱い正則化": 1.0, "強い正則化": 0.03}

if ready("03-9"):
    mnist = data.load("mnist5k")
    digits = mnist.labels.numpy()
    plain, blurred = halved(mnist.images), halved(torch.nn.functional.avg_pool2d(mnist.images, 7, stride=1, padding=3))
    found, log_losses = {}, {}  # （正則化, 場面, 測ったもの）→ 種の順の値
    for seed in range(10):
        rng = np.random.default_rng(seed)
        columns = np.stack([rng.permutation(np.flatnonzero(digits == digit)) for digit in range(10)], axis=1)
        train, held, pool = columns[:150].ravel(), columns[150:300].ravel(), columns[300:]
        targets = {share: (plain, shifted_rows(pool, share, 500, rng)) for share in SHARES}
        targets[BLURRED] = blurred, shifted_rows(pool, 0.3, 500, rng)
        for title, strength in REGULARIZERS.items():
            classifier = LogisticRegression(C=strength, max_iter=300).fit(plain[train], digits[train])
            log_losses.setdefault(title, []).append(log_loss(digits[held], classifier.predict_proba(plain[held])))
            for scene, (images, rows) in targets.items():
                sides = (plain[held], digits[held]), (images[rows], digits[rows])
                report = prior_report(label_shift_weights, classifier, *sides)
                for key, value in report.items():
                    found.setdefault((title, scene, key), []).append(value)

    gains = {
        (title, scene): mean_ci(np.subtract(found[title, scene, "補正後"], found[title, scene, "補正前"]))
        for title in REGULARIZERS
        for scene in [*SHARES, BLURRED]
    }
    for title in REGULARIZERS:
        print(f"{title}: ソースの対数損失 {mean_ci(log_losses[title])}")
        for scene in [*SHARES, BLURRED]:
            name = scene if scene == BLURRED else f"s = {scene}"
            before, oracle = (mean_ci(found[title, scene, key]).mean for key in ("補正前", "正しい割合で補正"))
            print(f"　{name}: 補正前の正解率 {before:.3f}、補正による差 {gains[title, scene]}", end="")
            print(f"、正しい割合で補正した正解率 {oracle:.3f}")

    errors = {
        (scene, key): mean_ci(found["弱い正則化", scene, key])
        for scene in [*SHARES, BLURRED]
        for key in ("予測の割合", "推定した割合")
    }
    fig, (left, right) = plot.subplots(1, 2, figsize=(7.8, 3.6))
    places = np.arange(len(SHARES) + 1)
    names = [*(f"{share}" for share in SHARES), BLURRED]
    for ax, series in (
        (left, [(key, [errors[scene, key] for scene in [*SHARES, BLURRED]]) for key in ("予測の割合", "推定した割合")]),
        (right, [(title, [gains[title, scene] for scene in [*SHARES, BLURRED]]) for title in REGULARIZERS]),
    ):
        for offset, marker, (label, intervals) in zip((-0.08, 0.08), "os", series, strict=True):
            middle, half = ([getattr(i, part) for i in intervals] for part in ("mean", "half"))
            ax.errorbar(places + offset, middle, half, marker=marker, linestyle="none", capsize=4, label=label)
        ax.set_xticks(places, names)
        ax.axvline(len(SHARES) - 0.5, color="black", linewidth=0.8, linestyle=":")
        ax.set_xlabel("0、1、2の割合 s（右端はぼかした画像）")
        ax.legend(fontsize=8)
    left.set_ylim(bottom=0)
    left.set_ylabel("真の割合との全変動距離")
    right.axhline(0, color="black", linewidth=0.8, linestyle="-")
    right.set_ylabel("補正による正解率の差")
    plot.show(
        fig,
        alt="左は、クラスの割合の誤差。ラベルシフトでは、推定した割合の誤差は小さいままで、割合が偏るほど予測の割合の誤差が大きくなる。"
        "ぼかした画像では、どちらの誤差もずっと大きい。右は、補正による正解率の差。弱い正則化では、s = 0.9で0より上にある。"
        "強い正則化では0より下の点が多い。ぼかした画像では、どちらの分類器も大きく下がる。",
    )
    largest = gains["弱い正則化", 0.9]
    assert largest.mean - largest.half > 0, "割合が大きく偏ったときの、補正の効果が確認できません"
    assert gains["強い正則化", 0.7].mean < -0.02, "確率が控えめな分類器で、補正による低下が確認できません"
    assert errors[0.9, "推定した割合"].mean < errors[0.9, "予測の割合"].mean, "混同による補正の効果が確認できません"
    assert errors[BLURRED, "推定した割合"].mean > 2 * errors[0.3, "推定した割合"].mean, "仮定の破れが確認できません"
    assert gains["弱い正則化", BLURRED].mean < -0.03, "仮定が破れたときの、正解率の低下が確認できません"

# %% [markdown]
# ラベルシフトでは、0、1、2の割合がどれだけ偏っても、割合の推定の誤差はほぼ変わりません。予測を数えただけの割合は、偏るほど真の割合から離れます。
# ただし、割合を正しく推定できても、正解率が上がるとは限りません。強い正則化では、**正しい割合で**補正しても下がることがあります。
# 確率が控えめすぎると、補正の式では割合のほうが効きすぎ、画像の情報が負けるからだと考えられます。
#
# 画像をぼかすと、クラスの割合は変わっていないのに、予測の割合が変わります。推定は、この変化をすべて「クラスの割合が変わった」と説明します。
# 誤った割合で補正するので、正解率は下がります。ターゲットのラベルがなければ、この二つの場面を、予測の割合だけからは見分けられません。
#
# **考えてみよう**：
#
# 1. 右の図で、区間が0をまたぐ場面はどれですか。そこでは、補正をすべきでしょうか。左の図の $s = 0.3$ では、どちらの割合の誤差が小さいですか。連立方程式を解くことの代償を考えてください。
# 2. 混同 $\hat C$ を、分類器の学習に使った画像で測ると、推定はどちらに偏るでしょうか。`held`を`train`に替えて確かめてください。
# 3. ドメイン識別器で特徴の分布をそろえる方法（DANN）を、ラベルシフトのあるデータに使うと、何が起きるでしょうか。特徴の分布 $P(Z)$ が等しくなるには、クラスの割合の違う二つの集まりを、どう重ねることになるかを考えてください。

# %% [markdown]
# ## 演習03-10 二つのローダーを、取りこぼさずに組にする
#
# <!-- exercise: 03-10 -->
#
# 教師なしドメイン適応の学習では、更新のたびに、ソースのバッチとターゲットのバッチを1個ずつ使います。次のループは、公開されているコードでよく見かけます。
#
# ```python
# for (xs, ys), (xt, _) in zip(source_loader, target_loader):
#     ...
# ```
#
# `zip`は、短いほうが尽きた所で止まります。警告は出ません。
# もう一つよく見かけるのが、短いほうを`itertools.cycle`で包む書き方です。`cycle`は、1周めに出てきたものを覚えておき、2周めからはそれをくり返します。
# ローダーの並べ替えも、データ拡張も、2周めからは働きません。覚えた分だけ、メモリも使います。
#
# 被害を測ります。枚数は、SVHNの訓練データと、ターゲット1,000枚に合わせました。中身は、行の番号と乱数です。乱数は、読むたびに変わるデータ拡張の代わりです。


# %%
class NumberedRows(Dataset):
    """i番めの要素が、（行の番号i, 読むたびに変わる乱数）のデータ。"""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.generator = count, torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> tuple[int, torch.Tensor]:
        if not 0 <= row < self.count:
            raise IndexError(row)
        return row, torch.rand((), generator=self.generator)


def numbered_loader(count: int, seed: int) -> DataLoader:
    """128行ずつの、並べ替えのあるローダー。"""
    rows = NumberedRows(count, seed)
    return DataLoader(rows, batch_size=128, shuffle=True, generator=torch.Generator().manual_seed(seed))


many, few = numbered_loader(73_257, 0), numbered_loader(1_000, 1)
used = torch.cat([rows for (rows, _), _ in zip(many, few, strict=False)])
zip_share = len(used) / len(many.dataset)
print(f"ソース{len(many)}バッチ、ターゲット{len(few)}バッチ。zipの1エポックで使ったソースは{zip_share:.1%}")

cycled = list(itertools.islice(itertools.cycle(few), 2 * len(few)))
first_round, second_round = cycled[: len(few)], cycled[len(few) :]
repeated = all(torch.equal(a[1], b[1]) for a, b in zip(first_round, second_round, strict=True))
print(f"cycleの2周めは、順も乱数も1周めと同じ: {repeated}")
assert zip_share < 0.02, "zipによる切り捨てが確認できません"
assert repeated, "cycleによる使い回しが確認できません"

# %% [markdown]
# この虫のない関数`pair_batches(source, target)`を書いてください。「ソースのバッチ、ターゲットのバッチ」の組を、順に返します。
#
# 満たすべき条件は次のとおりです。
#
# - `source`と`target`は、`len`と`for`が使えるローダー（`DataLoader`など）。添字は使えない。バッチの中身が何かは決めない
# - 組の数は、いつも`max(len(source), len(target))`とする。どちらが短い場合にも、長さが等しい場合にも働く
# - 長いほうは、渡された順に、1周をちょうど1回だけ使う
# - 短いほうは、最後まで取り出してから、ローダーの反復を新しく始める。取っておいたバッチを使い回さない
# - バッチは、必要になってから取り出す。ためておかない。組にしないバッチを取り出さない
# - バッチは、中身を変えず、渡されたものをそのまま組にする
# - どちらかが空（`len`が0）なら、`ValueError`を出す。呼んだときでも、最初の組を取り出すときでもよい
# - 返り値は、`for`で1周できるもの。ジェネレータ、イテレータ、`__iter__`のあるオブジェクトのどれでもよい。`tlkit.adapt`は使わない


# %%
def pair_batches(source: DataLoader, target: DataLoader) -> Iterator[tuple]:
    """（ソースのバッチ, ターゲットのバッチ）の組を、長いほうの1周分だけ順に返す。"""
    ### BEGIN SOLUTION
    if len(source) == 0 or len(target) == 0:
        raise ValueError("空のローダーは、組にできません。データの枚数とdrop_lastを確かめてください。")
    sources = itertools.chain.from_iterable(itertools.repeat(source))  # 尽きるたびに、新しい反復を始める
    targets = itertools.chain.from_iterable(itertools.repeat(target))
    for _ in range(max(len(source), len(target))):
        yield next(sources), next(targets)
    ### END SOLUTION


# %%
check("03-10", pair_batches)

# %% [markdown]
# ### 合格したら：切り捨ては、学習に何をするか
#
# ソースは手書き数字2,000枚（ラベルつき）、ターゲットは濃淡を半分にした数字100枚（ラベルなし）です。
# ターゲットの画像は、読むたびに上下左右へ2画素までずらします（データ拡張）。50枚ずつのバッチなので、40バッチと2バッチになります。
# 損失は、ソースの交差エントロピーと、中間の特徴のCORALの和です。次の五つを比べます。
#
# 1. `zip`、2エポック
# 2. `zip`、更新の回数を5とそろえる
# 3. `zip`、更新の回数を5とそろえる。ソースのローダーは並べ替えをしない（`shuffle=False`）
# 4. 短いほうを`cycle`、2エポック
# 5. `pair_batches`、2エポック
#
# 1と5の差には、「使ったソースが少ない」ことと「更新の回数が少ない」ことの、二つの原因が混ざっています。2と3は、この二つを分けるための対照です。
# 2と3の正解率は、1と5のどちらに近いでしょうか。理由とともに予想してから実行してください。


# %%
class ShiftedDigits(Dataset):
    """読むたびに、上下左右へ2画素までずらす画像。ラベルはない。"""

    def __init__(self, images: torch.Tensor, seed: int) -> None:
        self.images, self.generator = images, torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        shift = torch.randint(-2, 3, (2,), generator=self.generator).tolist()
        return torch.roll(self.images[row], shift, dims=(1, 2))


def zip_batches(source: DataLoader, target: DataLoader) -> Iterator[tuple]:
    """短いほうで止まる組（虫がいます）。"""
    return zip(source, target, strict=False)


def cycle_batches(source: DataLoader, target: DataLoader) -> Iterator[tuple]:
    """ターゲットのバッチを使い回す組（虫がいます）。"""
    return zip(source, itertools.cycle(target), strict=False)


def train_pairs(pairing: Callable, loaders: tuple[DataLoader, DataLoader], epochs: int, seed: int) -> tuple:
    """epochsエポック学習し、モデル、更新の回数、使ったソースの行、使ったターゲットの画像の種類の数を返す。"""
    torch.manual_seed(seed)
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 64), torch.nn.ReLU())
    head = torch.nn.Linear(64, 10)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=0.003)
    steps, rows_used, images_used = 0, set(), set()
    for _ in range(epochs):
        for (xs, ys, rows), xt in pairing(*loaders):
            features = body(xs)
            loss = torch.nn.functional.cross_entropy(head(features), ys) + losses.coral(features, body(xt))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            rows_used.update(rows.tolist())
            images_used.update(image.numpy().tobytes() for image in xt)
    return torch.nn.Sequential(body, head), steps, len(rows_used), len(images_used)


BUGGED = {  # 名前 → （組の作り方, エポック数, ソースを並べ替えるか）
    "zip": (zip_batches, 2, True),
    "zip、更新をそろえる": (zip_batches, 40, True),
    "zip、更新をそろえる、並べ替えなし": (zip_batches, 40, False),
    "cycle": (cycle_batches, 2, True),
}

if ready("03-10"):
    mnist = data.load("mnist5k")
    outcomes = {}  # （方法, 測ったもの）→ 種の順の値
    for seed in range(5):
        order = torch.randperm(len(mnist.labels), generator=torch.Generator().manual_seed(seed))
        train, held = order[:2000], order[2000:3000]
        faint = 0.5 * mnist.images
        for title, (pairing, epochs, shuffle) in {**BUGGED, "pair_batches": (pair_batches, 2, True)}.items():
            generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
            labelled = TensorDataset(mnist.images[train], mnist.labels[train], torch.arange(2000))
            loaders = (
                DataLoader(labelled, batch_size=50, shuffle=shuffle, generator=generators[0]),
                DataLoader(
                    ShiftedDigits(faint[order[3000:3100]], seed), batch_size=50, shuffle=True, generator=generators[1]
                ),
            )
            model, steps, rows_used, images_used = train_pairs(pairing, loaders, epochs, seed)
            with torch.inference_mode():
                scores = [
                    (model(images).argmax(dim=1) == mnist.labels[rows]).float().mean().item()
                    for images, rows in ((mnist.images[held], held), (faint[order[3100:4100]], order[3100:4100]))
                ]
            values = (steps, rows_used / 2000, images_used, *scores)
            for key, value in zip(
                ("更新", "ソース", "種類", "ソースの正解率", "ターゲットの正解率"), values, strict=True
            ):
                outcomes.setdefault((title, key), []).append(value)

    titles = [*BUGGED, "pair_batches"]
    for title in titles:
        steps, share, kinds = (np.mean(outcomes[title, key]) for key in ("更新", "ソース", "種類"))
        print(f"{title}: 更新{steps:.0f}回、使ったソース{share:.0%}、使ったターゲットの画像{kinds:.0f}種類", end="")
        print(f"、正解率 ソース {mean_ci(outcomes[title, 'ソースの正解率'])}", end="")
        print(f"、ターゲット {mean_ci(outcomes[title, 'ターゲットの正解率'])}")
    gaps = {
        (title, key): mean_ci(np.subtract(outcomes["pair_batches", key], outcomes[title, key]))
        for title in BUGGED
        for key in ("ソースの正解率", "ターゲットの正解率")
    }
    for (title, key), gap in gaps.items():
        print(f"{key}の差（pair_batches − {title}）: {gap}")

    fig, ax = plot.subplots(figsize=(7.2, 3.6))
    for offset, marker, key in ((-0.1, "o", "ソースの正解率"), (0.1, "s", "ターゲットの正解率")):
        intervals = [mean_ci(outcomes[title, key]) for title in titles]
        middle, half = ([getattr(i, part) for i in intervals] for part in ("mean", "half"))
        places = np.arange(len(titles)) + offset
        ax.errorbar(places, middle, half, marker=marker, linestyle="none", capsize=4, label=key)
    ax.set_xticks(range(len(titles)), [title.replace("、", "\n") for title in titles])
    ax.set_ylabel("正解率（平均と95%信頼区間）")
    ax.legend()
    plot.show(
        fig,
        alt="五つの組の作り方の、ソースとターゲットの正解率。zipを2エポックだけ使うと、どちらの正解率もはっきり低い。"
        "更新の回数をそろえたzip、cycle、pair_batchesの三つは、互いに近い。"
        "更新の回数をそろえ、ソースを並べ替えないzipは、その三つより低い。",
    )
    assert np.mean(outcomes["zip", "ソース"]) < 0.2 < np.mean(outcomes["pair_batches", "ソース"]) == 1.0
    assert np.mean(outcomes["cycle", "種類"]) < 0.5 * np.mean(outcomes["pair_batches", "種類"])
    assert gaps["zip", "ソースの正解率"].mean > 0.1, "同じエポック数での、切り捨ての被害が確認できません"
    assert abs(gaps["zip、更新をそろえる", "ソースの正解率"].mean) < 0.03, "更新の回数をそろえても、差が残りました"
    assert gaps["zip、更新をそろえる、並べ替えなし", "ソースの正解率"].mean > 0.05, (
        "並べ替えのないときの被害が確認できません"
    )

# %% [markdown]
# 同じエポック数で比べると、`zip`の被害は大きく見えます。しかし、更新の回数をそろえ、ソースを並べ替えていれば、差はほとんどなくなりました。
# エポックごとに違うバッチが切り捨てられるので、続ければ、ほとんどの行がいつかは使われるからです。つまり、1との差のほとんどは、更新の回数の差です。
# 並べ替えがないと、話が変わります。いつも同じ行が切り捨てられるので、更新の回数をそろえても、正解率は下がったままです。
#
# `cycle`で減ったのは、使ったターゲットの画像の種類です。この小さな実験では、正解率の差としては現れませんでした。差が出ないことを確かめたのではなく、
# この枚数と種の数では測れなかっただけです。区間の幅を見てください。
#
# それでも直すべき理由は、「1エポック」の意味が黙って変わることです。エポック数で決めた学習率や $\lambda$ の予定は、`zip`ではずっと早く終わります。
#
# **考えてみよう**：
#
# 1. 初めに測った、SVHNの枚数のローダーを考えます。`zip`を何エポック続ければ、`pair_batches`の1エポックと更新の回数がそろいますか。
# 2. ターゲットのほうが長いときに`zip`を使うと、何が切り捨てられますか。ソースの正解率だけを見ていて、その虫に気づけるでしょうか。
# 3. `pair_batches`では、短いほうの画像が、長いほうより何倍も多く使われます。ターゲットが100枚だけのとき、何を心配すべきでしょうか。
