"""演習 07-6（蒸留の 1 回の更新を直す）の答え。正しいもの、直し残し、ほかの誤り、ひな形、借り物。"""

import contextlib
import copy
import functools

import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong
from planted_bug import planted, stub_without_its_first_line

import tlkit.distill
import tlkit.losses

# ---------------------------------------------------------------- 共通の部品


def soft_term(s, t, temperature):
    log_q, log_p = (s / temperature).log_softmax(1), (t / temperature).log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()


def total(s, t, y, temperature, alpha):
    return alpha * temperature**2 * soft_term(s, t, temperature) + (1 - alpha) * F.cross_entropy(s, y)


def quiet_logits(teacher, x):
    teacher.eval()
    with torch.no_grad():
        return teacher(x)


def same_view(augment, x):
    seen = augment(x)
    return seen, seen


def step(objective=total, views=same_view, taught=quiet_logits, clear=True, update=None, value=torch.Tensor.item):
    """一か所だけを変えた答え。損失、二つのモデルに見せる入力、教師モデルの動かし方、勾配の消去、更新、返り値。"""

    def answer(student, teacher, batch, optimizer, augment, temperature, alpha):
        x, y = batch
        ours, theirs = views(augment, x)
        targets = taught(teacher, theirs)
        loss = objective(student(ours), targets, y, temperature, alpha)
        if clear:
            optimizer.zero_grad()
        loss.backward()
        (update or type(optimizer).step)(optimizer)
        return value(loss)

    return answer


plain = step()

# ---------------------------------------------------------------- 正しい答え


@right
def straightforward(student, teacher, batch, optimizer, augment, temperature, alpha):
    x, y = batch
    x = augment(x)
    teacher.eval()
    with torch.no_grad():
        targets = (teacher(x) / temperature).softmax(dim=1)
    logits = student(x)
    soft = F.kl_div((logits / temperature).log_softmax(dim=1), targets, reduction="batchmean")
    loss = alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@right
def restores_the_modes_and_detaches(student, teacher, batch, optimizer, augment, temperature, alpha):
    """記録してから detach し、部品ごとのモードを元へ戻す。生徒モデルを先に通す。"""
    modes = [(module, module.training) for module in teacher.modules()]
    seen = augment(batch[0])
    logits = student(seen)
    teacher.eval()
    targets = teacher(seen).detach()
    for module, mode in modes:
        module.training = mode
    loss = total(logits, targets, batch[1], temperature, alpha)
    student.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@right
def copies_the_teacher(student, teacher, batch, optimizer, augment, temperature, alpha):
    """複製を凍結する（遅いが、正しい）。"""
    frozen = copy.deepcopy(teacher).eval().requires_grad_(False)
    seen = augment(batch[0])
    optimizer.zero_grad(set_to_none=False)
    loss = total(student(seen), frozen(seen), batch[1], temperature, alpha)
    loss.backward()
    optimizer.step()
    return loss.item()


@right
def only_the_student_is_differentiated(student, teacher, batch, optimizer, augment, temperature, alpha):
    """autograd.grad に、生徒モデルのパラメータだけを渡す。損失はクロスエントロピーの形から作る。"""
    seen, parameters = augment(batch[0]), list(student.parameters())
    with torch.inference_mode():
        theirs = teacher.eval()(seen)
    p = (theirs.clone() / temperature).softmax(1).clone()
    logits = student(seen)
    cross = -(p * (logits / temperature).log_softmax(1)).sum(1).mean()
    entropy = -(p * p.log()).sum(1).mean()
    hard = F.nll_loss(logits.log_softmax(1), batch[1])
    loss = alpha * temperature**2 * (cross - entropy) + (1 - alpha) * hard
    for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = grad
    optimizer.step()
    return loss.item()


@right
def two_backward_passes_in_a_closure(student, teacher, batch, optimizer, augment, temperature, alpha):
    found = []

    def closure():
        optimizer.zero_grad()
        seen = augment(batch[0])
        targets, logits = quiet_logits(teacher, seen), student(seen)
        soft = alpha * temperature**2 * soft_term(logits, targets, temperature)
        hard = (1 - alpha) * F.cross_entropy(logits, batch[1])
        soft.backward(retain_graph=True)
        hard.backward()
        found.append(soft.item() + hard.item())
        return soft + hard

    optimizer.step(closure)
    return found[0]


# ---------------------------------------------------------------- 教材の誤った関数と、その直し残し

EXPECTED = {  # 直し残した誤り → 診断。複数あれば、先のものが出る
    "views": "separate-augmentation",
    "mode": "teacher-training",
    "graph": "teacher-gradient",
    "stale": "stale-gradients",
    "square": "temperature-squared",
}


@wrong("separate-augmentation").each
def the_given_step():
    return planted("07_distillation", "buggy_step")


@wrong("separate-augmentation").each
def the_stub_with_its_first_line_removed():
    return stub_without_its_first_line("07_distillation", "buggy_step", "distill_step")


def with_faults(*faults):
    """名前を挙げた誤りだけが残った答え。"""

    def views(augment, x):
        return (augment(x), augment(x)) if "views" in faults else same_view(augment, x)

    def taught(teacher, x):
        teacher.train("mode" in faults)
        with contextlib.nullcontext() if "graph" in faults else torch.no_grad():
            return teacher(x)

    def objective(s, t, y, temperature, alpha):
        square = 1 if "square" in faults else temperature**2
        return alpha * square * soft_term(s, t, temperature) + (1 - alpha) * F.cross_entropy(s, y)

    return step(objective, views, taught, clear="stale" not in faults)


def _left(*faults):
    def make():
        return with_faults(*faults)

    make.__name__ = "left_" + "_and_".join(faults)
    wrong(EXPECTED[faults[0]]).each(make)


for one in EXPECTED:
    _left(one)
_left("views", "mode", "graph", "stale", "square")
_left("mode", "graph", "stale", "square")
_left("graph", "stale", "square")
_left("stale", "square")

# ---------------------------------------------------------------- 教師モデル


@wrong("teacher-training").each
def leaves_the_mode_to_the_caller():
    return step(taught=lambda teacher, x: torch.no_grad()(teacher)(x))


@wrong("teacher-training").each
def sets_only_the_outermost_flag():
    def taught(teacher, x):
        teacher.training = False
        with torch.no_grad():
            return teacher(x)

    return step(taught=taught)


@wrong("teacher-gradient").each
def clears_the_gradients_of_the_teacher_afterwards():
    def answer(student, teacher, batch, optimizer, *rest):
        inner = step(taught=lambda model, x: model.eval()(x), update=lambda _: None)
        loss = inner(student, teacher, batch, optimizer, *rest)
        teacher.zero_grad()
        optimizer.step()
        return loss

    return answer


@wrong("teacher-changed").each
def moves_the_teacher_towards_the_student():
    def answer(student, teacher, *rest):
        loss = plain(student, teacher, *rest)
        with torch.no_grad():
            teacher.outer.bias.lerp_(student.outer.bias, 0.01)
        return loss

    return answer


@wrong("teacher-changed").each
def forgets_what_the_teacher_saw():
    def taught(teacher, x):
        teacher.norm.reset_running_stats()
        return quiet_logits(teacher, x)

    return step(taught=taught)


@wrong("teacher-extra-pass").each
def passes_the_teacher_twice():
    return step(taught=lambda teacher, x: (quiet_logits(teacher, x) + quiet_logits(teacher, x)) / 2)


@wrong("teacher-not-passed").each
def forgets_the_teacher():
    return step(taught=lambda teacher, x: torch.zeros(len(x), 4, dtype=x.dtype))


# ---------------------------------------------------------------- 変形


@wrong("teacher-unaugmented").each
def the_teacher_sees_the_clean_images():
    return step(views=lambda augment, x: (augment(x), x))


@wrong("student-unaugmented").each
def the_student_sees_the_clean_images():
    return step(views=lambda augment, x: (x, augment(x)))


@wrong("not-augmented").each
def forgets_to_augment():
    return step(views=lambda augment, x: (x, x))


@wrong("augmented-twice").each
def augments_the_augmented():
    return step(views=lambda augment, x: (augment(augment(x)),) * 2)


@wrong("augment-extra").each
def throws_one_view_away():
    def views(augment, x):
        augment(x)
        return same_view(augment, x)

    return step(views=views)


@wrong("other-input").each
def detunes_the_view():
    def views(augment, x):
        seen = augment(x)
        return seen, (seen + x) / 2

    return step(views=views)


@wrong("other-input").each
def ignores_the_result():
    def views(augment, x):
        augment(x)
        return x, x

    return step(views=views)


# ---------------------------------------------------------------- 生徒モデルと更新


@wrong("student-evaluated")
def evaluates_both(student, *rest):
    student.eval()
    loss = plain(student, *rest)
    student.train()
    return loss


@wrong("mode-changed")
def ends_in_evaluation_mode(student, *rest):
    loss = plain(student, *rest)
    student.eval()
    return loss


@wrong("student-extra-pass")
def passes_the_student_twice(student, teacher, batch, optimizer, augment, temperature, alpha):
    seen = augment(batch[0])
    targets = quiet_logits(teacher, seen)
    soft = temperature**2 * soft_term(student(seen), targets, temperature)
    loss = alpha * soft + (1 - alpha) * F.cross_entropy(student(seen), batch[1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("pass-after-update")
def measures_after_the_update(student, teacher, batch, optimizer, augment, temperature, alpha):
    kept = []

    def keep(x):
        kept.append(augment(x))
        return kept[0]

    plain(student, teacher, batch, optimizer, keep, temperature, alpha)
    with torch.no_grad():
        return total(student(kept[0]), teacher(kept[0]), batch[1], temperature, alpha).item()


@wrong("student-no-grad")
def records_nothing(student, teacher, batch, optimizer, augment, temperature, alpha):
    with torch.no_grad():
        seen = augment(batch[0])
        loss = total(student(seen), quiet_logits(teacher, seen), batch[1], temperature, alpha)
    optimizer.step()
    return loss.item()


@wrong("no-gradients").each
def clears_after_backward():
    def update(optimizer):
        optimizer.zero_grad()
        optimizer.step()

    return step(update=update)


@wrong("no-step").each
def forgets_to_update():
    return step(update=lambda _: None)


@wrong("many-steps").each
def updates_twice():
    def update(optimizer):
        optimizer.step()
        optimizer.step()

    return step(update=update)


@wrong("moved-otherwise")
def decays_by_hand(student, *rest):
    loss = plain(student, *rest)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(0.99)
    return loss


@wrong("not-finite").each
def divides_by_zero():
    return step(lambda s, t, y, temperature, alpha: total(s, t, y, temperature, alpha) + (s - s).sum().sqrt())


# ---------------------------------------------------------------- 損失


@wrong("temperature-squared").each
def multiplies_by_the_temperature_once():
    return step(
        lambda s, t, y, T, a: a * T * soft_term(s, t, T) + (1 - a) * F.cross_entropy(s, y),
    )


@wrong("hard-temperature").each
def scales_the_whole_loss():
    return step(lambda s, t, y, T, a: T**2 * (a * soft_term(s, t, T) + (1 - a) * F.cross_entropy(s, y)))


@wrong("alpha-swapped").each
def swaps_the_weights():
    return step(lambda s, t, y, T, a: (1 - a) * T**2 * soft_term(s, t, T) + a * F.cross_entropy(s, y))


@wrong("alpha-ignored").each
def ignores_alpha():
    return step(lambda s, t, y, T, a: T**2 * soft_term(s, t, T) + F.cross_entropy(s, y))


@wrong("hard-weight").each
def forgets_one_minus_alpha():
    return step(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) + F.cross_entropy(s, y))


@wrong("soft-weight").each
def averages_over_the_classes():
    return step(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) / 4 + (1 - a) * F.cross_entropy(s, y))


@wrong("soft-batch-size").each
def sums_the_divergence():
    return step(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) * len(s) + (1 - a) * F.cross_entropy(s, y))


@wrong("hard-batch-size").each
def sums_the_cross_entropy():
    return step(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) + (1 - a) * F.cross_entropy(s, y, reduction="sum"))


@wrong("soft-missing").each
def hard_labels_only():
    return step(lambda s, t, y, T, a: (1 - a) * F.cross_entropy(s, y))


@wrong("hard-missing").each
def teacher_only():
    return step(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T))


@wrong("soft-sign").each
def runs_away_from_the_teacher():
    return step(lambda s, t, y, T, a: (1 - a) * F.cross_entropy(s, y) - a * T**2 * soft_term(s, t, T))


@wrong("hard-sign").each
def runs_away_from_the_labels():
    return step(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) - (1 - a) * F.cross_entropy(s, y))


@wrong("soft-other").each
def swaps_the_arguments_of_the_divergence():
    return step(lambda s, t, y, T, a: a * T**2 * soft_term(t, s, T) + (1 - a) * F.cross_entropy(s, y))


@wrong("soft-other").each
def squared_difference_of_logits():
    return step(lambda s, t, y, T, a: a * F.mse_loss(s, t) + (1 - a) * F.cross_entropy(s, y))


@wrong("temperature-uneven").each
def heats_only_the_teacher():
    return step(lambda s, t, y, T, a: a * T**2 * soft_term(s * T, t, T) + (1 - a) * F.cross_entropy(s, y))


@wrong("hard-other").each
def heats_the_labels_too():
    return step(lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) + (1 - a) * F.cross_entropy(s / T, y))


@wrong("hard-other").each
def smooths_the_labels():
    return step(
        lambda s, t, y, T, a: a * T**2 * soft_term(s, t, T) + (1 - a) * F.cross_entropy(s, y, label_smoothing=0.1)
    )


# ---------------------------------------------------------------- 返り値


@wrong("not-float").each
def returns_the_tensor():
    return step(value=torch.Tensor.detach)


@wrong("loss-value").each
def returns_a_mean():
    return step(value=lambda loss: loss.item() / 2)


@wrong("returned-none").each
def returns_nothing():
    return step(value=lambda _: None)


@wrong("raised").each
def swaps_the_batch():
    return step(views=lambda augment, x: augment(x)[:, :3])


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(student, teacher, batch, optimizer, augment, temperature, alpha):
    raise NotImplementedError("この行を消し、下の五つの誤りを直してください")
    return plain(student, teacher, batch, optimizer, augment, temperature, alpha)


@untouched.each
def partial_of_a_stub():
    return functools.partial(raises)


@untouched
def only_a_docstring(student, teacher, batch, optimizer, augment, temperature, alpha):
    """何もしない。"""


# ---------------------------------------------------------------- 借り物


@borrower.each
def calls_the_loss_of_the_library():
    return step(lambda s, t, y, T, a: tlkit.losses.DistillationLoss(T, a)(s, t, y).total)


@borrower
def calls_the_method_of_the_library(student, teacher, batch, optimizer, augment, temperature, alpha):
    loss = tlkit.losses.DistillationLoss(temperature, alpha)
    optimizer.zero_grad()
    value = tlkit.distill.FromTeacher(teacher, loss, augment)(student, batch)["loss"]
    value.backward()
    optimizer.step()
    return value.item()


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "optimizer → student": "student.zero_grad() も、生徒モデルの勾配を消す",
    "augment(x) → augment(x).detach()": "画像には勾配がないので、detach しても同じ",
}
