"""演習 08-6 の正しい値と勾配。自動微分を使わず、手で導いた内側の勾配と、外側の中心差分で求める。

パラメータは一列に並べて (B, P) とし、B 通りを一度に計算する。中心差分では、1 個ずつずらした 2P 通りを並べる。
"""

import numpy as np
import torch

from tlkit.course.checks.c08.meta_distillation_step_model import CLASSES, DIMS, NAMES, WIDTHS, Scene

Array = np.ndarray
SHIFT = 1e-5
TERMS = ("soft", "hard")


def flat(weights: dict[str, torch.Tensor]) -> Array:
    """名前の順に一列に並べたパラメータ (1, P)。"""
    return np.concatenate([weights[name].numpy().ravel() for name in NAMES])[None]


def term_gradients(scene: Scene, student: Array, teacher: Array) -> dict[str, Array]:
    """サポートの上の、KL(教師_T ‖ 生徒_T)（T² を掛けない）と交差エントロピーの、生徒モデルのパラメータでの勾配 (B, P)。"""
    x, y = (value.numpy() for value in scene["support"])
    hidden, logits = _network(x, student, "student")
    t = scene["temperature"]
    p, q = (_softmax(value / t) for value in (_network(x, teacher, "teacher")[1], logits))
    return {
        "soft": _backward(x, hidden, (q - p) / (t * len(x)), student),
        "hard": _backward(x, hidden, (_softmax(logits) - np.eye(CLASSES)[y]) / len(x), student),
    }


def factors(scene: Scene) -> tuple[float, float]:
    """正しい係数 (α·T², 1 − α)。"""
    return scene["alpha"] * scene["temperature"] ** 2, 1 - scene["alpha"]


def adapted(scene: Scene, student: Array, teacher: Array, steps: int | None = None) -> Array:
    """内側の更新のあとのパラメータ (B, P)。"""
    soft, hard = factors(scene)
    for _ in range(scene["inner_steps"] if steps is None else steps):
        terms = term_gradients(scene, student, teacher)
        student = student - scene["inner_lr"] * (soft * terms["soft"] + hard * terms["hard"])
    return student


def query_loss(scene: Scene, student: Array) -> Array:
    """クエリの交差エントロピー (B,)。"""
    x, y = (value.numpy() for value in scene["query"])
    log_q = np.log(_softmax(_network(x, student, "student")[1]))
    losses: Array = -log_q[:, np.arange(len(y)), y].mean(axis=1)
    return losses


def meta_gradients(scene: Scene) -> dict[str, Array]:
    """適応のあとのクエリの損失の、生徒モデルの初めの重みと教師モデルの重みでの勾配。中心差分。"""
    student, teacher = flat(scene["student"]), flat(scene["teacher"])
    return {
        "student": _slopes(query_loss(scene, adapted(scene, _shifted(student), teacher))),
        "teacher": _slopes(query_loss(scene, adapted(scene, student, _shifted(teacher)))),
    }


def _shifted(weights: Array) -> Array:
    steps = SHIFT * np.eye(weights.shape[1])
    return np.concatenate([weights + steps, weights - steps])


def _slopes(values: Array) -> Array:
    ahead, behind = np.split(values, 2)
    slopes: Array = (ahead - behind) / (2 * SHIFT)
    return slopes


def _network(x: Array, weights: Array, role: str) -> tuple[Array, Array]:
    """隠れ層 (B, N, H) とロジット (B, N, C)。"""
    first, first_bias, last, last_bias = _parts(weights, role)
    before = x @ first.transpose(0, 2, 1) + first_bias[:, None]
    hidden = np.tanh(before) if role == "student" else np.sin(before)
    return hidden, hidden @ last.transpose(0, 2, 1) + last_bias[:, None]


def _backward(x: Array, hidden: Array, slope: Array, weights: Array) -> Array:
    """ロジットでの勾配 (B, N, C) を、生徒モデルのパラメータでの勾配 (B, P) に直す。"""
    inner = slope @ _parts(weights, "student")[2] * (1 - hidden**2)
    parts = inner.transpose(0, 2, 1) @ x, inner.sum(1), slope.transpose(0, 2, 1) @ hidden, slope.sum(1)
    count = max(len(part) for part in parts)
    return np.concatenate([np.broadcast_to(part.reshape(len(part), -1), (count, part[0].size)) for part in parts], 1)


def _parts(weights: Array, role: str) -> list[Array]:
    width = WIDTHS[role]
    shapes = (width, DIMS), (width,), (CLASSES, width), (CLASSES,)
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
    return [part.reshape(-1, *shape) for part, shape in zip(np.split(weights, ends, axis=1), shapes, strict=True)]


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities
