"""演習 07-4（ヒントによる学習）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import copy
import functools

import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong

import tlkit.seeding
from tlkit.losses import hint_loss as borrowed_loss

# ---------------------------------------------------------------- 共通の部品


def squared(features, target):
    return (features - target).square().mean()


def learned(lower, regressor):
    return [*lower.parameters(), *regressor.parameters()]


def parts(student, teacher, guided, hint):
    return student[:guided].train(), teacher[:hint].eval()


def varied(prepare=parts, choose=learned, loss=squared, follow=lambda teacher, x: teacher(x), number=float):
    """取り出す段、学習するパラメータ、損失、教師の通し方を変えた答え。"""

    def answer(student, teacher, guided, hint, regressor, loader, make_optimizer):
        lower, target_net = prepare(student, teacher, guided, hint)
        optimizer = make_optimizer(choose(lower, regressor))
        losses = []
        for x, _ in loader:
            with torch.no_grad():
                target = follow(target_net, x)
            value = loss(regressor(lower(x)), target)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(number(value.detach()))
        return losses

    return answer


# ---------------------------------------------------------------- 正しい答え


@right
def slices_and_mse(student, teacher, guided, hint, regressor, loader, make_optimizer):
    model = torch.nn.Sequential(student[:guided], regressor).train()
    optimizer, losses = make_optimizer(model.parameters()), []
    teacher.eval()
    for x, _ in loader:
        with torch.inference_mode():
            target = teacher[:hint](x)
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), target.clone())
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    return losses


@right
def one_stage_after_another(student, teacher, guided, hint, regressor, loader, make_optimizer):
    modes = [(module, module.training) for net in (student, teacher) for module in net.modules()]
    stages, model_stages = list(student.children())[:guided], list(teacher.children())[:hint]
    for stage in stages:
        stage.train()
    teacher.eval()
    optimizer = make_optimizer([{"params": stage.parameters()} for stage in [*stages, regressor]])
    losses = []
    for batch in loader:
        features = target = batch[0]
        for stage in stages:
            features = stage(features)
        with torch.no_grad():
            for stage in model_stages:
                target = stage(target)
        difference = regressor(features) - target
        loss = (difference * difference).sum() / difference.numel()
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for module, mode in modes:
        module.training = mode
    return losses


@right
def hooks_with_the_upper_part_in_eval(student, teacher, guided, hint, regressor, loader, make_optimizer):
    """全体を通すが、上の段は評価モードなので、移動統計は動かない。"""
    seen = {}
    hooks = [
        student[guided - 1].register_forward_hook(lambda module, args, out: seen.update(student=out)),
        teacher[hint - 1].register_forward_hook(lambda module, args, out: seen.update(teacher=out)),
    ]
    student.eval()[:guided].train()
    teacher.eval()
    optimizer = make_optimizer(learned(student[:guided], regressor))

    def step(x):
        student(x)
        with torch.no_grad():
            teacher(x)
        optimizer.zero_grad()
        loss = F.mse_loss(regressor(seen["student"]), seen["teacher"])
        loss.backward()
        optimizer.step()
        return loss.item()

    losses = [step(x) for x, _ in loader]
    for hook in hooks:
        hook.remove()
    return losses


@right
def gradients_by_hand_over(student, teacher, guided, hint, regressor, loader, make_optimizer):
    """最適化手法に生徒モデルの全部を渡しても、勾配のない重みは動かない。"""
    lower, target_net = parts(student, teacher, guided, hint)
    names = learned(lower, regressor)
    optimizer = make_optimizer([*student.parameters(), *regressor.parameters()])
    losses = []
    for x, _ in loader:
        target = torch.no_grad()(target_net)(x)
        optimizer.zero_grad()
        loss = torch.mean((regressor(lower(x)) - target) ** 2)
        for parameter, grad in zip(names, torch.autograd.grad(loss, names)):
            parameter.grad = grad
        optimizer.step()
        losses += [loss.tolist()]
    return losses


@right
def a_copy_of_the_teacher(student, teacher, guided, hint, regressor, loader, make_optimizer):
    twin = copy.deepcopy(teacher).eval().requires_grad_(False)

    def prepare(student, _, guided, hint):
        return student[:guided].train(), twin[:hint]

    return varied(prepare)(student, teacher, guided, hint, regressor, loader, make_optimizer)


# ---------------------------------------------------------------- 教師モデルの誤り


@wrong("teacher-statistics").each
def leaves_the_teacher_in_train():
    return varied(lambda student, teacher, guided, hint: (student[:guided].train(), teacher[:hint]))


@wrong("teacher-statistics").each
def trains_both_modes():
    return varied(lambda student, teacher, guided, hint: (student[:guided].train(), teacher[:hint].train()))


@wrong("teacher-moved")
def trains_the_teacher_too(student, teacher, guided, hint, regressor, loader, make_optimizer):
    lower, target_net = parts(student, teacher, guided, hint)
    optimizer, losses = make_optimizer([*learned(lower, regressor), *target_net.parameters()]), []
    for x, _ in loader:
        loss = squared(regressor(lower(x)), target_net(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@wrong("teacher-gradients")
def lets_the_gradient_into_the_teacher(student, teacher, guided, hint, regressor, loader, make_optimizer):
    lower, target_net = parts(student, teacher, guided, hint)
    optimizer, losses = make_optimizer(learned(lower, regressor)), []
    for x, _ in loader:
        loss = squared(regressor(lower(x)), target_net(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@wrong("teacher-graph")
def detaches_the_target(student, teacher, guided, hint, regressor, loader, make_optimizer):
    lower, target_net = parts(student, teacher, guided, hint)
    optimizer, losses = make_optimizer(learned(lower, regressor)), []
    for x, _ in loader:
        loss = squared(regressor(lower(x)), target_net(x).detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@wrong("flags-changed")
def freezes_the_teacher(student, teacher, guided, hint, regressor, loader, make_optimizer):
    teacher.requires_grad_(False)
    return varied()(student, teacher, guided, hint, regressor, loader, make_optimizer)


@wrong("flags-changed")
def freezes_the_upper_stages(student, teacher, guided, hint, regressor, loader, make_optimizer):
    student[guided:].requires_grad_(False)
    return varied()(student, teacher, guided, hint, regressor, loader, make_optimizer)


@wrong("hint-too-deep").each
def one_stage_too_many():
    return varied(lambda student, teacher, guided, hint: parts(student, teacher, guided, hint + 1))


@wrong("hint-too-shallow").each
def one_stage_too_few():
    return varied(lambda student, teacher, guided, hint: parts(student, teacher, max(guided, 1), max(hint - 1, 1)))


@wrong("hint-too-shallow").each
def guided_depth_for_both():
    return varied(lambda student, teacher, guided, hint: parts(student, teacher, guided, guided))


# ---------------------------------------------------------------- 生徒モデルの段の誤り


@wrong("upper-statistics")
def hooks_on_the_whole_student(student, teacher, guided, hint, regressor, loader, make_optimizer):
    seen = {}
    hook = student[guided - 1].register_forward_hook(lambda module, args, out: seen.update(student=out))

    def lower(x):
        student(x)
        return seen["student"]

    lower.parameters = student[:guided].parameters
    student.train()
    answer = varied(lambda *_: (lower, teacher[:hint].eval()))
    losses = answer(student, teacher, guided, hint, regressor, loader, make_optimizer)
    hook.remove()
    return losses


@wrong("upper-moved").each
def one_guided_stage_too_many():
    return varied(lambda student, teacher, guided, hint: parts(student, teacher, guided + 1, hint))


@wrong("upper-moved").each
def hint_depth_for_both():
    return varied(lambda student, teacher, guided, hint: parts(student, teacher, hint, hint))


@wrong("upper-moved")
def decays_the_upper_weights(student, teacher, guided, hint, regressor, loader, make_optimizer):
    """0 の勾配が残っているので、重み減衰だけで上の段が動く。"""
    lower, target_net = parts(student, teacher, guided, hint)
    optimizer, losses = make_optimizer([*student.parameters(), *regressor.parameters()]), []
    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for x, _ in loader:
        with torch.no_grad():
            target = target_net(x)
        optimizer.zero_grad(set_to_none=False)
        loss = squared(regressor(lower(x)), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@wrong("stage-left").each
def one_guided_stage_too_few():
    return varied(lambda student, teacher, guided, hint: parts(student, teacher, max(guided - 1, 1), hint))


@wrong("stage-left")
def only_the_guided_stage(student, teacher, guided, hint, regressor, loader, make_optimizer):
    choose = lambda lower, regressor: learned(student[guided - 1], regressor)  # noqa: E731
    return varied(choose=choose)(student, teacher, guided, hint, regressor, loader, make_optimizer)


@wrong("guided-eval").each
def leaves_the_student_in_eval():
    return varied(lambda student, teacher, guided, hint: (student[:guided], teacher[:hint].eval()))


@wrong("guided-still").each
def trains_the_regressor_only():
    return varied(choose=lambda lower, regressor: list(regressor.parameters()))


@wrong("guided-still")
def detaches_the_student(student, teacher, guided, hint, regressor, loader, make_optimizer):
    cut = lambda x: regressor(x.detach())  # noqa: E731
    cut.parameters = regressor.parameters
    return varied()(student, teacher, guided, hint, cut, loader, make_optimizer)


@wrong("regressor-still").each
def forgets_the_regressor():
    return varied(choose=lambda lower, regressor: list(lower.parameters()))


@wrong("extra-pass")
def passes_twice(student, teacher, guided, hint, regressor, loader, make_optimizer):
    lower, target_net = parts(student, teacher, guided, hint)
    optimizer, losses = make_optimizer(learned(lower, regressor)), []
    for x, _ in loader:
        with torch.no_grad():
            target = target_net(x)
            losses.append(squared(regressor(lower(x)), target).item())
        optimizer.zero_grad()
        squared(regressor(lower(x)), target).backward()
        optimizer.step()
    return losses


# ---------------------------------------------------------------- 損失の誤り


@wrong("not-averaged").each
def sums_the_squares():
    return varied(loss=lambda features, target: (features - target).square().sum())


@wrong("not-averaged").each
def averages_over_samples_only():
    return varied(loss=lambda features, target: (features - target).square().flatten(1).sum(1).mean())


@wrong("loss-factor").each
def half_of_the_squares():
    return varied(loss=lambda features, target: squared(features, target) / 2)


@wrong("loss-sign").each
def sign_flipped():
    return varied(loss=lambda features, target: -squared(features, target))


@wrong("loss-other").each
def absolute_differences():
    return varied(loss=F.l1_loss)


@wrong("loss-other").each
def normalised_features():
    return varied(loss=lambda features, target: squared(F.normalize(features, dim=1), F.normalize(target, dim=1)))


@wrong("not-averaged").each
def norm_of_the_difference():
    return varied(loss=lambda features, target: (features - target).norm())


@wrong("loss-other").each
def matches_the_means():
    """位置と標本で平均してから比べる。"""
    return varied(loss=lambda features, target: squared(features.mean(0), target.mean(0)))


# ---------------------------------------------------------------- 更新のしかたの誤り


@wrong("stale-gradients")
def clears_after_the_step(student, teacher, guided, hint, regressor, loader, make_optimizer):
    lower, target_net = parts(student, teacher, guided, hint)
    optimizer, losses = make_optimizer(learned(lower, regressor)), []
    for x, _ in loader:
        with torch.no_grad():
            target = target_net(x)
        loss = squared(regressor(lower(x)), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@wrong("gradients-accumulate")
def clears_once(student, teacher, guided, hint, regressor, loader, make_optimizer):
    lower, target_net = parts(student, teacher, guided, hint)
    optimizer, losses = make_optimizer(learned(lower, regressor)), []
    optimizer.zero_grad()
    for x, _ in loader:
        with torch.no_grad():
            target = target_net(x)
        loss = squared(regressor(lower(x)), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@wrong("later-steps")
def the_first_target_for_all(student, teacher, guided, hint, regressor, loader, make_optimizer):
    """教師の特徴を、初めのバッチで求めたまま使い回す。"""
    kept = []

    def follow(target_net, x):
        kept.append(target_net(x))
        return kept[0][: len(x)]

    return varied(follow=follow)(student, teacher, guided, hint, regressor, loader, make_optimizer)


@wrong("no-step")
def forgets_the_step(student, teacher, guided, hint, regressor, loader, make_optimizer):
    lower, target_net = parts(student, teacher, guided, hint)
    optimizer, losses = make_optimizer(learned(lower, regressor)), []
    for x, _ in loader:
        with torch.no_grad():
            target = target_net(x)
        optimizer.zero_grad()
        loss = squared(regressor(lower(x)), target)
        loss.backward()
        losses.append(loss.item())
    return losses


@wrong("optimizer-remade")
def an_optimizer_per_batch(student, teacher, guided, hint, regressor, loader, make_optimizer):
    one = varied()
    return [one(student, teacher, guided, hint, regressor, [batch], make_optimizer)[0] for batch in loader]


@wrong("optimizer-remade")
def two_optimizers(student, teacher, guided, hint, regressor, loader, make_optimizer):
    lower, target_net = parts(student, teacher, guided, hint)
    optimizers, losses = [make_optimizer(net.parameters()) for net in (lower, regressor)], []
    for x, _ in loader:
        with torch.no_grad():
            target = target_net(x)
        loss = squared(regressor(lower(x)), target)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    return losses


@wrong("optimizer-unused")
def an_own_optimizer(student, teacher, guided, hint, regressor, loader, make_optimizer):
    own = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01)
    return varied()(student, teacher, guided, hint, regressor, loader, own)


@wrong("many-steps")
def two_epochs(student, teacher, guided, hint, regressor, loader, make_optimizer):
    return varied()(student, teacher, guided, hint, regressor, list(loader) * 2, make_optimizer)


@wrong("batches-left")
def the_first_batch_only(student, teacher, guided, hint, regressor, loader, make_optimizer):
    return varied()(student, teacher, guided, hint, regressor, [next(iter(loader))], make_optimizer)


@wrong("batches-left")
def looks_at_the_first_batch(student, teacher, guided, hint, regressor, loader, make_optimizer):
    next(iter(loader))  # 一度しか回せない loader では、1 バッチが失われる
    return varied()(student, teacher, guided, hint, regressor, loader, make_optimizer)


@wrong("raised")
def counts_the_batches(student, teacher, guided, hint, regressor, loader, make_optimizer):
    losses = [0.0] * len(loader)
    return varied()(student, teacher, guided, hint, regressor, loader, make_optimizer) or losses


@wrong("raised")
def uses_the_labels(student, teacher, guided, hint, regressor, loader, make_optimizer):
    losses = varied()(student, teacher, guided, hint, regressor, batches := list(loader), make_optimizer)
    return losses + [F.cross_entropy(student(x), y).item() for x, y in batches]


@wrong("raised")
def forgets_to_apply_the_regressor(student, teacher, guided, hint, regressor, loader, make_optimizer):
    identity = lambda x: x  # noqa: E731
    identity.parameters = regressor.parameters
    return varied()(student, teacher, guided, hint, identity, loader, make_optimizer)


# ---------------------------------------------------------------- 返り値の誤り


@wrong("losses-wrong")
def losses_after_the_update(student, teacher, guided, hint, regressor, loader, make_optimizer):
    lower, target_net = parts(student, teacher, guided, hint)
    batches, after = list(loader), []
    optimizer = make_optimizer(learned(lower, regressor))
    for x, _ in batches:
        with torch.no_grad():
            target = target_net(x)
        optimizer.zero_grad()
        squared(regressor(lower(x)), target).backward()
        optimizer.step()
        with torch.no_grad():
            lower.eval()
            after.append(squared(regressor(lower(x)), target).item())
            lower.train()
    return after


@wrong("losses-wrong")
def running_means(student, teacher, guided, hint, regressor, loader, make_optimizer):
    losses = varied()(student, teacher, guided, hint, regressor, loader, make_optimizer)
    return [sum(losses[: index + 1]) / (index + 1) for index in range(len(losses))]


@wrong("losses-count")
def the_last_loss_only(student, teacher, guided, hint, regressor, loader, make_optimizer):
    return varied()(student, teacher, guided, hint, regressor, loader, make_optimizer)[-1:]


@wrong("not-list")
def the_mean_loss(student, teacher, guided, hint, regressor, loader, make_optimizer):
    losses = varied()(student, teacher, guided, hint, regressor, loader, make_optimizer)
    return sum(losses) / len(losses)


@wrong("not-float").each
def keeps_the_tensors():
    return varied(number=lambda value: value)


@wrong("end-wrong")
def rounds_the_weights_at_the_end(student, teacher, guided, hint, regressor, loader, make_optimizer):
    losses = varied()(student, teacher, guided, hint, regressor, loader, make_optimizer)
    with torch.no_grad():
        for parameter in learned(student[:guided], regressor):
            parameter.mul_(1 - 1e-3)
    return losses


@wrong("returned-none")
def forgets_return(student, teacher, guided, hint, regressor, loader, make_optimizer):
    varied()(student, teacher, guided, hint, regressor, loader, make_optimizer)


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(student, teacher, guided, hint, regressor, loader, make_optimizer):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(student, teacher, guided, hint, regressor, loader, make_optimizer):
    optimizer = make_optimizer(student.parameters())
    loss = ...
    loss.backward()
    optimizer.step()


@borrower.each
def uses_the_loss_of_the_library():
    return varied(loss=borrowed_loss)


@borrower
def seeds_by_the_library(student, teacher, guided, hint, regressor, loader, make_optimizer):
    tlkit.seeding.seed_everything(0)
    return varied()(student, teacher, guided, hint, regressor, loader, make_optimizer)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "regressor(lower(x)) - target → target - regressor(lower(x))": "差の符号は二乗で消える",
}
