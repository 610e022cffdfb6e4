# %% [markdown]
# # 第1章 転移学習の基礎
#
# **学習目標**
# - 学習済みのネットワークが持つ知識を、別の課題に使い回す仕組みを説明できる
# - ドメインとタスクを定義し、事例がどちらの違いに当たるかを判別できる
# - 転移学習の利得がデータの量とともにどう変わるか、いつ損をするかを、対照と信頼区間で示せる
# - 最大平均不一致度（MMD）を式で書き、二つのデータ集合の違いを測れる
# - MMDの推定量と帯域幅の選び方を誤ると何が起きるかを、数値で示せる
# - 転移可能性の指標（LEEP、NCE、LogME、Hスコアなど）の式と、要るものと、壊れる条件を言える
#
# **シラバスとの対応**：転移学習（ファインチューニング、ドメイン適応、ドメインシフト）。シラバスには版があります。受験の前に、必ず公式の最新版を確かめてください。
#
# **範囲**：転移学習の定義、三つの問題、ドメインシフトは出題対象です。学び方の学習（メタ学習）はオプション、負の転移、MMD、転移可能性は発展です。

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

from tlkit import data, plot, results, sources
from tlkit.course import quiz
from tlkit.losses import mmd2
from tlkit.models import EfficientNetLite0, imagenet_classes, imagenet_input
from tlkit.seeding import seed_everything
from tlkit.stats import mean_ci
from tlkit.transferability import h_score, leep, logme, nce, spearman_mmd_score
from tlkit.transferability.published import logme_published

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
# 切り抜きの課題では、知識は「特徴を作る重み」でした。タスクも変わりました。ラベルが「1,000種類の名前」から「9枚の写真の番号」になったからです。
#
# ### いつ、何を、どう移すか
#
# 転移学習を設計するときの問いは三つです。
#
# | 問い | 中身 | この教材の例 |
# |---|---|---|
# | いつ移すか（when） | 移して得をする場面か、損をする場面か | 負の転移（この章） |
# | 何を移すか（what） | 事例、特徴、パラメータ、データ間の関係のどれか | 重み（02章）、特徴の分布（03章） |
# | どう移すか（how） | 移すための学習の手順 | ファインチューニング、ドメイン適応、知識蒸留 |
#
# 多くの教科書は「どう」から始めます。しかし「いつ」を誤ると、どんな手順を選んでも損をします。
#
# ### 分類のしかた
#
# 「ドメイン転移」「タスク転移」「モデル転移」の三つに分けた表を見かけます。
#
# | よくある呼び名 | 言いたいこと | 分類として困る点 |
# |---|---|---|
# | ドメイン転移 | 入力の分布が変わる | ラベルがどこにあるかを言っていない |
# | タスク転移 | ラベルの種類が変わる | ドメインも同時に変わることが多く、重なる |
# | モデル転移 | 学習済みの重みを使う | これは「何を移すか」であり、前の二つとは別の軸である |
#
# 三つの見出しが別々の軸から取られているので、一つの事例がいくつもの欄に入ります。標準の分類ではありません。
# Pan and Yang（2010）は、ラベルがどこにあるかで三つに分けました。
#
# | 分類 | ソースのラベル | ターゲットのラベル | ソースとターゲットのタスク | 例 |
# |---|---|---|---|---|
# | 帰納的転移学習 | あってもなくてもよい | ある | 異なる | ImageNetの重みで医用画像を分類する |
# | トランスダクティブ転移学習 | ある | ない | 同じ | 教師なしドメイン適応 |
# | 教師なし転移学習 | ない | ない | 異なる | 別の画像で学んだ特徴によるクラスタリング |
#
# 教師なしドメイン適応は、トランスダクティブ転移学習に入ります。「教師なし」は、ターゲットにラベルがないという意味です。ソースにはラベルがあります。

# %% [markdown]
# ## 転移学習が解く三つの問題
#
# ### 問題1：ラベルが少ない
#
# 少ないラベルから多くのパラメータを決めると、過剰適合が起きます。事前学習は、良い特徴を初めから持たせることで、決めるべきことを減らします。
#
# どのくらい効くのでしょうか。フォントのアルファベット（数字は含みません）で小さな畳み込みネットワークを学習し、手書き数字に移します。
# 手書き数字のラベルの数 $N$ を変えて、五つの方法を比べます。
#
# - **ゼロから**：乱数の重みから学習する
# - **ゼロから＋拡張**：乱数の重みで始め、フォントの学習と同じデータ拡張を使う
# - **凍結**：移した重みを凍結し、最後の線形層だけを学習する（特徴抽出）
# - **全体の更新**：移した重みから、すべての層を学習する（ファインチューニング）
# - **全体の更新＋拡張**：同じく全体を更新し、データ拡張も使う
#
# 「ゼロから＋拡張」を入れるのは、事前学習の利得とデータ拡張の利得を分けるためです。
# 学習率などの設定は、開発用に分けた画像で選びました。実験は`experiments/01_data_amount.py`にあります。結果のファイルを読み込んで図にします。

# %%
amount = results.load("01_data_amount")
print(f"{amount.title}\n種 {len(amount.seeds)} 通り。同じ種では、どの方法も同じ画像で学習し、同じ画像で測る\n")
methods = {
    "scratch": "ゼロから",
    "scratch_augment": "ゼロから＋拡張",
    "probe": "凍結（線形プローブ）",
    "finetune": "全体の更新",
    "finetune_augment": "全体の更新＋拡張",
}
sizes = sorted({row["n"] for row in amount.rows})

fig, ax = plot.subplots(figsize=(5.6, 3.8))
for method, label in methods.items():
    curve = [amount.mean("accuracy", method=method, n=n) for n in sizes]
    ax.errorbar(sizes, [c.mean for c in curve], yerr=[c.half for c in curve], marker="o", capsize=3, label=label)
ax.set_xscale("log")
ax.set_xticks(sizes, [str(n) for n in sizes])
ax.minorticks_off()
ax.set_xlabel("手書き数字のラベルの数 N")
ax.set_ylabel("正解率（平均と95%信頼区間）")
ax.legend()
plot.show(
    fig,
    alt="手書き数字のラベルの数に対する正解率の折れ線グラフ。N が小さいほど、フォントから移した方法が、"
    "拡張の有無をそろえたゼロからの学習を上回る。N が大きくなると差は縮む。",
)

pairs = {
    "拡張なしどうし": ("finetune", "scratch"),
    "拡張の有無が違う": ("finetune", "scratch_augment"),
    "拡張ありどうし": ("finetune_augment", "scratch_augment"),
}
gains = {}
for name, (ours, control) in pairs.items():
    for n in (sizes[0], sizes[-1]):
        gains[name, n] = amount.difference("accuracy", {"method": ours}, {"method": control}, n=n)
        print(f"{name}、N = {n}: {methods[ours]} − {methods[control]} = {gains[name, n]}")
fair_few, fair_many = gains["拡張ありどうし", sizes[0]], gains["拡張ありどうし", sizes[-1]]
assert fair_few.mean - fair_few.half > 0.03, "拡張をそろえた比較で、利得が確認できません"
assert fair_many.mean < fair_few.mean / 3, "利得が縮むことが確認できません"

# %% [markdown]
# 拡張なしどうしで比べると、移した重みの利得は大きく見えます。ところが、ゼロからの側にだけ拡張を加えると、その差はほとんど消えます。
# 事前学習は拡張を使って行ったので、利得の一部は「拡張で得た頑健さ」が重みを通して移ったものだったのです。
#
# 拡張をそろえた比較が公平です。それでも、ラベルが最も少ない所では、移した重みに利得が残ります。ラベルが増えると、差は縮みます。
# 「転移学習を使うと精度が上がる」という文には、「ラベルがこれだけで、相手がこの方法のとき」という条件が要ります。
# 十分な時間をかければゼロからの学習が追いつくことは、大規模な物体検出でも報告されています（He et al., 2019）。

# %% [markdown]
# ### 問題2：計算が足りない
#
# 凍結すると、更新するパラメータが減ります。それだけではありません。凍結した部分の出力は毎回同じなので、一度計算して取っておけます。

# %%
from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18


def gigaflops(step: Callable[[], object]) -> float:
    """渡された計算を1回行う演算の数 [GFLOP]。"""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


images, epochs = torch.zeros(1, 3, 224, 224), 10
body = resnet18(weights=None, num_classes=10).eval()  # 数えるだけなので、重みは要らない
head = body.fc
full = gigaflops(lambda: body(images).sum().backward())
body.requires_grad_(False)
head.requires_grad_(True)
frozen = gigaflops(lambda: body(images).sum().backward())
with torch.no_grad():
    once = gigaflops(lambda: body(images))
cached = gigaflops(lambda: head(torch.zeros(1, 512)).sum().backward())

everything = sum(p.numel() for p in body.parameters())
only_head = sum(p.numel() for p in head.parameters())
costs = {
    "全体の更新": (everything, full * epochs),
    "凍結": (only_head, frozen * epochs),
    "凍結して特徴を取っておく": (only_head, once + cached * epochs),
}
for name, (count, flops) in costs.items():
    print(f"{name}: 更新するパラメータ {count:,} 個、画像1枚・{epochs}エポックで {flops:.2f} GFLOP")

fig, ax = plot.subplots(figsize=(5.6, 2.0))
ax.barh(list(costs), [flops for _, flops in costs.values()], color=plot.COLORS[:3])
ax.set_xlabel(f"画像1枚・{epochs}エポックの演算の数 [GFLOP]")
plot.show(
    fig,
    alt="演算の数の横棒グラフ。全体の更新が最も多い。凍結するとおよそ3分の1になり、特徴を取っておくと、さらにその10分の1になる。",
)

# %% [markdown]
# 特徴を取っておけば、$E$ エポックの学習でも、重い計算は1回で済みます。ただし、データ拡張とは両立しません。取っておいた特徴は、拡張する前の画像のものだからです。
#
# ### 問題3：学習時と利用時で分布が違う
#
# 学習に使ったデータと、実際に使う場面のデータが違うことは、よくあります。次の節では、これを実際のデータで確かめます。

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
# ## 知識の再利用と、学び方の学習
#
# 「過去の経験を生かす」方法は、二つに分けられます。
#
# | | 知識の再利用 | 学び方の学習（メタ学習） |
# |---|---|---|
# | 経験 | 一つ、または少数のソースのタスク | たくさんの似たタスク |
# | 移すもの | ソースを解いた重みや特徴 | 新しいタスクを速く学べる初期値や手順 |
# | ソースで良くするもの | ソースのタスクでの成績 | 少しだけ学習した後の、新しいタスクでの成績 |
# | この教材の章 | 02、03、07章 | 08章（シラバスではオプション） |
#
# 違いを、最も小さな例で見ます。直線 $y = a x + b$ を当てる回帰を一つのタスクとします。タスクごとに $(a, b)$ が違います。
# 新しいタスクの点は5個だけで、そこから3回だけ更新します。初期値の決め方は三つです。
#
# - **乱数**：経験を使わない
# - **知識の再利用**：一つのソースのタスクを解いた重み
# - **学び方の学習**：64個のタスクで、「3回更新した後の誤差」を小さくするように求めた初期値と学習率


# %%
def make_tasks(count: int, seed: int) -> tuple[torch.Tensor, ...]:
    """直線のタスクを作る。真の (a, b) は (T, 2)、学習の5点は (T, 5)、評価の50点は (T, 50)。"""
    g = torch.Generator().manual_seed(seed)
    truth = torch.tensor([1.0, 2.0]) + 0.7 * torch.randn(count, 2, generator=g)
    x, x_new = 4 * torch.rand(count, 5, generator=g) - 2, 4 * torch.rand(count, 50, generator=g) - 2
    y = truth[:, :1] * x + truth[:, 1:] + 0.3 * torch.randn(count, 5, generator=g)
    return truth, x, y, x_new, truth[:, :1] * x_new + truth[:, 1:]


def adapt(start: torch.Tensor, rate: torch.Tensor, x: torch.Tensor, y: torch.Tensor, steps: int) -> torch.Tensor:
    """初期値 (2,) から、二乗誤差の勾配降下で steps 回だけ更新する。返り値はタスクごとの重み (T, 2)。"""
    weights = start.expand(len(x), 2)
    for _ in range(steps):
        error = weights[:, :1] * x + weights[:, 1:] - y
        gradient = 2 * torch.stack([(error * x).mean(1), error.mean(1)], dim=1)
        weights = weights - rate * gradient
    return weights


def errors_after(start: torch.Tensor, rate: torch.Tensor, tasks: tuple[torch.Tensor, ...], steps: int) -> torch.Tensor:
    """更新した後の、新しい点での平均二乗誤差 (T,)。"""
    _, x, y, x_new, y_new = tasks
    weights = adapt(start, rate, x, y, steps)
    return (weights[:, :1] * x_new + weights[:, 1:] - y_new).square().mean(1)


past, future = make_tasks(64, seed=0), make_tasks(200, seed=1)
rates = torch.tensor([0.03, 0.1, 0.2, 0.3, 0.4])


def best_rate(start: torch.Tensor) -> torch.Tensor:
    """学習率は、どの方法も過去の64個のタスクで選ぶ。"""
    return min(rates, key=lambda rate: errors_after(start, rate, past, 3).mean().item())


g = torch.Generator().manual_seed(2)
starts = {"乱数": torch.randn(2, generator=g), "知識の再利用": past[0][0]}
starts = {name: (start, best_rate(start)) for name, start in starts.items()}

initial, log_rate = torch.zeros(2, requires_grad=True), torch.tensor(-2.0, requires_grad=True)
optimizer = torch.optim.Adam([initial, log_rate], lr=0.05)
for _ in range(300):  # 3回更新した後の誤差を、更新の計算をさかのぼって微分する
    loss = errors_after(initial, log_rate.exp(), past, 3).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
starts["学び方の学習"] = (initial.detach(), log_rate.exp().detach())

distance = (future[0] - past[0][0]).norm(dim=1)  # ソースの真の (a, b) からの遠さ
near, far = distance < distance.quantile(0.25), distance > distance.quantile(0.75)
after = {name: errors_after(start, rate, future, 3) for name, (start, rate) in starts.items()}
for name, values in after.items():
    print(
        f"{name}: 全部 {mean_ci(values.tolist())}　ソースに近い1/4 {mean_ci(values[near].tolist())}　遠い1/4 {mean_ci(values[far].tolist())}"
    )
gap = after["知識の再利用"] - after["学び方の学習"]
gap_near, gap_far = mean_ci(gap[near].tolist()), mean_ci(gap[far].tolist())
assert gap_near.mean + gap_near.half < 0 < gap_far.mean - gap_far.half, (
    "近いタスクと遠いタスクで優劣が入れ替わることが確認できません"
)

fig, ax = plot.subplots(figsize=(5.6, 2.8))
groups = {"ソースに近い1/4": near, "全部": near | True, "遠い1/4": far}
for shift, (name, values) in enumerate(after.items()):
    bars = [mean_ci(values[group].tolist()) for group in groups.values()]
    places = [k + 0.27 * (shift - 1) for k in range(len(groups))]
    ax.bar(
        places,
        [b.mean for b in bars],
        0.25,
        yerr=[b.half for b in bars],
        capsize=3,
        label=name,
        hatch=["", "//", ".."][shift],
    )
ax.set_xticks(range(len(groups)), list(groups))
ax.set_ylabel("3回の更新後の誤差")
ax.legend()
plot.show(
    fig,
    alt="3回の更新後の誤差の棒グラフ。ソースに近いタスクでは知識の再利用が最も小さい。全部の平均と、ソースから遠いタスクでは、学び方の学習が最も小さい。",
)

# %% [markdown]
# ソースに近いタスクでは、知識の再利用が最もよい結果でした。遠いタスクでは、学び方の学習が上回りました。
# 学び方の学習は、どれか一つのタスクを解く重みを求めません。どのタスクにも3回で近づける出発点を求めます。
# ただし、そのためには似たタスクがたくさん要ります。

# %% [markdown]
# ## 負の転移
#
# 移したために、移さないときより悪くなることを**負の転移**（negative transfer）と呼びます。
# 判定には対照が要ります。「移したら精度が低かった」だけでは、負の転移とは言えません。**ゼロから学習した場合より低い**ことを示します。
#
# ターゲットの手書き数字 $N$ 枚に、ソースの1,000枚を混ぜて学習します。ソースは二通りです。
#
# - **同じ向きのソース**：ターゲットと同じ、正立した数字
# - **180度回したソース**：画像を回し、ラベルはそのままにしたもの。見た目の部品は似ているのに、6と9の意味が入れ替わる

# %%
negative = results.load("01_negative_transfer")
print(f"{negative.title}\n種 {len(negative.seeds)} 通り、平均 ± 95%信頼区間\n")
labels = {
    "target_only": "ソースなし（対照）",
    "pool_upright": "＋同じ向きのソース",
    "pool_rotated": "＋180度回したソース",
}
sizes = sorted({row["n"] for row in negative.rows})

fig, ax = plot.subplots()
for method, label in labels.items():
    curve = [negative.mean("accuracy", method=method, n=n) for n in sizes]
    ax.errorbar(sizes, [c.mean for c in curve], yerr=[c.half for c in curve], marker="o", capsize=3, label=label)
ax.set_xscale("log")
ax.set_xticks(sizes, [str(n) for n in sizes])
ax.minorticks_off()
ax.set_xlabel("ターゲットのラベルの数 N")
ax.set_ylabel("正解率")
ax.legend()
plot.show(
    fig,
    alt="ターゲットのラベルの数に対する正解率の折れ線グラフ。同じ向きのソースを足すと最も高い。"
    "180度回したソースを足すと、どの N でもソースなしの対照より低い。",
)

damage = negative.difference("accuracy", {"method": "pool_rotated"}, {"method": "target_only"}, n=100)
print(f"N = 100 での差（回したソース − 対照）: {damage}")
for digit in ("recall_6", "recall_9"):
    alone, rotated = (negative.mean(digit, method=method, n=100) for method in ("target_only", "pool_rotated"))
    print(f"数字{digit[-1]}の正解率: 対照 {alone} → 回したソース {rotated}")
assert damage.mean + damage.half < -0.05, "負の転移が確認できません"

# %% [markdown]
# 回したソースは、ソースなしの対照より悪い結果になりました。特に6と9の正解率が落ちます。
# 回した6は正立の9とほとんど同じ形なのに、違うラベルで学習したからです。
# ソースを足せば悪くはならない、という思い込みは危険です。負の転移を避ける第一歩は、ソースなしの対照を必ず置くことです。

# %% [markdown]
# ## ImageNetの特徴が勝たない所
#
# ImageNetの重みは万能ではありません。五つの課題で、三つの方法を比べます。写真の切り抜き、それを白黒にしたもの、質感、二種類の手書き数字です。
#
# - **画素**：画素をそのまま入力とするロジスティック回帰
# - **ゼロからのCNN**：小さな畳み込みネットワークを乱数から学習する
# - **ImageNetの特徴**：EfficientNet-Lite0の凍結した特徴の上のロジスティック回帰

# %%
where = results.load("01_imagenet_where")
print(f"{where.title}\n種 {len(where.seeds)} 通り、平均 ± 95%信頼区間、クラスあたり30枚\n")
tasks = {
    "photos": "写真",
    "photos_grey": "白黒の写真",
    "textures": "質感",
    "mnist5k": "MNIST",
    "uci_digits": "UCIの数字",
}
methods = {"pixels": "画素", "scratch_cnn": "ゼロからのCNN", "imagenet_frozen": "ImageNetの特徴"}

fig, ax = plot.subplots(figsize=(6.4, 3.2))
for shift, (method, label) in enumerate(methods.items()):
    values = [where.mean("accuracy", set=task, method=method, per_class=30) for task in tasks]
    ax.bar(
        [k + 0.27 * (shift - 1) for k in range(len(tasks))],
        [v.mean for v in values],
        width=0.25,
        yerr=[v.half for v in values],
        capsize=3,
        label=label,
        hatch=["", "//", ".."][shift],
    )
ax.set_xticks(range(len(tasks)), list(tasks.values()))
ax.set_ylabel("正解率")
ax.set_ylim(0, 1.05)
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
plot.show(
    fig,
    alt="五つの課題での、画素、ゼロからのCNN、ImageNetの特徴の正解率の棒グラフ。写真と白黒の写真では、ImageNetの特徴が最も高い。"
    "質感では、ゼロからのCNNと並ぶ。MNISTとUCIの数字では、ゼロからのCNNが最も高い。",
)

for task, label in tasks.items():
    ours, pixels, cnn = ({"method": m} for m in ("imagenet_frozen", "pixels", "scratch_cnn"))
    against_pixels = where.difference("accuracy", ours, pixels, set=task, per_class=30)
    against_cnn = where.difference("accuracy", ours, cnn, set=task, per_class=30)
    print(f"{label}: ImageNetの特徴 − 画素 {against_pixels}、ImageNetの特徴 − ゼロからのCNN {against_cnn}")

gray = where.difference(
    "accuracy", {"method": "imagenet_frozen"}, {"method": "scratch_cnn"}, set="photos_grey", per_class=30
)
digits = where.difference(
    "accuracy", {"method": "imagenet_frozen"}, {"method": "scratch_cnn"}, set="mnist5k", per_class=30
)
assert gray.mean - gray.half > 0.1, "白黒の写真で、ImageNetの特徴の利得が確認できません"
assert digits.mean + digits.half < -0.05, "手書き数字で、ImageNetの特徴が負けることが確認できません"

# %% [markdown]
# 写真の切り抜きでは、ImageNetの特徴が勝ちました。白黒にすると、差はさらに開きます。色だけで見分けていた方法が崩れるからです。
# 質感では、ゼロから学習した小さなCNNと差がはっきりしません。手書き数字では、小さなCNNにはっきり負けました。
# 小さな白黒の線画は、ImageNetの写真と部品、色、解像度が違います。
#
# 画素だけと比べていたら、質感でも「ImageNetの特徴が役立つ」と結論したところです。比べる相手の選び方で、結論は変わります。
#
# この実験には断り書きが要ります。初めの設計では、カラーの写真だけを、一通りの分け方で測りました。そのときは、写真でも小さなCNNとの差がはっきりしませんでした。
# 図は、その結果を見た後に分け方を増やし、白黒の課題を加えた二度目の設計のものです。結果を見てから設計を変えると、望む結論に近づけてしまう危険があります。
# 手書き数字で負けることは、どちらの設計でも同じでした。写真で勝つことは、新しい写真で確かめ直すまで、仮の結論と考えてください。
#
# 医用画像でも、ImageNetからの転移の利得は小さいことがあると報告されています（Raghu et al., 2019）。使う前に、必ず単純な方法と比べてください。

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
# ## 転移可能性を見積もる
#
# ソースの候補がいくつもあるとき、全部でファインチューニングして比べるのは高くつきます。
# そこで、実際に移す前に、うまくいきそうかを点数にします。これを**転移可能性**（transferability）の指標と呼びます。
#
# ### やってはいけない点数
#
# 次のコードは、実際に教材として出回っていた考え方です。ソースとターゲットの特徴を一列に並べて順位相関を取り、MMDを引きます。
#
# ```python
# def transfer_score(source, target):
#     rho = spearmanr(source.flatten(), target.flatten()).statistic
#     return rho - 0.1 * linear_mmd2(source, target)
# ```
#
# 順位相関は、組になった値の関係を測るものです。ソースの $i$ 行目とターゲットの $i$ 行目は、組ではありません。
# 試しに、同じデータを同じデータと比べ、片方の行を並べ替えます。データの中身は変わりません。

# %%
pixels = x_mnist[torch.randperm(len(x_mnist), generator=torch.Generator().manual_seed(0))[:200]]
pixels = pixels[:, pixels.std(0) > 0.2]  # いつも0の画素を除き、
pixels = (pixels - pixels.mean(0)) / pixels.std(0)  # 画素ごとに平均0、標準偏差1にそろえる
order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(1))
print(f"同じ並び       : {spearman_mmd_score(pixels, pixels):+.3f}")
print(f"行を並べ替える : {spearman_mmd_score(pixels, pixels[order]):+.3f}")
shuffled_mmd2 = mmd2(pixels, pixels[order], estimator="biased").item()
print(f"並べ替えた後のMMD²: {abs(shuffled_mmd2):.3f}")
assert spearman_mmd_score(pixels, pixels) > 0.999
assert spearman_mmd_score(pixels, pixels[order]) < 0.1
assert abs(shuffled_mmd2) < 1e-5, "MMDは行の並びによらないはずです"

# %% [markdown]
# 行の並びを変えただけで、点数は最高からほぼ0まで落ちました。この点数は、データの性質ではなく、並びの偶然を測っています。
# ターゲットのラベルを使わないこと、件数が違うと計算できないこと、0.1という重みに根拠がないことも欠点です。
# 演習01-5では、このような誤りを自動で見つける検査を書きます。

# %% [markdown]
# ### 使える指標
#
# 記号を決めます。ターゲットの画像 $x_1, \dots, x_N$ とラベル $y_1, \dots, y_N$ があります。ソースのモデルは、特徴 $f_i \in \mathbb{R}^D$ と、ソースのクラスの確率 $\theta(x_i)_z$ を出します。
#
# **線形プローブ**は、特徴を凍結し、線形分類器を学習して検証の正解率を測ります。指標というより、いちばん単純な転移そのものです。ほかの指標は、これを予測できるかで評価します。
#
# **LEEP**は、ソースのクラス $z$ ごとに、ターゲットのラベルがどう分布するかを数え、その予測の対数尤度を測ります（Nguyen et al., 2020）。
#
# $$
# \mathrm{LEEP} = \frac{1}{N} \sum_{i=1}^{N} \log \sum_{z} \hat{P}(y_i \mid z)\, \theta(x_i)_z, \qquad
# \hat{P}(y \mid z) = \frac{\sum_{i: y_i = y} \theta(x_i)_z}{\sum_i \theta(x_i)_z}
# $$
#
# **NCE**は、確率の代わりに、最も確率の高いクラス $z_i$ だけを使います。条件付きエントロピーの符号を変えたものです（Tran et al., 2019）。
#
# $$
# \mathrm{NCE} = \frac{1}{N} \sum_{i=1}^{N} \log \hat{P}(y_i \mid z_i) = -\hat{H}(Y \mid Z)
# $$
#
# **LogME**は、特徴の上に線形モデルを置き、重みを積分で消した尤度（証拠）を、事前分布の強さ $\alpha$ と雑音の精度 $\beta$ について最大にします（You et al., 2021）。線形プローブと違い、検証データが要りません。
#
# $$
# \mathrm{LogME} = \max_{\alpha, \beta} \frac{1}{N} \log p(y \mid F, \alpha, \beta)
# $$
#
# **Hスコア**は、特徴の広がりのうち、クラスの違いが占める割合です（Bao et al., 2019）。
#
# $$
# H = \mathrm{tr}\left( \mathrm{cov}(f)^{-1}\, \mathrm{cov}(\mathbb{E}[f \mid y]) \right)
# $$
#
# **線形CKA**は、同じ画像に対する二つの特徴の、内積の構造が似ている度合いです（Kornblith et al., 2019）。**プロキシA距離**は、二つのドメインを線形分類器で見分けるときの誤り率 $\varepsilon$ から $2(1 - 2\varepsilon)$ とします（Ben-David et al., 2007）。この二つはラベルを使いません。
#
# | 指標 | 要るもの | 大きいと | 計算の目安 | 気をつけること |
# |---|---|---|---|---|
# | 線形プローブ | 特徴、ラベル、検証データ | 良い | $O(NDC)$ の学習 | 分け方による揺れ |
# | LEEP | ソースの確率、ラベル | 良い | $O(NZ)$ | 一度も現れない $z$ を除く |
# | NCE | ソースのラベル、ラベル | 良い | $O(N)$ | 確率の情報を捨てている |
# | LogME | 特徴、ラベル | 良い | $O(ND\min(N, D))$ | $D > N$ で誤る実装がある |
# | Hスコア | 特徴、ラベル | 良い | $O(ND^2 + D^3)$ | $D \geq N - 1$ で意味を失う |
# | 線形CKA | 二つの特徴 | 似ている | $O(ND\min(N, D))$ | 似ていることと役立つことは違う |
# | プロキシA距離 | 二つのドメインの特徴 | 遠い | 線形分類器の学習 | 学習に使った標本で測らない |
#
# 三つのソースを、手書き数字200枚で比べます。線形プローブの正解率は、指標の計算に使わなかった画像で測ります。

# %%
order = torch.randperm(len(x_mnist), generator=torch.Generator().manual_seed(0))
scoring, testing = order[:200], order[200:1200]  # 指標を計算する200枚と、正解率を測る1,000枚。重ならない
labels = mnist.labels[scoring]

table, source_features = {}, {}
for name in ("imagenet", "glyphs", "random"):
    source = sources.load_source(name)
    f, f_test = source.features(mnist.images[scoring]), source.features(mnist.images[testing])
    source_features[name] = f
    probe = LogisticRegression(C=0.01, max_iter=500).fit(f, labels)
    row = {"線形プローブ": probe.score(f_test, mnist.labels[testing]), "LogME": logme(f, labels)}
    if source.probabilities is not None:
        theta = source.probabilities(mnist.images[scoring])
        row |= {"LEEP": leep(theta, labels), "NCE": nce(theta.argmax(1), labels)}
    table[source.title] = row

for title, row in table.items():
    print(f"{title}: " + "、".join(f"{key} {value:+.3f}" for key, value in row.items()))

# %% [markdown]
# 指標の大小が、線形プローブの正解率の順とそろうかを見てください。ソースが三つなら、順位のそろい方は6通りしかありません。でたらめな点数でも、6回に1回は完全にそろいます。
# 三つや四つのソースで「順位が一致した」ことは、指標が優れている証拠になりません。
#
# そこで、ソースを9個、ターゲットを5個に増やした実験の結果を読みます。点数は、各クラス10枚だけから計算しました。正解率は、別の画像で測りました。
# ソースを引き直した区間と、点数をでたらめに並べ替えたときの範囲を、一緒に描きます。
#
# 図の「線形CKA（特徴とラベル）」は、特徴と、ラベルを0と1の並びに直した行列との線形CKAです。こちらはラベルを使います。
# プロキシA距離は遠いほど悪いので、符号を反転しました。プロキシA距離と素朴な点数は、ソースの画像が手に入るソースだけで計算しています。

# %%
ranks = results.load("01_transferability")
summary = {row["score"]: row for row in ranks.summary if row["target"] == "all"}
titles = {
    "probe_cv": "線形プローブ（交差検証）",
    "logme": "LogME",
    "h_score": "Hスコア",
    "leep": "LEEP",
    "nce": "NCE",
    "cka_labels": "線形CKA（特徴とラベル）",
    "negative_a_distance": "−プロキシA距離",
    "naive": "素朴な点数",
}
fig, ax = plot.subplots(figsize=(6.4, 3.4))
for place, (score, title) in enumerate(titles.items()):
    row = summary[score]
    ax.plot([-row["null_95"], row["null_95"]], [place, place], color="#bbbbbb", linestyle="-", linewidth=9)
    low, high = min(row["low"], row["rho"]), max(row["high"], row["rho"])
    ax.errorbar(
        row["rho"], place, xerr=[[row["rho"] - low], [high - row["rho"]]], color=plot.COLORS[0], marker="o", capsize=3
    )
    print(
        f"{title}: ρ = {row['rho']:+.2f}、区間 [{row['low']:+.2f}, {row['high']:+.2f}]、偶然の幅 ±{row['null_95']:.2f}"
    )
ax.axvline(0, color="black", linewidth=0.8)
ax.set_yticks(range(len(titles)), list(titles.values()))
ax.invert_yaxis()
ax.set_xlim(-1.05, 1.05)
ax.set_xlabel("点数と正解率の順位相関（青は95%区間、灰色は偶然の95%の範囲）")
plot.show(
    fig,
    alt="八つの点数の、正解率との順位相関。LogME、LEEP、線形CKA、線形プローブの区間は、偶然の範囲より大きい側にある。"
    "Hスコアと素朴な点数は、偶然の範囲に入っている。",
)
for score in ("logme", "leep", "cka_labels"):
    assert summary[score]["low"] > summary[score]["null_95"], f"{score} が偶然の範囲を越えていません"
for score in ("h_score", "naive"):
    assert summary[score]["rho"] < summary[score]["null_95"], f"{score} が偶然の範囲を越えています"

# %% [markdown]
# 実際に小さな線形プローブを学習して交差検証すれば、もちろん良い目安になります。LogME、LEEP、特徴とラベルの線形CKAは、学習なしでも近い順位を出しました。
# 素朴な点数とHスコアは、偶然と区別がつきません。Hスコアが振るわない理由は、次の落とし穴で分かります。
# NCEとプロキシA距離は、区間の下の端が偶然の範囲にかかり、はっきりしません。
# 区間はどれも広いままです。点数の間の優劣は、この実験からは言えません。演習01-7では、自分で同じように調べます。

# %% [markdown]
# ### 落とし穴：特徴の次元が標本の数より多いとき
#
# 200枚の画像から1,280次元の特徴を取ると、$D > N$ になります。このとき、二つの指標が壊れます。
#
# 一つはHスコアです。中心化した特徴がクラスの平均を完全に再現できるので、どんな特徴でも $C - 1$ に張り付きます。
# もう一つは、LogMEの広く使われている実装です。$D > N$ のとき、証拠の行列式の計算から、標本が張らない $D - N$ 個の方向が抜け落ちます。

# %%
noise = torch.randn(200, 1280, generator=torch.Generator().manual_seed(0))  # 何も表していない特徴
candidates = {
    "乱数（1280次元）": noise,
    "乱数（50次元）": noise[:, :50],
    "フォントで学習したCNN": source_features["glyphs"],
}
for name, candidate in candidates.items():
    print(
        f"{name}: Hスコア {h_score(candidate, labels):.2f}、"
        f"LogME {logme(candidate, labels):+.3f}、公開版の実装 {logme_published(candidate, labels):+.3f}"
    )
assert h_score(noise, labels) > 8.99, "Hスコアが C − 1 = 9 に張り付いていません"
assert logme_published(noise, labels) > logme(noise, labels) + 0.1, "公開版の値が最大値を超えていません"

# %% [markdown]
# Hスコアは、意味のない乱数の特徴にも満点を付けました。公開版の実装は、証拠の最大値をはるかに超える値を返しました。最大値を超える値は、計算の誤り以外にありません。$D < N$ では二つの値はそろいます。
# 指標を使う前に、乱数の特徴を入れてみてください。乱数に高い点を付ける指標は、その条件では使えません。

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
# | 帰納的とトランスダクティブ | ターゲットのラベルがあるか、ないか | 教師なしドメイン適応は後者。ソースにはラベルがある |
# | 負の転移 | 移さない場合より悪くなること | 精度が低いだけでは言えない。対照が要る |
# | MMD | 分布の間の距離 | コードが返すのは、多くは二乗のMMD² |
# | LEEPとNCE | ソースの確率を使うか、最も確率の高いクラスだけを使うか | どちらもターゲットのラベルが要る |
# | LogMEとHスコア | 特徴とラベルから測る | Hスコアは次元が標本より多いと意味を失う |
# | プロキシA距離 | 二つのドメインの見分けやすさ | 大きいほど遠い。ほかの指標と向きが逆 |

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
# - 事前学習の利得は、ラベルが少ないほど大きい。ただし、データ拡張などの条件をそろえて比べる。ソースが悪ければ負の転移が起きる。どちらも、ゼロからの対照で判定する。
# - ドメインが変わると正解率は下がる。MMDを使えば、ラベルなしで違いに気づける。
# - V統計量は同じ分布でも正にずれる。帯域幅を固定すると、高い次元で勾配が消える。
# - 転移可能性の指標は、使う前に、行の並べ替えと乱数の特徴で壊れないかを確かめる。候補が少なければ、順位の一致は証拠にならない。
#
# 演習`exercises/01_basics.ipynb`では、MMD²、LEEP、特徴のキャッシュ、プロキシA距離を自分で書き、誤った点数を暴き、転移元を選ぶ研究課題に取り組みます。

# %% [markdown]
# ## 参考文献
#
# - 定義（ドメイン、タスク、転移学習）：S. J. Pan and Q. Yang, “A Survey on Transfer Learning,” IEEE Transactions on Knowledge and Data Engineering, 22(10), 1345–1359, 2010.
# - MMDと二つの推定量、並べ替え検定：A. Gretton, K. M. Borgwardt, M. J. Rasch, B. Schölkopf and A. Smola, “A Kernel Two-Sample Test,” Journal of Machine Learning Research, 13, 723–773, 2012.
# - 中央値ヒューリスティック：D. Garreau, W. Jitkrittum and M. Kanagawa, “Large sample analysis of the median heuristic,” arXiv:1707.07269, 2017.
# - データを増やせばゼロからの学習が追いつくこと：K. He, R. Girshick and P. Dollár, “Rethinking ImageNet Pre-training,” ICCV 2019.
# - 医用画像でImageNetからの転移の利得が小さい場合：M. Raghu, C. Zhang, J. Kleinberg and S. Bengio, “Transfusion: Understanding Transfer Learning for Medical Imaging,” NeurIPS 2019.
# - LEEP：C. V. Nguyen, T. Hassner, M. Seeger and C. Archambeau, “LEEP: A New Measure to Evaluate Transferability of Learned Representations,” ICML 2020.
# - NCE：A. T. Tran, C. V. Nguyen and T. Hassner, “Transferability and Hardness of Supervised Classification Tasks,” ICCV 2019.
# - LogME：K. You, Y. Liu, J. Wang and M. Long, “LogME: Practical Assessment of Pre-trained Models for Transfer Learning,” ICML 2021.
# - Hスコア：Y. Bao et al., “An Information-Theoretic Approach to Transferability in Task Transfer Learning,” ICIP 2019.
# - 線形CKA：S. Kornblith, M. Norouzi, H. Lee and G. Hinton, “Similarity of Neural Network Representations Revisited,” ICML 2019.
# - プロキシA距離：S. Ben-David, J. Blitzer, K. Crammer and F. Pereira, “Analysis of Representations for Domain Adaptation,” NIPS 19, 2007.
# - EfficientNet：M. Tan and Q. V. Le, “EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks,” ICML 2019.
# - データ：MNIST（LeCun, Cortes and Burges）、UCI Optical Recognition of Handwritten Digits（Alpaydin and Kaynak）。
