"""演習 02-8（四つの手法の準備）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import copy
import functools
import types

import torch
from answer_kit import borrower, right, untouched, wrong
from torch import nn

import tlkit.seeding
from tlkit.finetune import param_groups, set_freeze

TOP = {"head": 1, "last_block": 2, "discriminative": 5, "scratch": 5}  # 学習する段の数（出力側から）

# ---------------------------------------------------------------- 共通の部品


def stages_of(model):
    return [model.stem, *model.stages, model.head, model.classifier]


def reset(model):
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def rate_of(method, base_lr, decay, k):
    return base_lr / decay**k if method == "discriminative" else base_lr


def groups_of(model, method, base_lr, decay, top=None):
    top = TOP[method] if top is None else top
    return [
        {"params": list(stage.parameters()), "lr": rate_of(method, base_lr, decay, k)}
        for k, stage in enumerate(reversed(stages_of(model)[-top:]))
    ]


def keep_in_eval(model, frozen):
    """model.train を、凍結した段を評価モードに保つものに取り替える。"""

    def train(mode=True):
        nn.Module.train(model, mode)
        for stage in frozen:
            stage.eval()
        return model

    model.train = train
    model.train(model.training)


def freeze(model, top):
    stages = stages_of(model)
    for k, stage in enumerate(reversed(stages)):
        stage.requires_grad_(k < top)
    keep_in_eval(model, stages[: len(stages) - top])


# ---------------------------------------------------------------- 正しい答え


@right
def replaces_train_of_the_model(model, method, base_lr, decay):
    model.zero_grad()
    if method == "scratch":
        reset(model)
    freeze(model, TOP[method])
    return groups_of(model, method, base_lr, decay)


@right
def replaces_train_of_every_module(model, method, base_lr, decay):
    """部品ごとに train を取り替え、次に呼ばれたら外す。"""
    if method == "scratch":
        model.apply(lambda module: module.reset_parameters() if hasattr(module, "reset_parameters") else None)
    groups = []
    for k, stage in enumerate(stages_of(model)[::-1]):
        learn = k < TOP[method]
        for module in stage.modules():
            vars(module).pop("train", None)
            if not learn:
                module.training = False
                module.train = types.MethodType(lambda self, mode=True: self, module)
        for parameter in stage.parameters():
            parameter.requires_grad, parameter.grad = learn, None
        if learn:
            groups.append({"params": stage.parameters(), "lr": rate_of(method, base_lr, decay, k), "name": str(k)})
    return groups[::-1]


@right
def hooks_before_forward(model, method, base_lr, decay):
    """順伝播の直前に、段を評価モードへ戻すフック。前のフックは外す。"""
    for hook in vars(model).pop("_hooks_of_prepare", []):
        hook.remove()
    model.zero_grad(set_to_none=True)
    stages, top = stages_of(model), TOP[method]
    model.requires_grad_(False)
    for stage in stages[-top:]:
        stage.requires_grad_(True)
    model._hooks_of_prepare = [
        stage.register_forward_pre_hook(lambda module, _: module.train(False) and None) for stage in stages[:-top]
    ]
    if method == "scratch":
        reset(model)
    return groups_of(model, method, base_lr, decay)


@right
def one_group_per_parameter(model, method, base_lr, decay):
    """名前で分け、パラメータごとに組を作る。"""
    model.zero_grad()
    names = ["classifier", "head", "stages.1", "stages.0", "stem"]
    if method == "scratch":
        reset(model)
    groups = []
    for name, parameter in model.named_parameters():
        k = next(i for i, stage in enumerate(names) if name.startswith(stage + "."))
        parameter.requires_grad_(k < TOP[method])
        if parameter.requires_grad:
            groups.append({"params": [parameter], "lr": rate_of(method, base_lr, decay, k)})
    keep_in_eval(model, [model.get_submodule(name) for name in names[TOP[method] :]])
    return groups


@right
def all_parameters_drawn_by_hand(model, method, base_lr, decay):
    """He の初期化を使い、BatchNorm は自分で戻す。学習率の同じ段は一つの組にまとめる。"""
    if method == "scratch":
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.uniform_(module.bias, -0.1, 0.1)
            elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
                module.reset_running_stats()
    for parameter in model.parameters():
        parameter.grad = None
    freeze(model, TOP[method])
    if method == "discriminative":
        return groups_of(model, method, base_lr, decay)
    return [{"params": [p for p in model.parameters() if p.requires_grad], "lr": base_lr}]


# ---------------------------------------------------------------- 凍結の誤り


@wrong("statistics-move")
def only_the_flags(model, method, base_lr, decay):
    model.zero_grad()
    if method == "scratch":
        reset(model)
    for k, stage in enumerate(reversed(stages_of(model))):
        stage.requires_grad_(k < TOP[method])
    return groups_of(model, method, base_lr, decay)


@wrong("statistics-move")
def eval_once(model, method, base_lr, decay):
    """評価モードにするが、train() で戻ってしまう。"""
    groups = only_the_flags(model, method, base_lr, decay)
    for stage in stages_of(model)[: 5 - TOP[method]]:
        stage.eval()
    return groups


@wrong("frozen-acts")
def momentum_zero(model, method, base_lr, decay):
    """移動統計は動かないが、出力はバッチの統計で決まる。"""
    groups = only_the_flags(model, method, base_lr, decay)
    for k, stage in enumerate(reversed(stages_of(model))):
        for module in stage.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.momentum = 0.1 if k < TOP[method] else 0.0
                module.num_batches_tracked.requires_grad_(False)
                module.track_running_stats = k < TOP[method]
    return groups


@wrong("frozen-acts")
def only_batchnorm_in_eval(model, method, base_lr, decay):
    groups = replaces_train_of_the_model(model, method, base_lr, decay)
    frozen = [
        module
        for stage in stages_of(model)[: 5 - TOP[method]]
        for module in stage.modules()
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
    ]
    keep_in_eval(model, frozen)
    return groups


@wrong("not-frozen")
def only_in_the_optimizer(model, method, base_lr, decay):
    groups = replaces_train_of_the_model(model, method, base_lr, decay)
    model.requires_grad_(True)
    return groups


@wrong("head-boundary")
def head_is_the_stage_called_head(model, method, base_lr, decay):
    top = 2 if method == "head" else TOP[method]
    model.zero_grad()
    if method == "scratch":
        reset(model)
    freeze(model, top)
    return groups_of(model, method, base_lr, decay, top)


@wrong("last-block-boundary")
def last_block_is_the_last_of_stages(model, method, base_lr, decay):
    top = 3 if method == "last_block" else TOP[method]
    model.zero_grad()
    if method == "scratch":
        reset(model)
    freeze(model, top)
    return groups_of(model, method, base_lr, decay, top)


@wrong("all-trained")
def forgets_the_stem(model, method, base_lr, decay):
    top = min(TOP[method], 4)
    model.zero_grad()
    if method == "scratch":
        reset(model)
    freeze(model, top)
    return groups_of(model, method, base_lr, decay, top)


@wrong("stage-split")
def freezes_every_normalisation(model, method, base_lr, decay):
    groups = replaces_train_of_the_model(model, method, base_lr, decay)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and not name.startswith("classifier"):
            parameter.requires_grad_(False)
    return [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups]


@wrong("trained-asleep")
def everything_in_eval(model, method, base_lr, decay):
    groups = replaces_train_of_the_model(model, method, base_lr, decay)
    keep_in_eval(model, stages_of(model))
    return groups


@wrong("eval-broken")
def ignores_the_mode(model, method, base_lr, decay):
    groups = replaces_train_of_the_model(model, method, base_lr, decay)
    frozen = stages_of(model)[: 5 - TOP[method]]

    def train(mode=True):
        nn.Module.train(model, True)
        for stage in frozen:
            stage.train(False)
        return model

    model.train = train
    return groups


@wrong("train-returns")
def forgets_to_return_the_model(model, method, base_lr, decay):
    groups = replaces_train_of_the_model(model, method, base_lr, decay)
    frozen = stages_of(model)[: 5 - TOP[method]]

    def train(mode=True):
        nn.Module.train(model, mode)
        for stage in frozen:
            stage.eval()

    model.train = train
    return groups


@wrong("stale-gradients")
def keeps_the_gradients(model, method, base_lr, decay):
    if method == "scratch":
        reset(model)
    freeze(model, TOP[method])
    return groups_of(model, method, base_lr, decay)


@wrong("stale-gradients")
def clears_through_the_new_optimizer(model, method, base_lr, decay):
    """凍結したパラメータはオプティマイザにないので、勾配が残る。"""
    groups = keeps_the_gradients(model, method, base_lr, decay)
    torch.optim.SGD([dict(group) for group in groups], lr=0.1).zero_grad()
    return groups


# ---------------------------------------------------------------- 二度目の呼び出し


@wrong("not-unfrozen")
def never_unfreezes(model, method, base_lr, decay):
    model.zero_grad()
    if method == "scratch":
        reset(model)
    for stage in stages_of(model)[: 5 - TOP[method]]:
        stage.requires_grad_(False)
    keep_in_eval(model, stages_of(model)[: 5 - TOP[method]])
    return [
        {**group, "params": [p for p in group["params"] if p.requires_grad]}
        for group in groups_of(model, method, base_lr, decay)
    ]


@wrong("mode-left")
def never_restores_train(model, method, base_lr, decay):
    """凍結した部品の train を取り替えたまま、外さない。"""
    model.zero_grad()
    if method == "scratch":
        reset(model)
    for k, stage in enumerate(reversed(stages_of(model))):
        stage.requires_grad_(k < TOP[method])
        if k >= TOP[method]:
            for module in stage.eval().modules():
                module.train = functools.partial(lambda module, mode=True: module, module)
    return groups_of(model, method, base_lr, decay)


@wrong("second-call")
def clears_only_the_first_time(model, method, base_lr, decay):
    if not hasattr(model, "_prepared"):
        model.zero_grad()
        model._prepared = True
    return keeps_the_gradients(model, method, base_lr, decay)


# ---------------------------------------------------------------- 組の誤り


def changing_groups(change):
    def answer(model, method, base_lr, decay):
        return change(model, replaces_train_of_the_model(model, method, base_lr, decay), method, base_lr, decay)

    return answer


@wrong("missing-from-groups").each
def leaves_out_the_first_stage():
    return changing_groups(lambda model, groups, *_: groups[:-1] or groups)


@wrong("missing-from-groups").each
def leaves_out_the_normalisation():
    return changing_groups(
        lambda model, groups, *_: [{**g, "params": [p for p in g["params"] if p.ndim > 1]} for g in groups]
    )


@wrong("frozen-in-groups").each
def all_parameters_in_the_groups():
    return changing_groups(lambda model, groups, method, lr, decay: groups_of(model, method, lr, decay, top=5))


@wrong("duplicated").each
def the_head_twice():
    return changing_groups(
        lambda model, groups, method, lr, decay: [*groups, {"params": list(model.classifier.parameters()), "lr": lr}]
    )


@wrong("foreign-parameters")
def parameters_of_a_copy(model, method, base_lr, decay):
    return replaces_train_of_the_model(copy.deepcopy(model), method, base_lr, decay)


@wrong("foreign-parameters").each
def cloned_parameters():
    return changing_groups(
        lambda model, groups, *_: [{**g, "params": [p.detach().clone() for p in g["params"]]} for g in groups]
    )


@wrong("not-groups").each
def an_optimizer():
    return changing_groups(lambda model, groups, *_: torch.optim.SGD(groups, lr=0.1))


@wrong("not-groups").each
def bare_parameters():
    return changing_groups(lambda model, groups, *_: [p for g in groups for p in g["params"]])


@wrong("group-keys").each
def rates_are_missing():
    return changing_groups(lambda model, groups, *_: [{"params": g["params"]} for g in groups])


# ---------------------------------------------------------------- 学習率の誤り


def with_rates(rule):
    def change(model, groups, method, base_lr, decay):
        return [{**group, "lr": rule(method, base_lr, decay, k)} for k, group in enumerate(groups)]

    return changing_groups(change)


@wrong("rates-equal").each
def one_rate_for_all():
    return with_rates(lambda method, lr, decay, k: lr)


@wrong("rates-reversed").each
def smallest_at_the_head():
    return with_rates(lambda method, lr, decay, k: lr / decay ** (4 - k) if method == "discriminative" else lr)


@wrong("rate-offset").each
def starts_from_one():
    return with_rates(lambda method, lr, decay, k: lr / decay ** (k + 1) if method == "discriminative" else lr)


@wrong("rate-ratio").each
def divides_by_the_number():
    return with_rates(lambda method, lr, decay, k: lr / (decay * k or 1) if method == "discriminative" else lr)


@wrong("rate-ratio").each
def fixed_decay():
    return with_rates(lambda method, lr, decay, k: lr / 2.6**k if method == "discriminative" else lr)


@wrong("decay-elsewhere").each
def decays_in_every_method():
    return with_rates(lambda method, lr, decay, k: lr / decay**k)


@wrong("base-rate").each
def small_rate_for_scratch():
    return with_rates(lambda method, lr, decay, k: rate_of(method, lr, decay, k) * (0.1 if method == "scratch" else 1))


@wrong("stages-merged")
def five_children_seen_as_four(model, method, base_lr, decay):
    """model.children() をそのまま段と数える。"""
    groups = replaces_train_of_the_model(model, method, base_lr, decay)
    depth = {id(p): k for k, child in enumerate(reversed(list(model.children()))) for p in child.parameters()}
    return [{**g, "lr": rate_of(method, base_lr, decay, depth[id(g["params"][0])])} for g in groups]


@wrong("rate-within-stage")
def decays_by_parameter(model, method, base_lr, decay):
    replaces_train_of_the_model(model, method, base_lr, decay)
    learned = [p for p in model.parameters() if p.requires_grad][::-1]
    return [{"params": [p], "lr": rate_of(method, base_lr, decay, k)} for k, p in enumerate(learned)]


# ---------------------------------------------------------------- 再初期化の誤り


def with_reset(function):
    def answer(model, method, base_lr, decay):
        if method == "scratch":
            with torch.no_grad():
                function(model)
        model.zero_grad()
        freeze(model, TOP[method])
        return groups_of(model, method, base_lr, decay)

    return answer


def reset_only(kinds):
    def function(model):
        for module in model.modules():
            if isinstance(module, kinds):
                module.reset_parameters()

    return with_reset(function)


@wrong("layers-kept").each
def only_the_classifier():
    return with_reset(lambda model: model.classifier.reset_parameters())


@wrong("layers-kept").each
def forgets_to_reset():
    return with_reset(lambda model: None)


@wrong("statistics-kept").each
def forgets_batchnorm():
    return reset_only((nn.Conv2d, nn.Linear))


@wrong("affine-not-default").each
def statistics_but_not_the_scale():
    def function(model):
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.reset_parameters()
            elif hasattr(module, "reset_running_stats"):
                module.reset_running_stats()

    return with_reset(function)


@wrong("constant-init").each
def all_zeros():
    def function(model):
        reset(model)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.zero_()

    return with_reset(function)


@wrong("init-scale").each
def standard_normal():
    def function(model):
        reset(model)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 2)

    return with_reset(function)


@wrong("seed-fixed").each
def fixes_the_seed():
    def function(model):
        torch.manual_seed(0)
        reset(model)

    return with_reset(function)


@wrong("old-weights-mixed").each
def adds_to_the_old_weights():
    def function(model):
        old = {name: value.clone() for name, value in model.named_parameters() if value.ndim > 1}
        reset(model)
        for name, value in model.named_parameters():
            if name in old:
                value += 0.5 * old[name]

    return with_reset(function)


@wrong("old-weights-mixed").each
def shuffles_the_old_weights():
    def function(model):
        old = {name: value.clone() for name, value in model.named_parameters() if value.ndim > 1}
        reset(model)
        for name, value in model.named_parameters():
            if name in old:
                value.copy_(old[name].flatten()[torch.randperm(value.numel())].view_as(value))

    return with_reset(function)


@wrong("values-touched")
def resets_the_classifier_always(model, method, base_lr, decay):
    model.classifier.reset_parameters()
    return replaces_train_of_the_model(model, method, base_lr, decay)


@wrong("values-touched")
def resets_the_statistics_always(model, method, base_lr, decay):
    for module in model.modules():
        if hasattr(module, "reset_running_stats"):
            module.reset_running_stats()
    return replaces_train_of_the_model(model, method, base_lr, decay)


@wrong("returned-none")
def forgets_return(model, method, base_lr, decay):
    groups = replaces_train_of_the_model(model, method, base_lr, decay)


@wrong("raised")
def misspells_a_method(model, method, base_lr, decay):
    top = {"head": 1, "last-block": 2, "discriminative": 5, "scratch": 5}[method]
    freeze(model, top)
    return groups_of(model, method, base_lr, decay, top)


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(model, method, base_lr, decay):
    raise NotImplementedError("ここを実装してください")


@untouched
def pass_body(model, method, base_lr, decay):
    """説明だけがある。"""


@untouched.each
def partial_of_a_stub():
    return functools.partial(raises)


# ---------------------------------------------------------------- 借り物


@borrower
def calls_a_function_of_tlkit(model, method, base_lr, decay):
    tlkit.seeding.seed_everything(0)
    return replaces_train_of_the_model(model, method, base_lr, decay)


@borrower
def calls_the_library(model, method, base_lr, decay):
    set_freeze(model, {"head": "all", "last_block": "partial"}.get(method, "none"))
    return param_groups(model, base_lr, decay=decay if method == "discriminative" else 1.0)


@borrower.each
def the_library_function_itself():
    return param_groups


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "for module in model.modules():\n    if hasattr(module, 'reset_parameters'):\n        module.reset_parameters() → "
    "for module in list(model.modules())[1:]:\n    if hasattr(module, 'reset_parameters'):\n"
    "        module.reset_parameters()": "初めの部品はモデル自身で、reset_parameters を持たない",
}
