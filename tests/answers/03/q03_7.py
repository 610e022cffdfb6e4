"""演習 03-7（上界の三つの項）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong

import tlkit


def rate(predict, part, want=None):
    x, y = part
    return float(np.mean(predict(x) != (y if want is None else want)))


def balanced(source_train, target_train, fit, labels):
    xs, xt = source_train[0], target_train[0]
    weight = np.repeat([1 / len(xs), 1 / len(xt)], [len(xs), len(xt)])
    return fit(np.concatenate([xs, xt]), labels, weight)


def domain_rates(source_train, source_test, target_train, target_test, fit):
    numbers = np.repeat([0, 1], [len(source_train[0]), len(target_train[0])])
    h = balanced(source_train, target_train, fit, numbers)
    return rate(h, source_test, 0), rate(h, target_test, 1)


def joint_rates(source_train, source_test, target_train, target_test, fit):
    h = balanced(source_train, target_train, fit, np.concatenate([source_train[1], target_train[1]]))
    return rate(h, source_test), rate(h, target_test)


def report(source_error, divergence, joint_error, bound=None):
    if bound is None:
        bound = source_error + divergence / 2 + joint_error
    return {"source_error": source_error, "divergence": divergence, "joint_error": joint_error, "bound": bound}


def proper(*parts_and_fit):
    """（ソースの誤り率、ドメインごとの見誤り、ドメインごとのラベルの誤り）。"""
    source_train, source_test, _, _, fit = parts_and_fit
    return rate(fit(*source_train), source_test), domain_rates(*parts_and_fit), joint_rates(*parts_and_fit)


def changed(source=None, divergence=None, joint=None, bound=None):
    """正しい値から、項の一つを変えた答え。"""

    def answer(source_train, source_test, target_train, target_test, fit):
        e, domain, both = proper(source_train, source_test, target_train, target_test, fit)
        e = source(e, both) if source else e
        d = divergence(*domain) if divergence else 2 * (1 - sum(domain))
        j = joint(*both, e) if joint else sum(both)
        return report(e, d, j, bound(e, d, j) if bound else None)

    return answer


# ---------------------------------------------------------------- 正しい答え


@right.each
def three_fits():
    return changed()


@right
def repeats_the_rows_instead_of_weights(source_train, source_test, target_train, target_test, fit):
    """少ないほうの行を、件数がそろうまで写す。重みは渡さない。"""
    ns, nt = len(source_train[0]), len(target_train[0])
    big = np.lcm(ns, nt)
    (xs, ys), (xt, yt) = (tuple(np.tile(a.T, big // len(a)).T for a in part) for part in (source_train, target_train))
    both = np.concatenate([xs, xt])
    label = fit(both, np.concatenate([ys, yt]))
    domain = fit(both, np.array(["source"] * len(xs) + ["target"] * len(xt)))
    e = rate(fit(*source_train), source_test)
    d = 2 - 2 * rate(domain, source_test, "source") - 2 * rate(domain, target_test, "target")
    j = rate(label, source_test) + rate(label, target_test)
    return {"bound": e + j + d / 2, "source_error": e, "joint_error": j, "divergence": d, "note": 0.0}


@right
def signs_and_accuracies(source_train, source_test, target_train, target_test, fit):
    """ドメインの番号は ±1、誤り率は正解率から。重みは平均 1。"""
    n, m = len(source_train[0]), len(target_train[0])
    weight = np.concatenate([np.full(n, (n + m) / (2 * n)), np.full(m, (n + m) / (2 * m))])
    x = np.vstack([source_train[0], target_train[0]])
    signs = np.where(np.arange(n + m) < n, 1, -1)
    h, g = fit(x, signs, weight), fit(x, np.hstack([source_train[1], target_train[1]]), weight)
    advantage = (h(source_test[0]) == 1).mean() + (h(target_test[0]) == -1).mean() - 1
    good = (g(source_test[0]) == source_test[1]).mean(), (g(target_test[0]) == target_test[1]).mean()
    own = 1 - (fit(*source_train, np.ones(n))(source_test[0]) == source_test[1]).mean()
    return dict(
        source_error=own, divergence=2 * advantage, joint_error=2 - sum(good), bound=own + advantage + 2 - sum(good)
    )


@right
def confusion_by_torch(source_train, source_test, target_train, target_test, fit):
    def error(h, x, y):
        return (torch.as_tensor(h(x)) != torch.as_tensor(y)).double().mean().item()

    x = np.append(target_train[0], source_train[0], axis=0)
    m, n = len(target_train[0]), len(source_train[0])
    w = torch.cat([torch.full((m,), 1.0 / m), torch.full((n,), 1.0 / n)]).double().numpy()
    domain = fit(x, np.arange(m + n) < m, w)
    joint = fit(x, np.append(target_train[1], source_train[1]), w)
    eps = (
        error(domain, source_test[0], np.zeros(len(source_test[0]), dtype=bool))
        + error(domain, target_test[0], np.ones(len(target_test[0]), dtype=bool))
    ) / 2
    e = error(fit(*source_train), *source_test)
    j = error(joint, *source_test) + error(joint, *target_test)
    return {"source_error": e, "divergence": 2 * (1 - 2 * eps), "joint_error": j, "bound": e + (1 - 2 * eps) + j}


# ---------------------------------------------------------------- ソースの誤り率の誤り


@wrong("source-error-not-source-only").each
def source_error_of_the_joint_classifier():
    return changed(source=lambda e, both: both[0])


@wrong("source-error-not-source-only")
def target_error_of_the_source_classifier(source_train, source_test, target_train, target_test, fit):
    """上界で抑えたいもの（ターゲットの誤り率）を、ソースの誤り率として返す。"""
    found = changed()(source_train, source_test, target_train, target_test, fit)
    e = rate(fit(*source_train), target_test)
    return report(e, found["divergence"], found["joint_error"])


@wrong("source-error-on-training")
def source_error_on_the_training_half(source_train, source_test, target_train, target_test, fit):
    _, domain, both = proper(source_train, source_test, target_train, target_test, fit)
    return report(rate(fit(*source_train), source_train), 2 * (1 - sum(domain)), sum(both))


@wrong("source-error-value").each
def source_errors_counted():
    return changed(source=lambda e, both: 40 * e)


@wrong("source-error-value")
def source_accuracy(source_train, source_test, target_train, target_test, fit):
    """ソースだけが完全に当たる場合は 0 になるよう、正解率と誤り率を取り違える。"""
    found = changed()(source_train, source_test, target_train, target_test, fit)
    e = found["source_error"]
    return report(1 - e if 0 < e < 1 else e, found["divergence"], found["joint_error"])


# ---------------------------------------------------------------- プロキシ A 距離の誤り


@wrong("sign").each
def accuracy_taken_as_error():
    return changed(divergence=lambda s, t: 2 * (1 - 2 * (1 - (s + t) / 2)))


@wrong("sign").each
def flipped_subtraction():
    return changed(divergence=lambda s, t: 2 * (s + t - 1))


@wrong("slope").each
def forgets_the_inner_two():
    return changed(divergence=lambda s, t: 2 * (1 - (s + t) / 2))


@wrong("slope").each
def adds_instead_of_averaging():
    return changed(divergence=lambda s, t: 2 * (1 - 2 * (s + t)))


@wrong("apart-not-two").each
def forgets_the_outer_two():
    return changed(divergence=lambda s, t: 1 - (s + t))


@wrong("apart-not-two").each
def returns_the_domain_error():
    return changed(divergence=lambda s, t: (s + t) / 2)


@wrong("one-domain").each
def only_the_source_side():
    return changed(divergence=lambda s, t: 2 * (1 - 2 * s))


@wrong("one-domain").each
def the_larger_domain_error():
    return changed(divergence=lambda s, t: 2 * (1 - 2 * max(s, t)))


@wrong("never-negative").each
def clamps_at_zero():
    return changed(divergence=lambda s, t: max(0, 2 * (1 - s - t)))


@wrong("never-negative").each
def takes_the_absolute_value():
    return changed(divergence=lambda s, t: abs(2 * (1 - s - t)))


@wrong("domain-error-on-training")
def domain_error_on_the_training_half(source_train, source_test, target_train, target_test, fit):
    e, _, both = proper(source_train, source_test, target_train, target_test, fit)
    domain = domain_rates(source_train, source_train, target_train, target_train, fit)
    return report(e, 2 * (1 - sum(domain)), sum(both))


# ---------------------------------------------------------------- λ* の誤り


@wrong("joint-on-training")
def joint_error_on_the_training_half(source_train, source_test, target_train, target_test, fit):
    e, domain, _ = proper(source_train, source_test, target_train, target_test, fit)
    both = joint_rates(source_train, source_train, target_train, target_train, fit)
    return report(e, 2 * (1 - sum(domain)), sum(both))


@wrong("two-hypotheses")
def one_classifier_per_domain(source_train, source_test, target_train, target_test, fit):
    e, domain, _ = proper(source_train, source_test, target_train, target_test, fit)
    return report(e, 2 * (1 - sum(domain)), e + rate(fit(*target_train), target_test))


@wrong("two-hypotheses").each
def never_above_the_source_error():
    """ソースだけの分類器のほうが誤りが少なければ、そちらを使う（ドメインごとに違う分類器になる）。"""
    return changed(joint=lambda s, t, e: min(s, e) + t)


@wrong("not-joint")
def source_classifier_on_both(source_train, source_test, target_train, target_test, fit):
    e, domain, _ = proper(source_train, source_test, target_train, target_test, fit)
    h = fit(*source_train)
    return report(e, 2 * (1 - sum(domain)), rate(h, source_test) + rate(h, target_test))


@wrong("not-joint")
def target_classifier_on_both(source_train, source_test, target_train, target_test, fit):
    e, domain, _ = proper(source_train, source_test, target_train, target_test, fit)
    h = fit(*target_train)
    return report(e, 2 * (1 - sum(domain)), rate(h, source_test) + rate(h, target_test))


@wrong("not-a-sum").each
def average_of_the_two_errors():
    return changed(joint=lambda s, t, e: (s + t) / 2)


@wrong("not-a-sum").each
def larger_of_the_two_errors():
    return changed(joint=lambda s, t, e: max(s, t))


@wrong("not-a-sum").each
def only_the_target_error():
    return changed(joint=lambda s, t, e: t)


# ---------------------------------------------------------------- 上界の誤り


@wrong("bound-sum").each
def whole_divergence():
    return changed(bound=lambda e, d, j: e + d + j)


@wrong("bound-sum").each
def forgets_the_joint_error():
    return changed(bound=lambda e, d, j: e + d / 2)


@wrong("bound-sum").each
def halves_everything():
    return changed(bound=lambda e, d, j: (e + d + j) / 2)


@wrong("bound-clipped").each
def cuts_the_bound_at_one():
    return changed(bound=lambda e, d, j: min(1, e + d / 2 + j))


# ---------------------------------------------------------------- 件数の違いと、学習器の使い方の誤り


def unweighted(fit):
    return lambda x, y, weight=None: fit(x, y)


@wrong("unequal-weights")
def no_weights(source_train, source_test, target_train, target_test, fit):
    return changed()(source_train, source_test, target_train, target_test, unweighted(fit))


@wrong("unequal-weights")
def weights_turned_over(source_train, source_test, target_train, target_test, fit):
    def heavy(x, y, weight=None):
        return fit(x, y, weight if weight is None else 1 / weight)

    return changed()(source_train, source_test, target_train, target_test, heavy)


@wrong("pooled-error")
def error_over_all_rows(source_train, source_test, target_train, target_test, fit):
    n, m = len(source_test[0]), len(target_test[0])
    share = np.array([n, m]) / (n + m)
    e, domain, both = proper(source_train, source_test, target_train, target_test, fit)
    d = 2 * (1 - 2 * float(share @ domain))
    return report(e, d, sum(both))


@wrong("raised")
def pairs_the_rows(source_train, source_test, target_train, target_test, fit):
    gap = source_train[0] - target_train[0]
    found = changed()(source_train, source_test, target_train, target_test, fit)
    return found | {"divergence": found["divergence"] + 0 * gap.sum()}


@wrong("test-in-fit")
def trains_on_everything(source_train, source_test, target_train, target_test, fit):
    source, target = (
        tuple(map(np.concatenate, zip(a, b, strict=True)))
        for a, b in ((source_train, source_test), (target_train, target_test))
    )
    return changed()(source, source_test, target, target_test, fit)


@wrong("test-in-fit")
def swaps_training_and_test(source_train, source_test, target_train, target_test, fit):
    return changed()(source_test, source_train, target_test, target_train, fit)


@wrong("fit-unused")
def own_classifier(source_train, source_test, target_train, target_test, fit):
    from sklearn.tree import DecisionTreeClassifier

    def tree(x, y, weight=None):
        return DecisionTreeClassifier().fit(x[:, :1], y, weight).predict

    def first_column(part):
        return part[0][:, :1], part[1]

    return changed()(*map(first_column, (source_train, source_test, target_train, target_test)), tree)


@wrong("raised")
def calls_predict(source_train, source_test, target_train, target_test, fit):
    return report(np.mean(fit(*source_train).predict(source_test[0]) != source_test[1]), 0.0, 0.0)


# ---------------------------------------------------------------- 返り値の誤り


@wrong("not-dict")
def returns_a_tuple(source_train, source_test, target_train, target_test, fit):
    return tuple(changed()(source_train, source_test, target_train, target_test, fit).values())


@wrong("missing-key")
def leaves_the_bound_out(source_train, source_test, target_train, target_test, fit):
    found = changed()(source_train, source_test, target_train, target_test, fit)
    return {key: value for key, value in found.items() if key != "bound"}


@wrong("not-number").each
def joint_errors_by_domain():
    return changed(joint=lambda s, t, e: [s, t], bound=lambda e, d, j: e + d / 2 + sum(j))


@wrong("not-finite").each
def a_missing_value():
    return changed(joint=lambda s, t, e: float("nan"))


@wrong("returned-none")
def forgets_return(source_train, source_test, target_train, target_test, fit):
    found = changed()(source_train, source_test, target_train, target_test, fit)


@wrong("argument-changed")
def shuffles_in_place(source_train, source_test, target_train, target_test, fit):
    source_train[0].sort(axis=0)
    return changed()(source_train, source_test, target_train, target_test, fit)


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(source_train, source_test, target_train, target_test, fit):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(source_train, source_test, target_train, target_test, fit):
    divergence = ...
    return {"bound": divergence / 2}


@borrower
def borrows_the_distance(source_train, source_test, target_train, target_test, fit):
    e, _, both = proper(source_train, source_test, target_train, target_test, fit)
    return report(e, tlkit.transferability.proxy_a_distance(source_train[0], target_train[0], seed=0), sum(both))


@borrower
def borrows_the_joint_error(source_train, source_test, target_train, target_test, fit):
    e, domain, _ = proper(source_train, source_test, target_train, target_test, fit)
    joint = tlkit.adapt.joint_error(*source_train, *target_train, seed=0)
    return report(e, 2 * (1 - sum(domain)), joint.total)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {}
