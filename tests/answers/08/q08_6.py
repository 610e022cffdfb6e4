"""演習 08-6（メタ蒸留の誤りを直す）の答え。正しいもの、直し残し、ほかの誤り、ひな形、借り物。"""

import copy
import functools

import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong
from planted_bug import planted, stub_without_its_first_line
from torch.func import functional_call, grad

import tlkit.losses
import tlkit.meta
from tlkit.fewshot import Episode

# ---------------------------------------------------------------- 共通の部品


def soft_term(s, t, temperature):
    log_q, log_p = (s / temperature).log_softmax(1), (t / temperature).log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()


def total(s, t, y, temperature, alpha):
    return alpha * temperature**2 * soft_term(s, t, temperature) + (1 - alpha) * F.cross_entropy(s, y)


def at_current(student, fast):
    return fast


def at_start(student, fast):
    return dict(student.named_parameters())


def keep_graph(loss, params):
    return torch.autograd.grad(loss, params, create_graph=True)


def drop_graph(loss, params):
    return torch.autograd.grad(loss, params)


def cross(logits, y):
    return F.cross_entropy(logits, y)


def meta(
    objective=total,
    point=at_current,
    slopes=keep_graph,
    final=at_current,
    outer=cross,
    taught=lambda teacher, x: teacher(x),
    start=lambda student: dict(student.named_parameters()),
    rate=lambda lr, steps: lr,
    count=lambda steps: steps,
    give=lambda loss, fast: (loss, fast),
):
    """一か所だけを変えた答え。内側の損失、内側の点、内側の勾配、外側の点、外側の損失、教師、初めの値、幅、回数、返り値。"""

    def answer(teacher, student, episode, *, inner_lr, inner_steps, temperature, alpha):
        support, query = episode[:2], episode[2:]
        theirs, fast = taught(teacher, support[0]), start(student)
        for _ in range(count(inner_steps)):
            here = point(student, fast)
            logits = functional_call(student, here, (support[0],))
            found = slopes(objective(logits, theirs, support[1], temperature, alpha), list(here.values()))
            step = rate(inner_lr, inner_steps)
            fast = {name: value - step * g for (name, value), g in zip(fast.items(), found, strict=True)}
        return give(outer(functional_call(student, final(student, fast), (query[0],)), query[1]), fast)

    return answer


plain = meta()

# ---------------------------------------------------------------- 正しい答え


@right
def straightforward(teacher, student, episode, *, inner_lr, inner_steps, temperature, alpha):
    support, query = episode[:2], episode[2:]
    (x, y), (query_x, query_y) = support, query
    fast = dict(student.named_parameters())
    for _ in range(inner_steps):
        logits = functional_call(student, fast, (x,))
        log_q, p = (logits / temperature).log_softmax(1), (teacher(x) / temperature).softmax(1)
        soft = F.kl_div(log_q, p, reduction="batchmean")
        loss = alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(logits, y)
        found = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
        fast = {name: fast[name] - inner_lr * g for name, g in zip(fast, found, strict=True)}
    return F.cross_entropy(functional_call(student, fast, (query_x,)), query_y), fast


@right
def with_functional_gradients(teacher, student, episode, *, inner_lr, inner_steps, temperature, alpha):
    """torch.func.grad は、外側の自動微分で微分できる。"""
    support, query = episode[:2], episode[2:]
    theirs, fast = teacher(support[0]), dict(student.named_parameters())

    def inner(params):
        return total(functional_call(student, params, (support[0],)), theirs, support[1], temperature, alpha)

    for _ in range(inner_steps):
        found = grad(inner)(fast)
        fast = {name: fast[name] - inner_lr * found[name] for name in fast}
    return F.nll_loss(functional_call(student, fast, query[:1]).log_softmax(1), query[1]), fast


@right
def recursive_in_two_parts(teacher, student, episode, *, inner_lr, inner_steps, temperature, alpha):
    """二つの項を別々に微分して足す。KL の代わりにクロスエントロピー（差は θ によらない）を使う。"""
    support, query = episode[:2], episode[2:]

    def descend(fast, left):
        if left == 0:
            return fast
        logits = functional_call(student, fast, (support[0],))
        p = (teacher(support[0]) / temperature).softmax(1)
        soft = -(p * (logits / temperature).log_softmax(1)).sum(1).mean()
        values = tuple(fast.values())
        a = torch.autograd.grad(soft, values, create_graph=True)
        b = torch.autograd.grad(F.cross_entropy(logits, support[1]), values, create_graph=True)
        weights = alpha * temperature**2, 1 - alpha
        return descend(
            {
                name: v - inner_lr * (weights[0] * i + weights[1] * j)
                for name, v, i, j in zip(fast, values, a, b, strict=True)
            },
            left - 1,
        )

    fast = descend(dict(student.named_parameters()), inner_steps)
    logits = functional_call(student, fast, (query[0],))
    return -logits.log_softmax(1)[torch.arange(len(logits)), query[1]].mean(), fast


@right
def on_one_flat_vector(teacher, student, episode, *, inner_lr, inner_steps, temperature, alpha):
    """パラメータを一列につなぎ、必要なときに切り分ける。"""
    support, query = episode[:2], episode[2:]
    names, values = zip(*student.named_parameters(), strict=True)
    flat = torch.cat([value.reshape(-1) for value in values])

    def split(vector):
        parts = vector.split([value.numel() for value in values])
        return {n: part.view_as(v) for n, part, v in zip(names, parts, values, strict=True)}

    theirs = teacher(support[0])
    for _ in range(inner_steps):
        logits = functional_call(student, split(flat), support[:1])
        (slope,) = keep_graph(total(logits, theirs, support[1], temperature, alpha), [flat])
        flat = torch.add(flat, slope, alpha=-inner_lr)
    return F.cross_entropy(functional_call(student, split(flat), query[:1]), query[1]), split(flat)


# ---------------------------------------------------------------- 教材の誤った関数と、その直し残し

EXPECTED = {  # 直し残した誤り → 診断。複数あれば、先のものが出る
    "query": "query-unadapted",
    "inner": "inner-original",
    "labels": "labels-unused",
    "square": "temperature-squared",
    "graph": "no-second-order",
}


@wrong("query-unadapted").each
def the_given_function():
    return planted("08_meta_learning", "buggy_meta_distillation")


@wrong("query-unadapted").each
def the_stub_with_its_first_line_removed():
    return stub_without_its_first_line("08_meta_learning", "buggy_meta_distillation", "meta_distillation_step")


def with_faults(*faults):
    """名前を挙げた誤りだけが残った答え。"""

    def objective(s, t, y, temperature, alpha):
        square = 1 if "square" in faults else temperature**2
        hard = 0 if "labels" in faults else (1 - alpha) * F.cross_entropy(s, y)
        return alpha * square * soft_term(s, t, temperature) + hard

    return meta(
        objective,
        point=at_start if "inner" in faults else at_current,
        final=at_start if "query" in faults else at_current,
        slopes=drop_graph if "graph" in faults else keep_graph,
    )


def _left(*faults):
    def make():
        return with_faults(*faults)

    make.__name__ = "left_" + "_and_".join(faults)
    wrong(EXPECTED[faults[0]]).each(make)


for one in EXPECTED:
    _left(one)
_left("inner", "labels", "square", "graph")
_left("labels", "square", "graph")
_left("square", "graph")

# ---------------------------------------------------------------- 返り値と、残った跡


@wrong("not-pair").each
def returns_only_the_loss():
    return meta(give=lambda loss, fast: loss)


@wrong("loss-not-tensor").each
def returns_a_number():
    return meta(give=lambda loss, fast: (loss.item(), fast))


@wrong("loss-shape").each
def forgets_the_mean():
    return meta(outer=functools.partial(F.cross_entropy, reduction="none"))


@wrong("adapted-names").each
def returns_a_list():
    return meta(give=lambda loss, fast: (loss, list(fast.values())))


@wrong("adapted-shape").each
def returns_flat_values():
    return meta(give=lambda loss, fast: (loss, {name: value.reshape(-1) for name, value in fast.items()}))


@wrong("not-finite").each
def divides_by_zero():
    return meta(outer=lambda logits, y: F.cross_entropy(logits, y) + (logits - logits).sum().log())


@wrong("student-moved")
def updates_the_model(teacher, student, *rest, **settings):
    loss, fast = plain(teacher, student, *rest, **settings)
    student.load_state_dict(fast)
    return loss, fast


@wrong("teacher-moved")
def updates_the_teacher(teacher, *rest, **settings):
    found = plain(teacher, *rest, **settings)
    for value in teacher.parameters():
        value.data.sub_(0.1)
    return found


@wrong("grads-left").each
def calls_backward_at_the_end():
    def give(loss, fast):
        loss.backward(retain_graph=True)
        return loss, fast

    return meta(give=give)


@wrong("flags-changed")
def freezes_the_teacher(teacher, *rest, **settings):
    return plain(teacher.requires_grad_(False), *rest, **settings)


# ---------------------------------------------------------------- どの点で計算するか


@wrong("no-adaptation").each
def never_moves():
    return meta(rate=lambda lr, steps: 0)


@wrong("zero-steps").each
def always_moves_once():
    return meta(count=lambda steps: max(steps, 1))


@wrong("inner-count").each
def moves_once_too_few():
    return meta(count=lambda steps: min(steps, 2))


@wrong("inner-later")
def subtracts_from_the_start(teacher, student, episode, *, inner_lr, inner_steps, temperature, alpha):
    support, query = episode[:2], episode[2:]
    start = fast = dict(student.named_parameters())
    for _ in range(inner_steps):
        loss = total(functional_call(student, fast, support[:1]), teacher(support[0]), support[1], temperature, alpha)
        found = keep_graph(loss, list(fast.values()))
        fast = {name: start[name] - inner_lr * g for name, g in zip(start, found, strict=True)}
    return F.cross_entropy(functional_call(student, fast, query[:1]), query[1]), fast


@wrong("query-loss")
def measures_on_the_support(teacher, student, episode, **settings):
    support, query = episode[:2], episode[2:]
    _, fast = plain(teacher, student, episode, **settings)
    return F.cross_entropy(functional_call(student, fast, support[:1]), support[1]), fast


@wrong("query-factor").each
def sums_the_query():
    return meta(outer=functools.partial(F.cross_entropy, reduction="sum"))


@wrong("query-loss")
def distils_on_the_query(teacher, student, episode, *, temperature, alpha, **settings):
    support, query = episode[:2], episode[2:]
    _, fast = plain(teacher, student, episode, temperature=temperature, alpha=alpha, **settings)
    logits = functional_call(student, fast, query[:1])
    return total(logits, teacher(query[0]), query[1], temperature, alpha), fast


@wrong("inner-ascends").each
def climbs():
    return meta(rate=lambda lr, steps: -lr)


@wrong("inner-rate").each
def doubles_the_rate():
    return meta(rate=lambda lr, steps: 2 * lr)


# ---------------------------------------------------------------- 内側の損失


@wrong("teacher-unused").each
def hard_labels_only():
    return meta(lambda s, t, y, T, a: (1 - a) * F.cross_entropy(s, y) + 0 * t.sum())


@wrong("alpha-swapped").each
def swaps_the_weights():
    return meta(lambda s, t, y, T, a: (1 - a) * T**2 * soft_term(s, t, T) + a * F.cross_entropy(s, y))


@wrong("alpha-ignored").each
def forgets_one_minus_alpha():
    return meta(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) + F.cross_entropy(s, y))


@wrong("soft-sign").each
def runs_away_from_the_teacher():
    return meta(lambda s, t, y, T, a: (1 - a) * F.cross_entropy(s, y) - a * T**2 * soft_term(s, t, T))


@wrong("hard-sign").each
def runs_away_from_the_labels():
    return meta(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) - (1 - a) * F.cross_entropy(s, y))


@wrong("soft-batch-size").each
def sums_the_divergence():
    return meta(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) * len(s) + (1 - a) * F.cross_entropy(s, y))


@wrong("hard-batch-size").each
def sums_the_cross_entropy():
    return meta(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) + (1 - a) * F.cross_entropy(s, y) * len(s))


@wrong("hard-temperature").each
def scales_the_whole_loss():
    return meta(lambda s, t, y, T, a: T**2 * (a * soft_term(s, t, T) + (1 - a) * F.cross_entropy(s, y)))


@wrong("hard-weight").each
def halves_the_hard_term():
    return meta(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) + (1 - a) / 2 * F.cross_entropy(s, y))


@wrong("temperature-squared").each
def multiplies_by_the_temperature_once():
    return meta(lambda s, t, y, T, a: a * T * soft_term(s, t, T) + (1 - a) * F.cross_entropy(s, y))


@wrong("soft-weight").each
def averages_over_the_classes():
    return meta(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) / 4 + (1 - a) * F.cross_entropy(s, y))


@wrong("soft-other").each
def swaps_the_arguments_of_the_divergence():
    return meta(lambda s, t, y, T, a: total(s, t, y, T, a) + a * T**2 * (soft_term(t, s, T) - soft_term(s, t, T)))


@wrong("temperature-uneven").each
def heats_only_the_teacher():
    return meta(lambda s, t, y, T, a: a * T**2 * soft_term(s * T, t, T) + (1 - a) * F.cross_entropy(s, y))


@wrong("hard-other").each
def heats_the_labels_too():
    return meta(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) + (1 - a) * F.cross_entropy(s / T, y))


@wrong("soft-other")
def distils_on_the_query_images(teacher, student, episode, **settings):
    support, query = episode[:2], episode[2:]
    _, fast = plain(teacher, student, Episode(*query, *query), **(settings | {"alpha": 1.0}))
    if settings["alpha"] < 1:
        return plain(teacher, student, episode, **settings)
    return F.cross_entropy(functional_call(student, fast, query[:1]), query[1]), fast


# ---------------------------------------------------------------- 計算グラフ


@wrong("no-graph")
def works_without_gradients(*args, **settings):
    loss, fast = plain(*args, **settings)
    return loss.detach(), fast


@wrong("student-cut").each
def starts_from_a_copy():
    return meta(start=lambda student: {n: v.detach().clone().requires_grad_() for n, v in student.named_parameters()})


@wrong("student-cut")
def adapts_a_deep_copy(teacher, student, *rest, **settings):
    return plain(teacher, copy.deepcopy(student), *rest, **settings)


@wrong("no-second-order").each
def detaches_the_slopes():
    return meta(slopes=lambda loss, params: [g.detach() for g in keep_graph(loss, params)])


@wrong("graph-broken")
def overwrites_what_was_used(teacher, student, episode, **settings):
    found = plain(teacher, student, episode, **settings)
    with torch.no_grad():
        for value in teacher.parameters():
            value.mul_(1)
    return found


@wrong("teacher-cut").each
def quiet_teacher():
    return meta(taught=lambda teacher, x: teacher(x).detach())


@wrong("student-gradient").each
def keeps_the_graph_of_the_first_step_only():
    seen = []

    def slopes(loss, params):
        first = params[0].is_leaf
        seen.append(first)
        return keep_graph(loss, params) if first else drop_graph(loss, params)

    return meta(slopes=slopes)


@wrong("teacher-gradient").each
def doubles_the_gradient_of_the_teacher():
    def taught(teacher, x):
        logits = teacher(x)
        return 2 * logits - logits.detach()

    return meta(taught=taught)


@wrong("returned-none").each
def returns_nothing():
    return meta(give=lambda loss, fast: None)


@wrong("raised").each
def takes_the_wrong_part_of_the_support():
    return meta(taught=lambda teacher, x: teacher(x[:3]))


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(teacher, student, episode, *, inner_lr, inner_steps, temperature, alpha):
    raise NotImplementedError("この行を消し、下の五つの誤りを直してください")


@untouched.each
def partial_of_a_stub():
    return functools.partial(raises)


@untouched
def only_a_docstring(teacher, student, episode, *, inner_lr, inner_steps, temperature, alpha):
    """何もしない。"""


# ---------------------------------------------------------------- 借り物


@borrower.each
def calls_the_loss_of_the_library():
    return meta(lambda s, t, y, T, a: tlkit.losses.DistillationLoss(T, a)(s, t, y).total)


@borrower
def calls_the_module_of_the_library(teacher, student, episode, **settings):
    module = tlkit.meta.MetaDistillation(teacher, student, **settings)
    return module(*episode), module.adapted(*episode[:2])


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "zip(fast.items(), slopes, strict=True) → zip(fast.items(), slopes)": "長さはいつも同じなので、strict は効かない",
    "True → False #2": "zip の strict。長さはいつも同じなので、効かない",
}
