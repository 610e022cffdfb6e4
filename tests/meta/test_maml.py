"""MAML、一次近似、ANIL と、その学習。"""

import copy

import pytest
import torch
import torch.nn.functional as F
from meta_kit import F64, central_difference, conv_net, image_episode
from torch import Tensor, nn

from tlkit.fewshot import ClassSplit, EpisodeSampler, SineTasks, episode_accuracies, sine_network
from tlkit.meta import MAML, StackedMAML, fit_maml, mean_over_tasks, stacked_call
from tlkit.training import fit


def gradients(loss: Tensor, model: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def after_backward(loss: Tensor, model: nn.Module) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return [p.grad for p in model.parameters()]


class TestAccumulation:
    def test_value_and_gradient_equal_the_plain_mean(self) -> None:
        model, method, tasks = conv_net(), MAML(0.4, 2), [image_episode(i) for i in range(3)]
        plain = torch.stack([method.task_loss(model, e)["loss"] for e in tasks]).mean()
        found = method.loss(model, tasks)
        torch.testing.assert_close(found["loss"], plain, rtol=1e-14, atol=0)
        for a, b in zip(after_backward(3 * found["loss"], model), gradients(3 * plain, model), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)

    def test_other_values_are_averaged_without_a_gradient(self) -> None:
        model, method, tasks = conv_net(), MAML(0.4, 1), [image_episode(i) for i in range(3)]
        found = method.loss(model, tasks)
        wanted = [method.task_loss(model, e)["accuracy"].item() for e in tasks]
        assert found["accuracy"].item() == pytest.approx(sum(wanted) / 3)
        assert not found["accuracy"].requires_grad and found["loss"].requires_grad

    def test_only_one_task_is_remembered_at_a_time(self) -> None:
        alive, most = [0], [0]

        class Counted(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                alive[0] += 1
                most[0] = max(most[0], alive[0])
                return x.clone()

            @staticmethod
            def backward(ctx, g):
                alive[0] -= 1
                return g

        w = nn.Parameter(torch.ones(()))
        mean_over_tasks(lambda t: {"loss": Counted.apply(w) * t}, [1.0, 2.0, 3.0], [w])["loss"].backward()
        assert most[0] == 1 and w.grad == 2

    def test_without_recording_only_the_value_is_computed(self) -> None:
        model, method = conv_net(), MAML(0.4, 1)
        with torch.no_grad():
            found = method.loss(model, [image_episode()])
        assert not found["loss"].requires_grad and found["loss"].isfinite()

    def test_unused_and_frozen_parameters(self) -> None:
        used, unused, frozen = (
            nn.Parameter(torch.ones(2)),
            nn.Parameter(torch.ones(3)),
            nn.Parameter(torch.ones(1), False),
        )
        mean_over_tasks(lambda t: {"loss": (used * t).sum()}, [1.0, 3.0], [used, unused, frozen])["loss"].backward()
        assert used.grad.tolist() == [2, 2] and unused.grad.tolist() == [0, 0, 0] and frozen.grad is None

    def test_no_task(self) -> None:
        with pytest.raises(ValueError, match="課題が一つもありません"):
            mean_over_tasks(lambda t: {}, [], [])


class TestMAML:
    @pytest.mark.parametrize("inner", [None, "classifier"])
    def test_meta_gradient_matches_central_differences(self, inner: str | None) -> None:
        model, method, e = conv_net(), MAML(0.4, 2, inner=inner), image_episode()
        slope, difference = central_difference(lambda: method.task_loss(model, e)["loss"], model.parameters())
        assert slope == pytest.approx(difference, rel=1e-6)

    def test_anil_moves_only_the_head_and_learns_everything(self) -> None:
        model, e = conv_net(), image_episode()
        adapted = MAML(0.4, 3, inner="classifier").adapted(model, e)
        assert set(adapted) == {"classifier.weight", "classifier.bias"}
        found = after_backward(MAML(0.4, 3, inner="classifier").loss(model, [e])["loss"], model)
        assert all(
            g.abs().sum() > 0
            for (name, _), g in zip(model.named_parameters(), found, strict=True)
            if "0.bias" not in name
        )

    def test_first_order_is_the_gradient_at_the_adapted_point(self) -> None:
        model, e = conv_net(), image_episode()
        method = MAML(0.4, 2, first_order=True)
        found = gradients(method.task_loss(model, e)["loss"], model)
        moved = conv_net()
        moved.load_state_dict(model.state_dict() | {k: v.detach() for k, v in method.adapted(model, e).items()})
        moved.train()
        wanted = gradients(F.cross_entropy(moved(e.query_x), e.query_y), moved)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b)

    def test_buffers_do_not_change(self) -> None:
        model = conv_net().train()
        before = copy.deepcopy(dict(model.named_buffers()))
        MAML(0.4, 2).loss(model, [image_episode()])["loss"].backward()
        assert before and all(torch.equal(value, before[name]) for name, value in model.named_buffers())

    def test_adapting_more_lowers_the_support_loss(self) -> None:
        model, e = conv_net(), image_episode()
        same = e._replace(query_x=e.support_x, query_y=e.support_y)
        losses = [MAML(0.2, steps).task_loss(model, same)["loss"].item() for steps in (0, 1, 5)]
        assert losses[0] > losses[1] > losses[2]

    def test_a_learned_rate_gets_a_gradient(self) -> None:
        model, rate = conv_net(), nn.Parameter(torch.tensor([0.3, 0.1], dtype=F64))
        method, e = MAML(rate, 2), image_episode()
        slope, difference = central_difference(lambda: method.task_loss(model, e)["loss"], [rate])
        assert slope == pytest.approx(difference, rel=1e-6) and abs(slope) > 1e-4
        method.loss(model, [e])["loss"].backward()
        assert rate.grad is not None and rate.grad.shape == (2,)


class TestStacked:
    @pytest.mark.parametrize("steps", [1, 3])
    @pytest.mark.parametrize("first_order", [False, True])
    def test_equals_the_loop(self, steps: int, first_order: bool) -> None:
        torch.manual_seed(0)
        model, e = sine_network(8).double(), next(iter(SineTasks(tasks=4, shots=5, queries=6, batches=1, seed=0)))
        e = type(e)(*(part.double() for part in e))
        method = StackedMAML(0.05, steps, first_order=first_order)

        def task(index: int) -> Tensor:
            from tlkit.meta import adapt, call_with

            sx, sy, qx, qy = (part[index] for part in e)
            found = adapt(
                dict(model.named_parameters()),
                lambda p: F.mse_loss(call_with(model, p, sx), sy),
                **{"lr": 0.05, "steps": steps, "first_order": first_order},
            )
            return F.mse_loss(call_with(model, found, qx), qy)

        plain, found = torch.stack([task(i) for i in range(4)]).mean(), method.loss(model, e)
        torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-14)
        for a, b in zip(gradients(found, model), gradients(plain, model), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)

    def test_only_the_named_part_moves(self) -> None:
        torch.manual_seed(0)
        model, e = sine_network(8), next(iter(SineTasks(tasks=3, shots=5, queries=6, batches=1, seed=0)))
        features = model[:4](e.query_x)
        predicted = StackedMAML(0.05, 2, inner="4").predict(model, e)
        both = torch.cat([features, torch.ones(3, 6, 1)], 2)
        residual = predicted - both @ torch.linalg.lstsq(both, predicted).solution
        assert residual.abs().max() < 1e-4  # 最後の層だけが違うなら、元の特徴の線形の式で書ける

    def test_tasks_keep_their_own_batch_statistics_and_dropout(self) -> None:
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
        before = copy.deepcopy(dict(model.named_buffers()))
        x = torch.randn(2, 6, 2) * torch.tensor([1.0, 10.0])[:, None, None]
        params = {name: p.expand(2, *p.shape) for name, p in model.named_parameters()}
        out = stacked_call(model, params, x)
        assert out.shape == (2, 6, 3) and not torch.equal(out[0] == 0, out[1] == 0)
        model[2].eval()
        out = stacked_call(model, params, x)
        torch.testing.assert_close(out.mean(1), torch.zeros(2, 3), atol=1e-5, rtol=0)
        assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())

    def test_fit_learns_to_adapt_to_a_sine(self) -> None:
        """学習の後は、1 回の更新で誤差が大きく減る。学習の前は、ほとんど減らない。"""
        torch.manual_seed(0)
        model = sine_network()
        checking = next(iter(SineTasks(tasks=200, shots=10, queries=20, batches=1, seed=1)))

        def errors() -> tuple[float, float]:
            with torch.no_grad():
                return tuple(StackedMAML(0.01, steps).loss(model, checking).item() for steps in (0, 1))

        untrained = errors()
        tasks = SineTasks(tasks=25, shots=10, queries=10, batches=100, seed=0)
        fit(
            model,
            tasks,
            StackedMAML(0.01, 1).loss,
            torch.optim.Adam(model.parameters(), 3e-3),
            steps=1000,
            device="cpu",
            progress=False,
        )
        trained = errors()
        assert untrained[1] > 0.8 * untrained[0]
        assert trained[1] < 0.5 * trained[0]


class TestFit:
    def tasks(self, part: str = "train", episodes: int = 40, **options: object) -> EpisodeSampler:
        """クラスごとの型に、大きな雑音を加えた 12 クラス。"""
        g = torch.Generator().manual_seed(0)
        codes = torch.randn(12, 1, 4, 4, generator=g)
        images = codes.repeat_interleave(12, 0) + 1.2 * torch.randn(144, 1, 4, 4, generator=g)
        split = ClassSplit(tuple(range(8)), (8, 9, 10, 11), ())
        settings = {"ways": 3, "shots": 1, "queries": 4, "episodes": episodes, "seed": 0} | options
        return EpisodeSampler(images, torch.arange(12).repeat_interleave(12), split, part, **settings)

    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))

    @pytest.mark.parametrize("options", [{}, {"first_order": True}, {"inner": "4"}])
    def test_learns_and_keeps_the_best_weights(self, options: dict) -> None:
        model, method = self.network(), MAML(0.2, 3, **options)
        checking = self.tasks("val", episodes=30, fresh=False)
        before = episode_accuracies(method.logits, model, checking).mean()
        history = fit_maml(
            *(model, method, self.tasks()),
            **{
                "steps": 60,
                "meta_batch": 4,
                "meta_lr": 1e-2,
                "validation": checking,
                "progress": False,
                "device": "cpu",
            },
        )
        after = episode_accuracies(method.logits, model, checking).mean()
        assert len(history.epochs) == 6 and after == pytest.approx(history.best_score)
        assert after > before
        assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]

    def test_the_rate_is_learned_too(self) -> None:
        rate = nn.Parameter(torch.full((2,), 0.1))
        fit_maml(self.network(), MAML(rate, 2), self.tasks(), steps=5, meta_lr=1e-2, progress=False, device="cpu")
        assert (rate != 0.1).all()

    def test_a_given_optimizer_is_used(self) -> None:
        model = self.network()
        before = copy.deepcopy(model.state_dict())
        optimizer = torch.optim.SGD(model[4].parameters(), 0.1)
        fit_maml(model, MAML(0.1, 1), self.tasks(), steps=2, optimizer=optimizer, progress=False, device="cpu")
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {"4.weight", "4.bias"}

    def test_resuming_gives_the_same_weights(self, tmp_path) -> None:
        def run(*stops: int, name: str) -> dict[str, Tensor]:
            model, tasks, method = self.network(), self.tasks(episodes=8), MAML(0.2, 1)
            for steps in stops:
                if steps != stops[0]:
                    model, tasks = self.network(), self.tasks(episodes=8)
                fit_maml(model, method, tasks, steps=steps, checkpoint=tmp_path / name, progress=False, device="cpu")
            return model.state_dict()

        whole, halves = run(6, name="a"), run(4, 6, name="b")
        assert all(torch.equal(whole[name], halves[name]) for name in whole)

    def test_validation_must_stay_the_same(self) -> None:
        with pytest.raises(ValueError, match="fresh=False"):
            fit_maml(self.network(), MAML(0.1, 1), self.tasks(), steps=1, validation=self.tasks("val"))

    def test_meta_batch_must_divide_the_round(self) -> None:
        with pytest.raises(ValueError, match="40 を割り切る"):
            fit_maml(self.network(), MAML(0.1, 1), self.tasks(), steps=1, meta_batch=3)
