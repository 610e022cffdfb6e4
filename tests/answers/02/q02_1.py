"""演習 02-1（バックボーンの凍結）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import copy
import functools
import types

import torch
from answer_kit import borrower, right, untouched, wrong
from torch import nn

import tlkit.seeding
from tlkit.finetune import set_freeze

# ---------------------------------------------------------------- 正しい答え


def backbone_parameters(model):
    return [p for name, p in model.named_parameters() if not name.startswith("classifier.")]


def parts(model):
    return [child for name, child in model.named_children() if name != "classifier"]


def stop_gradients(model):
    for p in backbone_parameters(model):
        p.requires_grad_(False)
        p.grad = None


def keep_in_eval(model):
    """モデルの train を差し替える。"""
    before = model.train

    def train(mode=True):
        before(mode)
        for part in parts(model):
            part.eval()
        return model

    model.train = train
    return model.train(model.training)


@right
def root_train_is_wrapped(model):
    stop_gradients(model)
    return keep_in_eval(model)


@right
def each_part_ignores_train(model):
    """バックボーンの部品の train を、何もしないものに替える。"""
    stop_gradients(model)
    for part in parts(model):
        for module in part.modules():
            module.training = False
            module.train = types.MethodType(lambda self, mode=True: self, module)
    return model


@right
def hooks_before_each_part(model):
    """バックボーンの部品を通る直前に、評価モードにする。"""
    stop_gradients(model)

    def hook(module, _):
        module.eval()

    for part in parts(model):
        part.register_forward_pre_hook(hook)
    return model


@right
def own_subclass(model):
    """このモデルだけのクラスを作り、train を上書きする。"""
    stop_gradients(model)
    kind = type(model)

    class Frozen(kind):
        def train(self, mode=True):
            super().train(mode)
            for name, child in self.named_children():
                child.train(mode and name == "classifier")
            return self

    model.__class__ = Frozen
    return model.train(model.training)


@right
def everything_off_then_the_head_on(model):
    """全部を凍結してから分類層を戻す。勾配は分類層のものまで消してよい。"""
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    model.zero_grad(set_to_none=True)
    head = set(model.classifier.modules())

    def train(self, mode=True):
        self.training = mode
        for module in self.modules():
            if module is not self:
                module.training = mode and module in head
        return self

    model.train = functools.partial(train, model)
    model.train(model.training)
    return model


# ---------------------------------------------------------------- 学習モードの誤り


@wrong("statistics-moved")
def flag_only(model):
    for p in backbone_parameters(model):
        p.requires_grad = False
    return model


@wrong("statistics-moved")
def flag_and_grad(model):
    stop_gradients(model)
    return model


@wrong("undone-by-train")
def eval_once(model):
    stop_gradients(model)
    for part in parts(model):
        part.eval()
    return model


@wrong("undone-by-train")
def eval_the_whole_model_once(model):
    stop_gradients(model)
    return model.eval()


@wrong("not-eval-at-once")
def waits_for_the_next_train(model):
    stop_gradients(model)
    training = model.training
    keep_in_eval(model)
    for module in model.modules():
        module.training = training
    return model


@wrong("only-through-forward")
def hook_on_the_whole_model(model):
    stop_gradients(model)

    def hook(module, _):
        for part in parts(module):
            part.eval()

    model.register_forward_pre_hook(hook)
    return model


@wrong("raised")
def hook_returns_the_module(model):
    """フックの返り値は、入力を置き換える。"""
    stop_gradients(model)
    for part in parts(model):
        part.register_forward_pre_hook(lambda module, _: module.eval())
    return model


@wrong("batch-statistics")
def zero_momentum(model):
    stop_gradients(model)
    for part in parts(model):
        for module in part.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.momentum = 0.0
            elif list(module.children()) == []:
                module.train = types.MethodType(lambda self, mode=True: self, module.eval())
    return model


@wrong("batch-statistics")
def stops_tracking(model):
    stop_gradients(model)
    for part in parts(model):
        for module in part.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.track_running_stats = False
            elif not list(module.children()):
                module.train = types.MethodType(lambda self, mode=True: self, module.eval())
    return model


def stay(model, chosen):
    """選んだ部品だけを、評価モードに保つ。"""
    before = model.train

    def train(mode=True):
        before(mode)
        for module in chosen:
            module.eval()
        return model

    model.train = train
    return model.train(model.training)


@wrong("dropout-on")
def batchnorm_only(model):
    stop_gradients(model)
    inside = [m for part in parts(model) for m in part.modules()]
    return stay(model, [m for m in inside if isinstance(m, nn.modules.batchnorm._BatchNorm)])


@wrong("types-listed")
def batchnorm_and_dropout_only(model):
    stop_gradients(model)
    inside = [m for part in parts(model) for m in part.modules()]
    return stay(model, [m for m in inside if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout))])


@wrong("statistics-moved")
def two_dimensional_batchnorm_only(model):
    stop_gradients(model)
    return stay(model, [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)])


@wrong("classifier-stuck-in-eval")
def every_batchnorm_and_leaf(model):
    stop_gradients(model)
    head = [m for m in model.classifier.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return stay(model, [*parts(model), *head])


@wrong("classifier-stuck-in-eval")
def train_does_nothing(model):
    stop_gradients(model)
    model.eval()
    model.train = lambda mode=True: model
    return model


@wrong("root-stuck-in-eval")
def only_the_classifier_switches(model):
    stop_gradients(model)
    model.eval()
    head = model.classifier

    def train(mode=True):
        head.train(mode)
        return model

    model.train = train
    return model


@wrong("eval-ignored")
def forgets_the_mode(model):
    stop_gradients(model)
    before = model.train

    def train(mode=True):
        before(True)
        for part in parts(model):
            part.eval()
        return model

    model.train = train
    return model.train()


@wrong("train-returns")
def train_returns_nothing(model):
    stop_gradients(model)
    before = model.train

    def train(mode=True):
        before(mode)
        for part in parts(model):
            part.eval()

    model.train = train
    model.train(model.training)
    return model


@wrong("raised")
def train_takes_no_mode(model):
    stop_gradients(model)
    before = model.train

    def train():
        before()
        for part in parts(model):
            part.eval()
        return model

    model.train = train
    return model.train()


@wrong("class-patched")
def rewrites_the_class(model):
    stop_gradients(model)
    kind, before = type(model), type(model).train

    def train(self, mode=True):
        before(self, mode)
        for part in parts(self):
            part.eval()
        return self

    kind.train = train
    return model.train(model.training)


@wrong("class-patched")
def rewrites_torch_itself(model):
    stop_gradients(model)
    for part in parts(model):
        for module in part.modules():
            type(module).train = lambda self, mode=True: self
            module.training = False
    return model


# ---------------------------------------------------------------- 範囲の誤り


@wrong("own-parameter-left")
def goes_by_children(model):
    for part in parts(model):
        for p in part.parameters():
            p.requires_grad = False
            p.grad = None
    return keep_in_eval(model)


@wrong("by-position")
def all_but_the_last_two(model):
    for p in list(model.parameters())[:-2]:
        p.requires_grad = False
        p.grad = None
    return keep_in_eval(model)


@wrong("trainable-left")
def freezes_convolutions_and_linears(model):
    for part in parts(model):
        for module in part.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.requires_grad_(False)
    model.shift.requires_grad_(False)
    return keep_in_eval(model)


@wrong("trainable-left")
def sets_the_flag_on_modules(model):
    for part in parts(model):
        part.requires_grad = False
    model.shift.requires_grad = False
    return keep_in_eval(model)


@wrong("classifier-frozen")
def freezes_everything(model):
    model.requires_grad_(False)
    model.zero_grad()
    return keep_in_eval(model)


@wrong("wrong-side")
def freezes_the_head(model):
    model.classifier.requires_grad_(False)
    return keep_in_eval(model)


# ---------------------------------------------------------------- 残った勾配の誤り


@wrong("stale-grad")
def keeps_the_old_gradients(model):
    for p in backbone_parameters(model):
        p.requires_grad = False
    return keep_in_eval(model)


@wrong("grad-zeroed")
def zeroes_the_gradients(model):
    for p in backbone_parameters(model):
        p.requires_grad = False
        if p.grad is not None:
            p.grad.zero_()
    return keep_in_eval(model)


@wrong("grad-zeroed")
def zero_grad_without_none(model):
    model.zero_grad(set_to_none=False)
    for p in backbone_parameters(model):
        p.requires_grad = False
    return keep_in_eval(model)


# ---------------------------------------------------------------- 返り値と値の誤り


@wrong("not-same-model")
def returns_a_copy(model):
    return root_train_is_wrapped(copy.deepcopy(model))


@wrong("not-same-model")
def returns_only_the_head(model):
    return root_train_is_wrapped(model).classifier


@wrong("values-changed")
def resets_the_statistics(model):
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    return root_train_is_wrapped(model)


@wrong("values-changed")
def new_head(model):
    with torch.no_grad():
        for p in model.classifier.parameters():
            p.zero_()
    return root_train_is_wrapped(model)


@wrong("returned-none")
def forgets_return(model):
    root_train_is_wrapped(model)


@wrong("raised")
def assumes_a_backbone_attribute(model):
    model.backbone.requires_grad_(False)
    return model


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(model):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(model):
    parameters = ...
    return [p.requires_grad_(False) for p in parameters]


@borrower
def calls_the_library(model):
    return set_freeze(model, "all")


@borrower
def seeds_with_the_library(model):
    tlkit.seeding.seed_everything(0)
    return root_train_is_wrapped(model)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "parameter.requires_grad_(False) → parameter.requires_grad_(False).detach()": "その場で変える命令の返り値は使わない",
}
