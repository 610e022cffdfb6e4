"""ImageNet の重みのファインチューニングの実験: 部品の正しさ、値の再現、章の主張。"""

from types import ModuleType

import pytest
import torch
from _lite import LastBlock, below_last_block, hold_statistics, lite_input
from torch.utils.data import TensorDataset

from tlkit import results
from tlkit.finetune import set_freeze
from tlkit.models import EfficientNetLite0
from tlkit.stats import MeanCI

SIZE = 32


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def network() -> EfficientNetLite0:
    torch.manual_seed(0)
    return EfficientNetLite0(4)


def low(ci: MeanCI) -> float:
    return ci.mean - ci.half


def high(ci: MeanCI) -> float:
    return ci.mean + ci.half


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


class TestParts:
    """実験の部品。"""

    def test_the_input_has_three_channels_from_minus_one_to_one(self) -> None:
        ramp = torch.linspace(0, 1, 28).expand(2, 1, 28, 28)
        x = lite_input(ramp, SIZE)
        assert x.shape == (2, 3, SIZE, SIZE)
        assert x.min() == pytest.approx(-1, abs=0.02) and x.max() == pytest.approx(1, abs=0.02)
        assert torch.equal(x[:, 0], x[:, 2])

    @pytest.mark.parametrize("norm", ["batch", "frozen"])
    def test_training_on_stored_outputs_is_training_with_the_lower_stages_frozen(
        self, script, images: torch.Tensor, norm: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """手前の段の出力を先に計算しても、段を凍結した学習と同じ重みになる（丸め誤差は、動いた量に比べて小さい）。"""
        module: ModuleType = script("02_imagenet")
        monkeypatch.setattr(module, "update_bn", lambda loader, model: None)  # 凍結した段まで計算し直すので
        x, labels = lite_input(images, SIZE), torch.arange(8) % 4
        whole, split = set_freeze(network(), "partial"), network()
        stored = TensorDataset(below_last_block(split, x), labels)
        for model, data in ((LastBlock(split), stored), (whole, TensorDataset(x, labels))):
            module.fine_tune(model, data, {"lr": 1e-3, "norm": norm}, 3, 0)
        one, other, start = (flat(model) for model in (split, whole, network()))
        moved = (one - start).norm()
        assert moved > 0.1
        assert (one - other).norm() < 0.1 * moved

    @pytest.mark.parametrize("held", [True, False])
    def test_held_statistics_stay_while_the_coefficients_learn(self, images: torch.Tensor, held: bool) -> None:
        model = network()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        if held:
            hold_statistics(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        model.train()
        model(lite_input(images, SIZE)).square().sum().backward()
        optimizer.step()
        after = model.state_dict()
        assert torch.equal(after["stem.1.running_mean"], before["stem.1.running_mean"]) is held
        assert not torch.equal(after["stem.1.weight"], before["stem.1.weight"])

    def test_after_training_with_batch_statistics_they_are_those_of_the_training_images(
        self, script, images: torch.Tensor
    ) -> None:
        """学習を終えたモデルの移動統計は、最後の重みで訓練画像を通したときの統計である。"""
        model, x = network(), lite_input(images, SIZE)
        script("02_imagenet").fine_tune(model, TensorDataset(x, torch.arange(8) % 4), {"lr": 1e-3}, 2, 0)
        with torch.no_grad():
            found = model.stem[0](x).mean((0, 2, 3))
        torch.testing.assert_close(model.stem[1].running_mean, found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "method"), [("photos_grey", "head"), ("mnist5k", "small_cnn")])
def test_measured_again(script, name: str, method: str) -> None:
    """機械や版が違えば末尾の桁は変わるので、テスト画像の 3 % までの違いは許す。"""
    stored, module = results.load("02_imagenet"), script("02_imagenet")
    setting = stored.settings["picked"][f"{name}/few/{method}"]
    again = module.measure(method, setting, module.task_of(name, 0, development=False), 5)
    assert again == pytest.approx(stored.by_seed("accuracy", set=name, per_class=5, method=method)[0], abs=0.03)


class TestClaims:
    """第2章の主張。効果の大きさと、95 % 区間の端で判定する。"""

    PER_CLASS = (2, 5, 10, 30)
    TUNED = ("last_block", "discriminative")

    def gain(self, name: str, per_class: int, method: str, control: str) -> MeanCI:
        found = results.load("02_imagenet")
        return found.difference("accuracy", {"method": method}, {"method": control}, set=name, per_class=per_class)

    @pytest.mark.parametrize("per_class", PER_CLASS)
    @pytest.mark.parametrize("control", ["small_cnn", "scratch"])
    @pytest.mark.parametrize("method", ["head", *TUNED])
    def test_on_grey_photos_the_weights_win_at_every_size(self, per_class: int, control: str, method: str) -> None:
        assert low(self.gain("photos_grey", per_class, method, control)) > 0.10

    @pytest.mark.parametrize("per_class", PER_CLASS)
    def test_on_digits_the_frozen_features_lose_to_a_small_network(self, per_class: int) -> None:
        assert high(self.gain("mnist5k", per_class, "head", "small_cnn")) < -0.02

    @pytest.mark.parametrize("per_class", PER_CLASS)
    @pytest.mark.parametrize("method", TUNED)
    def test_on_digits_fine_tuning_does_not_win_either(self, per_class: int, method: str) -> None:
        found = self.gain("mnist5k", per_class, method, "small_cnn")
        assert found.mean < 0 and high(found) < 0.05

    @pytest.mark.parametrize("method", TUNED)
    def test_on_digits_it_loses_with_thirty_per_class(self, method: str) -> None:
        assert high(self.gain("mnist5k", 30, method, "small_cnn")) < -0.01

    @pytest.mark.parametrize("per_class", PER_CLASS)
    @pytest.mark.parametrize("method", TUNED)
    def test_but_the_weights_help_the_same_large_network_on_digits_too(self, per_class: int, method: str) -> None:
        """同じ構造、少ない更新のもとでは、重みは数字でも役に立つ（小さな CNN に勝てないだけである）。"""
        assert low(self.gain("mnist5k", per_class, method, "scratch")) > 0.04

    @pytest.mark.parametrize("per_class", PER_CLASS)
    def test_on_grey_photos_training_every_layer_is_no_clear_gain_over_the_head(self, per_class: int) -> None:
        found = self.gain("photos_grey", per_class, "discriminative", "head")
        assert low(found) < 0 and found.mean < 0.05

    @pytest.mark.parametrize("per_class", [10, 30])
    def test_on_digits_training_every_layer_gains_on_the_head(self, per_class: int) -> None:
        assert low(self.gain("mnist5k", per_class, "discriminative", "head")) > 0.01
