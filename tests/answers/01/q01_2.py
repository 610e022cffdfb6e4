"""演習 01-2（LEEP）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import functools
import math

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong

import tlkit
from tlkit.transferability import leep as borrowed_leep

# ---------------------------------------------------------------- 正しい答え


def tables(probs, labels):
    """P(y|z) と、使う列と、0 から始まるラベル。"""
    classes, index = np.unique(labels, return_inverse=True)
    joint = np.stack([probs[index == c].sum(axis=0) for c in range(len(classes))]) / len(labels)
    used = joint.sum(axis=0) > 0
    return joint[:, used] / joint[:, used].sum(axis=0), used, index


def likelihoods(probs, labels):
    conditional, used, index = tables(probs, labels)
    return (conditional[index] * probs[:, used]).sum(axis=1)


@right
def by_masks(source_probs, labels):
    return np.log(likelihoods(source_probs, labels)).mean()


@right
def explicit_loops(source_probs, labels):
    n, sources = source_probs.shape
    total = 0.0
    for i in range(n):
        p = 0.0
        for z in range(sources):
            column = sum(source_probs[j, z] for j in range(n) if source_probs[j, z] > 0)
            if column > 0:
                same = sum(source_probs[j, z] for j in range(n) if labels[j] == labels[i])
                p += same / column * source_probs[i, z]
        total += math.log(p)
    return total / n


@right
def in_torch(source_probs, labels):
    probs, y = torch.from_numpy(source_probs), torch.from_numpy(labels)
    joint = torch.zeros(int(y.max()) + 1, probs.shape[1], dtype=probs.dtype).index_add_(0, y, probs)
    conditional = torch.nan_to_num(joint / joint.sum(0))
    return torch.einsum("nz,nz->n", conditional[y], probs).log().mean()


@right
def with_a_floor(source_probs, labels):
    """0 の列を除く代わりに、ごく小さい数を足してから割る。"""
    joint = np.zeros((labels.max() + 1, source_probs.shape[1]))
    np.add.at(joint, labels, source_probs)
    conditional = joint / (joint.sum(axis=0) + 1e-12)
    return float(np.mean(np.log(np.sum(conditional[labels] * source_probs, axis=1))))


@right
def by_all_pairs(source_probs, labels):
    """P(y_i|z) を表にせず、画像の組から数える。"""
    total = source_probs.sum(axis=0)
    weights = np.divide(source_probs, total, out=np.zeros_like(source_probs), where=total > 0)
    same = labels[:, None] == labels[None]
    return np.log(((source_probs @ weights.T) * same).sum(axis=1)).mean()


# ---------------------------------------------------------------- 条件付き確率の誤り


@wrong("conditional-swapped")
def source_given_target(source_probs, labels):
    joint = np.zeros((labels.max() + 1, source_probs.shape[1]))
    np.add.at(joint, labels, source_probs)
    conditional = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-12)
    return np.log((conditional[labels] * source_probs).sum(axis=1)).mean()


@wrong("not-conditional")
def joint_not_divided(source_probs, labels):
    joint = np.zeros((labels.max() + 1, source_probs.shape[1]))
    np.add.at(joint, labels, source_probs / len(labels))
    return np.log((joint[labels] * source_probs).sum(axis=1)).mean()


@wrong("marginal-wrong")
def uniform_marginal(source_probs, labels):
    joint = np.zeros((labels.max() + 1, source_probs.shape[1]))
    np.add.at(joint, labels, source_probs / len(labels))
    conditional = joint * source_probs.shape[1]
    return np.log((conditional[labels] * source_probs).sum(axis=1)).mean()


@wrong("column-order")
def source_class_taken_as_the_target_class(source_probs, labels):
    return np.log(source_probs[np.arange(len(labels)), labels % source_probs.shape[1]] + 1e-12).mean()


# ---------------------------------------------------------------- 確率の使い方の誤り


@wrong("argmax-used")
def nce(source_probs, labels):
    hard = np.eye(source_probs.shape[1])[source_probs.argmax(axis=1)]
    return np.log(likelihoods(hard, labels)).mean()


@wrong("argmax-used")
def hard_lookup_in_a_hard_table(source_probs, labels):
    hard = np.eye(source_probs.shape[1])[source_probs.argmax(axis=1)]
    conditional, used, index = tables(hard, labels)
    return np.log((conditional[index] * hard[:, used]).sum(axis=1) + 1e-12).mean()


@wrong("log-inside")
def logarithm_inside_the_sum(source_probs, labels):
    conditional, used, index = tables(source_probs, labels)
    logs = np.log(np.maximum(conditional[index], 1e-300))
    return (logs * source_probs[:, used]).sum(axis=1).mean()


@wrong("probs-changed")
def softmax_once_more(source_probs, labels):
    again = np.exp(source_probs)
    return np.log(likelihoods(again / again.sum(axis=1, keepdims=True), labels)).mean()


@wrong("probs-changed")
def square_root_of_the_probabilities(source_probs, labels):
    flat = source_probs**0.1
    return np.log(likelihoods(flat / flat.sum(axis=1, keepdims=True), labels)).mean()


@wrong("value-mismatch")
def keeps_the_five_largest_sources(source_probs, labels):
    top = np.where(source_probs >= np.sort(source_probs, axis=1)[:, -5:][:, :1], source_probs, 0)
    return np.log(likelihoods(top, labels)).mean()


# ---------------------------------------------------------------- 対数と平均の誤り


@wrong("log-base")
def common_logarithm(source_probs, labels):
    return np.log10(likelihoods(source_probs, labels)).mean()


@wrong("log-base")
def binary_logarithm(source_probs, labels):
    return np.log2(likelihoods(source_probs, labels)).mean()


@wrong("not-log")
def mean_probability(source_probs, labels):
    return likelihoods(source_probs, labels).mean()


@wrong("not-log")
def exponential_of_leep(source_probs, labels):
    return np.exp(by_masks(source_probs, labels))


@wrong("sign")
def cross_entropy(source_probs, labels):
    return -by_masks(source_probs, labels)


@wrong("not-averaged")
def sum_over_images(source_probs, labels):
    return np.log(likelihoods(source_probs, labels)).sum()


@wrong("not-sample-mean")
def mean_of_class_means(source_probs, labels):
    logs = np.log(likelihoods(source_probs, labels))
    return np.mean([logs[labels == c].mean() for c in np.unique(labels)])


@wrong("blind-value")
def divided_by_the_largest_entropy(source_probs, labels):
    return by_masks(source_probs, labels) / math.log(len(np.unique(labels)))


@wrong("sign")
def gain_over_a_blind_source(source_probs, labels):
    _, counts = np.unique(labels, return_counts=True)
    return by_masks(source_probs, labels) - (counts / len(labels) * np.log(counts / len(labels))).sum()


@wrong("not-scalar")
def one_value_per_image(source_probs, labels):
    return np.log(likelihoods(source_probs, labels))


@wrong("not-number")
def returns_a_pair(source_probs, labels):
    return by_masks(source_probs, labels), likelihoods(source_probs, labels)


# ---------------------------------------------------------------- ラベルと並びの誤り


@wrong("row-order")
def sorted_labels(source_probs, labels):
    return by_masks(source_probs, np.sort(labels))


@wrong("labels-ignored")
def entropy_of_the_predictions(source_probs, labels):
    return np.sum(source_probs * np.log(source_probs + 1e-300), axis=1).mean()


@wrong("label-names")
def labels_as_weights(source_probs, labels):
    joint = np.zeros((labels.max() + 1, source_probs.shape[1]))
    np.add.at(joint, labels, source_probs * (labels + 1)[:, None])
    conditional = joint / np.maximum(joint.sum(axis=0), 1e-12)
    return np.log((conditional[labels] * source_probs).sum(axis=1)).mean()


# ---------------------------------------------------------------- 端の場合の誤り


@wrong("empty-class")
def divides_by_an_empty_class(source_probs, labels):
    joint = np.stack([source_probs[labels == c].sum(axis=0) for c in np.unique(labels)])
    index = np.unique(labels, return_inverse=True)[1]
    return np.log(((joint / joint.sum(axis=0))[index] * source_probs).sum(axis=1)).mean()


@wrong("absent-class")
def assumes_every_label_occurs(source_probs, labels):
    joint = np.zeros((len(np.unique(labels)), source_probs.shape[1]))
    np.add.at(joint, labels, source_probs)
    used = joint.sum(axis=0) > 0
    conditional = joint[:, used] / joint[:, used].sum(axis=0)
    return np.log((conditional[labels] * source_probs[:, used]).sum(axis=1)).mean()


@wrong("more-targets")
def square_table(source_probs, labels):
    index = np.unique(labels, return_inverse=True)[1]
    joint = np.zeros((source_probs.shape[1], source_probs.shape[1]))
    np.add.at(joint, index, source_probs)
    used = joint.sum(axis=0) > 0
    conditional = joint[:, used] / joint[:, used].sum(axis=0)
    return np.log((conditional[index] * source_probs[:, used]).sum(axis=1)).mean()


@wrong("not-finite")
def subtracts_the_maximum(source_probs, labels):
    p = likelihoods(source_probs, labels)
    return np.log(p - p.max()).mean()


@wrong("argument-changed")
def renumbers_in_place(source_probs, labels):
    value = by_masks(source_probs, labels)
    labels -= labels.min() - 1
    return value


@wrong("argument-changed")
def normalises_columns_in_place(source_probs, labels):
    value = by_masks(source_probs, labels)
    source_probs /= np.maximum(source_probs.sum(axis=0), 1e-12)
    return value


@wrong("returned-none")
def forgets_return(source_probs, labels):
    value = by_masks(source_probs, labels)


@wrong("raised")
def torch_method_on_an_array(source_probs, labels):
    return source_probs.softmax(dim=1)


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(source_probs, labels):
    raise NotImplementedError("ここを実装してください")


@untouched
def pass_body(source_probs, labels):
    """説明だけがある。"""


@untouched
def uses_a_blank(source_probs, labels):
    likelihood = ...
    return np.log(likelihood)


@untouched.each
def value_ellipsis():
    return ...


# ---------------------------------------------------------------- 借り物


@borrower
def calls_the_library(source_probs, labels):
    return tlkit.transferability.leep(source_probs, labels)


@borrower
def calls_another_score(source_probs, labels):
    from tlkit.transferability import nce

    nce(source_probs.argmax(axis=1), labels)
    return by_masks(source_probs, labels)


@borrower.each
def the_library_function_itself():
    return borrowed_leep


@borrower.each
def partial_of_the_library():
    return functools.partial(borrowed_leep)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "joint.sum(axis=0) → joint.mean(axis=0)": "確率は負にならないので、和が正になる列と平均が正になる列は同じ"
}
