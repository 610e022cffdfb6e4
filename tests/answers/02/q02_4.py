"""演習 02-4（上の段から解凍する）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

from answer_kit import borrower, right, untouched, wrong
from torch import nn

import tlkit.seeding
from tlkit.finetune import set_freeze

# ---------------------------------------------------------------- 正しい答え


def freeze(stage):
    stage.eval()
    for p in stage.parameters():
        p.requires_grad = False
        p.grad = None


def melt(stage):
    stage.train()
    for p in stage.parameters():
        p.requires_grad = True


@right
def by_index(stages, count):
    for i, stage in enumerate(stages):
        (melt if i >= len(stages) - count else freeze)(stage)


@right
def by_slices(stages, count):
    border = max(0, len(stages) - count)
    for stage in stages[:border]:
        freeze(stage)
    for stage in stages[border:]:
        melt(stage)


@right
def freezes_all_first(stages, count):
    """全部を凍結してから、出力側の count 個を戻す。凍結を続ける段の勾配だけを消す。"""
    for stage in stages:
        stage.requires_grad_(False).eval()
    for stage in list(reversed(stages))[:count]:
        stage.requires_grad_(True).train()
    for stage in stages:
        for p in stage.parameters():
            p.grad = p.grad if p.requires_grad else None
    return stages


@right
def zero_grad_of_the_stage(stages, count):
    left = count
    for stage in stages[::-1]:
        on = left > 0
        stage.train(on).requires_grad_(on)
        if not on:
            stage.zero_grad(set_to_none=True)
        left -= 1


# ---------------------------------------------------------------- 範囲の誤り


def with_range(trains):
    """学習する段の決め方だけを差し替えた答え。trains(i, n, count)。"""

    def answer(stages, count):
        for i, stage in enumerate(stages):
            (melt if trains(i, len(stages), count) else freeze)(stage)

    return answer


@wrong("wrong-end").each
def from_the_input():
    return with_range(lambda i, n, count: i < count)


@wrong("off-by-one").each
def one_too_many():
    return with_range(lambda i, n, count: i >= n - 1 - count)


@wrong("off-by-one").each
def one_too_few():
    return with_range(lambda i, n, count: i > n - count)


@wrong("off-by-one").each
def only_that_stage():
    return with_range(lambda i, n, count: i <= n - count)


@wrong("count-zero")
def negative_slice(stages, count):
    for stage in stages:
        freeze(stage)
    for stage in stages[-count:]:
        melt(stage)


@wrong("count-zero").each
def at_least_the_head():
    return with_range(lambda i, n, count: i >= n - max(1, count))


@wrong("count-beyond")
def border_below_zero(stages, count):
    border = len(stages) - count
    for stage in stages[:border]:
        freeze(stage)
    for stage in stages[border:]:
        melt(stage)


@wrong("count-beyond").each
def never_the_stem():
    return with_range(lambda i, n, count: i >= max(1, n - count))


@wrong("raised")
def indexes_from_the_end(stages, count):
    for stage in stages:
        freeze(stage)
    for k in range(1, count + 1):
        melt(stages[-k])


@wrong("never-unfrozen")
def chain_thaw(stages, count):
    """その回の段だけを学習する（chain-thaw）。段階的解凍ではない。"""
    border = max(0, len(stages) - count)
    for i, stage in enumerate(stages):
        (melt if i == border < len(stages) or count > len(stages) else freeze)(stage)


@wrong("bare-not-counted")
def skips_bare_stages(stages, count):
    for stage in stages:
        if not list(stage.parameters()):
            stage.eval()
    by_index([s for s in stages if list(s.parameters())], count)


@wrong("never-unfrozen")
def only_freezes(stages, count):
    for stage in stages[: max(0, len(stages) - count)]:
        freeze(stage)


@wrong("never-refrozen")
def freezes_only_the_first_time(stages, count):
    if all(p.requires_grad for s in stages for p in s.parameters()) and count <= 1:
        for stage in stages:
            freeze(stage)
    by_index(stages[max(0, len(stages) - count) :], count)


@wrong("nothing-frozen")
def only_melts(stages, count):
    for stage in stages[max(0, len(stages) - count) :]:
        melt(stage)
    for stage in stages[: max(0, len(stages) - count)]:
        stage.eval()


@wrong("nothing-frozen")
def sets_the_flag_on_modules(stages, count):
    for i, stage in enumerate(stages):
        stage.requires_grad = i >= len(stages) - count
        stage.train(stage.requires_grad)


@wrong("mixed-stage")
def weights_only(stages, count):
    by_index(stages, count)
    for stage in stages:
        for name, p in stage.named_parameters():
            if name.endswith("bias"):
                p.requires_grad = True


# ---------------------------------------------------------------- モードの誤り


def gradients(stages, count):
    for i, stage in enumerate(stages):
        for p in stage.parameters():
            p.requires_grad = i >= len(stages) - count
            if not p.requires_grad:
                p.grad = None


@wrong("statistics-moved")
def ignores_the_mode(stages, count):
    gradients(stages, count)


@wrong("statistics-moved")
def direct_children_only(stages, count):
    gradients(stages, count)
    for stage in stages[: max(0, len(stages) - count)]:
        for module in stage.children():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


@wrong("partly-in-train")
def batchnorm_only(stages, count):
    gradients(stages, count)
    for stage in stages[: max(0, len(stages) - count)]:
        for module in stage.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


@wrong("trained-in-eval")
def everything_in_eval(stages, count):
    gradients(stages, count)
    for stage in stages:
        stage.eval()


@wrong("trained-in-eval")
def batchnorm_always_in_eval(stages, count):
    by_index(stages, count)
    for stage in stages:
        for module in stage.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


# ---------------------------------------------------------------- 残った勾配の誤り


def without_clearing(stages, count):
    for i, stage in enumerate(stages):
        stage.train(i >= len(stages) - count).requires_grad_(i >= len(stages) - count)


@wrong("stale-grad")
def keeps_the_old_gradients(stages, count):
    without_clearing(stages, count)


@wrong("stale-grad")
def clears_the_wrong_side(stages, count):
    without_clearing(stages, count)
    for stage in stages[max(0, len(stages) - count) :]:
        stage.zero_grad()


@wrong("grad-zeroed")
def zeroes_the_gradients(stages, count):
    without_clearing(stages, count)
    for stage in stages[: max(0, len(stages) - count)]:
        stage.zero_grad(set_to_none=False)


@wrong("trained-grad-cleared")
def clears_all_gradients(stages, count):
    by_index(stages, count)
    for stage in stages:
        stage.zero_grad()


# ---------------------------------------------------------------- 書き換え、例外


@wrong("stages-reordered")
def reverses_in_place(stages, count):
    stages.reverse()
    for k, stage in enumerate(stages):
        (melt if k < count else freeze)(stage)


@wrong("stages-reordered")
def pops(stages, count):
    for _ in range(min(count, len(stages))):
        melt(stages.pop())
    for stage in stages:
        freeze(stage)


@wrong("values-changed")
def restarts_the_trained_stages(stages, count):
    by_index(stages, count)
    for stage in stages[max(0, len(stages) - count) :]:
        for module in stage.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()


@wrong("raised")
def asks_a_list_for_parameters(stages, count):
    for p in stages.parameters():
        p.requires_grad = False


@wrong("nothing-frozen")
def does_nothing(stages, count):
    return stages[: len(stages) - count]


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(stages, count):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(stages, count):
    frozen = ...
    for stage in frozen:
        stage.requires_grad_(False)


@borrower
def calls_the_library(stages, count):
    set_freeze(nn.Sequential(*stages), "none")
    by_index(stages, count)


@borrower
def seeds_with_the_library(stages, count):
    tlkit.seeding.seed_everything(0)
    by_index(stages, count)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {}
