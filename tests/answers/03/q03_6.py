"""演習 03-6（AdaBN）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import contextlib
import copy
import functools

import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

import tlkit.adapt
import tlkit.seeding

# ---------------------------------------------------------------- 共通の部品


def norms(model):
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@contextlib.contextmanager
def restored(model):
    """モードと momentum を控え、終わったら戻す。"""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [(layer, layer.momentum) for layer in norms(model)]
    yield
    for layer, momentum in momenta:
        layer.momentum = momentum
    for module, mode in modes:
        module.training = mode


def measuring(model, momentum=None, reset=True):
    """BatchNorm だけを学習モードにする。"""
    model.eval()
    for layer in norms(model):
        if reset:
            layer.reset_running_stats()
        layer.momentum = momentum
        layer.train()


@torch.no_grad()
def pass_all(model, batches):
    for x in batches:
        model(x)


def varied(prepare=measuring, run=pass_all):
    """準備と通し方だけを変えた答え。"""

    def answer(model, loader):
        with restored(model):
            prepare(model)
            run(model, loader)
        return model

    return answer


# ---------------------------------------------------------------- 正しい答え


@right
def cumulative_momentum(model, loader):
    return varied()(model, loader)


@right
def update_bn_of_torch(model, loader):
    """torch の update_bn は全体を学習モードにするので、雑音の部品が学習モードにならないようにする。"""
    modes = {module: module.training for module in model.modules()}
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            if not isinstance(module, _BatchNorm) and not list(module.children()):
                module.train = lambda mode=True, module=module: module
                stack.callback(module.__dict__.pop, "train")
                module.training = False
        update_bn(loader, model)
    for module, mode in modes.items():
        module.training = mode
    return model


@right
def momentum_of_one_over_the_count(model, loader):
    """momentum を 1、1/2、1/3、… と変える。1 なら前の値は残らない。"""
    layers, modes = norms(model), {name: module.training for name, module in model.named_modules()}
    before = [layer.momentum for layer in layers]
    model.train(False)
    for layer in layers:
        layer.training = True
        layer.num_batches_tracked.zero_()
    with torch.inference_mode():
        for count, x in enumerate(loader, 1):
            for layer in layers:
                layer.momentum = 1 / count
            model(x)
    for name, module in model.named_modules():
        module.training = modes[name]
    for layer, momentum in zip(layers, before):
        layer.momentum = momentum
    return model


@right
def hooks_that_sum_the_statistics(model, loader):
    """入力を横取りし、統計を自分で足す。移動統計は最後に書き込む。"""
    sums, count = {}, 0

    def note(layer, args):
        (h,) = args
        flat = h.transpose(0, 1).flatten(1)
        mean, variance = sums.get(layer, (0, 0))
        sums[layer] = mean + flat.mean(1), variance + flat.var(1)

    with restored(model), torch.no_grad():
        measuring(model)
        hooks = [layer.register_forward_pre_hook(note) for layer in norms(model)]
        for x in loader:
            model(x)
            count += 1
        for hook in hooks:
            hook.remove()
        for layer, (mean, variance) in sums.items():
            layer.running_mean.copy_(mean / count)
            layer.running_var.copy_(variance / count)
            layer.num_batches_tracked.fill_(count)
    return model


@right
def a_copy_is_measured(model, loader):
    """写しで測り、移動統計だけを写し戻す。"""
    twin = copy.deepcopy(model)
    measuring(twin)
    pass_all(twin, loader)
    state = model.state_dict()
    measured = {name: value for name, value in twin.state_dict().items() if "running_" in name or "tracked" in name}
    for name, value in measured.items():
        state[name].copy_(value)
    return model


# ---------------------------------------------------------------- 平均のしかたの誤り


@wrong("source-left").each
def forgets_the_reset():
    return varied(lambda model: measuring(model, reset=False))


@wrong("source-left")
def only_train_mode(model, loader):
    with restored(model):
        for layer in norms(model.eval()):
            layer.train()
        pass_all(model, loader)
    return model


@wrong("initial-left").each
def keeps_the_momentum():
    return varied(lambda model: measuring(model, momentum=0.1))


@wrong("initial-left")
def momentum_of_one_over_the_number_of_batches(model, loader):
    batches = list(loader)
    return varied(lambda model: measuring(model, momentum=1 / len(batches)))(model, batches)


@wrong("count-not-reset").each
def clears_two_of_three():
    def prepare(model):
        measuring(model, reset=False)
        for layer in norms(model):
            layer.running_mean.zero_()
            layer.running_var.fill_(1)

    return varied(prepare)


@wrong("one-batch").each
def momentum_of_one():
    return varied(lambda model: measuring(model, momentum=1.0))


@wrong("one-batch").each
def stops_after_the_first_batch():
    return varied(run=lambda model, loader: pass_all(model, [next(iter(loader))]))


@wrong("unequal-batches")
def halves_every_time(model, loader):
    """初めのバッチだけ momentum = 1、次からは 1/2。"""
    with restored(model), torch.no_grad():
        measuring(model, momentum=1.0)
        for x in loader:
            model(x)
            for layer in norms(model):
                layer.momentum = 0.5
    return model


@wrong("weighted-by-size")
def weighs_by_the_number_of_images(model, loader):
    with restored(model), torch.no_grad():
        measuring(model)
        seen = 0
        for x in loader:
            seen += len(x)
            for layer in norms(model):
                layer.momentum = len(x) / seen
            model(x)
    return model


@wrong("pooled-variance").each
def all_batches_in_one():
    return varied(run=lambda model, loader: pass_all(model, [torch.cat(list(loader))]))


@wrong("biased-variance")
def divides_by_n(model, loader):
    sums, count = {}, 0

    def note(layer, args):
        flat = args[0].transpose(0, 1).flatten(1)
        mean, variance = sums.get(layer, (0, 0))
        sums[layer] = mean + flat.mean(1), variance + flat.var(1, correction=0)

    with restored(model), torch.no_grad():
        measuring(model)
        hooks = [layer.register_forward_pre_hook(note) for layer in norms(model)]
        for x in loader:
            model(x)
            count += 1
        for hook in hooks:
            hook.remove()
        for layer, (mean, variance) in sums.items():
            layer.running_mean.copy_(mean / count)
            layer.running_var.copy_(variance / count)
    return model


@wrong("variance-wrong")
def stores_the_standard_deviation(model, loader):
    varied()(model, loader)
    for layer in norms(model):
        layer.running_var.sqrt_()
    return model


@wrong("loader-once")
def counts_the_batches_first(model, loader):
    count = sum(1 for _ in loader)
    with restored(model), torch.no_grad():
        measuring(model, reset=False)
        for index, x in enumerate(loader):
            for layer in norms(model):
                if index == 0:
                    layer.reset_running_stats()
                layer.momentum = 1 / (index + 1) if index < count else None
            model(x)
    return model


@wrong("loader-once")
def resets_and_counts(model, loader):
    sum(1 for _ in loader)
    return varied()(model, loader)


@wrong("extra-pass")
def passes_everything_twice(model, loader):
    return varied()(varied()(model, batches := list(loader)), batches)


@wrong("count-wrong")
def one_batch_too_many(model, loader):
    varied()(model, loader)
    for layer in norms(model):
        layer.num_batches_tracked += 1
    return model


# ---------------------------------------------------------------- 測る層、測り方の誤り


def only(choose):
    """選んだ層だけを測り直す。"""

    def prepare(model):
        model.eval()
        for layer in choose(model):
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()

    return varied(prepare)


@wrong("layer-left").each
def only_two_dimensional():
    return only(lambda model: [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)])


@wrong("layer-left").each
def only_direct_children():
    return only(lambda model: [m for m in model.children() if isinstance(m, _BatchNorm)])


@wrong("layer-left").each
def only_layers_with_weights():
    return only(lambda model: [m for m in norms(model) if m.affine])


@wrong("layer-left")
def skips_the_frozen_layer(model, loader):
    chosen = [m for m in norms(model) if all(p.requires_grad for p in m.parameters())]
    return only(lambda model: chosen)(model, loader)


@wrong("nothing-moved")
def stays_in_eval(model, loader):
    with restored(model):
        model.eval()
        pass_all(model, loader)
    return model


@wrong("reset-only")
def resets_in_eval(model, loader):
    """リセットした統計のまま。"""
    with restored(model):
        model.eval()
        for layer in norms(model):
            layer.reset_running_stats()
        pass_all(model, loader)
    return model


@wrong("earlier-layers")
def one_layer_after_another(model, loader):
    """前の層を測り終え、固定してから、次の層を測る。"""
    batches = list(loader)
    for layer in norms(model):
        with restored(model):
            model.eval()
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
            pass_all(model, batches)
    return model


@wrong("earlier-layers")
def features_under_the_source_statistics(model, loader):
    """評価モードのモデルで、すべての層の入力を集める。前の層は、ソースの統計で正規化している。"""
    sums, count = {}, 0

    def note(layer, args):
        flat = args[0].transpose(0, 1).flatten(1)
        mean, variance = sums.get(layer, (0, 0))
        sums[layer] = mean + flat.mean(1), variance + flat.var(1)

    with restored(model), torch.no_grad():
        model.eval()
        hooks = [layer.register_forward_pre_hook(note) for layer in norms(model)]
        for x in loader:
            model(x)
            count += 1
        for hook in hooks:
            hook.remove()
        for layer, (mean, variance) in sums.items():
            layer.running_mean.copy_(mean / count)
            layer.running_var.copy_(variance / count)
            layer.num_batches_tracked.fill_(count)
    return model


@wrong("dropout-on").each
def the_whole_model_in_train_mode():
    def prepare(model):
        measuring(model)
        model.train()

    return varied(prepare)


@wrong("dropout-on")
def update_bn_as_it_is(model, loader):
    modes = [(module, module.training) for module in model.modules()]
    update_bn(loader, model)
    for module, mode in modes:
        module.training = mode
    return model


@wrong("noise-on").each
def names_the_dropout_only():
    def prepare(model):
        measuring(model)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.eval()

    return varied(prepare)


@wrong("grad-enabled").each
def keeps_the_gradients_on():
    def run(model, loader):
        for x in loader:
            model(x)

    return varied(run=run)


@wrong("gradients-left").each
def runs_backward_without_a_step():
    def run(model, loader):
        for x in loader:
            model(x).sum().backward()

    return varied(run=run)


@wrong("raised")
def expects_pairs(model, loader):
    with restored(model), torch.no_grad():
        measuring(model)
        for x, _, _ in loader:
            model(x)
    return model


# ---------------------------------------------------------------- 元に戻さない誤り


@wrong("modes-changed")
def leaves_the_train_mode(model, loader):
    adapted = varied()(model, loader)
    return adapted.train()


@wrong("modes-changed")
def leaves_the_eval_mode(model, loader):
    return varied()(model, loader).eval()


@wrong("modes-changed")
def restores_the_root_only(model, loader):
    mode = model.training
    return varied()(model, loader).train(mode)


@wrong("momentum-changed")
def leaves_the_momentum(model, loader):
    varied()(model, loader)
    for layer in norms(model):
        layer.momentum = None
    return model


@wrong("momentum-changed")
def restores_the_default(model, loader):
    varied()(model, loader)
    for layer in norms(model):
        layer.momentum = 0.1
    return model


# ---------------------------------------------------------------- 統計のほかを変える誤り


@wrong("weights-changed").each
def resets_the_parameters():
    def prepare(model):
        measuring(model)
        for layer in norms(model):
            layer.reset_parameters()

    return varied(prepare)


@wrong("weights-changed")
def trains_on_its_own_predictions(model, loader):
    batches = list(loader)
    varied()(model, batches)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for x in batches:
        optimizer.zero_grad()
        logits = model(x)
        F.cross_entropy(logits, logits.argmax(1)).backward()
        optimizer.step()
    return model


@wrong("flags-changed")
def freezes_the_weights(model, loader):
    model.requires_grad_(False)
    return varied()(model, loader)


@wrong("not-same-model")
def returns_a_copy(model, loader):
    return varied()(copy.deepcopy(model), loader)


@wrong("modules-replaced")
def replaces_the_layers(model, loader):
    """写しの層に差し替える。"""
    varied()(model, loader)
    model.norm = copy.deepcopy(model.norm)
    return model


@wrong("statistics-broken")
def stops_tracking(model, loader):
    """移動統計をなくし、いつもバッチの統計を使わせる。"""
    for layer in norms(model):
        layer.running_mean = layer.running_var = None
    return model


@wrong("statistics-dtype")
def numpy_statistics(model, loader):
    varied()(model, loader)
    for layer in norms(model):
        layer.running_mean = torch.from_numpy(layer.running_mean.double().numpy())
    return model


@wrong("inference-tensors")
def new_tensors_in_inference_mode(model, loader):
    varied()(model, loader)
    with torch.inference_mode():
        for layer in norms(model):
            layer.running_mean = layer.running_mean * 1.0
    return model


@wrong("returned-none")
def returns_nothing(model, loader):
    varied()(model, loader)


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(model, loader):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(model, loader):
    layers = ...
    return model if len(layers) else model


@untouched.each
def partial_of_a_stub():
    return functools.partial(raises)


@untouched
def only_a_docstring(model, loader):
    """何もしない。"""


# ---------------------------------------------------------------- 借り物


@borrower
def calls_a_function_of_tlkit(model, loader):
    tlkit.seeding.seed_everything(0)
    return varied()(model, loader)


@borrower
def calls_the_library(model, loader):
    return tlkit.adapt.adapt_batchnorm(model, loader)


@borrower.each
def the_library_function_itself():
    return tlkit.adapt.adapt_batchnorm


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

_LAYERS = "{m: m.momentum for m in %s if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)}"
EQUIVALENT = {
    f"{_LAYERS % 'model.modules()'} → {_LAYERS % 'list(model.modules())[1:]'}": "初めの部品はモデル自身で、BatchNorm ではない",
}
