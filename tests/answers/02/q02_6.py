"""演習 02-6（線形プローブの解を分類層に置く）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import copy
import functools

import numpy as np
import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong
from scipy import optimize
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from torch import nn

import tlkit.seeding
from tlkit.finetune import fit_head

# ---------------------------------------------------------------- 共通の部品


def zeros(model):
    head = model.classifier
    return torch.zeros_like(head.weight, requires_grad=True), torch.zeros_like(head.bias, requires_grad=True)


def write(model, weight, bias):
    with torch.no_grad():
        model.classifier.weight.copy_(torch.as_tensor(weight))
        model.classifier.bias.copy_(torch.as_tensor(bias))
    return model


def lbfgs(parameters, objective, max_iter=1000):
    optimizer = torch.optim.LBFGS(parameters, max_iter=max_iter, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    optimizer.step(closure)


def minimised(model, features, objective):
    """0 から始めて、目的関数 objective(logits, W, b) を L-BFGS で最小にする。"""
    weight, bias = zeros(model)
    lbfgs([weight, bias], lambda: objective(F.linear(features, weight, bias), weight, bias))
    return weight.detach(), bias.detach()


# ---------------------------------------------------------------- 正しい答え


@right
def lbfgs_from_zero(model, features, labels, l2):
    return write(
        model, *minimised(model, features, lambda z, w, b: F.cross_entropy(z, labels) + l2 / 2 * w.square().sum())
    )


@right
def lbfgs_on_the_layer_itself(model, features, labels, l2):
    """分類層をそのまま最適化し、勾配を消す。None を返す。"""
    head = model.classifier
    lbfgs(head.parameters(), lambda: F.cross_entropy(head(features), labels) + l2 / 2 * head.weight.pow(2).sum())
    head.zero_grad()


@right
def adam_for_long(model, features, labels, l2):
    weight, bias = zeros(model)
    optimizer = torch.optim.Adam([weight, bias], lr=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
    for _ in range(1000):
        optimizer.zero_grad()
        (F.cross_entropy(features @ weight.T + bias, labels) + l2 / 2 * (weight**2).sum()).backward()
        optimizer.step()
        scheduler.step()
    return write(model, weight, bias)


@right
def momentum_with_decay_on_the_weight_only(model, features, labels, l2):
    """weight_decay を、重みのグループだけに掛ける。"""
    head = copy.deepcopy(model.classifier)
    groups = [{"params": [head.weight], "weight_decay": l2}, {"params": [head.bias]}]
    steepest = float(torch.linalg.matrix_norm(features, 2) ** 2) / len(features) / 2 + l2
    optimizer = torch.optim.SGD(groups, lr=1 / steepest, momentum=0.99, nesterov=True)
    for _ in range(2000):
        optimizer.zero_grad()
        F.cross_entropy(head(features), labels).backward()
        optimizer.step()
    model.classifier.load_state_dict(head.state_dict())
    return model


@right
def scikit_learn(model, features, labels, l2):
    fitted = LogisticRegression(C=1 / (len(labels) * l2), max_iter=5000).fit(features.numpy(), labels.numpy())
    return write(model, fitted.coef_, fitted.intercept_)


@right
def newton(model, features, labels, l2):
    """ヘッセ行列を作る。バイアスの共通の量は決まらないので、最小二乗で解く。"""
    x = torch.cat([features, torch.ones(len(features), 1)], dim=1).double()
    n, d = x.shape
    c = model.classifier.out_features
    penalty = torch.full((d,), l2, dtype=torch.double)
    penalty[-1] = 0
    onehot = F.one_hot(labels, c).double()
    theta = torch.zeros(c, d, dtype=torch.double)

    def value(t):
        return F.cross_entropy(x @ t.T, labels) + 0.5 * (penalty * t * t).sum()

    for _ in range(50):
        p = (x @ theta.T).softmax(1)
        slope = (p - onehot).T @ x / n + penalty * theta
        curve = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        hessian = torch.einsum("nij,na,nb->iajb", curve, x, x).reshape(c * d, c * d) / n + torch.diag(penalty.repeat(c))
        step = torch.linalg.lstsq(hessian, slope.reshape(-1, 1), driver="gelsd").solution.reshape(c, d)
        size = 1.0
        while value(theta - size * step) > value(theta) and size > 1e-6:
            size /= 2
        theta = theta - size * step
    return write(model, theta[:, :-1], theta[:, -1])


@right
def scipy_in_numpy(model, features, labels, l2):
    x, y = features.double().numpy(), labels.numpy()
    n, d = x.shape
    c = len(model.classifier.bias)
    onehot = np.eye(c)[y]

    def value_and_slope(theta):
        w, b = theta[: c * d].reshape(c, d), theta[c * d :]
        z = x @ w.T + b
        z -= z.max(1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        error = (np.exp(log_p) - onehot) / n
        loss = -(onehot * log_p).sum() / n + l2 / 2 * (w**2).sum()
        return loss, np.concatenate([(error.T @ x + l2 * w).ravel(), error.sum(0)])

    found = optimize.minimize(
        value_and_slope, np.zeros(c * (d + 1)), jac=True, method="L-BFGS-B", options={"maxiter": 2000}
    ).x
    return write(model, found[: c * d].reshape(c, d), found[c * d :])


@right
def sum_with_a_scaled_penalty(model, features, labels, l2):
    """和に、件数倍の罰則を足しても、最小点は同じ。"""
    n = len(labels)
    parts = minimised(
        model,
        features,
        lambda z, w, b: F.cross_entropy(z, labels, reduction="sum") / n + n * l2 / 2 * w.square().sum() / n,
    )
    write(model, *parts)


# ---------------------------------------------------------------- 目的関数の誤り


def with_objective(objective):
    def answer(model, features, labels, l2):
        return write(model, *minimised(model, features, lambda z, w, b: objective(z, labels, w, b, l2)))

    return answer


@wrong("bias-penalised").each
def penalises_the_bias():
    return with_objective(lambda z, y, w, b, l2: F.cross_entropy(z, y) + l2 / 2 * (w.square().sum() + b.square().sum()))


@wrong("bias-penalised")
def weight_decay_on_everything(model, features, labels, l2):
    weight, bias = zeros(model)
    optimizer = torch.optim.Adam([weight, bias], lr=0.05, weight_decay=l2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
    for _ in range(1000):
        optimizer.zero_grad()
        F.cross_entropy(F.linear(features, weight, bias), labels).backward()
        optimizer.step()
        scheduler.step()
    return write(model, weight, bias)


@wrong("l2-factor").each
def forgets_the_half():
    return with_objective(lambda z, y, w, b, l2: F.cross_entropy(z, y) + l2 * w.square().sum())


@wrong("l2-factor").each
def halves_twice():
    return with_objective(lambda z, y, w, b, l2: F.cross_entropy(z, y) + l2 / 4 * w.square().sum())


@wrong("depends-on-count").each
def sums_the_loss():
    return with_objective(lambda z, y, w, b, l2: F.cross_entropy(z, y, reduction="sum") + l2 / 2 * w.square().sum())


@wrong("depends-on-count").each
def divides_the_penalty_by_the_count():
    return with_objective(lambda z, y, w, b, l2: F.cross_entropy(z, y) + l2 / 2 * w.square().sum() / len(y))


@wrong("depends-on-count")
def scikit_learn_without_the_count(model, features, labels, l2):
    fitted = LogisticRegression(C=1 / l2, max_iter=5000).fit(features.numpy(), labels.numpy())
    return write(model, fitted.coef_, fitted.intercept_)


@wrong("penalty-form").each
def means_the_squares():
    return with_objective(lambda z, y, w, b, l2: F.cross_entropy(z, y) + l2 / 2 * w.square().mean())


@wrong("penalty-form").each
def forgets_to_square_the_norm():
    return with_objective(lambda z, y, w, b, l2: F.cross_entropy(z, y) + l2 / 2 * (w.square().sum() + 1e-6).sqrt())


@wrong("l2-ignored").each
def no_penalty():
    return with_objective(lambda z, y, w, b, l2: F.cross_entropy(z, y) + 0.01 / 2 * w.square().sum())


@wrong("not-minimum").each
def penalises_the_absolute_values():
    return with_objective(lambda z, y, w, b, l2: F.cross_entropy(z, y) + l2 / 2 * (w.square() + 1e-6).sqrt().sum())


@wrong("rates-not-matched").each
def smooths_the_labels():
    return with_objective(lambda z, y, w, b, l2: F.cross_entropy(z, y, label_smoothing=0.1) + l2 / 2 * w.square().sum())


@wrong("rates-not-matched")
def balances_the_classes(model, features, labels, l2):
    fitted = LogisticRegression(C=1 / (len(labels) * l2), max_iter=5000, class_weight="balanced")
    fitted.fit(features.numpy(), labels.numpy())
    return write(model, fitted.coef_, fitted.intercept_)


@wrong("not-softmax")
def one_versus_rest(model, features, labels, l2):
    """クラスごとの 2 値のロジスティック回帰。"""
    fitted = OneVsRestClassifier(LogisticRegression(C=1 / (len(labels) * l2), max_iter=5000))
    fitted.fit(features.numpy(), labels.numpy())
    coefficients = np.concatenate([each.coef_ for each in fitted.estimators_])
    return write(model, coefficients, np.concatenate([each.intercept_ for each in fitted.estimators_]))


@wrong("squared-error")
def ridge_on_zero_and_one(model, features, labels, l2):
    onehot = F.one_hot(labels, len(model.classifier.bias)).to(features)
    centred = features - features.mean(0)
    gram = centred.T @ centred / len(labels) + l2 * torch.eye(features.shape[1]).to(features)
    weight = torch.linalg.solve(gram, centred.T @ onehot / len(labels)).T
    return write(model, weight, onehot.mean(0) - weight @ features.mean(0))


@wrong("squared-error")
def ridge_of_scikit_learn(model, features, labels, l2):
    """目標が 0 と 1 でなく −1 と 1 でも、二乗誤差であることは同じ。"""
    fitted = RidgeClassifier(alpha=len(labels) * l2).fit(features.numpy(), labels.numpy())
    return write(model, fitted.coef_, fitted.intercept_)


@wrong("labels-ignored")
def trains_on_its_own_predictions(model, features, labels, l2):
    return lbfgs_from_zero(model, features, model.classifier(features).argmax(1), l2)


# ---------------------------------------------------------------- 最小点に着いていない


@wrong("depends-on-start")
def ten_steps_from_the_old_head(model, features, labels, l2):
    head = model.classifier
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        (F.cross_entropy(head(features), labels) + l2 / 2 * head.weight.square().sum()).backward()
        optimizer.step()
    head.zero_grad()
    return model


@wrong("depends-on-start")
def penalises_the_distance_from_the_start(model, features, labels, l2):
    old = model.classifier.weight.detach().clone()
    return write(
        model,
        *minimised(model, features, lambda z, w, b: F.cross_entropy(z, labels) + l2 / 2 * (w - old).square().sum()),
    )


@wrong("not-minimum")
def thirty_small_steps_from_zero(model, features, labels, l2):
    weight, bias = zeros(model)
    optimizer = torch.optim.Adam([weight, bias], lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        (F.cross_entropy(F.linear(features, weight, bias), labels) + l2 / 2 * weight.square().sum()).backward()
        optimizer.step()
    # 割合だけはバイアスで合わせる
    lbfgs([bias], lambda: F.cross_entropy(F.linear(features, weight.detach(), bias), labels))
    return write(model, weight, bias)


@wrong("scaled-not-converged")
def the_default_number_of_iterations(model, features, labels, l2):
    """LBFGS の既定の反復は 20 回。"""
    weight, bias = zeros(model)
    lbfgs(
        [weight, bias],
        lambda: F.cross_entropy(F.linear(features, weight, bias), labels) + l2 / 2 * weight.square().sum(),
        max_iter=20,
    )
    return write(model, weight, bias)


@wrong("scaled-not-converged")
def gradient_descent_with_one_small_rate(model, features, labels, l2):
    """勾配降下法は、次元ごとの大きさが違うと遅い。"""
    weight, bias = zeros(model)
    step = 1 / (float(torch.linalg.matrix_norm(features, 2) ** 2) / len(features) / 2 + l2)
    for _ in range(400):
        loss = F.cross_entropy(F.linear(features, weight, bias), labels) + l2 / 2 * weight.square().sum()
        slopes = torch.autograd.grad(loss, (weight, bias))
        weight.data -= step * slopes[0]
        bias.data -= step * slopes[1]
    return write(model, weight, bias)


@wrong("not-finite")
def diverges(model, features, labels, l2):
    weight, bias = zeros(model)
    for _ in range(200):
        loss = F.cross_entropy(F.linear(features, weight, bias), labels) + 30 * weight.square().sum()
        for value, slope in zip((weight, bias), torch.autograd.grad(loss, (weight, bias))):
            value.data -= 1e3 * slope
    return write(model, weight, bias)


@wrong("l2-ignored")
def nearest_mean(model, features, labels, l2):
    means = torch.stack([features[labels == c].mean(0) for c in range(len(model.classifier.bias))])
    weight = means - means.mean(0)
    return write(model, weight, -0.5 * means.square().sum(1))


# ---------------------------------------------------------------- 特徴の扱い


def solved_on(model, changed, labels, l2):
    return minimised(model, changed, lambda z, w, b: F.cross_entropy(z, labels) + l2 / 2 * w.square().sum())


@wrong("not-folded")
def writes_the_head_of_standardised_features(model, features, labels, l2):
    return write(model, *solved_on(model, (features - features.mean(0)) / features.std(0), labels, l2))


@wrong("not-folded")
def writes_the_head_of_centred_features(model, features, labels, l2):
    return write(model, *solved_on(model, features - features.mean(0), labels, l2))


@wrong("penalty-by-column")
def penalises_in_standardised_units(model, features, labels, l2):
    mean, std = features.mean(0), features.std(0)
    weight, bias = solved_on(model, (features - mean) / std, labels, l2)
    weight = weight / std
    return write(model, weight, bias - weight @ mean)


@wrong("argument-changed")
def standardises_in_place(model, features, labels, l2):
    features -= features.mean(0)
    return lbfgs_from_zero(model, features, labels, l2)


# ---------------------------------------------------------------- 書き込みの誤り


@wrong("nothing-written")
def trains_a_copy(model, features, labels, l2):
    lbfgs_from_zero(copy.deepcopy(model), features, labels, l2)
    return model


@wrong("other-returned")
def returns_the_copy(model, features, labels, l2):
    return copy.deepcopy(lbfgs_from_zero(model, features, labels, l2))


@wrong("bias-untouched")
def trains_only_the_weight(model, features, labels, l2):
    weight, _ = zeros(model)
    bias = model.classifier.bias.detach()
    lbfgs([weight], lambda: F.cross_entropy(F.linear(features, weight, bias), labels) + l2 / 2 * weight.square().sum())
    return write(model, weight, bias)


@wrong("weight-untouched")
def writes_only_the_bias(model, features, labels, l2):
    weight, bias = solved_on(model, features, labels, l2)
    with torch.no_grad():
        model.classifier.bias.copy_(bias)
    return model


@wrong("head-shape")
def transposes(model, features, labels, l2):
    weight, bias = solved_on(model, features, labels, l2)
    model.classifier.weight = nn.Parameter(weight.T)
    return model


@wrong("head-dtype")
def numpy_into_data(model, features, labels, l2):
    fitted = LogisticRegression(C=1 / (len(labels) * l2), max_iter=5000).fit(features.double().numpy(), labels.numpy())
    model.classifier.weight.data = torch.from_numpy(fitted.coef_)
    model.classifier.bias.data = torch.from_numpy(fitted.intercept_)
    return model


@wrong("head-replaced")
def new_layer(model, features, labels, l2):
    weight, bias = solved_on(model, features, labels, l2)
    model.classifier = nn.Linear(features.shape[1], len(bias)).to(features)
    return write(model, weight, bias)


@wrong("head-replaced")
def new_parameters(model, features, labels, l2):
    weight, bias = solved_on(model, features, labels, l2)
    model.classifier.weight, model.classifier.bias = nn.Parameter(weight), nn.Parameter(bias)
    return model


@wrong("gradients-left")
def leaves_the_gradients(model, features, labels, l2):
    head = model.classifier
    lbfgs(head.parameters(), lambda: F.cross_entropy(head(features), labels) + l2 / 2 * head.weight.square().sum())
    return model


@wrong("head-frozen")
def freezes_the_head(model, features, labels, l2):
    model.classifier.requires_grad_(False)
    return lbfgs_from_zero(model, features, labels, l2)


# ---------------------------------------------------------------- 本体に触れる誤り


@wrong("flags-changed")
def freezes_the_backbone(model, features, labels, l2):
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    return lbfgs_on_the_layer_itself(model, features, labels, l2)


@wrong("modes-changed")
def evaluates(model, features, labels, l2):
    model.eval()
    return lbfgs_from_zero(model, features, labels, l2)


@wrong("statistics-moved")
def passes_through_the_model(model, features, labels, l2):
    model.norm.train()
    model.features(features)
    model.norm.eval()
    return lbfgs_from_zero(model, features, labels, l2)


@wrong("backbone-changed")
def trains_the_whole_model(model, features, labels, l2):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        (F.cross_entropy(model(features), labels) + l2 / 2 * model.classifier.weight.square().sum()).backward()
        optimizer.step()
    model.zero_grad()
    return model


@wrong("raised")
def closure_without_a_value(model, features, labels, l2):
    weight, bias = zeros(model)
    optimizer = torch.optim.LBFGS([weight, bias])

    def closure():
        F.cross_entropy(F.linear(features, weight, bias), labels).backward()

    optimizer.step(closure)
    return write(model, weight, bias)


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(model, features, labels, l2):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(model, features, labels, l2):
    weight = ...
    return model.classifier.weight.copy_(weight + 1)


@untouched.each
def partial_of_a_stub():
    return functools.partial(raises)


@wrong("nothing-written")
def only_a_docstring(model, features, labels, l2):
    """None を返してよい問題なので、何もしない答えは「書き込まれていない」になる。"""


# ---------------------------------------------------------------- 借り物


@borrower
def calls_a_function_of_tlkit(model, features, labels, l2):
    tlkit.seeding.seed_everything(0)
    return lbfgs_from_zero(model, features, labels, l2)


@borrower
def calls_the_library(model, features, labels, l2):
    model.features = lambda x: x
    return fit_head(model, [(features, labels)], l2=l2)


@borrower.each
def the_library_function_itself():
    return fit_head


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "optimizer.step(closure) → optimizer.step(closure).detach()": "step の返り値は使わない",
}
