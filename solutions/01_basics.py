# %% [markdown]
# # 第1章の演習 転移学習の基礎
#
# 上から順に実行してください。答えを書くのは`raise NotImplementedError`のある所です。
# 書いたら、すぐ下の確認セルを実行します。書く前に実行しても、「⏳ 未着手」と表示されるだけで止まりません。

# %%
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from tlkit import data, losses, plot, transferability
from tlkit.course import check, hint, ready
from tlkit.models import EfficientNetLite0, imagenet_input
from tlkit.results import load as load_results
from tlkit.sources import load_source, sources
from tlkit.stats import mean_ci

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

# %% [markdown]
# ## 演習01-2 LEEPを書く
#
# <!-- exercise: 01-2 -->
#
# 学習済みのモデル（ソースのモデル）が、自分の課題に向いているかを、学習をせずに見積もります。
# ターゲットの画像 $i$ にソースのモデルを適用すると、ソースのクラス $z$ の確率 $\theta_{iz}$ が得られます。画像のラベルは $y_i$ です。
# まず、ソースのクラス $z$ とラベル $y$ が一緒に現れる確率と、$z$ のときに $y$ が現れる確率を、$N$ 枚の画像から数えます。
#
# $$
# \hat{P}(y, z) = \frac{1}{N} \sum_{i:\, y_i = y} \theta_{iz}, \qquad
# \hat{P}(z) = \sum_y \hat{P}(y, z), \qquad
# \hat{P}(y \mid z) = \frac{\hat{P}(y, z)}{\hat{P}(z)}
# $$
#
# 次に、ソースのクラスを仲立ちにして正しいラベルの確率を求め、その対数を平均します。
#
# $$
# \mathrm{LEEP} = \frac{1}{N} \sum_{i=1}^{N} \log \sum_z \hat{P}(y_i \mid z)\, \theta_{iz}
# $$
#
# 満たすべき条件は次のとおりです。
#
# - 入力`source_probs`は`(N, Z)`のNumPy配列で、各行の和は1。`labels`は`(N,)`の0以上の整数で、現れない番号があってもよい
# - 返り値は一つの数で、対数は自然対数
# - どの画像でも確率が0のソースのクラス（$\hat{P}(z) = 0$）は除く。値がNaNになってはいけない
# - 引数を書き換えない
# - `tlkit.transferability`の関数を呼ばずに、自分で計算する


# %%
def leep(source_probs: np.ndarray, labels: np.ndarray) -> float:
    """LEEP。source_probs (N, Z), labels (N,) → 0以下の数。"""
    ### BEGIN SOLUTION
    classes, index = np.unique(labels, return_inverse=True)
    joint = np.stack([source_probs[index == c].sum(axis=0) for c in range(len(classes))])  # (C, Z)。N·P(y, z)
    used = joint.sum(axis=0) > 0
    conditional = joint[:, used] / joint[:, used].sum(axis=0)  # N は約分されて消える
    likelihood = (conditional[index] * source_probs[:, used]).sum(axis=1)  # (N,)
    return float(np.log(likelihood).mean())
    ### END SOLUTION


# %%
check("01-2", leep)

# %% [markdown]
# ### 合格したら：ラベルを並べ替えて、LEEPの値を読む
#
# ImageNetで学習したネットワークを、「切り抜きがどの写真から来たか」を当てる課題に使います。
# 9枚の写真から切り抜きを取り、1,000クラスの確率を求めます。写真の番号がラベルです。
#
# 比べる相手は、ラベルの並べ替えです。並べ替えたラベルは画像と無関係なので、どんなモデルでも当てられません。
# 何も分からないときのLEEPは $-\log 9$ です。並べ替えた値は、この近くに来るでしょうか。予想してから実行してください。


# %%
def crops_of_photos(per_photo: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """写真から正方形を切り抜く。画像 (N, 3, 96, 96) と、元の写真の番号 (N,) を返す。"""
    g = np.random.default_rng([seed, per_photo])
    crops, origins = [], []
    for origin, photo in enumerate(data.photos()):
        height, width, _ = photo.image.shape
        side = min(height, width) // 3
        for _ in range(per_photo):
            top, left = g.integers(height - side), g.integers(width - side)
            crops.append(imagenet_input(photo.image[top : top + side, left : left + side], size=96))
            origins.append(origin)
    return torch.stack(crops), np.array(origins)


imagenet = EfficientNetLite0(weights="default").eval()
photo_crops, photo_labels = crops_of_photos(per_photo=16, seed=0)
with torch.inference_mode():
    crop_probs = torch.cat([imagenet(part).softmax(dim=1) for part in photo_crops.split(24)]).double().numpy()

if ready("01-2"):
    rng = np.random.default_rng(0)
    counts = [2, 4, 8, 16]
    real, permuted = [], []
    for count in counts:
        rows = np.arange(len(photo_labels)) % 16 < count  # 写真ごとに count 枚
        real.append(leep(crop_probs[rows], photo_labels[rows]))
        permuted.append([leep(crop_probs[rows], rng.permutation(photo_labels[rows])) for _ in range(20)])
    assert real[-1] - max(permuted[-1]) > 0.3, "正しいラベルと並べ替えたラベルの差が確認できません"
    assert min(permuted[-1]) > -np.log(9) + 0.3, "並べ替えたラベルのLEEPが、何も分からないときの値まで下がりました"

    fig, ax = plot.subplots()
    ax.plot(counts, real, marker="o", label="正しいラベル")
    ax.plot(counts, np.mean(permuted, axis=1), marker="s", label="並べ替えたラベル（20回の平均）")
    ax.fill_between(counts, np.min(permuted, axis=1), np.max(permuted, axis=1), color=plot.COLORS[1], alpha=0.2)
    ax.axhline(-np.log(9), color="black", linestyle=":", label="−log 9")
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.set_xlabel("写真1枚あたりの切り抜きの数")
    ax.set_ylabel("LEEP")
    ax.legend()
    plot.show(
        fig,
        alt="切り抜きの数に対するLEEPの折れ線グラフ。正しいラベルのLEEPは、0の近くにとどまる。"
        "並べ替えたラベルのLEEPは、切り抜きが少ないときは0に近く、増えるにつれて下がるが、−log 9 よりは大きい。",
    )

# %% [markdown]
# **考えてみよう**：並べ替えたラベルなのに、LEEPが $-\log 9$ より大きくなりました。$\hat{P}(y \mid z)$ を数えた画像と、対数尤度を測った画像の関係に注目して、理由を説明してください。切り抜きが少ないときや、ソースのクラスが多いときに、この差はどうなりますか。

# %% [markdown]
# ## 演習01-3 特徴をキャッシュする
#
# <!-- exercise: 01-3 -->
#
# 学習済みの特徴抽出器を凍結し、最後の線形層だけを学習する方法を**線形プローブ**（linear probing）と呼びます。
# 特徴抽出器は変わらないので、同じ画像の特徴は何度計算しても同じです。そこで、一度だけ計算して取っておきます。
#
# $$
# f_i = \phi(x_i) \quad (i = 1, \dots, N), \qquad
# \min_{W, b} \; \frac{1}{N} \sum_{i=1}^{N} \ell(W f_i + b,\; y_i)
# $$
#
# $\phi$ が特徴抽出器です。学習するのは $W$ と $b$ だけで、$f_i$ は学習の間ずっと変わりません。
# この $f_i$ と $y_i$ を集める関数を書いてください。特徴は`model.features(x)`で計算します。
#
# 満たすべき条件は次のとおりです。
#
# - `loader`は`(画像, ラベル)`のバッチを返す。返り値は特徴`(N, D)`とラベル`(N,)`の二つのテンソルで、行はローダーの返した順に並ぶ
# - 枚数の少ない最後のバッチも含める。ローダーは、回すたびに並べ替えることがある
# - 評価モードで計算する。BatchNormの移動統計を動かさず、Dropoutを止める。バッチの大きさで特徴が変わってはいけない
# - 特徴の`requires_grad`は`False`。ただし、そのまま線形層の学習に使えること
# - 呼んだ後のモデルは、呼ぶ前と同じ状態に戻す。学習モードか評価モードかは、部品ごとに戻す


# %%
def cache_features(model: torch.nn.Module, loader: DataLoader) -> tuple[torch.Tensor, torch.Tensor]:
    """特徴 (N, D) とラベル (N,) を、ローダーの順に集める。"""
    ### BEGIN SOLUTION
    modes = {module: module.training for module in model.modules()}  # 部品ごとのモード
    model.eval()
    features, labels = [], []
    with torch.no_grad():
        for x, y in loader:
            features.append(model.features(x))
            labels.append(y)
        cached = torch.cat(features), torch.cat(labels)
    for module, training in modes.items():
        module.training = training
    return cached
    ### END SOLUTION


# %%
check("01-3", cache_features)

# %% [markdown]
# ### 合格したら：キャッシュしても、学習の結果は変わらないか
#
# 演習01-2の切り抜きで、線形プローブを二通りに学習します。
#
# 1. キャッシュなし：エポックのたびに、すべての切り抜きをネットワークに通す
# 2. キャッシュあり：`cache_features`で一度だけ通し、あとは特徴だけを使う
#
# バッチの順と線形層の初期値はそろえます。結果の重みはどれだけ違うでしょうか。ネットワークに通す画像の数は何倍違うでしょうか。


# %%
def train_head(feature_batches: Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]) -> torch.nn.Linear:
    """線形層だけを学習する。feature_batchesは、1エポック分の（特徴, ラベル）を返す関数。"""
    torch.manual_seed(0)
    head = torch.nn.Linear(imagenet.num_features, 9)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(EPOCHS):
        for feature, target in feature_batches():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head(feature), target).backward()
            optimizer.step()
    return head


EPOCHS = 5
crop_set = TensorDataset(photo_crops, torch.from_numpy(photo_labels))
crop_order = torch.randperm(len(crop_set), generator=torch.Generator().manual_seed(0))  # どのエポックも同じ順
crop_loader = DataLoader(crop_set, batch_size=32, sampler=crop_order.tolist())
passed = 0  # ネットワークに通した画像の数


def count_images(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    global passed
    passed += len(inputs[0])


def uncached() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for image, target in crop_loader:
        with torch.no_grad():
            feature = imagenet.features(image)
        yield feature, target


if ready("01-3"):
    counter = imagenet.stem.register_forward_pre_hook(count_images)
    start = perf_counter()
    slow_head = train_head(uncached)
    slow_seconds, slow_images, passed = perf_counter() - start, passed, 0

    start = perf_counter()
    crop_features, crop_targets = cache_features(imagenet, crop_loader)
    fast_head = train_head(lambda: zip(crop_features.split(32), crop_targets.split(32), strict=True))
    fast_seconds, fast_images = perf_counter() - start, passed
    counter.remove()

    gap = (slow_head.weight - fast_head.weight).abs().max().item()
    print(f"重みの差の最大 {gap:.0e}")
    print(f"通した画像の数 {slow_images} 対 {fast_images}（{slow_images / fast_images:.0f}倍）")
    assert gap < 1e-5, "キャッシュの有無で、学習した重みが変わりました"
    assert slow_seconds / fast_seconds > 1.5, "キャッシュしても速くなっていません"

# %% [markdown]
# エポックを増やすほど、差は開きます。キャッシュありで増えるのは、線形層の計算だけだからです。
# セルの最後の`assert`は、かかった時間も比べています。
#
# **考えてみよう**：学習のたびに画像をランダムに左右反転したいとします。この関数で集めた特徴をそのまま使うと、何が起きますか。データ拡張とキャッシュを両立させるには、どうすればよいでしょうか。

# %% [markdown]
# ## 演習01-4 プロキシA距離を書く
#
# <!-- exercise: 01-4 -->
#
# 二つのドメインの違いを、「見分けられる度合い」で測ります。
# ソースとターゲットを見分ける線形の識別器を学習し、学習に使わなかった標本での誤り率を $\varepsilon$ とします。
#
# $$
# \varepsilon = \frac{1}{2} (\varepsilon_S + \varepsilon_T), \qquad \hat{d}_A = 2 (1 - 2 \varepsilon)
# $$
#
# $\varepsilon_S$ はソースの標本を「ターゲット」と答えた割合、$\varepsilon_T$ はターゲットの標本を「ソース」と答えた割合です。
# 見分けられなければ $\varepsilon$ は1/2に近く、距離は0に近くなります。完全に見分けられれば、距離は2です。
#
# 満たすべき条件は次のとおりです。
#
# - 入力`source`は`(N, D)`、`target`は`(M, D)`のNumPy配列で、$N \neq M$ でもよい。返り値は一つの数
# - ドメインごとに、`seed`で決まる並べ替えをしてから半分に分ける。前半で学習し、後半だけで誤り率を測る
# - 識別器は線形とする（scikit-learnの`LogisticRegression`を使ってよい）
# - 件数の多いほうのドメインに引っ張られない。識別器の学習と誤り率の計算のどちらでも、二つのドメインを同じ重みで扱う
# - 同じ`seed`なら同じ値になる。偶然より悪く見分けたときは、負の値をそのまま返す
# - 引数を書き換えない


# %%
def proxy_a_distance(source: np.ndarray, target: np.ndarray, seed: int) -> float:
    """プロキシA距離。source (N, D), target (M, D) → −2以上2以下の数。"""
    ### BEGIN SOLUTION
    shuffler = np.random.default_rng(seed)
    train, test = [], []
    for z in (source, target):
        order, half = shuffler.permutation(len(z)), len(z) // 2
        train.append(z[order[:half]])
        test.append(z[order[half:]])
    domains = np.repeat([0, 1], [len(z) for z in train])
    classifier = LogisticRegression(class_weight="balanced").fit(np.concatenate(train), domains)
    errors = [np.mean(classifier.predict(z) != domain) for domain, z in enumerate(test)]
    return float(2 * (1 - 2 * np.mean(errors)))
    ### END SOLUTION


# %%
check("01-4", proxy_a_distance)

# %% [markdown]
# ### 合格したら：標本の数を変えて、MNISTとUCIの距離を測る
#
# MNISTどうしと、MNISTとUCIのプロキシA距離を、標本の数を変えながら測ります。特徴は画素そのものです。
# 標本の取り方と分け方を変えて、それぞれ20回くり返します。比べるために、学習に使った標本で測った値も並べます。
#
# MNISTどうしは同じ分布です。三つの値のうち、0に近くなるのはどれでしょうか。


# %%
def error_on_training_data(first_domain: np.ndarray, second_domain: np.ndarray) -> float:
    """学習に使った標本での誤り率（こう測ってはいけない例）。"""
    both = np.concatenate([first_domain, second_domain])
    numbers = np.arange(len(both)) >= len(first_domain)
    return 1 - LogisticRegression().fit(both, numbers).score(both, numbers)


if ready("01-4"):
    pixels = {name: data.load(name).images.flatten(1).numpy() for name in ("mnist5k", "uci_digits")}
    counts = [20, 50, 100, 200]
    curves = {"MNISTどうし": [], "MNISTとUCI": [], "MNISTどうし（学習に使った標本で測定）": []}
    for count in counts:
        trials = {name: [] for name in curves}
        for seed in range(20):
            drawn = np.random.default_rng([seed, count])  # 分け方とは別の乱数
            mnist_a, mnist_b = np.split(drawn.choice(pixels["mnist5k"], 2 * count, replace=False), 2)
            uci = drawn.choice(pixels["uci_digits"], count, replace=False)
            values = (
                proxy_a_distance(mnist_a, mnist_b, seed),
                proxy_a_distance(mnist_a, uci, seed),
                2 - 4 * error_on_training_data(mnist_a, mnist_b),
            )
            for name, value in zip(trials, values, strict=True):
                trials[name].append(value)
        for name, values in trials.items():
            curves[name].append(mean_ci(values))
    for name, results in curves.items():
        print(f"{name}: 各{counts[-1]}枚で {results[-1]}")
    same, different, cheated = (results[-1] for results in curves.values())
    assert abs(same.mean) < 0.3 < different.mean - different.half, "MNISTとUCIの違いが確認できません"
    assert cheated.mean > 1, "学習に使った標本での過大な値が確認できません"

    fig, ax = plot.subplots()
    for name, results in curves.items():
        ax.errorbar(counts, [r.mean for r in results], [r.half for r in results], marker="o", capsize=4, label=name)
    ax.set_xscale("log")
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.minorticks_off()
    ax.set_xlabel("各ドメインの標本の数")
    ax.set_ylabel("プロキシA距離（平均と95%信頼区間）")
    ax.legend(loc="center right")
    plot.show(
        fig,
        alt="標本の数に対するプロキシA距離の折れ線グラフ。MNISTどうしは、どの数でも0の近く。"
        "MNISTとUCIは、標本が増えるにつれて大きくなる。学習に使った標本で測ると、MNISTどうしでも2の近くになる。",
    )

# %% [markdown]
# **考えてみよう**：MNISTとUCIは、よく見分けられました。では、MNISTからUCIへの転移は無駄でしょうか。識別器が見ているものと、数字を見分けるのに要るものは、同じとは限りません。プロキシA距離が大きくても転移がうまくいく例を、一つ考えてください。

# %% [markdown]
# ## 演習01-5 並び順に頼る点数を見つける
#
# <!-- exercise: 01-5 -->
#
# 転移学習がうまくいきそうかを、学習の前に見積もる点数を**転移可能性の指標**と呼びます。
# 次の関数も、そのつもりで書かれたものです。ソースとターゲットの特徴を1列に並べて順位相関を求め、平均のずれを少し引いています。
# もっともらしく見えますが、使ってはいけません。


# %%
def naive_score(source: torch.Tensor, target: torch.Tensor) -> float:
    """素朴な点数。source (N, D), target (N, D) → 大きいほど「似ている」とする数。"""
    rho = stats.spearmanr(source.flatten().numpy(), target.flatten().numpy()).statistic
    mean_gap = (source.mean(dim=0) - target.mean(dim=0)).square().sum().item()
    return float(rho - 0.1 * mean_gap)


# %% [markdown]
# どこがおかしいのかを、コードを読むだけでなく、動かして示します。
# ソースの $i$ 行目とターゲットの $i$ 行目は、たまたま同じ番号になっただけの、別々の標本です。
# だから、**行をどう並べ替えても、点数は変わってはいけません**。
#
# この性質を試す関数`pairing_gap`を書いてください。番号の並べ替えを $\pi_r$（ソース用）と $\tau_r$（ターゲット用）とすると、返すのは次の値です。
#
# $$
# s_0 = \mathrm{score}(X, Y), \qquad
# \mathrm{gap} = \max_{r = 1, \dots, R} \max\left( \left| \mathrm{score}(X_{\pi_r}, Y) - s_0 \right|,\ \left| \mathrm{score}(X, Y_{\tau_r}) - s_0 \right| \right)
# $$
#
# 満たすべき条件は次のとおりです。
#
# - `source`は`(N, D)`、`target`は`(M, D)`のテンソルで、$N \neq M$ でもよい（$N, M \geq 2$）
# - 並べ替えるのは行である。行の中身は変えない
# - ソースだけ、ターゲットだけを、それぞれ`repeats`回ずつ並べ替える
# - 並べ替えは`seed`だけで決まる。共有の乱数（`torch.manual_seed`など）は使わない
# - `score`は`(source, target)`の順で呼ぶ。返すのは数か0次元のテンソルである
# - 返り値は`float`で、引数を書き換えない


# %%
def pairing_gap(
    score: Callable[[torch.Tensor, torch.Tensor], float | torch.Tensor],
    source: torch.Tensor,
    target: torch.Tensor,
    seed: int,
    repeats: int = 20,
) -> float:
    """行の並べ替えで点数が動く幅。score(source, target) → 数。source (N, D), target (M, D)。"""
    ### BEGIN SOLUTION
    rng = np.random.default_rng(seed)
    original = score(source, target)
    values = []
    for _ in range(repeats):
        shuffled_source = source[rng.permutation(len(source))]
        shuffled_target = target[rng.permutation(len(target))]
        values.append(score(shuffled_source, target))
        values.append(score(source, shuffled_target))
    return float(max(abs(value - original) for value in values))
    ### END SOLUTION


# %%
check("01-5", pairing_gap)

# %% [markdown]
# ### 合格したら：素朴な点数を試す
#
# MNISTの500枚を選び、**まったく同じ500枚どうし**を比べます。同じ集まりなので、点数は最高になるはずです。
# 次に、片方の行だけを並べ替えます。集まりとしては同じなので、点数は変わらないはずです。
#
# 表現は二つ試します。画素そのものと、画素から平均を引いて求めた主成分の得点です。

# %%
if ready("01-5"):
    g = torch.Generator().manual_seed(0)
    images = data.load("mnist5k").images.flatten(1)
    pixels = images[torch.randperm(len(images), generator=g)[:500]]
    centered = pixels - pixels.mean(dim=0)
    components = centered @ torch.linalg.svd(centered, full_matrices=False).Vh[:30].T  # (500, 30)
    order = torch.randperm(len(pixels), generator=g)

    gaps = {}
    for name, features in {"画素": pixels, "主成分の得点": components}.items():
        before, after = (round(naive_score(features, other), 2) + 0.0 for other in (features, features[order]))
        print(f"{name}：もとの並び {before:.2f}、片方の並べ替え後 {after:.2f}")
        for title, score in {"素朴な点数": naive_score, "MMD²": losses.mmd2}.items():
            gaps[name, title] = pairing_gap(score, features, features, seed=0)
            print(f"　{title}の幅: {gaps[name, title]:.4f}")
    assert all(gaps[name, "素朴な点数"] > 0.5 and gaps[name, "MMD²"] < 1e-4 for name in ("画素", "主成分の得点"))

# %% [markdown]
# 主成分の得点では、並べ替えただけで、満点からほぼ0まで落ちます。点数が見ていたのは、データの性質ではなく、行の並びの偶然です。
# 一方、MMD²は行の並びによりません。丸め誤差を除けば、差は0です。
#
# **考えてみよう**：画素では、並べ替えても0までは落ちません。しかし、残った値も「似ている証拠」ではありません。どの画像でも、縁は黒く、中央は明るくなりがちです。
# この共通の傾向だけで順位相関が正になることを、平均を引いた特徴と見比べて説明してください。

# %% [markdown]
# ## 演習01-6 転移の曲線を読む
#
# <!-- exercise: 01-6 -->
#
# 事前学習の効果は、ターゲットの画像が増えるほど小さくなるのがふつうです。では、何枚あれば、事前学習は要らなくなるのでしょうか。
# この問いには、一度きりの実験では答えられません。選ばれた画像や初期値の偶然で、正解率が上下するからです。
#
# そこで、種を変えて $K$ 回ずつ実験します。枚数ごとに、種 $k$ の正解率の差 $d_k$ から、差の平均の95%信頼区間を求めます。
#
# $$
# d_k = \mathrm{acc}^{\mathrm{pretrained}}_k - \mathrm{acc}^{\mathrm{scratch}}_k, \qquad
# \bar{d} \pm t_{0.975,\, K-1} \frac{s}{\sqrt{K}}, \qquad
# s^2 = \frac{1}{K - 1} \sum_{k=1}^{K} (d_k - \bar{d})^2
# $$
#
# 区間の下端が0より大きければ、その枚数では「利得がある」とします。
# **利得のない枚数のうち、それより大きい枚数でもずっと利得がないような、最小の枚数**を返す関数を書いてください。
#
# 満たすべき条件は次のとおりです。
#
# - `sizes`は枚数`(S,)`、`pretrained`と`scratch`は正解率`(S, K)`で、どれもNumPyの配列である。同じ列は同じ種である
# - 枚数は小さい順に並んでいるとは限らない
# - 途中で利得が消えても、より大きい枚数で戻るなら、まだ消えたことにしない
# - 下端がちょうど0なら、利得はない。差がどの種でも等しい（$s = 0$）ときも動く
# - 最大の枚数でも利得があれば、`None`を返す
# - 引数を書き換えない。`tlkit.stats`を使わずに、自分で計算する（`scipy.stats.t.ppf`は使ってよい）


# %%
def crossover(sizes: np.ndarray, pretrained: np.ndarray, scratch: np.ndarray) -> int | None:
    """事前学習の利得が消える枚数。sizes (S,), pretrained (S, K), scratch (S, K)。"""
    ### BEGIN SOLUTION
    order = np.argsort(-sizes)  # 枚数の大きい順
    gain = (pretrained - scratch)[order]  # (S, K)
    seeds = gain.shape[1]
    half = stats.t.ppf(0.975, seeds - 1) * gain.std(axis=1, ddof=1) / np.sqrt(seeds)  # (S,)
    found = None
    for size, low in zip(sizes[order], gain.mean(axis=1) - half, strict=True):
        if low > 0:
            break
        found = int(size)
    return found
    ### END SOLUTION


# %%
check("01-6", crossover)

# %% [markdown]
# ### 合格したら：本物の曲線を読む
#
# フォントの英字で事前学習したCNNを、手書き数字に転移した実験の記録を読みます。
# 対照は、同じ構造を乱数から学習したものです。どちらの側にも、画像に変形を加えて学習した場合があります。
# 比べ方は三通りあります。変形なしどうし、変形の有無が違う組、変形ありどうしです。
#
# 実行する前に、予想を書き留めてください。利得は、何枚あれば消えるでしょうか。

# %%
if ready("01-6"):
    record = load_results("01_data_amount")
    sizes = np.array(sorted({row["n"] for row in record.rows}))

    def accuracies(method: str) -> np.ndarray:
        """手法の正解率 (S, K)。列は種の順。"""
        return np.array(
            [[record.by_seed("accuracy", n=n, method=method)[k] for k in record.seeds] for n in sizes.tolist()]
        )

    names = {
        "finetune": "事前学習あり",
        "scratch": "乱数から",
        "finetune_augment": "事前学習あり（変形つき）",
        "scratch_augment": "乱数から（変形つき）",
    }
    curves = {method: accuracies(method) for method in names}
    pairs = [("finetune", "scratch"), ("finetune", "scratch_augment"), ("finetune_augment", "scratch_augment")]
    for ours, control in pairs:
        found = crossover(sizes, curves[ours], curves[control])
        print(f"{names[ours]} と {names[control]}: 利得が消える枚数は {found or f'{sizes[-1]}枚までにはない'}")

    fig, ax = plot.subplots()
    for method, values in curves.items():
        intervals = [mean_ci(row) for row in values]
        ax.errorbar(
            sizes, [i.mean for i in intervals], [i.half for i in intervals], marker="o", capsize=4, label=names[method]
        )
    ax.set_xscale("log")
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    ax.set_xlabel("ターゲットの画像の枚数")
    ax.set_ylabel("正解率（平均と95%信頼区間）")
    ax.legend(loc="lower right")
    plot.show(
        fig,
        alt="ターゲットの画像の枚数に対する正解率の折れ線グラフ。事前学習ありと乱数からを、変形なしと変形つきで比べる。"
        "変形の有無をそろえると、枚数が少ないほど事前学習ありが上回る。枚数が増えると、四つの線の間隔は狭くなる。",
    )

# %% [markdown]
# **考えてみよう**：
#
# 1. 対照を「変形つき」に替えると、利得の大きさや消える枚数は変わりましたか。事前学習の効果だと思っていたもののうち、変形の効果だった部分を読み取ってください。
# 2. 「利得が消えた」からといって、「二つの方法が同じ」とは言えません。種の数 $K$ を増やしたときに、区間の幅と答えがどう変わるかを予想してください。

# %% [markdown]
# ## 演習01-7 研究課題：転移元を選ぶ
#
# <!-- exercise: 01-7 -->
#
# 転移元の候補がいくつもあるとき、どれを選べばよいでしょうか。すべてを試す代わりに、転移可能性の指標で選べたら便利です。
# ただし、指標が役に立つかどうかは、**指標の順位**と**実測した正解率の順位**を見比べるまで分かりません。
#
# この見比べを数にする関数を書いてください。転移元が $n$ 個あり、点数が $s_1, \dots, s_n$、正解率が $a_1, \dots, a_n$ のとき、次の四つを返します。
#
# 1. スピアマンの順位相関 $\rho$。同点には平均の順位をつける
# 2. $\rho$ の95%信頼区間の下端
# 3. $\rho$ の95%信頼区間の上端
# 4. 帰無分布の半幅 $1.96 / \sqrt{n - 1}$
#
# 区間は**ブートストラップ**で求めます。$(s_i, a_i)$ の組を、重複を許して $n$ 個引き直し、その中で順位をつけ直して $\rho$ を求めます。
# これを`resamples`回くり返し、得られた $\rho$ の2.5%点と97.5%点を両端とします。
# 引き直した点数や正解率がすべて同じになったら、$\rho$ を定義できません。その引き直しは捨てます。
#
# 帰無分布とは、点数が正解率と無関係なときの $\rho$ の分布です。順位をでたらめに並べたとき、$\rho$ の平均は0、標準偏差はちょうど $1/\sqrt{n-1}$ です。
# そこで、この演習では正規分布で近似し、$\pm 1.96/\sqrt{n-1}$ を「偶然でも起きる範囲」の目安とします。
#
# 満たすべき条件は次のとおりです。
#
# - `scores`と`accuracies`は`(n,)`のNumPyの配列で、$n \geq 2$ である
# - 引き直しは`seed`だけで決まる。共有の乱数は使わない
# - `scipy.stats`の関数は使ってよい。引数を書き換えない


# %%
def rank_agreement(
    scores: np.ndarray, accuracies: np.ndarray, seed: int, resamples: int = 2000
) -> tuple[float, float, float, float]:
    """順位相関、95%区間の下端と上端、帰無分布の半幅。scores (n,), accuracies (n,)。"""
    ### BEGIN SOLUTION
    n = len(scores)

    def spearman(rows: np.ndarray) -> np.ndarray:
        # rows (B, n) の番号で引き直した順位相関。定義できないものは除く
        a = stats.rankdata(scores[rows], axis=1) - (n + 1) / 2  # 順位の平均は (n + 1) / 2
        b = stats.rankdata(accuracies[rows], axis=1) - (n + 1) / 2
        scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
        return (a * b).sum(axis=1)[scale > 0] / scale[scale > 0]

    rng = np.random.default_rng(seed)
    draws = spearman(rng.integers(n, size=(resamples, n)))
    low, high = np.percentile(draws, [2.5, 97.5])
    return spearman(np.arange(n)[None]).item(), low, high, 1.96 / np.sqrt(n - 1)
    ### END SOLUTION


# %%
check("01-7", rank_agreement)

# %% [markdown]
# ### 合格したら：点数で選び、それから測る
#
# 転移元の候補は、写真（`imagenet`）、フォントの英字（`glyphs`）、別の手書き数字（`uci`）、学習していない乱数の重み（`random`）です。
# ターゲットは三つ用意します。MNIST、UCIの手書き数字、写真の切り抜き（どの写真から来たかを当てる課題）です。
#
# `uci`の重みはUCIの画像で学習したので、ターゲットがUCIのときは候補から外します。外さないと、答えを見てから試験を受けることになります。
#
# **順番を守ってください**。先に点数だけを見て、選ぶ転移元を書き留めます。正解率を測るのは、その後です。
# 順番を逆にすると、測った結果に合う指標を選べてしまい、指標が役に立つかどうかを確かめたことになりません。
#
# まず、各ターゲットから400枚を取り、特徴を一度だけ計算しておきます。初めの100枚は点数に、残りの300枚は測定に使います。


# %%
def photo_crops(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """写真から96×96画素を切り抜く。画像 (N, 3, 96, 96) と、元の写真の番号 (N,) を返す。"""
    draw = np.random.default_rng(seed)
    originals = [photo.image for photo in data.photos()]
    origins = draw.integers(len(originals), size=count)
    crops = []
    for origin in origins:
        height, width, _ = originals[origin].shape
        top, left = draw.integers(height - 95), draw.integers(width - 95)
        crops.append(torch.tensor(originals[origin][top : top + 96, left : left + 96] / 255).float().permute(2, 0, 1))
    return torch.stack(crops), torch.from_numpy(origins)


if ready("01-7"):
    g = torch.Generator().manual_seed(0)
    targets = {"写真の切り抜き": photo_crops(400, seed=0)}
    for title, name in (("MNIST", "mnist5k"), ("UCI", "uci_digits")):
        digits = data.load(name)
        chosen = torch.randperm(len(digits.labels), generator=g)[:400]
        targets[title] = digits.images[chosen], digits.labels[chosen]

    candidates = {name: load_source(name) for name in sources()}
    cached = {
        (target, name): source.features(images)
        for target, (images, _) in targets.items()
        for name, source in candidates.items()
        if (target, name) != ("UCI", "uci")
    }
    print(f"特徴を計算した組み合わせ: {len(cached)} 通り")

# %% [markdown]
# #### 1. 点数をつけて、選ぶ
#
# 点数は二つです。LogMEは特徴とラベルから、LEEPは元の課題の確率とラベルから求めます。
# `random`は元の課題を持たないので、LEEPを計算できません。

# %%
if ready("01-7"):
    logme_scores = {
        key: transferability.logme(features[:100], targets[key[0]][1][:100]) for key, features in cached.items()
    }
    leep_scores = {
        (target, name): transferability.leep(
            candidates[name].probabilities(targets[target][0][:100]), targets[target][1][:100]
        )
        for target, name in cached
        if candidates[name].probabilities is not None
    }
    picks = {}
    for target in targets:
        for title, scores in (("LogME", logme_scores), ("LEEP", leep_scores)):
            row = {name: score for (where, name), score in scores.items() if where == target}
            picks[target, title] = max(row, key=row.get)
            listed = "、".join(f"{name} {score:.2f}" for name, score in row.items())
            print(f"{target}／{title}: {listed} → 選ぶのは {picks[target, title]}")

# %% [markdown]
# ここで手を止めて、自分の予想も紙に書いてください。三つのターゲットで、正解率が最も高くなる転移元はそれぞれどれでしょうか。
#
# #### 2. 測る
#
# 特徴の上にロジスティック回帰を置き、100枚で学習して200枚で正解率を測ります（線形プローブ）。分け方を変えて5回くり返します。
# 5回の測定は同じ300枚を使い回すので、区間は分け方による揺れだけを表します。

# %%
if ready("01-7"):

    def probe_accuracies(features: np.ndarray, labels: np.ndarray) -> list[float]:
        """線形プローブの正解率を、5通りの分け方で測る。"""
        found = []
        for seed in range(5):
            train, test = np.split(np.random.default_rng(seed).permutation(len(labels)), [100])
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
            found.append(model.fit(features[train], labels[train]).score(features[test], labels[test]))
        return found

    measured = {
        key: mean_ci(probe_accuracies(features[100:].numpy(), targets[key[0]][1][100:].numpy()))
        for key, features in cached.items()
    }
    for target in targets:
        row = {name: value for (where, name), value in measured.items() if where == target}
        best = max(row, key=lambda name: row[name].mean)
        print(f"{target}: " + "、".join(f"{name} {value}" for name, value in row.items()))
        print(f"　最も良いのは {best}。LogMEの選択は {picks[target, 'LogME']}、LEEPの選択は {picks[target, 'LEEP']}")

# %% [markdown]
# #### 3. 順位の一致を、不確かさと一緒に見る

# %%
if ready("01-7"):
    for target in targets:
        for title, scores in (("LogME", logme_scores), ("LEEP", leep_scores)):
            keys = [key for key in scores if key[0] == target]
            if len(keys) < 3:
                continue  # 2個の順位は、一致か逆かしかない
            s, a = np.array([scores[key] for key in keys]), np.array([measured[key].mean for key in keys])
            rho, low, high, null = rank_agreement(s, a, seed=0)
            print(
                f"{target}／{title}: n = {len(keys)}、ρ = {rho:.2f}、区間 [{low:.2f}, {high:.2f}]、帰無分布の目安 ±{null:.2f}"
            )
            assert len(keys) > 4 or null > 1, "候補が4個以下なら、目安の幅は1を越えるはず"

# %% [markdown]
# ### この結果から言えること、言えないこと
#
# **転移元が4個では、ほとんど何も結論できません**。帰無分布の目安 $\pm 1.96/\sqrt{n-1}$ は、$n \leq 4$ では1を越えます。
# つまり、順位が完全に一致（$\rho = 1$）しても、偶然の範囲を出ません。4個の順位の並びは24通りしかなく、でたらめな点数でも24回に1回は完全に一致します。
#
# $\rho = 1$ のときのブートストラップ区間は、幅が0です。これは確かさの証拠ではありません。完全に一致した組を引き直しても、完全に一致するだけです。
# 候補が少ないと、ブートストラップは不確かさを小さく見積もります。だから、帰無分布の幅と並べて読みます。
#
# 三つのターゲットで同じ傾向が出れば、証拠は少し強くなります。ただし、同じ四つの転移元を使い回しているので、三つは独立した実験ではありません。
#
# ### 候補を増やす
#
# 結論に近づくには、転移元を増やします。自分で学習した`GlyphCNN`の重みは、次のように加えられます。
# 加えたら、「特徴を一度だけ計算」のセルから実行し直してください。候補が増えた分だけ、目安の幅が狭くなります。
#
# ```python
# from pathlib import Path
# from safetensors.torch import save_file
# from tlkit.data.files import sha256_of
# from tlkit.sources import register_source
#
# path = Path("my_source.safetensors")
# save_file(my_model.state_dict(), path)
# register_source("mine", path, sha256_of(path))
# ```
#
# ネットワークが使えるなら、`candidates["coco"] = load_source("coco")`で、物体検出の重みも加えられます。
# ターゲットの画像で学習した重みを、そのターゲットの候補に入れないよう気をつけてください。
#
# **考えてみよう**：
#
# 1. $\rho = 0.8$ が目安の外に出るような、転移元の数を求めてください。
# 2. 点数が外れたターゲットはありましたか。あれば、その理由を一つ挙げ、確かめる実験を考えてください。なければ、外れそうなターゲットを一つ作ってください。
# 3. 学習の種だけが違う転移元を20個加えて $n = 24$ としたとき、結論を信じてよいかどうかを、理由と一緒に答えてください。
