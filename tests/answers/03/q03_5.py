"""演習 03-5（DANN の 1 回の更新）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import functools

import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong

import tlkit.seeding
from tlkit.adapt import DANNLoss

# ---------------------------------------------------------------- 共通の部品


def labels(x, value):
    return torch.full((len(x),), value, dtype=torch.long)


def with_loss(objective, reported=None):
    """損失の作り方だけを変えた答え。objective(クラスの損失, ソースの損失, ターゲットの損失, λ) が最小にする値。"""

    def answer(model, optimizer, source_x, source_y, target_x, lambda_):
        optimizer.zero_grad()
        class_logits, source_domain = model(source_x, lambda_)
        _, target_domain = model(target_x, lambda_)
        parts = (
            F.cross_entropy(class_logits, source_y),
            F.cross_entropy(source_domain, labels(source_x, 0)),
            F.cross_entropy(target_domain, labels(target_x, 1)),
        )
        objective(*parts, lambda_).backward()
        optimizer.step()
        c, s, t = (part.item() for part in parts)
        return {"class": c, "domain": (s + t) / 2} if reported is None else reported(c, s, t, lambda_)

    return answer


def with_logits(objective):
    """ロジットから損失を作る答え。objective(クラスのロジット, source_y, ソースのドメイン, ターゲットの両方) が最小にする値。"""

    def answer(model, optimizer, source_x, source_y, target_x, lambda_):
        optimizer.zero_grad()
        class_logits, source_domain = model(source_x, lambda_)
        loss, domain_loss = objective(class_logits, source_y, source_domain, model(target_x, lambda_))
        (loss + domain_loss).backward()
        optimizer.step()
        return {"class": loss.item(), "domain": domain_loss.item()}

    return answer


def total(c, s, t, lambda_):
    return c + (s + t) / 2


plain = with_loss(total)


def domain_of(source_domain, target_domain):
    return (
        F.cross_entropy(source_domain, labels(source_domain, 0))
        + F.cross_entropy(target_domain, labels(target_domain, 1))
    ) / 2


# ---------------------------------------------------------------- 正しい答え


@right
def straightforward(model, optimizer, source_x, source_y, target_x, lambda_):
    return plain(model, optimizer, source_x, source_y, target_x, lambda_)


@right
def accumulates_three_backward_passes(model, optimizer, source_x, source_y, target_x, lambda_):
    """項ごとに backward し、勾配を足し込む。ターゲットを先に通す。"""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    target_loss = 0.5 * F.cross_entropy(model(target_x, lambda_)[1], labels(target_x, 1))
    target_loss.backward()
    class_logits, domain_logits = model(source_x, lambda_=lambda_)
    class_loss, source_loss = (
        F.cross_entropy(class_logits, source_y),
        0.5 * F.cross_entropy(domain_logits, labels(source_x, 0)),
    )
    class_loss.backward(retain_graph=True)
    source_loss.backward()
    optimizer.step()
    return {"domain": float(source_loss.detach() + target_loss.detach()), "class": float(class_loss.detach())}


@right
def joins_the_logits_with_sample_weights(model, optimizer, source_x, source_y, target_x, lambda_):
    """ロジットだけをつなぎ、1 件ごとの重みで二つのドメインをそろえる。"""
    class_logits, source_domain = model(source_x, torch.tensor(lambda_))
    target_domain = model(target_x, torch.tensor(lambda_))[1]
    n, m = len(source_x), len(target_x)
    logits, domain = torch.cat([source_domain, target_domain]), torch.tensor([0] * n + [1] * m)
    weights = torch.tensor([0.5 / n] * n + [0.5 / m] * m, dtype=logits.dtype)
    domain_loss = (weights * F.cross_entropy(logits, domain, reduction="none")).sum()
    class_loss = F.cross_entropy(class_logits, source_y)
    model.zero_grad()
    torch.autograd.backward([class_loss, domain_loss])
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@right
def log_probabilities_by_hand(model, optimizer, source_x, source_y, target_x, lambda_):
    model.train()
    optimizer.zero_grad(set_to_none=False)
    class_logits, source_domain = model(source_x, lambda_)
    target_domain = model(target_x, lambda_)[1]
    class_loss = -class_logits.log_softmax(1).gather(1, source_y[:, None]).mean()
    domain_loss = -torch.stack(
        [source_domain.log_softmax(1)[:, 0].mean(), target_domain.log_softmax(1)[:, 1].mean()]
    ).mean()
    (class_loss + domain_loss).backward()
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@right
def autograd_grad(model, optimizer, source_x, source_y, target_x, lambda_):
    """勾配を自分で入れる。"""
    class_logits, source_domain = model(source_x, lambda_)
    target_domain = model(target_x, lambda_)[1]
    class_loss, domain_loss = F.cross_entropy(class_logits, source_y), domain_of(source_domain, target_domain)
    parameters = list(model.parameters())
    for parameter, grad in zip(parameters, torch.autograd.grad(class_loss + domain_loss, parameters)):
        parameter.grad = grad
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@right
def a_closure(model, optimizer, source_x, source_y, target_x, lambda_):
    seen = {}

    def closure():
        optimizer.zero_grad()
        class_logits, source_domain = model(source_x, lambda_)
        seen["class"] = F.cross_entropy(class_logits, source_y)
        seen["domain"] = domain_of(source_domain, model(target_x, lambda_)[1])
        loss = seen["class"] + seen["domain"]
        loss.backward()
        return loss

    optimizer.step(closure)
    return {key: value.item() for key, value in seen.items()}


@right
def binary_cross_entropy_of_the_difference(model, optimizer, source_x, source_y, target_x, lambda_):
    """2 クラスの softmax は、ロジットの差のシグモイドに等しい。最後に勾配を消しておく。"""
    optimizer.zero_grad()
    class_logits, source_domain = model(source_x, lambda_)
    source, target = (logits[:, 1] - logits[:, 0] for logits in (source_domain, model(target_x, lambda_)[1]))
    domain_loss = (F.softplus(source).mean() + F.softplus(-target).mean()) / 2
    class_loss = F.nll_loss(F.log_softmax(class_logits, dim=1), source_y)
    (class_loss + domain_loss).backward()
    optimizer.step()
    optimizer.zero_grad()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


# ---------------------------------------------------------------- 損失の誤り


@wrong("domain-sign").each
def subtracts_the_domain_loss():
    return with_loss(lambda c, s, t, lambda_: c - (s + t) / 2)


@wrong("domain-sign").each
def subtracts_with_lambda():
    return with_loss(lambda c, s, t, lambda_: c - lambda_ * (s + t) / 2)


@wrong("lambda-on-loss").each
def multiplies_by_lambda_too():
    return with_loss(lambda c, s, t, lambda_: c + lambda_ * (s + t) / 2)


@wrong("domain-weight").each
def forgets_the_half():
    return with_loss(lambda c, s, t, lambda_: c + s + t)


@wrong("domain-unbalanced").each
def halves_only_the_target():
    return with_loss(lambda c, s, t, lambda_: c + s + t / 2)


@wrong("one-domain").each
def only_the_source():
    return with_loss(lambda c, s, t, lambda_: c + s, lambda c, s, t, lambda_: {"class": c, "domain": s})


@wrong("one-domain").each
def only_the_target():
    return with_loss(lambda c, s, t, lambda_: c + t)


@wrong("domain-missing").each
def class_loss_only():
    return with_loss(lambda c, s, t, lambda_: c)


@wrong("class-missing").each
def domain_loss_only():
    return with_loss(lambda c, s, t, lambda_: (s + t) / 2)


@wrong("class-weight").each
def averages_the_three():
    return with_loss(lambda c, s, t, lambda_: (c + s + t) / 3)


@wrong("class-weight").each
def trades_the_losses():
    return with_loss(lambda c, s, t, lambda_: (1 - lambda_) * c + (s + t) / 2)


@wrong("labels-swapped").each
def source_is_one():
    return with_logits(
        lambda z, y, s, t: (
            F.cross_entropy(z, y),
            (F.cross_entropy(s, labels(s, 1)) + F.cross_entropy(t[1], labels(t[1], 0))) / 2,
        )
    )


@wrong("target-label").each
def both_are_zero():
    return with_logits(
        lambda z, y, s, t: (
            F.cross_entropy(z, y),
            (F.cross_entropy(s, labels(s, 0)) + F.cross_entropy(t[1], labels(t[1], 0))) / 2,
        )
    )


@wrong("target-label").each
def flips_the_labels_of_the_target_for_confusion():
    """勾配の反転の代わりに、ラベルを五分五分にする（別の手法の損失）。"""

    def confusion(z, y, s, t):
        uniform = torch.full_like(s, 0.5), torch.full_like(t[1], 0.5)
        return F.cross_entropy(z, y), (F.cross_entropy(s, uniform[0]) + F.cross_entropy(t[1], uniform[1])) / 2

    return with_logits(confusion)


@wrong("source-label").each
def both_are_one():
    return with_logits(
        lambda z, y, s, t: (
            F.cross_entropy(z, y),
            (F.cross_entropy(s, labels(s, 1)) + F.cross_entropy(t[1], labels(t[1], 1))) / 2,
        )
    )


@wrong("pooled-mean").each
def one_mean_over_both_domains():
    def pooled(z, y, s, t):
        both, domain = torch.cat([s, t[1]]), torch.cat([labels(s, 0), labels(t[1], 1)])
        return F.cross_entropy(z, y), F.cross_entropy(both, domain)

    return with_logits(pooled)


@wrong("domain-sum").each
def sums_the_domain_losses():
    def summed(z, y, s, t):
        both, domain = torch.cat([s, t[1]]), torch.cat([labels(s, 0), labels(t[1], 1)])
        return F.cross_entropy(z, y), F.cross_entropy(both, domain, reduction="sum")

    return with_logits(summed)


@wrong("class-sum").each
def sums_the_class_loss():
    return with_logits(lambda z, y, s, t: (F.cross_entropy(z, y, reduction="sum"), domain_of(s, t[1])))


@wrong("class-other").each
def softmax_twice():
    return with_logits(lambda z, y, s, t: (F.cross_entropy(z.softmax(1), y), domain_of(s, t[1])))


@wrong("class-other").each
def trains_on_its_own_predictions():
    """ターゲットの予測を、正解の代わりに足す。"""
    return with_logits(
        lambda z, y, s, t: (F.cross_entropy(z, y) + 0.5 * F.cross_entropy(t[0], t[0].argmax(1)), domain_of(s, t[1]))
    )


@wrong("class-on-target")
def source_labels_on_the_target(model, optimizer, source_x, source_y, target_x, lambda_):
    optimizer.zero_grad()
    class_logits, source_domain = model(source_x, lambda_)
    target_class, target_domain = model(target_x, lambda_)
    class_loss = F.cross_entropy(class_logits, source_y)
    if len(target_x) == len(source_x):
        class_loss = class_loss + F.cross_entropy(target_class, source_y)
    domain_loss = domain_of(source_domain, target_domain)
    (class_loss + domain_loss).backward()
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@wrong("raised")
def source_labels_for_every_target(model, optimizer, source_x, source_y, target_x, lambda_):
    optimizer.zero_grad()
    target_class, target_domain = model(target_x, lambda_)
    domain_loss = domain_of(model(source_x, lambda_)[1], target_domain)
    class_loss = F.cross_entropy(target_class, source_y)
    (class_loss + domain_loss).backward()
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@wrong("domain-other").each
def squares_the_error():
    def squared(z, y, s, t):
        return F.cross_entropy(z, y), (s[:, 1].square().mean() + (t[1][:, 1] - 1).square().mean()) / 2

    return with_logits(squared)


@wrong("domain-other").each
def binary_cross_entropy_per_column():
    def columns(z, y, s, t):
        both, domain = torch.cat([s, t[1]]), torch.cat([labels(s, 0), labels(t[1], 1)])
        return F.cross_entropy(z, y), F.binary_cross_entropy_with_logits(both, F.one_hot(domain, 2).to(both))

    return with_logits(columns)


# ---------------------------------------------------------------- λ と、モデルの呼び方


def passing(source_lambda, target_lambda):
    """λ の渡し方だけを変えた答え。None なら渡さない。"""

    def answer(model, optimizer, source_x, source_y, target_x, lambda_):
        def call(x, choose):
            value = choose(lambda_)
            return model(x) if value is None else model(x, value)

        optimizer.zero_grad()
        class_logits, source_domain = call(source_x, source_lambda)
        domain_loss = domain_of(source_domain, call(target_x, target_lambda)[1])
        class_loss = F.cross_entropy(class_logits, source_y)
        (class_loss + domain_loss).backward()
        optimizer.step()
        return {"class": class_loss.item(), "domain": domain_loss.item()}

    return answer


def missing(lambda_):
    return None


def same(lambda_):
    return lambda_


@wrong("lambda-not-passed").each
def forgets_lambda():
    return passing(missing, missing)


@wrong("lambda-one-pass").each
def forgets_lambda_for_the_target():
    return passing(same, missing)


@wrong("lambda-one-pass").each
def forgets_lambda_for_the_source():
    return passing(missing, same)


@wrong("lambda-changed").each
def negates_lambda():
    return passing(lambda lambda_: -lambda_, lambda lambda_: -lambda_)


@wrong("lambda-changed").each
def no_reversal_for_the_source():
    return passing(lambda lambda_: 0.0, same)


@wrong("concatenated")
def one_batch(model, optimizer, source_x, source_y, target_x, lambda_):
    n = len(source_x)
    optimizer.zero_grad()
    class_logits, domain_logits = model(torch.cat([source_x, target_x]), lambda_)
    class_loss, domain_loss = (
        F.cross_entropy(class_logits[:n], source_y),
        domain_of(domain_logits[:n], domain_logits[n:]),
    )
    (class_loss + domain_loss).backward()
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@wrong("target-not-passed")
def ignores_the_target(model, optimizer, source_x, source_y, target_x, lambda_):
    optimizer.zero_grad()
    class_logits, source_domain = model(source_x, lambda_)
    class_loss, domain_loss = (
        F.cross_entropy(class_logits, source_y),
        F.cross_entropy(source_domain, labels(source_x, 0)),
    )
    (class_loss + domain_loss).backward()
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@wrong("other-input")
def cuts_to_the_shorter(model, optimizer, source_x, source_y, target_x, lambda_):
    n = min(len(source_x), len(target_x))
    return plain(model, optimizer, source_x[:n], source_y[:n], target_x[:n], lambda_)


@wrong("extra-pass")
def passes_the_source_twice(model, optimizer, source_x, source_y, target_x, lambda_):
    optimizer.zero_grad()
    class_loss = F.cross_entropy(model(source_x, lambda_)[0], source_y)
    domain_loss = domain_of(model(source_x, lambda_)[1], model(target_x, lambda_)[1])
    (class_loss + domain_loss).backward()
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@wrong("no-grad-pass")
def no_gradients_for_the_target(model, optimizer, source_x, source_y, target_x, lambda_):
    optimizer.zero_grad()
    class_logits, source_domain = model(source_x, lambda_)
    with torch.no_grad():
        target_domain = model(target_x, lambda_)[1]
    class_loss, domain_loss = F.cross_entropy(class_logits, source_y), domain_of(source_domain, target_domain)
    (class_loss + domain_loss).backward()
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@wrong("eval-pass")
def evaluates_the_target(model, optimizer, source_x, source_y, target_x, lambda_):
    optimizer.zero_grad()
    class_logits, source_domain = model(source_x, lambda_)
    model.eval()
    target_domain = model(target_x, lambda_)[1]
    model.train()
    class_loss, domain_loss = F.cross_entropy(class_logits, source_y), domain_of(source_domain, target_domain)
    (class_loss + domain_loss).backward()
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@wrong("mode-changed")
def evaluates_at_the_end(model, *rest):
    losses = plain(model, *rest)
    model.eval()
    return losses


# ---------------------------------------------------------------- 更新の誤り


@wrong("stale-gradients")
def forgets_to_clear(model, optimizer, *rest):
    class Kept:
        zero_grad = staticmethod(lambda: None)
        step = optimizer.step

    return plain(model, Kept, *rest)


@wrong("stale-gradients")
def clears_only_afterwards(model, optimizer, *rest):
    losses = forgets_to_clear(model, optimizer, *rest)
    optimizer.zero_grad()
    return losses


@wrong("no-gradients")
def clears_after_the_backward_pass(model, optimizer, source_x, source_y, target_x, lambda_):
    class_logits, source_domain = model(source_x, lambda_)
    class_loss, domain_loss = (
        F.cross_entropy(class_logits, source_y),
        domain_of(source_domain, model(target_x, lambda_)[1]),
    )
    (class_loss + domain_loss).backward()
    optimizer.zero_grad()
    optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@wrong("no-step")
def forgets_the_step(model, optimizer, *rest):
    class Lazy:
        zero_grad = optimizer.zero_grad
        step = staticmethod(lambda: None)

    return plain(model, Lazy, *rest)


@wrong("many-steps")
def alternates_like_a_gan(model, optimizer, source_x, source_y, target_x, lambda_):
    """識別器と特徴抽出器を、別々の step で更新する。"""
    class_logits, source_domain = model(source_x, lambda_)
    class_loss, domain_loss = (
        F.cross_entropy(class_logits, source_y),
        domain_of(source_domain, model(target_x, lambda_)[1]),
    )
    parameters = list(model.parameters())
    both = [
        torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for loss in (domain_loss, class_loss)
    ]
    for grads in both:
        for parameter, grad in zip(parameters, grads):
            parameter.grad = grad
        optimizer.step()
    return {"class": class_loss.item(), "domain": domain_loss.item()}


@wrong("pass-after-update")
def measures_after_the_update(model, optimizer, source_x, source_y, target_x, lambda_):
    plain(model, optimizer, source_x, source_y, target_x, lambda_)
    with torch.no_grad():
        class_logits, source_domain = model(source_x, lambda_)
        domain_loss = domain_of(source_domain, model(target_x, lambda_)[1])
    return {"class": F.cross_entropy(class_logits, source_y).item(), "domain": domain_loss.item()}


def by_parts(extractor_grad):
    """特徴抽出器の勾配だけを、extractor_grad(クラスの勾配, ドメインの勾配) に変える。"""

    def answer(model, optimizer, source_x, source_y, target_x, lambda_):
        class_logits, source_domain = model(source_x, lambda_)
        domain_loss = domain_of(source_domain, model(target_x, lambda_)[1])
        class_loss = F.cross_entropy(class_logits, source_y)
        named = dict(model.named_parameters())
        parts = [
            torch.autograd.grad(
                loss, list(named.values()), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for loss in (class_loss, domain_loss)
        ]
        for (name, parameter), c, d in zip(named.items(), *parts):
            parameter.grad = c + d if "classifier" in name else extractor_grad(c, d)
        optimizer.step()
        return {"class": class_loss.item(), "domain": domain_loss.item()}

    return answer


@wrong("double-reversal").each
def reverses_once_more():
    return by_parts(lambda c, d: c - d)


@wrong("features-untouched").each
def keeps_the_domain_loss_from_the_features():
    return by_parts(lambda c, d: c)


@wrong("extractor-gradient").each
def confuses_but_does_not_classify():
    return by_parts(lambda c, d: d)


@wrong("moved-otherwise")
def decays_the_weights_by_hand(model, *rest):
    losses = plain(model, *rest)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.99)
    return losses


@wrong("not-finite")
def divides_by_lambda(model, optimizer, source_x, source_y, target_x, lambda_):
    return with_loss(
        lambda c, s, t, lambda_: c + (s + t) / 2 * (torch.tensor(lambda_) / lambda_ if lambda_ else c / 0)
    )(model, optimizer, source_x, source_y, target_x, lambda_)


# ---------------------------------------------------------------- 返り値の誤り


def returning(make):
    return with_loss(total, make)


@wrong("not-dict").each
def returns_a_tuple():
    return returning(lambda c, s, t, lambda_: (c, (s + t) / 2))


@wrong("wrong-keys").each
def returns_the_total_too():
    return returning(lambda c, s, t, lambda_: {"class": c, "domain": (s + t) / 2, "loss": c + (s + t) / 2})


@wrong("not-float").each
def returns_tensors():
    return returning(lambda c, s, t, lambda_: {"class": torch.tensor(c), "domain": torch.tensor((s + t) / 2)})


@wrong("domain-value").each
def returns_the_sum_of_the_domains():
    return returning(lambda c, s, t, lambda_: {"class": c, "domain": s + t})


@wrong("domain-value").each
def returns_the_scaled_domain_loss():
    return returning(lambda c, s, t, lambda_: {"class": c, "domain": lambda_ * (s + t) / 2})


@wrong("class-value").each
def returns_the_total_as_the_class_loss():
    return returning(lambda c, s, t, lambda_: {"class": c + (s + t) / 2, "domain": (s + t) / 2})


@wrong("returned-none")
def returns_nothing(*arguments):
    plain(*arguments)


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(model, optimizer, source_x, source_y, target_x, lambda_):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(model, optimizer, source_x, source_y, target_x, lambda_):
    loss = ...
    return {"class": loss + 1.0, "domain": 0.0}


@untouched.each
def partial_of_a_stub():
    return functools.partial(raises)


@untouched
def only_a_docstring(model, optimizer, source_x, source_y, target_x, lambda_):
    """何もしない。"""


# ---------------------------------------------------------------- 借り物


@borrower
def calls_a_function_of_tlkit(*arguments):
    tlkit.seeding.seed_everything(0)
    return plain(*arguments)


@borrower
def calls_the_library(model, optimizer, source_x, source_y, target_x, lambda_):
    optimizer.zero_grad()
    losses = DANNLoss(fixed=lambda_)(model, ((source_x, source_y), target_x), 1.0)
    losses["loss"].backward()
    optimizer.step()
    return {key: losses[key].item() for key in ("class", "domain")}


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "optimizer → model": "model.zero_grad() も、同じパラメータの勾配を消す",
}
