"""演習 01-3（特徴のキャッシュ）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import contextlib
import copy
import functools

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong
from torch import nn

import tlkit.seeding
from tlkit.finetune import extract_features

# ---------------------------------------------------------------- 正しい答え


@contextlib.contextmanager
def evaluating(model):
    """部品ごとのモードを覚え、評価モードにし、終わったら戻す。"""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training


def batches(model, loader):
    with torch.no_grad():
        return [(model.features(x), y) for x, y in loader]


def joined(pairs):
    features, labels = zip(*pairs)
    return torch.cat(features), torch.cat(labels)


@right
def no_grad_and_restored_modes(model, loader):
    with evaluating(model):
        return joined(batches(model, loader))


@right
def inference_mode_then_clone(model, loader):
    with evaluating(model), torch.inference_mode():
        features, labels = joined([(model.features(x), y) for x, y in loader])
    return features.clone(), labels.clone()


@right
def copied_model(model, loader):
    """写しを評価モードにするので、元のモデルは変わらない。"""
    return joined(batches(copy.deepcopy(model).eval(), loader))


@right
def filled_in_advance(model, loader):
    count = len(loader.dataset)
    features, labels, start = None, torch.empty(count, dtype=torch.int64), 0
    with evaluating(model):
        for x, y in loader:
            part = model.features(x).detach()
            features = part.new_empty(count, part.shape[1]) if features is None else features
            features[start : start + len(x)], labels[start : start + len(x)] = part, y
            start += len(x)
    return features, labels


@right
def recursive_restore(model, loader):
    def restore(module, saved):
        module.training = saved.pop(0)
        for child in module.children():
            restore(child, saved)

    saved = [module.training for module in model.modules()]
    model.train(False)
    with torch.set_grad_enabled(False):
        pairs = [[model.features(x), y] for x, y in loader]
    restore(model, saved)
    return [torch.vstack([f for f, _ in pairs]), torch.hstack([y for _, y in pairs])]


@right
def one_image_at_a_time(model, loader):
    features, labels = [], []
    with evaluating(model), torch.no_grad():
        for x, y in loader:
            for image, label in zip(x, y):
                features.append(model.features(image[None])[0])
                labels.append(label)
    return torch.stack(features), torch.stack(labels)


# ---------------------------------------------------------------- 評価モードの誤り


@wrong("statistics-moved")
def never_evaluates(model, loader):
    return joined(batches(model, loader))


@wrong("statistics-moved")
def evaluates_after_the_first_batch(model, loader):
    modes = [(module, module.training) for module in model.modules()]
    pairs = []
    with torch.no_grad():
        for x, y in loader:
            pairs.append((model.features(x), y))
            model.eval()
    for module, training in modes:
        module.training = training
    return joined(pairs)


@wrong("dropout-on")
def only_batchnorm_in_eval(model, loader):
    with evaluating(model):
        model.dropout.train()
        return joined(batches(model, loader))


@wrong("batch-dependent")
def batch_statistics_without_momentum(model, loader):
    with evaluating(copy.deepcopy(model)) as copied:
        copied.norm.train()
        return joined(batches(copied, loader))


@wrong("batch-dependent")
def subtracts_the_batch_mean(model, loader):
    with evaluating(model):
        return joined([(f - f.mean(0), y) for f, y in batches(model, loader)])


@wrong("train-not-restored")
def leaves_eval(model, loader):
    model.eval()
    return joined(batches(model, loader))


@wrong("train-not-restored")
def restores_only_the_root(model, loader):
    training = model.training
    model.eval()
    pairs = batches(model, loader)
    model.training = training
    return joined(pairs)


@wrong("eval-not-restored")
def always_back_to_train(model, loader):
    model.eval()
    pairs = batches(model, loader)
    model.train()
    return joined(pairs)


@wrong("submodule-mode")
def back_by_the_root_flag(model, loader):
    training = model.training
    model.eval()
    pairs = batches(model, loader)
    model.train(training)
    return joined(pairs)


# ---------------------------------------------------------------- 学習に使えない特徴


@wrong("graph-kept")
def keeps_the_graph(model, loader):
    with evaluating(model):
        return joined([(model.features(x), y) for x, y in loader])


@wrong("graph-kept")
def asks_for_gradients_again(model, loader):
    features, labels = no_grad_and_restored_modes(model, loader)
    return features.requires_grad_(), labels


@wrong("inference-tensor")
def returns_inference_tensors(model, loader):
    with evaluating(model), torch.inference_mode():
        return joined([(model.features(x), y) for x, y in loader])


@wrong("inference-tensor")
def clones_inside(model, loader):
    with evaluating(model), torch.inference_mode():
        features, labels = joined([(model.features(x), y) for x, y in loader])
        return features.clone(), labels.clone()


@wrong("grad-left-off")
def switches_gradients_off(model, loader):
    torch.set_grad_enabled(False)
    with evaluating(model):
        return joined([(model.features(x), y) for x, y in loader])


@wrong("trainable-changed")
def freezes_the_model(model, loader):
    for parameter in model.parameters():
        parameter.requires_grad = False
    with evaluating(model):
        return joined([(model.features(x), y) for x, y in loader])


@wrong("parameters-changed")
def updates_the_head(model, loader):
    features, labels = no_grad_and_restored_modes(model, loader)
    with torch.no_grad():
        model.head.bias -= 0.1
    return features, labels


# ---------------------------------------------------------------- 行の誤り


@wrong("misaligned")
def goes_round_twice(model, loader):
    with evaluating(model), torch.no_grad():
        features = torch.cat([model.features(x) for x, _ in loader])
        labels = torch.cat([y for _, y in loader])
    return features, labels


@wrong("misaligned")
def labels_from_the_dataset(model, loader):
    with evaluating(model):
        features, _ = joined(batches(model, loader))
    return features, loader.dataset.tensors[1]


@wrong("order-changed")
def all_from_the_dataset(model, loader):
    images, labels = loader.dataset.tensors
    with evaluating(model), torch.no_grad():
        return model.features(images), labels


@wrong("order-changed")
def sorted_by_label(model, loader):
    features, labels = no_grad_and_restored_modes(model, loader)
    order = labels.argsort()
    return features[order], labels[order]


@wrong("rows-missing")
def drops_the_partial_batch(model, loader):
    with evaluating(model):
        return joined([(f, y) for f, y in batches(model, loader) if len(y) == loader.batch_size])


@wrong("rows-missing")
def stops_one_batch_early(model, loader):
    with evaluating(model):
        return joined(batches(model, loader)[:-1])


@wrong("rows-missing")
def keeps_only_the_last_batch(model, loader):
    with evaluating(model):
        return batches(model, loader)[-1]


@wrong("raised")
def stacks_the_batches(model, loader):
    with evaluating(model):
        pairs = batches(model, loader)
    return torch.stack([f for f, _ in pairs]).flatten(0, 1), torch.stack([y for _, y in pairs]).flatten()


# ---------------------------------------------------------------- 返り値の誤り


@wrong("logits-returned")
def calls_the_whole_model(model, loader):
    with evaluating(model), torch.no_grad():
        return joined([(model(x), y) for x, y in loader])


@wrong("feature-shape")
def intermediate_maps(model, loader):
    with evaluating(model), torch.no_grad():
        return joined([(model.norm(model.conv(x)).relu(), y) for x, y in loader])


@wrong("feature-shape")
def skips_the_projection(model, loader):
    with evaluating(model), torch.no_grad():
        return joined([(model.norm(model.conv(x)).relu().flatten(1), y) for x, y in loader])


@wrong("label-shape")
def labels_as_a_column(model, loader):
    features, labels = no_grad_and_restored_modes(model, loader)
    return features, labels[:, None]


@wrong("value-mismatch")
def normalises_the_features(model, loader):
    features, labels = no_grad_and_restored_modes(model, loader)
    return nn.functional.normalize(features), labels


@wrong("value-mismatch")
def skips_batchnorm(model, loader):
    with evaluating(model), torch.no_grad():
        return joined([(model.project(model.conv(x).relu().flatten(1)), y) for x, y in loader])


@wrong("not-pair")
def features_only(model, loader):
    return no_grad_and_restored_modes(model, loader)[0]


@wrong("not-pair")
def list_of_batches(model, loader):
    with evaluating(model):
        return batches(model, loader)[:1] * 3


@wrong("not-tensor")
def lists_of_tensors(model, loader):
    with evaluating(model):
        features, labels = zip(*batches(model, loader))
    return list(features), list(labels)


@wrong("not-tensor")
def numpy_arrays(model, loader):
    features, labels = no_grad_and_restored_modes(model, loader)
    return features.numpy(), labels.numpy()


@wrong("swapped")
def labels_first(model, loader):
    features, labels = no_grad_and_restored_modes(model, loader)
    return labels, features


@wrong("dtype-changed")
def labels_through_numpy_floats(model, loader):
    features, labels = no_grad_and_restored_modes(model, loader)
    return features, torch.tensor(np.array(labels.tolist(), dtype=float))


@wrong("dtype-changed")
def half_precision(model, loader):
    features, labels = no_grad_and_restored_modes(model, loader)
    return features.half(), labels


@wrong("returned-none")
def forgets_return(model, loader):
    value = no_grad_and_restored_modes(model, loader)


@wrong("raised")
def unpacks_a_batch_wrongly(model, loader):
    with evaluating(model), torch.no_grad():
        return joined([(model.features(batch), batch) for batch in loader])


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(model, loader):
    raise NotImplementedError("ここを実装してください")


@untouched
def pass_body(model, loader):
    """説明だけがある。"""


@untouched
def uses_a_blank(model, loader):
    features = ...
    return torch.cat(features), features


@untouched.each
def partial_of_a_stub():
    return functools.partial(raises)


# ---------------------------------------------------------------- 借り物


@borrower
def calls_a_function_of_tlkit(model, loader):
    tlkit.seeding.seed_everything(0)
    return no_grad_and_restored_modes(model, loader)


@borrower
def calls_the_library(model, loader):
    return extract_features(model, loader)


@borrower.each
def the_library_function_itself():
    return extract_features


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {}
