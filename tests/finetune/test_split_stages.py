"""段の分け方: どのパラメータもちょうど一つの段に入ること、知られたモデルの段の名前。"""

import pytest
import torch
from torchvision.models import get_model

from tlkit._stages import find_head, split_stages
from tlkit.models import EfficientNetLite0, GlyphCNN, TransferModel


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11", "vit_b_32", "swin_t", "squeezenet1_1", "maxvit_t", "mobilenet_v3_small"]
)
def test_every_parameter_is_in_exactly_one_stage(name: str) -> None:
    with torch.device("meta"):
        model = get_model(name, weights=None)
    stages = split_stages(model)
    inside = [id(p) for stage in stages for p in stage.parameters]
    assert sorted(inside) == sorted(id(p) for p in model.parameters())
    assert len(stages) >= 5
    assert stages[-1].modules == (find_head(model)[1],)


def test_stage_names_of_known_models() -> None:
    lite = [stage.name for stage in split_stages(EfficientNetLite0(weights=None))]
    assert lite == ["stem", *(f"stages.{i}" for i in range(7)), "classifier"]
    with torch.device("meta"):
        resnet = [stage.name for stage in split_stages(get_model("resnet18", weights=None))]
    assert resnet == ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert [stage.name for stage in split_stages(GlyphCNN(3))] == ["stem", "stages.0", "stages.1", "head", "classifier"]


def test_the_first_linear_layer_after_convolutions_starts_a_stage() -> None:
    with torch.device("meta"):
        mobile = get_model("mobilenet_v3_small", weights=None)
        transfer = TransferModel(4, "mobilenet_v3_small", weights=None)
        swin = get_model("swin_t", weights=None)
    assert [stage.name for stage in split_stages(mobile)][-2:] == ["classifier.0", "classifier.3"]
    assert [stage.name for stage in split_stages(transfer)][-2:] == ["backbone.classifier", "classifier"]
    # 全結合層を初めから含む部品が続くモデルでは、途中の小さな部品は段にならない
    assert [stage.name for stage in split_stages(swin)] == [*(f"features.{i}" for i in (0, 1, 3, 5, 7)), "head"]
