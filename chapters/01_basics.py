# %% [markdown]
# # 第1章 転移学習の基礎
#
# **学習目標**
# - 学習済みのネットワークが持つ知識を、別の課題に使い回す仕組みを説明できる
# - ドメインとタスクを定義し、事例がどちらの違いに当たるかを判別できる
# - 最大平均不一致度（MMD）を式で書き、二つのデータ集合の違いを測れる
# - MMDの推定量と帯域幅の選び方を誤ると何が起きるかを、数値で示せる
#
# **シラバスとの対応**：転移学習（ファインチューニング、ドメイン適応、ドメインシフト）。シラバスには版があります。受験の前に、必ず公式の最新版を確かめてください。
#
# **範囲**：「転移学習とは」と「ドメインとタスク」は出題対象、「MMDで違いを測る」は発展です。

# %% [markdown]
# ## 困りごとから
#
# 猫の写真を見分けるネットワークを作りたいとします。手もとの写真は数十枚しかありません。
# 何百万個ものパラメータを数十枚から決めるのは無理があります。
#
# しかし、別の誰かが、百万枚を超える写真でネットワークを学習させています。
# その重みには、輪郭や模様や部品を見分ける力が入っているはずです。この力を借りられないでしょうか。
# これが**転移学習**（transfer learning）の出発点です。
#
# まず、学習済みのネットワークが何を知っているのかを見ます。

# %%
import torch

from tlkit import data, plot
from tlkit.course import quiz
from tlkit.losses import mmd2
from tlkit.models import EfficientNetLite0, imagenet_classes, imagenet_input
from tlkit.seeding import seed_everything
from tlkit.stats import mean_ci

seed_everything(0)
model = EfficientNetLite0(weights="default").eval()  # 推論なので、BatchNormを評価モードにする
print(f"パラメータの数: {sum(p.numel() for p in model.parameters()):,}")

# %% [markdown]
# ## 学習済みのネットワークに写真を見せる
#
# EfficientNet-Lite0は、ImageNetという写真の集まりで学習した小さなネットワークです。出力は1,000種類の分類先の確率です。
# 9枚の写真を見せて、最も確率の高い分類先を並べます。
#
# 前処理は重みと一組です。この重みは「画素値を−1から1にした、中央の正方形」で学習されました。同じ形にして渡します。

# %%
photos = data.photos()
batch = torch.stack([imagenet_input(photo.image) for photo in photos])  # (9, 3, 224, 224)
with torch.inference_mode():
    probabilities = model(batch).softmax(dim=1)  # (9, 1000)
confidence, index = probabilities.max(dim=1)
names = imagenet_classes()

fig, axes = plot.subplots(3, 3, figsize=(5.6, 5.6))
for ax, photo, c, i in zip(axes.flat, photos, confidence.tolist(), index.tolist(), strict=True):
    ax.imshow(photo.image)
    ax.set_title(f"{photo.title}\n{names[i]}（{c:.2f}）", fontsize=9)
    ax.axis("off")
plot.show(
    fig,
    photo=True,
    alt="9枚の写真と、ネットワークが答えた分類先と確率。コーヒー、猫、バイクなどは妥当な分類先が選ばれる。"
    "宇宙飛行士、網膜、組織の染色像では、低い確率で見当違いの分類先が選ばれる。",
)

# %% [markdown]
# コーヒーや猫には、もっともらしい答えが返りました。網膜や染色像への答えは見当違いです。
# 1,000種類の中に正解がないので、当てようがありません。
#
# では、このネットワークは網膜や染色像について何も知らないのでしょうか。
# 分類先の名前を答える最後の層を外し、その手前の1,280個の数を見ることにします。これを**特徴**と呼びます。

# %% [markdown]
# ## 名前を知らなくても、特徴は使える
#
# 次の課題を考えます。9枚の写真から小さな正方形をいくつも切り抜き、半分は左右を反転します。
# 一つの切り抜きを見て、それがどの写真から来たかを、最も似たほかの切り抜きから当てます。
# ネットワークは、この課題を学習していません。
#
# 似ている度合いはコサイン類似度で測ります。比べる表現は三つです。
#
# 1. 色の平均（3個の数）
# 2. 画素そのもの
# 3. 学習済みネットワークの特徴（1,280個の数）
#
# 切り抜く位置は乱数で決まります。そこで乱数の種を5通り試し、平均と95%信頼区間を示します。


# %%
def random_crops(per_photo: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """各写真から正方形を切り抜く。画像 (N, 3, 128, 128) と、元の写真の番号 (N,) を返す。"""
    g = torch.Generator().manual_seed(seed)
    images, origins = [], []
    for origin, photo in enumerate(photos):
        height, width, _ = photo.image.shape
        side = min(height, width) // 3
        for _ in range(per_photo):
            top = int(torch.randint(height - side, (), generator=g))
            left = int(torch.randint(width - side, (), generator=g))
            crop = photo.image[top : top + side, left : left + side]
            if torch.rand((), generator=g) < 0.5:
                crop = crop[:, ::-1]
            images.append(imagenet_input(crop.copy(), size=128))
            origins.append(origin)
    return torch.stack(images), torch.tensor(origins)


def nearest_neighbor_accuracy(vectors: torch.Tensor, origins: torch.Tensor) -> float:
    """自分以外で最もコサイン類似度の高いものの番号を答えとしたときの正解率。"""
    unit = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-torch.inf)  # 自分自身を答えにしない
    return (origins[similarity.argmax(1)] == origins).float().mean().item()


scores: dict[str, list[float]] = {"色の平均": [], "画素": [], "学習済みの特徴": []}
for seed in range(5):
    crops, origins = random_crops(per_photo=8, seed=seed)
    with torch.inference_mode():
        features = torch.cat([model.features(part) for part in crops.split(24)])  # (72, 1280)
    for name, vectors in zip(scores, (crops.mean(dim=(2, 3)), crops.flatten(1), features), strict=True):
        scores[name].append(nearest_neighbor_accuracy(vectors, origins))

for name, values in scores.items():
    print(f"{name}: {mean_ci(values)}")
gain = [a - b for a, b in zip(scores["学習済みの特徴"], scores["色の平均"], strict=True)]
assert mean_ci(gain).mean - mean_ci(gain).half > 0.1, "学習済みの特徴の利得が確認できません"

# %%
fig, ax = plot.subplots(figsize=(5.2, 2.4))
for row, (name, values) in enumerate(scores.items()):
    result = mean_ci(values)
    ax.barh(row, result.mean, xerr=result.half, color=plot.COLORS[row], capsize=4)
ax.axvline(1 / len(photos), color="black", linestyle=":", label="でたらめに答えた場合")
ax.set_yticks(range(len(scores)), list(scores))
ax.set_xlim(0, 1)
ax.set_xlabel("正解率（5通りの切り抜きの平均と95%信頼区間）")
ax.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
plot.show(
    fig,
    alt="切り抜きの元の写真を当てる正解率の横棒グラフ。学習済みの特徴が最も高く、色の平均、画素の順に低い。どれも、でたらめに答えた場合より高い。",
)

# %% [markdown]
# 学習済みの特徴では、名前を答えられなかった網膜や染色像も含めて、ほとんどの切り抜きで元の写真を当てられました。
# 学習した課題（1,000種類の分類）とは別の課題に、特徴がそのまま役立ったのです。
#
# ただし、ここから「学習済みの特徴はいつも勝つ」とは言えません。色の平均だけでも、でたらめよりずっと高い正解率が出ています。
# 比べる相手を置かずに「転移学習のおかげで当たった」と言うのは、よくある誤りです。

# %% [markdown]
# ## 転移学習とは
#
# 言葉を決めます。以下の定義はPan and Yang（2010）に従います。
#
# **ドメイン**（domain）は、特徴空間 $\mathcal{X}$ と、その上の周辺分布 $P(X)$ の組 $\mathcal{D} = \{\mathcal{X}, P(X)\}$ です。何がどんな頻度で現れるかを表します。
#
# **タスク**（task）は、ラベル空間 $\mathcal{Y}$ と、入力からラベルを予測する関数の組です。確率の言葉では、$\mathcal{T} = \{\mathcal{Y}, P(Y \mid X)\}$ と書けます。
#
# **転移学習**は、ソースのドメイン $\mathcal{D}_S$ とタスク $\mathcal{T}_S$ から得た知識を使って、ターゲットのドメイン $\mathcal{D}_T$ での予測を良くする学習です。
# ここで $\mathcal{D}_S \neq \mathcal{D}_T$ または $\mathcal{T}_S \neq \mathcal{T}_T$ とします。
#
# 切り抜きの課題では、知識は「特徴を作る重み」でした。変わったのはタスクです。ラベルが「1,000種類の名前」から「9枚の写真の番号」になりました。
# では、ドメインのほうが変わると何が起きるでしょうか。

# %% [markdown]
# ## 同じ数字でも、ドメインは違う
#
# 手書き数字のデータ集合を二つ用意します。MNISTとUCIの手書き数字です。
# ラベルはどちらも0から9で、タスクの目標は同じです。しかし、書いた人も、読み取った機械も、画素の細かさも違います。

# %%
mnist, uci = data.load("mnist5k"), data.load("uci_digits")
fig, axes = plot.subplots(2, 10, figsize=(6.4, 1.7))
for row, source in zip(axes, (mnist, uci), strict=True):
    for digit, ax in enumerate(row):
        ax.imshow(source.images[(source.labels == digit).nonzero()[3, 0], 0], vmin=0, vmax=1)
        ax.axis("off")
plot.show(
    fig,
    alt="上の段はMNISTの0から9、下の段はUCIの0から9。MNISTは線が細く輪郭がはっきりしている。UCIは線が太くぼやけている。",
)

# %% [markdown]
# MNISTの4,000枚で分類器を学習し、残りのMNISTとUCIで正解率を測ります。分類器は、画素を入力とするロジスティック回帰です。
# MNISTの分け方は乱数で決まるので、5通り試します。

# %%
from sklearn.linear_model import LogisticRegression

x_mnist, x_uci = mnist.images.flatten(1), uci.images.flatten(1)  # (5000, 784), (1797, 784)
same_domain, other_domain = [], []
for seed in range(5):
    order = torch.randperm(len(x_mnist), generator=torch.Generator().manual_seed(seed))
    train, test = order[:4000], order[4000:]
    classifier = LogisticRegression(C=0.1, max_iter=300).fit(x_mnist[train], mnist.labels[train])
    same_domain.append(classifier.score(x_mnist[test], mnist.labels[test]))
    other_domain.append(classifier.score(x_uci, uci.labels))

print(f"MNISTで学習 → 残りのMNIST: {mean_ci(same_domain)}")
print(f"MNISTで学習 → UCI        : {mean_ci(other_domain)}")
assert mean_ci(same_domain).mean - mean_ci(other_domain).mean > 0.15, "ドメインの違いによる低下が確認できません"

# %% [markdown]
# 同じ数字を見分けているのに、正解率は大きく下がりました。
# 学習時と利用時でドメインが違うことを**ドメインシフト**（domain shift）と呼びます。
#
# 下がる前に気づきたいところです。UCIのラベルがなくても、二つの画像の集まりが「違う」ことは測れるはずです。

# %% [markdown]
# ## MMDで違いを測る
#
# ### 直感
#
# 二つの集まりが同じ分布から来たのなら、「集まりの中の2点」も「集まりをまたぐ2点」も、同じくらい似ているはずです。
# 集まりの中のほうがよく似ているなら、分布が違います。この差が**最大平均不一致度**（maximum mean discrepancy、MMD）の二乗です。
#
# ### 数式
#
# 2点の似ている度合いをカーネル $k$ で測ります。ここではRBFカーネルを使います。
#
# $$
# k(a, b) = \exp\left(-\frac{\lVert a - b \rVert^2}{2\sigma^2}\right)
# $$
#
# $\sigma$ は**帯域幅**です。$\sigma$ より近い2点は「似ている」、ずっと遠い2点は「似ていない」とみなします。
# 分布 $P$ から独立に取った2点を $x, x'$、分布 $Q$ から独立に取った2点を $y, y'$ とすると、MMDの二乗は次の式です（Gretton et al., 2012、補題6）。
#
# $$
# \mathrm{MMD}^2(P, Q) = \mathbb{E}[k(x, x')] + \mathbb{E}[k(y, y')] - 2\,\mathbb{E}[k(x, y)]
# $$
#
# 期待値は分からないので、標本の平均で置き換えます。このとき、集まりの中の平均に「自分自身との組」を入れるかどうかで、推定量が二つに分かれます。
#
# | | 偏りのある推定量（V統計量） | 偏りのない推定量（U統計量） |
# |---|---|---|
# | 集まりの中の組 | $i = j$ も含む全部の $N^2$ 組 | $i \neq j$ の $N(N-1)$ 組 |
# | 集まりをまたぐ組 | $NM$ 組 | $NM$ 組 |
# | 同じ分布のときの期待値 | 正 | 0 |
# | 負になるか | ならない | なる |
#
# 自分自身との似ている度合い $k(x_i, x_i)$ はいつも1です。V統計量はこれを数えるので、同じ分布でも値が正にずれます。

# %% [markdown]
# ### 最小のコード
#
# `tlkit.losses.mmd2`は、この式をそのまま計算します。まず、二つの推定量の違いを、同じ分布から取った標本で確かめます。

# %%
g = torch.Generator().manual_seed(0)
estimates = {"biased": [], "unbiased": []}
for _ in range(200):
    x = torch.randn(32, 2, generator=g)
    y = torch.randn(32, 2, generator=g)
    for estimator, values in estimates.items():
        values.append(mmd2(x, y, bandwidth=1.0, estimator=estimator).item())

biased, unbiased = mean_ci(estimates["biased"]), mean_ci(estimates["unbiased"])
print(
    f"同じ分布どうしのMMD²  V統計量: {biased.mean:+.4f} ± {biased.half:.4f}   U統計量: {unbiased.mean:+.4f} ± {unbiased.half:.4f}"
)
assert biased.mean - biased.half > 0, "V統計量の偏りが確認できません"
assert abs(unbiased.mean) < 2 * unbiased.half, "U統計量の平均が0から離れています"

# %% [markdown]
# ### MNISTとUCIの違いを測る
#
# 300枚どうしのMMD²を、三つの組で測ります。MNISTどうし、UCIどうし、MNISTとUCIです。
# 標本の取り方を変えて、それぞれ20回くり返します。帯域幅は、全標本の2点間の距離の中央値から決めます（次の節で理由を説明します）。


# %%
def sample(pool: torch.Tensor, count: int) -> torch.Tensor:
    """重複なしに count 枚を取り出す。"""
    return pool[torch.randperm(len(pool), generator=g)[:count]]


distances: dict[str, list[float]] = {"MNISTどうし": [], "UCIどうし": [], "MNISTとUCI": []}
for _ in range(20):
    m, u = sample(x_mnist, 600), sample(x_uci, 600)
    distances["MNISTどうし"].append(mmd2(m[:300], m[300:]).item())
    distances["UCIどうし"].append(mmd2(u[:300], u[300:]).item())
    distances["MNISTとUCI"].append(mmd2(m[:300], u[:300]).item())

for name, values in distances.items():
    result = mean_ci(values)
    print(f"{name}: {result.mean:+.4f} ± {result.half:.4f}")

# %% [markdown]
# 「MNISTとUCI」だけが0から大きく離れました。では、この値は偶然でも起こりうる大きさでしょうか。
# **並べ替え検定**で調べます。MNISTとUCIを混ぜ、どちらから来たかの札を付け替えてMMD²を測り直します。
# 札に意味がなければ、付け替えても値は変わらないはずです。

# %%
pooled = torch.cat([sample(x_mnist, 300), sample(x_uci, 300)])
observed = mmd2(pooled[:300], pooled[300:]).item()
shuffled = []
for _ in range(200):
    order = torch.randperm(len(pooled), generator=g)
    shuffled.append(mmd2(pooled[order[:300]], pooled[order[300:]]).item())
p_value = (1 + sum(value >= observed for value in shuffled)) / (1 + len(shuffled))
print(f"観測した値 {observed:.4f}、付け替えたときの最大 {max(shuffled):.4f}、p値 {p_value:.3f}")
assert p_value < 0.01, "ドメインの違いが検出できません"

# %%
fig, ax = plot.subplots(figsize=(5.6, 2.6))
ax.hist(shuffled, bins=30, color=plot.COLORS[4], label="札を付け替えたとき（200回）")
ax.axvline(observed, color=plot.COLORS[1], linestyle="--", label="観測した値")
ax.set_xlabel("MMD²（U統計量）")
ax.set_ylabel("回数")
ax.legend()
plot.show(
    fig,
    alt="札を付け替えたときのMMDの二乗のヒストグラム。0の近くに集まる。観測した値の縦線は、そこから大きく右に離れている。",
)

# %% [markdown]
# 付け替えた200回のどれも、観測した値に届きませんでした。二つの集まりは別のドメインだと言えます。
# ラベルを使わずに、ドメインシフトに気づけたのです。
#
# ただし、MMDが大きければ必ず正解率が下がる、とは言えません。MMDは入力の分布 $P(X)$ の違いを測るだけで、ラベルを見ていないからです。

# %% [markdown]
# ## 落とし穴：σ = 1 に固定する
#
# 帯域幅を $\sigma = 1$ に固定したコードをよく見かけます。次元が低いうちは動きます。次元が上がると、何が起きるでしょうか。
#
# 標準正規分布から取った標本と、平均をずらした標本のMMD²を、次元を変えながら測ります。
# MMDは損失として使うので、値だけでなく、標本についての勾配の大きさも見ます。

# %%
dimensions = [2, 4, 8, 16, 32, 64, 128, 256]
gradient_norms: dict[str, list[float]] = {"σ = 1 に固定": [], "中央値で決める": []}
for dimension in dimensions:
    g = torch.Generator().manual_seed(dimension)
    x = torch.randn(64, dimension, generator=g)
    y = torch.randn(64, dimension, generator=g) + 0.5
    for name, bandwidth in zip(gradient_norms, (1.0, "median"), strict=True):
        leaf = x.clone().requires_grad_()
        mmd2(leaf, y, bandwidth=bandwidth, estimator="biased").backward()
        gradient_norms[name].append(leaf.grad.norm().item())

for name, values in gradient_norms.items():
    print(f"{name}: 2次元 {values[0]:.1e} → 256次元 {values[-1]:.1e}")
assert gradient_norms["σ = 1 に固定"][-1] == 0.0, "勾配が残っています"
assert min(gradient_norms["中央値で決める"]) > 1e-4, "中央値でも勾配が消えています"

# %%
fig, ax = plot.subplots()
for name, values in gradient_norms.items():
    ax.plot(dimensions, [max(value, 1e-30) for value in values], marker="o", label=name)
ax.set_xscale("log", base=2)
ax.set_yscale("log")
ax.set_xlabel("次元")
ax.set_ylabel("勾配の大きさ（1e−30で打ち切り）")
ax.legend()
plot.show(
    fig,
    alt="次元に対する勾配の大きさの折れ線グラフ。中央値で決めた帯域幅では、次元が上がっても勾配が残る。"
    "σを1に固定すると急に小さくなり、高い次元では完全に0になる。",
)

# %% [markdown]
# $\sigma = 1$ では、高い次元で勾配が厳密に0になりました。学習は一歩も進みません。しかも、エラーは出ません。
#
# 理由は距離の伸びです。標準正規分布の2点間の距離の二乗は、平均すると次元の2倍になります。
# すると $\exp(-d^2 / 2)$ は、浮動小数点数で表せる最小の値より小さくなり、0に丸められます。どの2点も「まったく似ていない」ことになるのです。
#
# そこで、距離の典型的な大きさに帯域幅を合わせます。全標本の異なる2点間の $d^2$ の中央値の半分を $\sigma^2$ とするのが**中央値ヒューリスティック**です（Garreau et al., 2017）。
# 万能ではありませんが、何も分からないときの出発点になります。

# %% [markdown]
# ## 取り違えやすいもの
#
# | 用語 | 何を指すか | 取り違えやすい点 |
# |---|---|---|
# | 転移学習 | ほかで得た知識を使い回す学習の総称 | ファインチューニングの反対語ではない |
# | ファインチューニング | 学習済みの重みを初期値に、ターゲットのデータで学習を続ける | 転移学習の一つの方法 |
# | 特徴抽出 | 学習済みの重みを凍結し、特徴だけを使う | これだけを転移学習と呼ばない |
# | ドメイン | 入力の空間とその分布 $P(X)$ | ラベルの種類が違うことではない |
# | タスク | ラベルの空間と $P(Y \mid X)$ | 入力の分布が違うことではない |
# | MMD | 分布の間の距離 | コードが返すのは、多くは二乗のMMD² |

# %% [markdown]
# ## 確認クイズ
#
# 先に自分で答えを決めてください。コードのセルに記号を書いて実行すると、正誤と理由が表示されます。
#
# <!-- quiz -->

# %% [markdown]
# ## まとめ
#
# - 学習済みのネットワークの特徴は、学習していない課題にも使える。ただし、必ず比べる相手を置く。
# - ドメインは入力の分布、タスクはラベルとその予測である。どちらが変わるかを区別する。
# - ドメインが変わると正解率は下がる。MMDを使えば、ラベルなしで違いに気づける。
# - V統計量は同じ分布でも正にずれる。帯域幅を固定すると、高い次元で勾配が消える。
#
# 演習`exercises/01_basics.ipynb`では、MMD²を自分で書きます。

# %% [markdown]
# ## 参考文献
#
# - 定義（ドメイン、タスク、転移学習）：S. J. Pan and Q. Yang, “A Survey on Transfer Learning,” IEEE Transactions on Knowledge and Data Engineering, 22(10), 1345–1359, 2010.
# - MMDと二つの推定量、並べ替え検定：A. Gretton, K. M. Borgwardt, M. J. Rasch, B. Schölkopf and A. Smola, “A Kernel Two-Sample Test,” Journal of Machine Learning Research, 13, 723–773, 2012.
# - 中央値ヒューリスティック：D. Garreau, W. Jitkrittum and M. Kanagawa, “Large sample analysis of the median heuristic,” arXiv:1707.07269, 2017.
# - EfficientNet：M. Tan and Q. V. Le, “EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks,” ICML 2019.
# - データ：MNIST（LeCun, Cortes and Burges）、UCI Optical Recognition of Handwritten Digits（Alpaydin and Kaynak）。
