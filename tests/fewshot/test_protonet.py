"""プロトタイプネットワーク: ロジットの中身、バッチ正規化の三つの選び方、学習できること。"""

import copy

import pytest
import torch
import torch.nn.functional as F
from fewshot_kit import sampler
from torch import Tensor, nn

from tlkit.fewshot import Episode, ProtoNet, embed_episode, prototypes, prototypical_logits
from tlkit.training import fit


def model() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    made(torch.randn(20, 4) * 5)
    return made.eval()


def episode(seed: int = 0) -> Episode:
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(3)
    return Episode(torch.randn(6, 4, generator=g), y.repeat(2), torch.randn(9, 4, generator=g) + 3, y.repeat(3))


def test_logits_and_loss_follow_the_paper() -> None:
    net, e = model(), episode()
    support, query = net(e.support_x), net(e.query_x)
    centres = torch.stack([support[e.support_y == k].mean(0) for k in range(3)])
    wanted = -(torch.cdist(query, centres) ** 2)
    method = ProtoNet("running")
    torch.testing.assert_close(method.logits(net, e), wanted)
    found = method.loss(net, e)
    torch.testing.assert_close(found["loss"], F.cross_entropy(wanted, e.query_y))
    assert found["accuracy"] == (wanted.argmax(1) == e.query_y).float().mean()


def normalized(x: Tensor, net: nn.Module) -> Tensor:
    """集合 x の統計で正規化した、網の出力。"""
    h = net[:2](x)
    z = (h - h.mean(0)) / (h.var(0, unbiased=False) + net[2].eps).sqrt()
    return net[3:](z * net[2].weight + net[2].bias)


def test_per_set_and_joint_measure_different_sets() -> None:
    net, e = model(), episode()
    per_set = embed_episode(net, e, "per_set")
    torch.testing.assert_close(per_set[0], normalized(e.support_x, net))
    torch.testing.assert_close(per_set[1], normalized(e.query_x, net))
    joint = embed_episode(net, e, "joint")
    torch.testing.assert_close(torch.cat(joint), normalized(torch.cat([e.support_x, e.query_x]), net))
    assert [len(side) for side in joint] == [6, 9]


@pytest.mark.parametrize("batchnorm", ["per_set", "joint", "running"])
def test_running_statistics_stay(batchnorm: str) -> None:
    net = model()
    before = copy.deepcopy(net.state_dict())
    embed_episode(net, episode(), batchnorm)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.training


def test_only_running_leaves_queries_alone() -> None:
    net, e = model(), episode()
    fewer = e._replace(query_x=e.query_x[:4], query_y=e.query_y[:4])
    full, part = (embed_episode(net, x, "running")[1] for x in (e, fewer))
    torch.testing.assert_close(full[:4], part)
    full, part = (embed_episode(net, x, "per_set")[1] for x in (e, fewer))
    assert not torch.allclose(full[:4], part)


def test_unknown_choice_is_named() -> None:
    with pytest.raises(ValueError, match="batchnorm に 'eval'"):
        embed_episode(model(), episode(), "eval")


def test_fit_takes_the_sampler_and_learns() -> None:
    torch.manual_seed(0)
    data = sampler(episodes=40, transform=lambda x, g: x / 36 - 1 + 0.02 * torch.randn(x.shape, generator=g))
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
    start = ProtoNet().loss(net, next(iter(data)))["loss"].item()
    history = fit(
        net, data, ProtoNet().loss, torch.optim.Adam(net.parameters(), 0.01), epochs=3, device="cpu", progress=False
    )
    assert [set(row) for row in history.epochs] == [{"epoch", "step", "loss", "accuracy"}] * 3
    assert history.epochs[-1]["loss"] != pytest.approx(start) and history.epochs[-1]["loss"] < history.epochs[0]["loss"]


def test_shuffled_support_labels_do_not_matter() -> None:
    net, e, order = model(), episode(), torch.tensor([5, 0, 3, 1, 4, 2])
    mixed = e._replace(support_x=e.support_x[order], support_y=e.support_y[order])
    torch.testing.assert_close(ProtoNet("running").logits(net, mixed), ProtoNet("running").logits(net, e))
    wrong = prototypical_logits(net(e.query_x), net(mixed.support_x).reshape(3, 2, -1).mean(1))  # 並びに頼った誤り
    assert not torch.allclose(ProtoNet("running").logits(net, mixed), wrong)
    assert prototypes(net(e.support_x), e.support_y).shape == (3, 3)
