"""演習 01-4（プロキシ A 距離）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import functools

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

import tlkit
from tlkit.transferability import proxy_a_distance as borrowed_distance


def split(z, rng, share=0.5):
    order = rng.permutation(len(z))
    cut = int(len(z) * share)
    return z[order[:cut]], z[order[cut:]]


def halves(source, target, seed, share=0.5):
    rng = np.random.default_rng(seed)
    return split(source, rng, share), split(target, rng, share)


def logistic():
    return LogisticRegression(class_weight="balanced", max_iter=500)


def fitted(first, second, classifier):
    x = np.concatenate([first, second])
    return classifier.fit(x, np.repeat([0, 1], [len(first), len(second)]))


def rates(source, target, seed, classifier=None, share=0.5):
    (s_train, s_test), (t_train, t_test) = halves(source, target, seed, share)
    model = fitted(s_train, t_train, classifier or logistic())
    return np.mean(model.predict(s_test) != 0), np.mean(model.predict(t_test) != 1)


def distance(errors):
    return 2 * (1 - 2 * np.mean(errors))


# ---------------------------------------------------------------- 正しい答え


@right
def logistic_regression(source, target, seed):
    return float(distance(rates(source, target, seed)))


@right
def with_sklearn_split(source, target, seed):
    x, y = np.concatenate([source, target]), np.repeat([0, 1], [len(source), len(target)])
    a, b, ya, yb = train_test_split(x, y, test_size=0.5, stratify=y, random_state=seed)
    wrong_ones = logistic().fit(a, ya).predict(b) != yb
    return 2 * (1 - (wrong_ones[yb == 0].mean() + wrong_ones[yb == 1].mean()))


@right
def scaled_linear_svm(source, target, seed):
    model = make_pipeline(StandardScaler(), LinearSVC(class_weight="balanced", random_state=0))
    return distance(rates(source, target, seed, model))


@right
def least_squares_by_hand(source, target, seed):
    (s_train, s_test), (t_train, t_test) = halves(source, target, seed)
    x = np.concatenate([s_train, t_train])
    x = np.hstack([x, np.ones((len(x), 1))])
    y = np.repeat([-1.0, 1.0], [len(s_train), len(t_train)])
    weight = np.repeat([1 / len(s_train), 1 / len(t_train)], [len(s_train), len(t_train)])
    w = np.linalg.solve((x.T * weight) @ x + 1e-3 * np.eye(x.shape[1]), (x.T * weight) @ y)

    def score(z):
        return z @ w[:-1] + w[-1]

    return 2 - 2 * np.mean(score(s_test) > 0) - 2 * np.mean(score(t_test) <= 0)


@right
def thinned_to_the_smaller_domain(source, target, seed):
    rng = np.random.default_rng(seed)
    (s_train, s_test), (t_train, t_test) = split(source, rng), split(target, rng)
    n = min(len(s_train), len(t_train))
    model = fitted(s_train[:n], t_train[:n], LogisticRegression(max_iter=500))
    return distance([np.mean(model.predict(s_test) != 0), np.mean(model.predict(t_test) != 1)])


@right
def logistic_regression_in_torch(source, target, seed):
    g = torch.Generator().manual_seed(seed)
    parts = []
    for z in (source, target):
        z = torch.from_numpy(z)[torch.randperm(len(z), generator=g)]
        parts.append((z[: len(z) // 2], z[len(z) // 2 :]))
    w = torch.zeros(source.shape[1], dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (
            sum(
                torch.nn.functional.softplus(-sign * (train @ w + b)).mean()
                for sign, (train, _) in zip((-1, 1), parts, strict=True)
            )
            + 1e-3 * w.square().sum()
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        errors = [(sign * (test @ w + b) <= 0).double().mean() for sign, (_, test) in zip((-1, 1), parts, strict=True)]
    return 2 * (1 - 2 * torch.stack(errors).mean())


# ---------------------------------------------------------------- 式の誤り


@wrong("sign")
def accuracy_taken_as_error(source, target, seed):
    return distance([1 - error for error in rates(source, target, seed)])


@wrong("sign")
def flipped_subtraction(source, target, seed):
    return -distance(rates(source, target, seed))


@wrong("slope")
def forgets_the_inner_two(source, target, seed):
    return 2 * (1 - np.mean(rates(source, target, seed)))


@wrong("slope")
def twice_the_accuracy_gain_squared(source, target, seed):
    return 2 * (1 - 2 * np.mean(rates(source, target, seed))) ** 2


@wrong("apart-not-two")
def forgets_the_outer_two(source, target, seed):
    return 1 - 2 * np.mean(rates(source, target, seed))


@wrong("apart-not-two")
def returns_the_error(source, target, seed):
    return np.mean(rates(source, target, seed))


@wrong("never-negative")
def clamps_at_zero(source, target, seed):
    return max(0.0, distance(rates(source, target, seed)))


@wrong("never-negative")
def takes_the_absolute_value(source, target, seed):
    return abs(distance(rates(source, target, seed)))


@wrong("not-scalar")
def one_value_per_domain(source, target, seed):
    return 2 * (1 - 2 * np.array(rates(source, target, seed)))


@wrong("not-number")
def returns_the_pair(source, target, seed):
    return rates(source, target, seed)


# ---------------------------------------------------------------- 学習と評価の誤り


@wrong("train-error")
def tested_on_the_training_half(source, target, seed):
    (s_train, _), (t_train, _) = halves(source, target, seed)
    model = fitted(s_train, t_train, logistic())
    return distance([np.mean(model.predict(s_train) != 0), np.mean(model.predict(t_train) != 1)])


@wrong("train-error")
def trained_on_everything(source, target, seed):
    (_, s_test), (_, t_test) = halves(source, target, seed)
    model = fitted(source, target, logistic())
    return distance([np.mean(model.predict(s_test) != 0), np.mean(model.predict(t_test) != 1)])


@wrong("not-halves")
def one_tenth_for_the_test(source, target, seed):
    return distance(rates(source, target, seed, share=0.9))


@wrong("not-halves")
def two_folds_averaged(source, target, seed):
    (s1, s2), (t1, t2) = halves(source, target, seed)
    both = []
    for a, b, c, d in ((s1, t1, s2, t2), (s2, t2, s1, t1)):
        model = fitted(a, b, logistic())
        both += [np.mean(model.predict(c) != 0), np.mean(model.predict(d) != 1)]
    return distance(both)


@wrong("seed-ignored")
def first_half_and_second_half(source, target, seed):
    n, m = len(source) // 2, len(target) // 2
    model = fitted(source[:n], target[:m], LogisticRegression(class_weight="balanced", random_state=seed))
    return distance([np.mean(model.predict(source[n:]) != 0), np.mean(model.predict(target[m:]) != 1)])


@wrong("seed-ignored")
def fixed_seed(source, target, seed):
    return logistic_regression(source, target, 0)


@wrong("not-reproducible")
def unseeded_permutation(source, target, seed):
    return logistic_regression(source, target, None)


@wrong("not-linear")
def kernel_svm(source, target, seed):
    return distance(rates(source, target, seed, SVC(class_weight="balanced")))


@wrong("not-linear")
def nearest_neighbours(source, target, seed):
    return distance(rates(source, target, seed, KNeighborsClassifier(5)))


@wrong("apart-not-two")
def standardises_each_domain(source, target, seed):
    def scaled(z):
        return (z - z.mean(0)) / (z.std(0) + 1e-9)

    return logistic_regression(scaled(source), scaled(target), seed)


# ---------------------------------------------------------------- 二つのドメインの扱いの誤り


@wrong("one-domain")
def only_the_target_error(source, target, seed):
    return distance(rates(source, target, seed)[1])


@wrong("one-domain")
def the_smaller_error(source, target, seed):
    return distance(min(rates(source, target, seed)))


@wrong("domain-average")
def overall_error(source, target, seed):
    (_, s_test), (_, t_test) = halves(source, target, seed)
    errors = rates(source, target, seed)
    return distance(np.average(errors, weights=[len(s_test), len(t_test)]))


@wrong("domain-average")
def overall_error_without_balancing(source, target, seed):
    (_, s_test), (_, t_test) = halves(source, target, seed)
    errors = rates(source, target, seed, LogisticRegression())
    return distance(np.average(errors, weights=[len(s_test), len(t_test)]))


@wrong("classifier-imbalanced")
def unbalanced_classifier(source, target, seed):
    return distance(rates(source, target, seed, LogisticRegression(max_iter=500)))


@wrong("classifier-imbalanced")
def unbalanced_ridge(source, target, seed):
    return distance(rates(source, target, seed, RidgeClassifier()))


# ---------------------------------------------------------------- そのほかの誤り


@wrong("raised")
def needs_equal_sizes(source, target, seed):
    (s_train, s_test), (t_train, t_test) = halves(source, target, seed)
    pairs = s_train - t_train
    return logistic_regression(source, target, seed) + 0 * pairs.sum()


@wrong("raised")
def torch_method_on_an_array(source, target, seed):
    return source.mean(dim=0)


@wrong("argument-changed")
def shuffles_in_place(source, target, seed):
    np.random.default_rng(seed).shuffle(source)
    return logistic_regression(source, target, seed)


@wrong("argument-changed")
def centres_in_place(source, target, seed):
    mean = source.mean(axis=0)
    source -= mean
    target -= mean
    return logistic_regression(source, target, seed)


@wrong("returned-none")
def forgets_return(source, target, seed):
    value = logistic_regression(source, target, seed)


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(source, target, seed):
    raise NotImplementedError("ここを実装してください")


@untouched
def pass_body(source, target, seed):
    """説明だけがある。"""


@untouched
def uses_a_blank(source, target, seed):
    errors = ...
    return np.mean(errors) * 2


@untouched.each
def value_none():
    return None


# ---------------------------------------------------------------- 借り物


@borrower
def calls_the_library(source, target, seed):
    return tlkit.transferability.proxy_a_distance(source, target, seed=seed)


@borrower.each
def the_library_function_itself():
    return borrowed_distance


@borrower.each
def partial_of_the_library():
    return functools.partial(borrowed_distance)


@borrower.each
def wrapped_in_a_lambda():
    return lambda source, target, seed: borrowed_distance(source, target, seed=seed)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "(source, target) → (target, source)": "二つのドメインの役割は対称で、誤り率は平均するので、番号を入れ替えても距離は同じ"
}
