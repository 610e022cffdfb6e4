"""演習 03-5 の判定が使う勾配が、手で導いた式に一致すること。"""

import pytest
import torch
import torch.nn.functional as F

from tlkit.course.checks.c03.dann_step_model import SmallDANN, scenes
from tlkit.course.checks.c03.dann_step_terms import expected, gradients

SCENES = scenes(3)


@pytest.mark.parametrize("name", ["plain", "strong", "zero", "unequal"])
def test_the_gradients_equal_the_closed_form(name: str) -> None:
    """ロジットの勾配は (p − onehot)/N。線形のモデルなので、あとは行列の積だけである。"""
    scene = SCENES[name]
    w = scene["weights"]
    n, m = len(scene["source_x"]), len(scene["target_x"])
    x = torch.cat([scene["source_x"], scene["target_x"]])
    features = x @ w["extractor.weight"].T + w["extractor.bias"]
    class_p = (features[:n] @ w["label_classifier.weight"].T + w["label_classifier.bias"]).softmax(1)
    domain_p = (features @ w["domain_classifier.weight"].T + w["domain_classifier.bias"]).softmax(1)
    domain = torch.tensor([0] * n + [1] * m)
    class_error = torch.zeros(n + m, 3, dtype=torch.float64)
    class_error[:n] = (class_p - F.one_hot(scene["source_y"], 3)) / n
    domain_error = (domain_p - F.one_hot(domain, 2)) / torch.tensor([2.0 * n] * n + [2.0 * m] * m)[:, None]
    back = class_error @ w["label_classifier.weight"]
    back = back - scene["lambda"] * (domain_error @ w["domain_classifier.weight"])
    wanted = {
        "extractor.weight": back.T @ x,
        "extractor.bias": back.sum(0),
        "label_classifier.weight": class_error.T @ features,
        "label_classifier.bias": class_error.sum(0),
        "domain_classifier.weight": domain_error.T @ features,
        "domain_classifier.bias": domain_error.sum(0),
    }
    found = expected(scene, gradients(scene))
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["plain", "norm"])
def test_the_model_of_the_probe_gives_the_same_gradients(name: str) -> None:
    """probe のモデルは hook で反転する。判定は項ごとに計算して足す。道筋は違っても、勾配は等しい。"""
    scene = SCENES[name]
    model = SmallDANN(scene)
    class_logits, source = model(scene["source_x"], scene["lambda"])
    target = model(scene["target_x"], scene["lambda"])[1]
    zeros, ones = torch.zeros(len(source), dtype=torch.long), torch.ones(len(target), dtype=torch.long)
    loss = F.cross_entropy(class_logits, scene["source_y"])
    (loss + (F.cross_entropy(source, zeros) + F.cross_entropy(target, ones)) / 2).backward()
    for key, value in expected(scene, gradients(scene)).items():
        torch.testing.assert_close(model.get_parameter(key).grad, value, rtol=1e-10, atol=1e-12)
