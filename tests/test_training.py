"""学習のくり返し: 素朴なループとの一致、記録、最良の重み、再開、発散、装置と精度。"""

import copy
import io
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tlkit.seeding import seed_everything
from tlkit.training import TrainingDivergedError, fit

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def make_data(n: int = 96) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 6, generator=g)
    return x, (x[:, 0] + 0.5 * x[:, 1] > 0).long()


def make_model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))


def make_loader(seed: int = 0, **kwargs: object) -> DataLoader:
    return DataLoader(
        TensorDataset(*make_data()), batch_size=32, shuffle=True, **seed_everything(seed).loader_kwargs, **kwargs
    )


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def accuracy(model: nn.Module) -> float:
    x, y = make_data()
    return float((model(x.to(next(model.parameters()).device)).argmax(1).cpu() == y).float().mean())


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_equals_a_bare_loop_bit_for_bit() -> None:
    ours, bare = make_model(), make_model()
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    loader = make_loader()
    torch.manual_seed(5)
    history = fit(ours, loader, loss, optimizer, epochs=3, device="cpu", progress=False)

    reference = torch.optim.SGD(bare.parameters(), lr=0.1, momentum=0.9)
    loader, means = make_loader(), []
    torch.manual_seed(5)
    bare.train()
    for _ in range(3):
        values = []
        for batch in loader:
            value = loss(bare, batch)
            reference.zero_grad()
            value.backward()
            reference.step()
            values.append(value.item())
        means.append(sum(values) / len(values))
    assert same(ours, bare)
    assert [row["loss"] for row in history.epochs] == pytest.approx(means, rel=1e-6)
    assert [row["step"] for row in history.epochs] == [3.0, 6.0, 9.0]


def test_steps_cross_the_end_of_the_loader() -> None:
    seen: list[int] = []

    def counting(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        seen.append(len(batch[0]))
        return loss(model, batch)

    model = make_model()
    history = fit(
        model,
        make_loader(),
        counting,
        torch.optim.SGD(model.parameters(), lr=0.1),
        steps=7,
        device="cpu",
        progress=False,
    )
    assert len(seen) == 7
    assert [row["step"] for row in history.epochs] == [3.0, 6.0, 7.0]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_best_weights_are_a_real_copy_and_are_restored(mode: str) -> None:
    scores = iter([0.1, 0.9, 0.5, 0.2] if mode == "max" else [0.9, 0.1, 0.5, 0.8])
    snapshots: list[dict[str, Tensor]] = []

    def validate(model: nn.Module) -> float:
        assert not model.training
        assert not torch.is_grad_enabled()
        snapshots.append(copy.deepcopy(model.state_dict()))
        return next(scores)

    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = fit(
        model, make_loader(), loss, optimizer, epochs=4, validate=validate, mode=mode, device="cpu", progress=False
    )
    assert (history.best_epoch, history.best_score) == (2, {"max": 0.9, "min": 0.1}[mode])
    assert all(torch.equal(value, snapshots[1][name]) for name, value in model.state_dict().items())
    assert not torch.equal(snapshots[1]["0.weight"], snapshots[3]["0.weight"]), "学習が進んでいません"
    before = {name: value.clone() for name, value in history.best_state.items()}
    fit(model, make_loader(), loss, optimizer, epochs=1, device="cpu", progress=False)
    assert all(torch.equal(before[name], value) for name, value in history.best_state.items())


def test_keeps_the_last_weights_when_asked() -> None:
    scores = iter([0.9, 0.1])
    model = make_model()
    last: list[Tensor] = []

    def validate(m: nn.Module) -> float:
        last.append(m[0].weight.clone())
        return next(scores)

    fit(
        model,
        make_loader(),
        loss,
        torch.optim.SGD(model.parameters(), lr=0.1),
        epochs=2,
        validate=validate,
        restore_best=False,
        device="cpu",
        progress=False,
    )
    assert torch.equal(model[0].weight, last[1])


def test_nan_scores_are_never_best() -> None:
    scores = iter([float("nan"), 0.3, float("nan")])
    model = make_model()
    history = fit(
        model,
        make_loader(),
        loss,
        torch.optim.SGD(model.parameters(), lr=0.1),
        epochs=3,
        validate=lambda _: next(scores),
        device="cpu",
        progress=False,
    )
    assert history.best_epoch == 2


def test_scheduler_moves_once_per_step() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    fit(model, make_loader(), loss, optimizer, epochs=3, scheduler=scheduler, device="cpu", progress=False)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5**9)


def test_extra_values_of_the_loss_are_recorded() -> None:
    def two(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        value = loss(model, batch)
        return {"loss": value * 2, "half": value}

    model = make_model()
    history = fit(
        model, make_loader(), two, torch.optim.SGD(model.parameters(), lr=0.1), epochs=1, device="cpu", progress=False
    )
    assert history.epochs[0]["loss"] == pytest.approx(2 * history.epochs[0]["half"])


def resumable(path: Path | None, *, stop_after: int | None = None) -> tuple[nn.Module, object]:
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 15)
    calls = 0

    def validate(m: nn.Module) -> float:
        nonlocal calls
        calls += 1
        if stop_after is not None and calls > stop_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return accuracy(m)

    loader = make_loader(3)
    history = fit(
        model,
        loader,
        loss,
        optimizer,
        epochs=5,
        scheduler=scheduler,
        validate=validate,
        checkpoint=path,
        restore_best=False,
        device="cpu",
        progress=False,
    )
    return model, history


@pytest.mark.linux
def test_resume_after_a_kill_gives_the_same_weights_and_loses_at_most_one_epoch(tmp_path: Path) -> None:
    whole, history = resumable(None)
    path = tmp_path / "run" / "c.pt"
    process = multiprocessing.get_context("spawn").Process(target=resumable, args=(path,), kwargs={"stop_after": 3})
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert torch.load(path, weights_only=True)["done"] == 9  # 4 エポック目の検証で殺された
    resumed, again = resumable(path)
    assert same(whole, resumed)
    assert again.epochs == history.epochs


def test_finished_run_is_not_repeated(tmp_path: Path) -> None:
    first, _ = resumable(tmp_path / "c.pt")
    second, history = resumable(tmp_path / "c.pt")
    assert same(first, second)
    assert len(history.epochs) == 5


@pytest.mark.parametrize("device", DEVICES)
def test_on_epoch_is_called_before_the_first_batch_of_every_epoch(device: str) -> None:
    events: list[str] = []

    def on_epoch(epoch: int) -> None:
        events.append(f"start {epoch}")
        for module in model:  # 検証が評価モードにした後でも、学習は訓練モードで始まる
            module.eval()

    def watched(m: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        assert all(module.training for module in m.modules())
        events.append("step")
        return loss(m, batch)

    def validate(_: nn.Module) -> float:
        events.append("validate")
        return 0.0

    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"on_epoch": on_epoch, "validate": validate, "device": device, "progress": False}
    fit(model, make_loader(), watched, optimizer, steps=7, **options)
    assert events == [
        *("start 0", "step", "step", "step", "validate"),
        *("start 1", "step", "step", "step", "validate"),
        *("start 2", "step", "validate"),
    ]


def test_on_epoch_can_change_what_is_trained() -> None:
    model, norms = make_model(), []

    def on_epoch(epoch: int) -> None:
        norms.append(model[0].weight.detach().clone())
        model[0].requires_grad_(epoch == 1)
        model[0].weight.grad = None

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(model, make_loader(), loss, optimizer, epochs=3, on_epoch=on_epoch, device="cpu", progress=False)
    assert torch.equal(norms[0], norms[1]) and not torch.equal(norms[1], norms[2])
    assert torch.equal(norms[2], model[0].weight)


@pytest.mark.parametrize("first", [3, 6, 7])
def test_on_epoch_counts_on_after_a_resume(tmp_path: Path, first: int) -> None:
    def run(steps: int) -> tuple[list[int], list[float]]:
        called: list[int] = []
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        options = {"checkpoint": tmp_path / "c.pt", "on_epoch": called.append, "device": "cpu", "progress": False}
        history = fit(model, make_loader(), loss, optimizer, steps=steps, **options)
        return called, [row["epoch"] for row in history.epochs]

    done = -(-first // 3)
    assert run(first) == (list(range(done)), list(range(1, done + 1)))
    called, epochs = run(first + 6)
    assert called == [done, done + 1] and epochs == list(range(1, done + 3))
    assert run(first + 6)[0] == []  # 済んだ学習では呼ばれない


@pytest.mark.parametrize("content", [b"", b"broken", None])
def test_unreadable_checkpoint_is_explained_and_kept(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "c.pt"
    if content is None:
        buffer = io.BytesIO()
        torch.save({"done": 1, "model": {"w": torch.zeros(1)}, "optimizer": {}}, buffer)
        content = buffer.getvalue()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"途中経過 .* を読み込めません"):
        resumable(path)
    assert path.read_bytes() == content


def test_divergence_stops_at_once_with_a_reason_and_the_best_weights() -> None:
    model, steps, good = make_model(), 0, []

    def bad_after_four(m: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal steps
        steps += 1
        return loss(m, batch) * (float("nan") if steps > 4 else 1.0)

    def validate(m: nn.Module) -> float:
        good.append(m[0].weight.clone())
        return 0.5

    with pytest.raises(TrainingDivergedError, match=r"5 回目の更新までに.*学習率 0.1"):
        fit(
            model,
            make_loader(),
            bad_after_four,
            torch.optim.SGD(model.parameters(), lr=0.1),
            epochs=5,
            validate=validate,
            device="cpu",
            progress=False,
        )
    assert steps == 5
    assert torch.equal(model[0].weight, good[0])


def test_nested_batches_are_moved() -> None:
    class Nested(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, i: int) -> dict:
            return {"x": torch.ones(6) * i, "pair": (torch.tensor(i % 2), "名前")}

    model = make_model()

    def nested(m: nn.Module, batch: dict) -> Tensor:
        assert batch["pair"][1] == ("名前", "名前")
        return F.cross_entropy(m(batch["x"]), batch["pair"][0])

    fit(
        model,
        DataLoader(Nested(), batch_size=2),
        nested,
        torch.optim.SGD(model.parameters(), lr=0.1),
        epochs=1,
        device="cpu",
        progress=False,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("amp", [None, torch.bfloat16])
def test_learns_on_each_device_and_precision(device: str, amp: torch.dtype | None) -> None:
    model = make_model()
    fit(
        model,
        make_loader(),
        loss,
        torch.optim.AdamW(model.parameters(), lr=0.02),
        epochs=20,
        amp=amp,
        device=device,
        progress=False,
    )
    assert next(model.parameters()).device.type == device
    assert accuracy(model.eval()) > 0.9


def test_channels_last_changes_the_layout_only() -> None:
    def run(channels_last: bool) -> nn.Module:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
        net(torch.zeros(1, 3, 8, 8))
        data = TensorDataset(torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 2)
        fit(
            net,
            DataLoader(data, batch_size=8),
            loss,
            torch.optim.SGD(net.parameters(), lr=0.1),
            epochs=2,
            channels_last=channels_last,
            device="cpu",
            progress=False,
        )
        return net

    nhwc, nchw = run(True), run(False)
    assert nhwc[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(nhwc[0].weight, nchw[0].weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({}, "どちらか一方"),
        ({"epochs": 1, "steps": 1}, "どちらか一方"),
        ({"epochs": 0}, "1 以上"),
        ({"steps": -3}, "1 以上"),
    ],
)
def test_bad_plans_are_refused(arguments: dict, word: str) -> None:
    model = make_model()
    with pytest.raises(ValueError, match=word):
        fit(
            model,
            make_loader(),
            loss,
            torch.optim.SGD(model.parameters(), lr=0.1),
            device="cpu",
            progress=False,
            **arguments,
        )


def test_empty_loader_and_wrong_losses_are_refused() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="loader が空"):
        fit(
            model,
            DataLoader(TensorDataset(*make_data(8)), batch_size=32, drop_last=True),
            loss,
            optimizer,
            epochs=1,
            device="cpu",
            progress=False,
        )
    for wrong in (lambda m, b: m(b[0]), lambda m, b: {"total": loss(m, b)}):
        with pytest.raises(ValueError, match="0 次元のテンソル"):
            fit(model, make_loader(), wrong, optimizer, epochs=1, device="cpu", progress=False)


def test_terminal_shows_one_line_and_clears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.delenv("TLKIT_BUILD", raising=False)
    model = make_model()
    fit(model, make_loader(), loss, torch.optim.SGD(model.parameters(), lr=0.1), epochs=2, device="cpu")
    text = screen.getvalue()
    assert "6/6 損失" in text
    assert "\n" not in text
    assert text.endswith("\r\033[K")


def test_nothing_is_printed_without_a_screen(capsys: pytest.CaptureFixture) -> None:
    model = make_model()
    fit(model, make_loader(), loss, torch.optim.SGD(model.parameters(), lr=0.1), epochs=1, device="cpu")
    assert capsys.readouterr() == ("", "")
