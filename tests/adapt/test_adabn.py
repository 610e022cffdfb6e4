"""AdaBN: 統計の式、変わらないもの、モードの復元、例外のとき、断り方。"""

import copy
from collections.abc import Iterator

import pytest
import torch
from adapt_kit import DEVICES, loaders, same, tiny
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tlkit.adapt import adapt_batchnorm
from tlkit.models import DANN


def network(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    body = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 5)]
    model = nn.Sequential(*body, nn.BatchNorm1d(5, momentum=0.3), nn.Linear(5, 3)).double()
    for layer in (model[1], model[6]):
        nn.init.uniform_(layer.weight, 0.5, 2.0)
        nn.init.uniform_(layer.bias, -1.0, 1.0)
        layer.running_mean.fill_(9.0)
        layer.running_var.fill_(4.0)
    return model


def batches(sizes: tuple[int, ...] = (7, 7, 3)) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    return [(k + 1) * torch.randn(n, 2, 6, 6, generator=g).double() + k for k, n in enumerate(sizes)]


def test_statistics_are_the_mean_over_batches_of_the_batch_mean_and_unbiased_variance() -> None:
    model, data = network(), batches()
    reference = copy.deepcopy(model)
    assert adapt_batchnorm(model, data) is model
    means: list[list[Tensor]] = [[], []]
    variances: list[list[Tensor]] = [[], []]

    def normalised(h: Tensor, index: int, layer: nn.Module) -> Tensor:
        """自分のバッチの統計で正規化する。移動分散に入るのは N − 1 で割る分散、正規化に使うのは N で割る分散。"""
        rows = h.transpose(0, 1).flatten(1)
        means[index].append(rows.mean(1))
        variances[index].append(rows.var(1, correction=1))
        shape = [1, -1] + [1] * (h.ndim - 2)
        centred = (h - rows.mean(1).view(shape)) / (rows.var(1, correction=0).view(shape) + layer.eps).sqrt()
        return centred * layer.weight.view(shape) + layer.bias.view(shape)

    with torch.no_grad():
        for x in data:
            h = normalised(reference[0](x), 0, reference[1]).relu().flatten(1)
            normalised(reference[5](h), 1, reference[6])
    for index, layer in enumerate((model[1], model[6])):
        for found, want in ((layer.running_mean, means), (layer.running_var, variances)):
            torch.testing.assert_close(found, torch.stack(want[index]).mean(0), rtol=1e-10, atol=1e-12)
        assert int(layer.num_batches_tracked) == 3


def test_only_the_statistics_change() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    adapt_batchnorm(model, batches())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{k}.{name}" for k in (1, 6) for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert all(p.grad is None for p in model.parameters())
    assert not any(buffer.requires_grad for buffer in model.buffers())


def test_running_it_again_gives_the_same_statistics() -> None:
    model = adapt_batchnorm(network(), batches())
    once = copy.deepcopy(model)
    assert same(adapt_batchnorm(model, batches()), once)


def test_evaluation_then_matches_the_batch_normalised_by_itself() -> None:
    """バッチが一つなら、評価モードの出力は、そのバッチ自身で正規化した出力と（N と N − 1 の違いを除いて）同じ。"""
    (x,) = batches((400,))
    model = network()
    want = copy.deepcopy(model).train()(x)
    adapt_batchnorm(model.eval(), [x])
    torch.testing.assert_close(model(x), want, rtol=2e-2, atol=2e-2)


def test_dropout_stays_off() -> None:
    model, reference = network(dropout=0.9).train(), network()
    adapt_batchnorm(model, batches())
    assert same(model, adapt_batchnorm(reference, batches()))


def some_modes(model: nn.Module) -> dict[str, bool]:
    """部品ごとに違うモードと、凍結のために評価モードにしたバッチ正規化。"""
    model.train()
    model[1].eval()
    model[3].eval()
    model[1].momentum = None
    return {name: module.training for name, module in model.named_modules()}


def settings(model: nn.Module) -> tuple[dict[str, bool], list[float | None]]:
    return {name: module.training for name, module in model.named_modules()}, [model[1].momentum, model[6].momentum]


def test_modes_and_momentum_come_back() -> None:
    model = network()
    modes = some_modes(model)
    adapt_batchnorm(model, batches())
    assert settings(model) == (modes, [None, 0.3])
    assert float(model[1].running_mean.abs().max()) < 9  # 評価モードの層も測り直す


def failing(data: list[Tensor]) -> Iterator[Tensor]:
    yield from data
    raise OSError("読めません")


@pytest.mark.parametrize("how", ["loader", "shape", "interrupt"])
def test_an_exception_leaves_everything_as_it_was(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    modes, before = some_modes(model), copy.deepcopy(model.state_dict())
    data: object = [*batches(), torch.zeros(2, 5).double()]
    error: type[BaseException] = RuntimeError
    if how == "loader":
        data, error = failing(batches()), OSError
    if how == "interrupt":
        data, error = batches(), KeyboardInterrupt
        calls = iter([False, True])
        model[7].register_forward_hook(lambda *_: interrupt() if next(calls) else None)
    with pytest.raises(error):
        adapt_batchnorm(model, data)
    assert settings(model) == (modes, [None, 0.3])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_empty_loader_is_refused_and_the_statistics_survive() -> None:
    model = network()
    before = copy.deepcopy(model)
    for empty in ([], iter(()), DataLoader(torch.zeros(3), batch_size=4, drop_last=True)):
        with pytest.raises(ValueError, match=r"loader が空です.*1 バッチ以上"):
            adapt_batchnorm(model, empty)
    assert same(model, before)


def test_a_batch_of_one_is_refused_and_the_statistics_survive() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"1 件だけ.*drop_last"):
        adapt_batchnorm(model, batches((7, 1)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_models_without_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Sequential にバッチ正規化の層がありません"):
        adapt_batchnorm(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), [torch.zeros(2, 2)])
    with pytest.raises(ValueError, match="DANN にバッチ正規化の層がありません"):
        adapt_batchnorm(DANN(network="mnist28", norm="none"), [torch.zeros(2, 3, 28, 28)])
    with pytest.raises(ValueError, match="track_running_stats=False"):
        adapt_batchnorm(nn.BatchNorm1d(2, track_running_stats=False), [torch.zeros(2, 2)])


def test_models_without_parameters_work() -> None:
    layer = adapt_batchnorm(nn.BatchNorm1d(2, affine=False), [torch.tensor([[0.0, 1.0], [2.0, 5.0]])])
    assert layer.running_mean.tolist() == [1.0, 3.0] and layer.running_var.tolist() == [2.0, 8.0]


def test_labels_in_the_batches_are_not_used() -> None:
    x = torch.cat(batches())
    plain = adapt_batchnorm(network(), x.split(5))
    for labels in (torch.zeros(len(x)), torch.arange(len(x))):
        loader = DataLoader(TensorDataset(x, labels), batch_size=5)
        assert same(adapt_batchnorm(network(), loader), plain)


@pytest.mark.parametrize("device", DEVICES)
def test_domain_statistics_of_a_dann_on_its_device(device: str) -> None:
    source, target = loaders()
    model = tiny().to(device)
    adapt_batchnorm(model, target)
    x = torch.cat([batch for batch, _ in target]).to(device)
    with torch.no_grad():
        want = model.extractor[0](x).mean(0)
    torch.testing.assert_close(model.extractor[1].running_mean, want, rtol=1e-4, atol=1e-5)
    first = model.extractor[1].running_mean.clone()
    adapt_batchnorm(model, source)
    assert (model.extractor[1].running_mean - first).abs().max() > 0.1
