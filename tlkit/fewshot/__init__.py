"""少数ショット学習の部品。埋め込みのモデルは `tlkit/models/conv4.py`、MAML は `tlkit/meta/` にある。

splits.py       クラスの分け方（クラスが漏れない）   episodes.py    エピソードの抽選
prototypes.py   プロトタイプと距離のロジット         protonet.py    プロトタイプネットワーク
centroid.py     最近傍重心（単純な比較相手）         evaluation.py  エピソードごとの正解率
glyph_tasks.py  漢字から仮名への課題                 sine.py        正弦波の回帰の課題
"""

from tlkit.fewshot.centroid import NearestCentroid
from tlkit.fewshot.episodes import Draw, Episode, EpisodeBatches, EpisodeSampler
from tlkit.fewshot.evaluation import episode_accuracies
from tlkit.fewshot.glyph_tasks import GlyphTasks, glyph_tasks
from tlkit.fewshot.protonet import ProtoNet, embed_episode
from tlkit.fewshot.prototypes import prototypes, prototypical_logits
from tlkit.fewshot.sine import SineTasks, sine_network
from tlkit.fewshot.splits import ClassSplit, split_classes

__all__ = [
    "ClassSplit",
    "Draw",
    "Episode",
    "EpisodeBatches",
    "EpisodeSampler",
    "GlyphTasks",
    "NearestCentroid",
    "ProtoNet",
    "SineTasks",
    "embed_episode",
    "episode_accuracies",
    "glyph_tasks",
    "prototypes",
    "prototypical_logits",
    "sine_network",
    "split_classes",
]
