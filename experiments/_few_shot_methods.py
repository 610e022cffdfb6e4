"""第8章の実験の手法。どれも、（種, K, 設定）から、学習の終わったモデルを返す。

比べる手法は、同じ種なら、同じ初期値（分類の層を除く）から始め、同じエピソードで学習する。
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from _few_shot import (
    ALPHA,
    INNER_STEPS,
    SPREAD,
    TEACHER_LR,
    TEACHER_UPDATES,
    WAYS,
    Images,
    Learned,
    Setting,
    Terms,
    network,
    on_episodes,
    optimise,
    sampler,
    training_images,
)
from torch import Tensor, nn

from tlkit._modes import evaluating
from tlkit.fewshot import Episode, NearestCentroid, ProtoNet
from tlkit.fewshot.evaluation import Logits
from tlkit.fewshot.protonet import SetBatchNorm
from tlkit.losses import DistillationLoss
from tlkit.meta import MAML, MetaDistillation, PrototypeTeacher

Learner = Callable[[int, int, Setting], Learned]


class _Pixels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def pixels(seed: int, _shots: int, _setting: Setting) -> Learned:
    """画素のままの最近傍重心。学習はない。"""
    mean = training_images(seed).flatten(1).mean(0)
    return Learned(_Pixels(), lambda _: NearestCentroid(mean).logits)


def untrained(seed: int, _shots: int, _setting: Setting) -> Learned:
    """乱数の重みのまま、集合ごとに正規化する。学習はない。"""
    return Learned(network(seed), lambda _: ProtoNet().logits)


def classifier(seed: int, _shots: int, setting: Setting) -> Learned:
    """漢字の全クラスの分類で学習し、特徴の最近傍重心で答える。学習は K によらない。"""
    return _classifier(seed, setting["lr"], setting["updates"])


@functools.lru_cache(maxsize=1)
def _classifier(seed: int, lr: float, updates: int) -> Learned:
    images = Images(seed, updates)
    model = network(seed, images.classes)

    def loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Terms:
        return {"loss": F.cross_entropy(net(batch[0]), batch[1])}

    seconds = optimise(model, images, loss, {"lr": lr, "updates": updates})
    model.classifier = nn.Identity()
    with evaluating(model), torch.no_grad():
        mean = torch.cat([model(part) for part in training_images(seed).split(500)]).mean(0)
    others = {"per_set": NearestCentroid(mean, "per_set").logits}
    return Learned(model, lambda _: NearestCentroid(mean).logits, seconds, others)


def protonet(batchnorm: SetBatchNorm) -> Learner:
    """プロトタイプネットワーク。バッチ正規化の統計の測り方は、学習とテストで同じ。"""
    method = ProtoNet(batchnorm)
    other: SetBatchNorm = "joint" if batchnorm == "per_set" else "per_set"

    def learned(seed: int, shots: int, setting: Setting) -> Learned:
        model = network(seed)
        seconds = on_episodes(model, method.loss, seed, shots, setting)
        return Learned(model, lambda _: method.logits, seconds, {other: ProtoNet(other).logits})

    return learned


def maml(
    *, steps: int = INNER_STEPS, first_order: bool = False, inner: str | None = None, pretrained: bool = False
) -> Learner:
    """MAML と、その一次近似、最後の層だけを動かす ANIL。steps は、学習のときの内側の回数。

    pretrained なら、教師モデルの重みから始める（蒸留の対照）。
    """

    def learned(seed: int, shots: int, setting: Setting) -> Learned:
        rate = setting["inner_lr"]
        method = MAML(rate, steps, first_order=first_order, inner=inner)
        model = network(seed, WAYS)
        if pretrained:
            model.blocks.load_state_dict(teacher(seed, shots)[0].model.blocks.state_dict())
        seconds = on_episodes(model, method.task_loss, seed, shots, setting)
        return Learned(model, lambda count: MAML(rate, count, inner=inner).logits, seconds)

    return learned


@functools.lru_cache(maxsize=2)
def teacher(seed: int, shots: int) -> tuple[Learned, float]:
    """蒸留の教師モデル（長く学習した、同じ大きさの ProtoNet）と、ロジットに掛ける数。ロジットの差の平均を SPREAD にそろえる。"""
    learned = protonet("per_set")(seed, shots, {"lr": TEACHER_LR, "updates": TEACHER_UPDATES})
    with torch.no_grad():
        logits = [learned.logits(0)(learned.model, e) for e in sampler("train", seed, shots, 50)]
    gaps = torch.cat(logits)
    others = (gaps.amax(1) * WAYS - gaps.sum(1)) / (WAYS - 1)  # 最も高いクラスとの差の、ほかのクラスについての平均
    return learned, SPREAD / float(others.mean())


def the_teacher(seed: int, shots: int, _setting: Setting) -> Learned:
    """教師モデルそのもの。"""
    return teacher(seed, shots)[0]


def distillation(seed: int, shots: int, setting: Setting) -> Learned:
    """クエリへの教師モデルの答えを蒸留した ProtoNet。"""
    source, scale = teacher(seed, shots)
    method, criterion = ProtoNet(), DistillationLoss(setting["temperature"], ALPHA)

    def loss(net: nn.Module, episode: Episode) -> Terms:
        with torch.no_grad():
            taught = scale * method.logits(source.model, episode)
        return {"loss": criterion(method.logits(net, episode), taught, episode.query_y).total}

    model = network(seed)
    seconds = on_episodes(model, loss, seed, shots, setting)
    return Learned(model, lambda _: method.logits, seconds)


def meta_distillation(*, learn_teacher: bool) -> Learner:
    """内側で蒸留するメタ学習。教師モデルは、サポートだけに答える。learn_teacher なら、教師モデルの重みも学習する。"""

    def learned(seed: int, shots: int, setting: Setting) -> Learned:
        source, scale = teacher(seed, shots)
        guide = PrototypeTeacher(copy.deepcopy(source.model), scale).requires_grad_(learn_teacher)
        model = MetaDistillation(
            *(guide, network(seed, WAYS)),
            **{"inner_lr": setting["inner_lr"], "inner_steps": INNER_STEPS},
            **{"temperature": setting["temperature"], "alpha": ALPHA},
        )
        seconds = on_episodes(model, lambda net, e: {"loss": net(*e)}, seed, shots, setting)
        return Learned(model, _after, seconds)

    return learned


def _after(steps: int) -> Logits:
    def logits(model: Any, episode: Episode) -> Tensor:
        model.inner_steps = steps
        found: Tensor = model.predict(*episode[:3])
        return found

    return logits


LEARNERS: dict[str, Learner] = {
    "pixels": pixels,
    "untrained": untrained,
    "classifier": classifier,
    "protonet_per_set": protonet("per_set"),
    "protonet_joint": protonet("joint"),
    "protonet_running": protonet("running"),
    "maml": maml(),
    "maml_three_steps": maml(steps=3),
    "fomaml": maml(first_order=True),
    "anil": maml(inner="classifier"),
    "maml_pretrained": maml(pretrained=True),
    "teacher": the_teacher,
    "distillation": distillation,
    "meta_distillation": meta_distillation(learn_teacher=True),
    "meta_distillation_fixed": meta_distillation(learn_teacher=False),
}
