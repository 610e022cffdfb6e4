"""演習 03-9（ラベルシフトの重み）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong
from sklearn.metrics import confusion_matrix

# ---------------------------------------------------------------- 正しい答え


def joint_of(predictions, labels, classes):
    table = np.zeros((classes, classes))
    for i, j in zip(predictions.tolist(), labels.tolist()):
        table[i, j] += 1
    return table / len(labels)


def shares_of(values, classes):
    return np.bincount(values, minlength=classes) / len(values)


@right
def solves_the_equations(source_predictions, source_labels, target_predictions, classes):
    return np.linalg.solve(joint_of(source_predictions, source_labels, classes), shares_of(target_predictions, classes))


@right
def torch_one_hot_inverse(source_predictions, source_labels, target_predictions, classes):
    table = [
        torch.nn.functional.one_hot(torch.as_tensor(v), classes).double() for v in (source_predictions, source_labels)
    ]
    mu = torch.nn.functional.one_hot(torch.as_tensor(target_predictions), classes).double().mean(dim=0)
    return torch.linalg.inv(table[0].T @ table[1] / len(source_labels)) @ mu


@right
def conditional_then_ratio(source_predictions, source_labels, target_predictions, classes):
    """P(予測|ラベル) で p_T(y) を求めてから、p_S(y) で割る。float32 の最小二乗。"""
    counts = confusion_matrix(source_labels, source_predictions, labels=range(classes))
    given_label = (counts / counts.sum(axis=1, keepdims=True)).T.astype(np.float32)
    target = np.linalg.lstsq(given_label, shares_of(target_predictions, classes).astype(np.float32), rcond=None)[0]
    return target / shares_of(source_labels, classes)


@right
def eliminates_by_hand(source_predictions, source_labels, target_predictions, classes):
    """掃き出し法。list を返す。"""
    size = len(source_labels)
    rows = [
        [
            sum(p == i and y == j for p, y in zip(source_predictions.tolist(), source_labels.tolist())) / size
            for j in range(classes)
        ]
        + [(target_predictions == i).mean().item()]
        for i in range(classes)
    ]
    for k in range(classes):
        best = max(range(k, classes), key=lambda i: abs(rows[i][k]))
        rows[k], rows[best] = rows[best], rows[k]
        rows[k] = [value / rows[k][k] for value in rows[k]]
        for i in range(classes):
            if i != k:
                rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k])]
    return [row[-1] for row in rows]


# ---------------------------------------------------------------- 混同を使わない、使い方を誤る


@wrong("confusion-ignored")
def ratio_of_predicted_shares(source_predictions, source_labels, target_predictions, classes):
    return shares_of(target_predictions, classes) / shares_of(source_predictions, classes)


@wrong("confusion-ignored")
def predicted_over_labels(source_predictions, source_labels, target_predictions, classes):
    return shares_of(target_predictions, classes) / shares_of(source_labels, classes)


@wrong("diagonal-only")
def corrects_by_the_hit_rates(source_predictions, source_labels, target_predictions, classes):
    return shares_of(target_predictions, classes) / joint_of(source_predictions, source_labels, classes).diagonal()


@wrong("diagonal-only")
def corrects_by_the_accuracy(source_predictions, source_labels, target_predictions, classes):
    """誤りは、ほかのクラスに等しく散るとみなす。"""
    accuracy = (source_predictions == source_labels).mean()
    even = (1 - accuracy) / (classes - 1)
    given_label = np.full((classes, classes), even) + np.eye(classes) * (accuracy - even)
    return np.linalg.solve(given_label, shares_of(target_predictions, classes)) / shares_of(source_labels, classes)


@wrong("rows-and-columns")
def transposed(source_predictions, source_labels, target_predictions, classes):
    return np.linalg.solve(joint_of(source_labels, source_predictions, classes), shares_of(target_predictions, classes))


@wrong("rows-and-columns")
def sklearn_has_labels_in_rows(source_predictions, source_labels, target_predictions, classes):
    table = confusion_matrix(source_labels, source_predictions, labels=range(classes)) / len(source_labels)
    return np.linalg.solve(table, shares_of(target_predictions, classes))


@wrong("not-ratio")
def conditional_only(source_predictions, source_labels, target_predictions, classes):
    joint = joint_of(source_predictions, source_labels, classes)
    return np.linalg.solve(joint / joint.sum(axis=0), shares_of(target_predictions, classes))


@wrong("not-ratio")
def normalised_to_one(source_predictions, source_labels, target_predictions, classes):
    weights = solves_the_equations(source_predictions, source_labels, target_predictions, classes)
    return weights / weights.sum()


@wrong("source-prior-ignored")
def assumes_a_uniform_source(source_predictions, source_labels, target_predictions, classes):
    return classes * conditional_only(source_predictions, source_labels, target_predictions, classes)


@wrong("no-shift")
def normalised_by_rows(source_predictions, source_labels, target_predictions, classes):
    joint = joint_of(source_predictions, source_labels, classes)
    return np.linalg.solve(joint / joint.sum(axis=1, keepdims=True), shares_of(target_predictions, classes))


@wrong("no-shift")
def divides_by_the_predicted_prior(source_predictions, source_labels, target_predictions, classes):
    target = conditional_only(source_predictions, source_labels, target_predictions, classes)
    return target / shares_of(source_predictions, classes)


@wrong("absent-class")
def believes_the_posteriors(source_predictions, source_labels, target_predictions, classes):
    """P(ラベル|予測) が変わらないとみなす。"""
    joint = joint_of(source_predictions, source_labels, classes)
    given_prediction = joint / joint.sum(axis=1, keepdims=True)
    return given_prediction.T @ shares_of(target_predictions, classes) / joint.sum(axis=0)


# ---------------------------------------------------------------- 件数、向き、後始末の誤り


@wrong("counts-not-shares")
def solves_with_counts(source_predictions, source_labels, target_predictions, classes):
    joint = joint_of(source_predictions, source_labels, classes) * len(source_labels)
    return np.linalg.solve(joint, np.bincount(target_predictions, minlength=classes))


@wrong("counts-not-shares")
def divides_both_by_the_source_size(source_predictions, source_labels, target_predictions, classes):
    mu = np.bincount(target_predictions, minlength=classes) / len(source_labels)
    return np.linalg.solve(joint_of(source_predictions, source_labels, classes), mu)


@wrong("upside-down")
def inverse_ratio(source_predictions, source_labels, target_predictions, classes):
    return 1 / solves_the_equations(source_predictions, source_labels, target_predictions, classes)


@wrong("clipped")
def clips_at_zero(source_predictions, source_labels, target_predictions, classes):
    return solves_the_equations(source_predictions, source_labels, target_predictions, classes).clip(min=0)


@wrong("clipped")
def takes_the_absolute_value(source_predictions, source_labels, target_predictions, classes):
    return np.abs(solves_the_equations(source_predictions, source_labels, target_predictions, classes))


@wrong("total")
def rounds_to_one_digit(source_predictions, source_labels, target_predictions, classes):
    return solves_the_equations(source_predictions, source_labels, target_predictions, classes).round(1)


@wrong("total")
def averages_to_one_over_classes(source_predictions, source_labels, target_predictions, classes):
    weights = solves_the_equations(source_predictions, source_labels, target_predictions, classes)
    return weights / weights.mean()


@wrong("value-mismatch")
def halves_the_shift(source_predictions, source_labels, target_predictions, classes):
    """一部の場合だけ、1 に寄せる。"""
    weights = solves_the_equations(source_predictions, source_labels, target_predictions, classes)
    return weights if weights.min() < 0.4 else (weights + 1) / 2


# ---------------------------------------------------------------- 返り値の形の誤り


@wrong("classes-from-data")
def counts_without_minlength(source_predictions, source_labels, target_predictions, classes):
    mu = np.bincount(target_predictions) / len(target_predictions)
    return np.linalg.solve(joint_of(source_predictions, source_labels, classes), mu)


@wrong("classes-from-data")
def counts_the_seen_classes(source_predictions, source_labels, target_predictions, classes):
    seen = len(np.unique(target_predictions))
    return solves_the_equations(source_predictions, source_labels, target_predictions, classes)[:seen]


@wrong("form")
def one_weight_per_sample(source_predictions, source_labels, target_predictions, classes):
    return solves_the_equations(source_predictions, source_labels, target_predictions, classes)[source_labels]


@wrong("form")
def returns_a_column(source_predictions, source_labels, target_predictions, classes):
    return solves_the_equations(source_predictions, source_labels, target_predictions, classes)[:, None]


@wrong("form")
def returns_a_dict(source_predictions, source_labels, target_predictions, classes):
    return dict(
        enumerate(solves_the_equations(source_predictions, source_labels, target_predictions, classes).tolist())
    )


@wrong("singular")
def last_class_missing(source_predictions, source_labels, target_predictions, classes):
    joint = np.zeros((classes, classes))
    for i in range(classes - 1):
        for j in range(classes):
            joint[i, j] = np.mean((source_predictions == i) & (source_labels == j))
    return np.linalg.solve(joint, shares_of(target_predictions, classes))


@wrong("not-finite")
def divides_by_an_empty_cell(source_predictions, source_labels, target_predictions, classes):
    joint = joint_of(source_predictions, source_labels, classes)
    return (shares_of(target_predictions, classes)[:, None] / joint).mean(axis=0)


@wrong("returned-none")
def forgets_return(source_predictions, source_labels, target_predictions, classes):
    solves_the_equations(source_predictions, source_labels, target_predictions, classes)


@wrong("argument-changed")
def changes_the_predictions(source_predictions, source_labels, target_predictions, classes):
    weights = solves_the_equations(source_predictions, source_labels, target_predictions, classes)
    target_predictions += 1
    return weights


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(source_predictions, source_labels, target_predictions, classes):
    raise NotImplementedError("ここを実装してください")


@untouched
def leaves_a_blank(source_predictions, source_labels, target_predictions, classes):
    joint = ...
    return np.linalg.solve(joint / joint.sum(), shares_of(target_predictions, classes))


@borrower
def calls_the_library(source_predictions, source_labels, target_predictions, classes):
    from tlkit.adapt import label_shift_weights

    return label_shift_weights(source_predictions, source_labels, target_predictions)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT: dict[str, str] = {}
