"""エピソードごとの正解率と、最近傍重心。"""

import numpy as np
import pytest
import torch
from fewshot_kit import sampler
from torch import Tensor, nn

from tlkit.fewshot import Episode, NearestCentroid, episode_accuracies, prototypical_logits
from tlkit.stats import mean_ci


class Known(nn.Module):
    """正解率が決まる「モデル」。"""

    def __init__(self, right: list[int]) -> None:
        super().__init__()
        self.right, self.calls = right, 0
        self.scale = nn.Parameter(torch.ones(()))

    def logits(self, model: nn.Module, episode: Episode) -> Tensor:
        assert not model.training
        answer = episode.query_y.clone()
        answer[self.right[self.calls] :] = (answer[self.right[self.calls] :] + 1) % 3
        self.calls += 1
        return self.scale * nn.functional.one_hot(answer, 3).float()


def test_counts_the_right_answers_of_each_episode() -> None:
    known = Known([9, 3, 0, 6]).train()
    found = episode_accuracies(known.logits, known, sampler(episodes=4))
    assert found.dtype == np.float64 and found.tolist() == pytest.approx([1, 1 / 3, 0, 2 / 3])
    assert known.training
    assert mean_ci(found).mean == pytest.approx(0.5)


def test_modes_come_back_per_module_and_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout()).train()
    model[1].eval()

    def broken(model: nn.Module, episode: Episode) -> Tensor:
        raise KeyError

    with pytest.raises(KeyError):
        episode_accuracies(broken, model, sampler())
    assert model.training and model[0].training and not model[1].training


def test_works_inside_inference_mode_with_inner_gradients() -> None:
    """`fit` の検証は inference_mode の中で呼ばれる。内側で微分する手法も、そこで動くこと。"""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

    def logits(model: nn.Module, episode: Episode) -> Tensor:
        with torch.enable_grad():
            loss = model(episode.support_x).square().sum()
            (grad,) = torch.autograd.grad(loss, [model[1].weight])
        assert grad.abs().sum() > 0 and not torch.is_grad_enabled()
        return model(episode.query_x)

    with torch.inference_mode():
        assert len(episode_accuracies(logits, model, sampler(episodes=2))) == 2


def test_wrong_results_are_named() -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"形 \(6, 3\) .*クエリ 9 件"):
        episode_accuracies(lambda _, e: torch.zeros(len(e.support_x), 3), model, sampler())
    with pytest.raises(ValueError, match="課題が一つもありません"):
        episode_accuracies(lambda _, e: torch.zeros(9, 3), model, [])


class TestNearestCentroid:
    def test_centres_and_scales_before_measuring(self) -> None:
        g = torch.Generator().manual_seed(0)
        s, q, mean = (torch.randn(n, 4, generator=g) for n in (6, 5, 1))
        e = Episode(s, torch.arange(3).repeat(2), q, torch.zeros(5).long())

        def unit(z: Tensor) -> Tensor:
            return (z - mean) / (z - mean).norm(dim=1, keepdim=True)

        centres = torch.stack([unit(s)[[k, k + 3]].mean(0) for k in range(3)])
        found = NearestCentroid(mean[0]).logits(nn.Identity(), e)
        torch.testing.assert_close(found, prototypical_logits(unit(q), centres))

    def test_the_length_of_a_feature_has_no_say(self) -> None:
        e = Episode(torch.eye(3), torch.arange(3), torch.eye(3), torch.arange(3))
        longer = e._replace(query_x=e.query_x * 7)
        first, second = (NearestCentroid().logits(nn.Identity(), x) for x in (e, longer))
        torch.testing.assert_close(first, second)
