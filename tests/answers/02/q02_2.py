"""演習 02-2（層別学習率の組）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import copy

from answer_kit import borrower, right, untouched, wrong
from torch import nn

import tlkit.seeding
from tlkit.finetune import param_groups

# ---------------------------------------------------------------- 正しい答え


@right
def from_input_with_seen(stages, base_lr, decay):
    groups, seen = [], set()
    for i, stage in enumerate(stages):
        params = [p for p in stage.parameters() if p.requires_grad and id(p) not in seen]
        seen |= {id(p) for p in params}
        if params:
            groups.append({"params": params, "lr": base_lr / decay ** (len(stages) - 1 - i)})
    return groups


@right
def one_group_per_parameter(stages, base_lr, decay):
    """出力側から回る。同じパラメータは、後（入力側）の学習率で上書きする。"""
    rates = {}
    for k, stage in enumerate(reversed(stages)):
        for p in stage.parameters():
            if p.requires_grad:
                rates[p] = base_lr * decay**-k
    return [{"params": [p], "lr": lr} for p, lr in rates.items()]


@right
def rate_divided_step_by_step(stages, base_lr, decay):
    """先に持ち主を決め、学習率は 1 段ごとに割っていく。組は出力側から並ぶ。"""
    owner = {}
    for i, stage in enumerate(stages):
        for module in stage.modules():
            for p in module._parameters.values():
                if p is not None:
                    owner.setdefault(p, i)
    groups, lr = [], base_lr
    for i in range(len(stages))[::-1]:
        params = tuple(p for p, place in owner.items() if place == i and p.requires_grad)
        groups += [{"params": params, "lr": lr, "name": f"段{i}"}] if params else []
        lr = lr / decay
    return groups


@right
def weights_and_biases_apart(stages, base_lr, decay):
    """次元で二つの組に分け、バイアスなどには重み減衰をかけない。"""
    groups, taken = [], []
    for i, stage in enumerate(stages, 1):
        lr = base_lr / decay ** (len(stages) - i)
        fresh = [p for p in stage.parameters() if p.requires_grad and not any(p is q for q in taken)]
        taken += fresh
        for params, extra in (
            ([p for p in fresh if p.ndim > 1], {}),
            ([p for p in fresh if p.ndim <= 1], {"weight_decay": 0.0}),
        ):
            if params:
                groups.append({"params": params, "lr": lr, **extra})
    return groups


# ---------------------------------------------------------------- 学習率の誤り


def with_rate(rate):
    """学習率の決め方だけを差し替えた答え。rate(i, n, base_lr, decay)。"""

    def answer(stages, base_lr, decay):
        groups = from_input_with_seen(stages, 1.0, 2.0)
        place = {id(p): i for i, stage in reversed(list(enumerate(stages))) for p in stage.parameters()}
        for group in groups:
            group["lr"] = rate(place[id(group["params"][0])], len(stages), base_lr, decay)
        return groups

    return answer


@wrong("grows-toward-input").each
def multiplies():
    return with_rate(lambda i, n, base, decay: base * decay ** (n - 1 - i))


@wrong("reversed").each
def counts_from_the_input():
    return with_rate(lambda i, n, base, decay: base / decay**i)


@wrong("anchored-at-stem").each
def base_at_the_stem():
    return with_rate(lambda i, n, base, decay: base * decay**i)


@wrong("head-rate").each
def head_is_divided_too():
    return with_rate(lambda i, n, base, decay: base / decay ** (n - i))


@wrong("head-rate").each
def second_stage_gets_base():
    return with_rate(lambda i, n, base, decay: base / decay ** (n - 2 - i))


@wrong("not-geometric").each
def divides_by_a_multiple():
    return with_rate(lambda i, n, base, decay: base / (decay * (n - 1 - i) or 1))


@wrong("not-geometric").each
def only_the_head_differs():
    return with_rate(lambda i, n, base, decay: base if i == n - 1 else base / decay)


@wrong("ratio").each
def squared_steps():
    return with_rate(lambda i, n, base, decay: base / decay ** (2 * (n - 1 - i)))


@wrong("ratio").each
def interpolates_to_the_decay():
    return with_rate(lambda i, n, base, decay: base / decay ** ((n - 1 - i) / max(1, n - 1)))


@wrong("all-equal").each
def same_rate():
    return with_rate(lambda i, n, base, decay: base)


@wrong("decay-ignored").each
def always_two_point_six():
    return with_rate(lambda i, n, base, decay: base / 2.6 ** (n - 1 - i))


@wrong("uneven-stage")
def counts_parameters(stages, base_lr, decay):
    groups = []
    for i, stage in enumerate(stages):
        for j, p in enumerate(stage.parameters()):
            if p.requires_grad and not any(p is q for g in groups for q in g["params"]):
                groups.append({"params": [p], "lr": base_lr / decay ** (len(stages) - 1 - i + j)})
    return groups


@wrong("frozen-not-counted")
def skips_frozen_stages(stages, base_lr, decay):
    kept = [s for s in stages if not any(True for _ in s.parameters()) or any(p.requires_grad for p in s.parameters())]
    return from_input_with_seen(kept, base_lr, decay)


@wrong("bare-not-counted")
def skips_bare_stages(stages, base_lr, decay):
    return from_input_with_seen([s for s in stages if list(s.parameters())], base_lr, decay)


@wrong("bare-not-counted")
def divides_only_after_a_group(stages, base_lr, decay):
    seen = {id(p) for s in stages[:-1] for p in s.parameters()}
    groups, lr = [], base_lr
    for i in range(len(stages) - 1, -1, -1):
        earlier = {id(p) for s in stages[:i] for p in s.parameters()}
        params = [p for p in stages[i].parameters() if p.requires_grad and id(p) not in earlier]
        if params:
            groups.append({"params": params, "lr": lr})
            lr /= decay
    return groups


@wrong("shared-rate")
def from_the_head_with_seen(stages, base_lr, decay):
    groups, seen = [], set()
    for k, stage in enumerate(reversed(stages)):
        params = [p for p in stage.parameters() if p.requires_grad and id(p) not in seen]
        seen |= {id(p) for p in params}
        if params:
            groups.append({"params": params, "lr": base_lr / decay**k})
    return groups


# ---------------------------------------------------------------- 過不足


def with_members(members, empty=False):
    """段の中のパラメータの選び方だけを差し替えた答え。"""

    def answer(stages, base_lr, decay):
        groups, seen = [], set()
        for i, stage in enumerate(stages):
            params = [p for p in members(stage) if id(p) not in seen]
            seen |= {id(p) for p in params}
            if params or empty:
                groups.append({"params": params, "lr": base_lr / decay ** (len(stages) - 1 - i)})
        return groups

    return answer


def trainable(stage):
    return [p for p in stage.parameters() if p.requires_grad]


@wrong("stem-missing")
def starts_at_the_second_stage(stages, base_lr, decay):
    groups = from_input_with_seen(stages, base_lr, decay)
    first = {id(p) for p in stages[0].parameters()} if len(stages) > 1 else set()
    return [g for g in groups if id(g["params"][0]) not in first]


@wrong("head-missing")
def leaves_out_the_head(stages, base_lr, decay):
    last = {id(p) for p in stages[-1].parameters()}
    return [g for g in from_input_with_seen(stages, base_lr, decay) if id(g["params"][0]) not in last]


@wrong("parameter-missing").each
def convolutions_and_linears_only():
    kinds = (nn.Conv2d, nn.Linear)
    return with_members(lambda s: [p for m in s.modules() if isinstance(m, kinds) for p in trainable(m)])


@wrong("parameter-missing").each
def weights_only():
    return with_members(lambda s: [p for n, p in s.named_parameters() if p.requires_grad and "bias" not in n])


@wrong("own-parameter-missing").each
def goes_by_layers():
    def members(stage):
        layers = [m for m in stage.modules() if not list(m.children())]
        return [p for m in layers for p in trainable(m)]

    return with_members(members)


@wrong("frozen-included").each
def forgets_the_frozen_ones():
    return with_members(lambda s: list(s.parameters()))


@wrong("frozen-included").each
def checks_the_first_parameter_only():
    def members(stage):
        found = list(stage.parameters())
        return found if found and found[0].requires_grad else []

    return with_members(members)


@wrong("trainable-left-out").each
def leaves_out_partly_frozen_stages():
    return with_members(lambda s: trainable(s) if all(p.requires_grad for p in s.parameters()) else [])


@wrong("shared-twice")
def no_memory(stages, base_lr, decay):
    n = len(stages)
    groups = [{"params": trainable(s), "lr": base_lr / decay ** (n - 1 - i)} for i, s in enumerate(stages)]
    return [g for g in groups if g["params"]]


@wrong("listed-twice")
def walks_every_module(stages, base_lr, decay):
    groups = []
    for i, stage in enumerate(stages):
        params = [p for m in stage.modules() for p in trainable(m)]
        if params:
            groups.append({"params": params, "lr": base_lr / decay ** (len(stages) - 1 - i)})
    return groups


@wrong("empty-group").each
def keeps_empty_groups():
    return with_members(trainable, empty=True)


@wrong("buffers-included").each
def from_the_state():
    def members(stage):
        return [v for v in stage.state_dict(keep_vars=True).values() if v.requires_grad or v.ndim < 2]

    return with_members(members)


@wrong("not-parameters").each
def detached():
    return with_members(lambda s: [p.detach() for p in trainable(s)])


@wrong("not-parameters")
def copies_the_stages(stages, base_lr, decay):
    return from_input_with_seen(copy.deepcopy(stages), base_lr, decay)


# ---------------------------------------------------------------- 形の誤り


@wrong("params-read-once")
def generators(stages, base_lr, decay):
    groups = from_input_with_seen(stages, base_lr, decay)
    return [{"params": (p for p in g["params"]), "lr": g["lr"]} for g in groups]


@wrong("params-read-once")
def filters(stages, base_lr, decay):
    return [
        {"params": filter(lambda p: p.requires_grad, s.parameters()), "lr": base_lr / decay ** (len(stages) - 1 - i)}
        for i, s in enumerate(stages)
    ]


@wrong("not-dict")
def pairs(stages, base_lr, decay):
    return [(g["params"], g["lr"]) for g in from_input_with_seen(stages, base_lr, decay)]


@wrong("not-dict")
def other_names(stages, base_lr, decay):
    return [{"parameters": g["params"], "lr": g["lr"]} for g in from_input_with_seen(stages, base_lr, decay)]


@wrong("not-groups")
def by_name(stages, base_lr, decay):
    return {str(i): g for i, g in enumerate(from_input_with_seen(stages, base_lr, decay))}


@wrong("not-groups")
def yields(stages, base_lr, decay):
    yield from from_input_with_seen(stages, base_lr, decay)


@wrong("no-rate")
def long_name_for_the_rate(stages, base_lr, decay):
    return [{"params": g["params"], "learning_rate": g["lr"]} for g in from_input_with_seen(stages, base_lr, decay)]


@wrong("rate-not-number")
def rates_as_text(stages, base_lr, decay):
    return [{"params": g["params"], "lr": f"{g['lr']:.6f}"} for g in from_input_with_seen(stages, base_lr, decay)]


# ---------------------------------------------------------------- 書き換え、例外


@wrong("stages-reordered")
def reverses_in_place(stages, base_lr, decay):
    groups = from_input_with_seen(stages, base_lr, decay)
    stages.reverse()
    return groups


@wrong("parameters-touched")
def unfreezes(stages, base_lr, decay):
    groups = from_input_with_seen(stages, base_lr, decay)
    for stage in stages:
        stage.requires_grad_(True)
    return groups


@wrong("returned-none")
def forgets_return(stages, base_lr, decay):
    from_input_with_seen(stages, base_lr, decay)


@wrong("raised")
def reads_the_first_parameter(stages, base_lr, decay):
    return [{"params": [next(s.parameters()), *s.parameters()], "lr": base_lr} for s in stages]


@untouched
def raises(stages, base_lr, decay):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(stages, base_lr, decay):
    k = ...
    return [{"params": list(s.parameters()), "lr": base_lr / decay**k} for s in stages]


@borrower
def calls_the_library(stages, base_lr, decay):
    return param_groups(nn.Sequential(*stages), base_lr, decay=decay)


@borrower
def seeds_with_the_library(stages, base_lr, decay):
    tlkit.seeding.seed_everything(0)
    return from_input_with_seen(stages, base_lr, decay)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {}
