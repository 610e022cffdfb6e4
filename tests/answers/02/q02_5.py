"""演習 02-5（最良の重みを残す）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import copy
import io
import itertools
import math

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong

import tlkit.seeding

# ---------------------------------------------------------------- 正しい答え


def epoch_of(model, train_epoch, validate):
    """1 エポックの学習と検証。"""
    model.train()
    train_epoch(model)
    model.eval()
    with torch.no_grad():
        return validate(model)


def copied(model):
    return copy.deepcopy(model.state_dict())


def put_back(model, state):
    if state is not None:
        model.load_state_dict(state)


@right
def deep_copied_state(model, train_epoch, validate, epochs, patience):
    best, state, waited, scores = -math.inf, None, 0, []
    for _ in range(epochs):
        scores.append(epoch_of(model, train_epoch, validate))
        if scores[-1] > best:
            best, state, waited = scores[-1], copied(model), 0
        else:
            waited += 1
        if waited == patience:
            break
    put_back(model, state)
    return scores


@right
def cloned_tensors_and_best_epoch(model, train_epoch, validate, epochs, patience):
    """最良のエポックの番号から、待った回数を求める。"""
    scores, best_epoch, saved = [], -1, {}
    while len(scores) < epochs and len(scores) - 1 - best_epoch < patience:
        score = epoch_of(model, train_epoch, validate)
        if not math.isnan(score) and (best_epoch < 0 or score > scores[best_epoch]):
            best_epoch = len(scores)
            saved = {name: value.detach().clone() for name, value in model.state_dict().items()}
        scores.append(score)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(saved.get(name, value))
    return scores


@right
def deep_copied_model(model, train_epoch, validate, epochs, patience):
    best_model, best, scores = None, None, []
    for epoch in range(epochs):
        model.train(True)
        train_epoch(model)
        with torch.inference_mode():
            score = float(validate(model.eval()))
        scores.append(score)
        if score == score and (best is None or score > scores[best]):
            best, best_model = epoch, copy.deepcopy(model)
        if epoch - (-1 if best is None else best) >= patience:
            break
    if best_model is not None:
        model.load_state_dict(best_model.state_dict())
    return scores


@right
def saved_to_a_buffer(model, train_epoch, validate, epochs, patience):
    """ファイルに書くのと同じ写し方。"""
    file, best, left, scores = None, float("-inf"), patience, []
    for _ in range(epochs):
        score = epoch_of(model, train_epoch, validate)
        scores += [score]
        left -= 1
        if score > best:
            best, left, file = score, patience, io.BytesIO()
            torch.save(model.state_dict(), file)
        if left <= 0:
            break
    if file is not None:
        file.seek(0)
        model.load_state_dict(torch.load(file))
    return tuple(scores)


@right
def every_state_kept(model, train_epoch, validate, epochs, patience):
    """すべての写しを取り、最後に選ぶ（メモリは要るが正しい）。"""
    scores, states = [], []
    for _ in range(epochs):
        scores.append(epoch_of(model, train_epoch, validate))
        states.append(copied(model))
        ranked = np.nan_to_num(scores, nan=-np.inf)
        since = len(scores) - 1 - int(ranked.argmax()) if np.isfinite(ranked).any() else len(scores)
        if since >= patience:
            break
    if np.isfinite(ranked).any():
        model.load_state_dict(states[int(ranked.argmax())])
    return scores


# ---------------------------------------------------------------- 写しの誤り


def keeping(save, restore, better=lambda score, best: score > best, start=-math.inf):
    """写しの取り方、戻し方、比べ方だけを変えた答えを作る。"""

    def answer(model, train_epoch, validate, epochs, patience):
        best, saved, waited, scores = start, None, 0, []
        for _ in range(epochs):
            scores.append(epoch_of(model, train_epoch, validate))
            if better(scores[-1], best):
                best, saved, waited = scores[-1], save(model), 0
            else:
                waited += 1
            if waited == patience:
                break
        if saved is not None:
            restore(model, saved)
        return scores

    return answer


@wrong("alias").each
def alias_of_the_model():
    return keeping(lambda model: model, lambda model, best: model.load_state_dict(best.state_dict()))


@wrong("alias").each
def state_dict_without_copy():
    return keeping(lambda model: model.state_dict(), put_back)


@wrong("alias").each
def shallow_copy():
    return keeping(lambda model: dict(model.state_dict()), put_back)


@wrong("alias").each
def detached_is_not_cloned():
    return keeping(lambda model: {name: value.detach().cpu() for name, value in model.state_dict().items()}, put_back)


@wrong("not-restored").each
def forgets_to_restore():
    return keeping(copied, lambda model, state: None)


@wrong("not-restored").each
def assigns_the_name():
    def restore(model, best):
        model = best

    return keeping(copy.deepcopy, restore)


@wrong("buffers-not-restored").each
def copies_the_parameters_only():
    def restore(model, saved):
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), saved):
                parameter.copy_(value)

    return keeping(lambda model: [parameter.detach().clone() for parameter in model.parameters()], restore)


@wrong("buffers-not-restored").each
def loads_parameters_without_strict():
    return keeping(
        lambda model: {name: value.detach().clone() for name, value in model.named_parameters()},
        lambda model, state: model.load_state_dict(state, strict=False),
    )


@wrong("parameters-not-restored").each
def clones_the_buffers_only():
    def save(model):
        buffers = {name for name, _ in model.named_buffers()}
        return {name: value.clone() if name in buffers else value for name, value in model.state_dict().items()}

    return keeping(save, put_back)


@wrong("parameters-replaced").each
def assigns_the_tensors():
    return keeping(copied, lambda model, state: model.load_state_dict(state, assign=True))


@wrong("parameters-replaced").each
def swaps_the_modules():
    def restore(model, best):
        model.__dict__ = best.__dict__

    return keeping(copy.deepcopy, restore)


@wrong("saved-too-early")
def saves_before_the_epoch(model, train_epoch, validate, epochs, patience):
    best, state, waited, scores = -math.inf, None, 0, []
    for _ in range(epochs):
        before = copied(model)
        scores.append(epoch_of(model, train_epoch, validate))
        if scores[-1] > best:
            best, state, waited = scores[-1], before, 0
        else:
            waited += 1
        if waited == patience:
            break
    put_back(model, state)
    return scores


@wrong("not-best").each
def restores_the_first_epoch():
    saved = []

    def save(model):
        saved.append(copied(model))
        return saved[0]

    def answer(*args):
        saved.clear()
        return keeping(save, put_back)(*args)

    return answer


# ---------------------------------------------------------------- 最良の選び方の誤り


@wrong("minimised").each
def keeps_the_smallest():
    return keeping(copied, put_back, lambda score, best: score < best, math.inf)


@wrong("ties-later").each
def replaces_on_ties():
    return keeping(copied, put_back, lambda score, best: score >= best)


@wrong("starts-at-zero").each
def best_starts_at_zero():
    return keeping(copied, put_back, start=0.0)


@wrong("nan-best").each
def not_smaller_or_equal():
    return keeping(copied, put_back, lambda score, best: not score <= best)


@wrong("nan-best")
def argmax_of_numpy(model, train_epoch, validate, epochs, patience):
    scores, states = [], []
    for _ in range(epochs):
        scores.append(epoch_of(model, train_epoch, validate))
        states.append(copied(model))
        if len(scores) - 1 - int(np.argmax(scores)) >= patience:
            break
    put_back(model, states[int(np.argmax(scores))])
    return scores


@wrong("nan-best").each
def rounds_before_comparing():
    return keeping(copied, put_back, lambda score, best: best == -math.inf or score > best)


@wrong("compared-to-previous")
def better_than_the_previous_epoch(model, train_epoch, validate, epochs, patience):
    state, waited, scores = None, 0, [-math.inf]
    for _ in range(epochs):
        scores.append(epoch_of(model, train_epoch, validate))
        if scores[-1] > scores[-2]:
            state, waited = copied(model), 0
        else:
            waited += 1
        if waited == patience:
            break
    put_back(model, state)
    return scores[1:]


# ---------------------------------------------------------------- 止まり方の誤り


def stopping(after):
    """写しは正しく、止まり方だけを変えた答え。after（最良か, 待った回数, 値の列）→ 新しい回数。"""

    def answer(model, train_epoch, validate, epochs, patience):
        best, state, waited, scores = -math.inf, None, 0, []
        for _ in range(epochs):
            scores.append(epoch_of(model, train_epoch, validate))
            improved = scores[-1] > best
            if improved:
                best, state = scores[-1], copied(model)
            waited = after(improved, waited, scores)
            if waited >= patience:
                break
        put_back(model, state)
        return scores

    return answer


@wrong("patience-late").each
def more_than_patience():
    return stopping(lambda improved, waited, scores: -1 if improved and len(scores) > 1 else waited + (not improved))


@wrong("patience-late")
def strictly_more(model, train_epoch, validate, epochs, patience):
    return deep_copied_state(model, train_epoch, validate, epochs, patience + 1)


@wrong("patience-early").each
def counts_the_best_epoch():
    return stopping(lambda improved, waited, scores: 1 if improved else waited + 1)


@wrong("not-reset").each
def never_resets():
    return stopping(lambda improved, waited, scores: waited + (not improved))


@wrong("reset-by-rise").each
def resets_on_any_rise():
    def after(improved, waited, scores):
        return 0 if improved or (len(scores) > 1 and scores[-1] > scores[-2]) else waited + 1

    return stopping(after)


@wrong("ties-reset").each
def resets_on_ties():
    return stopping(lambda improved, waited, scores: 0 if improved or scores[-1] == np.nanmax(scores) else waited + 1)


@wrong("nan-not-counted").each
def counts_only_what_is_smaller():
    return stopping(lambda improved, waited, scores: 0 if improved else waited + (not math.isnan(scores[-1])))


@wrong("never-stops")
def ignores_patience(model, train_epoch, validate, epochs, patience):
    return deep_copied_state(model, train_epoch, validate, epochs, 10**6)


@wrong("stops-too-soon").each
def stops_at_the_first_fall():
    return stopping(lambda improved, waited, scores: 10**6 if waited == 2 else (0 if improved else waited + 1))


@wrong("not-restored-on-stop")
def returns_from_the_loop(model, train_epoch, validate, epochs, patience):
    best, state, waited, scores = -math.inf, None, 0, []
    for _ in range(epochs):
        scores.append(epoch_of(model, train_epoch, validate))
        if scores[-1] > best:
            best, state, waited = scores[-1], copied(model), 0
        else:
            waited += 1
        if waited == patience:
            return scores
    put_back(model, state)
    return scores


@wrong("too-many-epochs")
def until_patience_runs_out(model, train_epoch, validate, epochs, patience):
    best, state, waited, scores = -math.inf, None, 0, []
    while waited < patience:
        scores.append(epoch_of(model, train_epoch, validate))
        waited += 1
        if scores[-1] > best:
            best, state, waited = scores[-1], copied(model), 0
    put_back(model, state)
    return scores


@wrong("too-many-epochs")
def one_epoch_more(model, train_epoch, validate, epochs, patience):
    return deep_copied_state(model, train_epoch, validate, epochs + 1, patience)


@wrong("nothing-to-restore").each
def loads_whatever_is_saved():
    def answer(model, train_epoch, validate, epochs, patience):
        best, state, waited, scores = -math.inf, None, 0, []
        for _ in range(epochs):
            scores.append(epoch_of(model, train_epoch, validate))
            if scores[-1] > best:
                best, state, waited = scores[-1], copied(model), 0
            else:
                waited += 1
            if waited == patience:
                break
        model.load_state_dict(state)
        return scores

    return answer


@wrong("nan-restored")
def first_state_is_the_untrained_one(model, train_epoch, validate, epochs, patience):
    untrained = copied(model)
    scores = deep_copied_state(model, train_epoch, validate, epochs, patience)
    if all(map(math.isnan, scores)):
        model.load_state_dict(untrained)
    return scores


# ---------------------------------------------------------------- 呼び方とモードの誤り


def around(before, between, after=lambda model: None):
    """学習の前、検証の前、検証の後にすることだけを変えた答え。"""

    def answer(model, train_epoch, validate, epochs, patience):
        def score_of():
            before(model)
            train_epoch(model)
            with between(model):
                score = validate(model)
            after(model)
            return score

        best, state, waited, scores = -math.inf, None, 0, []
        for _ in range(epochs):
            scores.append(score_of())
            if scores[-1] > best:
                best, state, waited = scores[-1], copied(model), 0
            else:
                waited += 1
            if waited == patience:
                break
        put_back(model, state)
        return scores

    return answer


def quiet_eval(model):
    model.eval()
    return torch.no_grad()


@wrong("eval-left")
def trains_once_before_the_loop(model, train_epoch, validate, epochs, patience):
    model.train()
    return around(lambda model: None, quiet_eval)(model, train_epoch, validate, epochs, patience)


@wrong("eval-left").each
def only_the_root_is_put_back():
    def root(model):
        model.training = True

    return around(root, quiet_eval)


@wrong("train-mode-missing").each
def back_to_train_only_after_validation():
    return around(lambda model: None, quiet_eval, lambda model: model.train())


@wrong("validated-in-train").each
def never_evaluates():
    return around(lambda model: model.train(), lambda model: torch.no_grad())


@wrong("validated-with-grad").each
def records_the_gradient():
    return around(lambda model: model.train(), lambda model: torch.enable_grad() if model.eval() else None)


@wrong("grad-left-off").each
def turns_gradients_off():
    def off(model):
        model.eval()
        torch.set_grad_enabled(False)
        return torch.no_grad()

    return around(lambda model: model.train(), off)


@wrong("grad-left-off")
def no_grad_around_everything(model, train_epoch, validate, epochs, patience):
    with torch.no_grad():
        return deep_copied_state(model, train_epoch, validate, epochs, patience)


@wrong("trainable-changed").each
def unfreezes_everything():
    def off(model):
        model.eval().requires_grad_(False)
        return torch.no_grad()

    return around(lambda model: model.train(), off, lambda model: model.requires_grad_(True))


@wrong("frozen-woken").each
def sets_the_flag_of_every_module():
    def on(model):
        for module in model.modules():
            module.training = True

    return around(on, quiet_eval)


@wrong("trained-copy")
def trains_a_copy(model, train_epoch, validate, epochs, patience):
    working = copy.deepcopy(model)
    scores = deep_copied_state(working, train_epoch, validate, epochs, patience)
    model.load_state_dict(working.state_dict())
    return scores


@wrong("validated-first")
def validates_before_training(model, train_epoch, validate, epochs, patience):
    model.eval()
    with torch.no_grad():
        validate(model)
    return deep_copied_state(model, train_epoch, validate, epochs, patience)


@wrong("validated-twice")
def validates_again(model, train_epoch, validate, epochs, patience):
    def twice(net):
        return max(validate(net), validate(net))

    return deep_copied_state(model, train_epoch, twice, epochs, patience)


@wrong("validated-twice")
def validates_the_restored_model(model, train_epoch, validate, epochs, patience):
    scores = deep_copied_state(model, train_epoch, validate, epochs, patience)
    with torch.no_grad():
        validate(model)
    return scores


@wrong("validation-skipped")
def validates_only_the_last(model, train_epoch, validate, epochs, patience):
    for _ in range(epochs):
        model.train()
        train_epoch(model)
    with torch.no_grad():
        return [validate(model.eval())]


# ---------------------------------------------------------------- 返り値の誤り


def returning(change):
    def answer(*args):
        return change(deep_copied_state(*args))

    return answer


@wrong("not-list").each
def returns_the_best_score():
    return returning(lambda scores: max(scores))


@wrong("not-list").each
def returns_an_array():
    return returning(np.array)


@wrong("history-length").each
def drops_nan():
    return returning(lambda scores: [score for score in scores if score == score])


@wrong("history-values").each
def best_so_far():
    return returning(lambda scores: list(itertools.accumulate(scores, max)))


@wrong("returned-none")
def forgets_return(*args):
    deep_copied_state(*args)


@wrong("raised")
def forgets_the_initial_value(model, train_epoch, validate, epochs, patience):
    score = epoch_of(model, train_epoch, validate)
    if score > best:  # noqa: F821
        return [score]
    return []


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(model, train_epoch, validate, epochs, patience):
    raise NotImplementedError("ここを実装してください")


@untouched
def leaves_a_blank(model, train_epoch, validate, epochs, patience):
    best = ...
    scores = []
    for _ in range(epochs):
        if validate(model) > best:
            scores.append(best)
    return scores


@borrower
def calls_tlkit(model, train_epoch, validate, epochs, patience):
    tlkit.seeding.seed_everything(0)
    return deep_copied_state(model, train_epoch, validate, epochs, patience)


@borrower
def keeps_it_in_a_history(model, train_epoch, validate, epochs, patience):
    from tlkit.training import History

    history, scores = History(), []
    for epoch in range(epochs):
        model.train()
        train_epoch(model)
        history.add({"epoch": epoch}, model, validate, "max")
        scores.append(history.epochs[-1]["score"])
        if len(scores) - (history.best_epoch or 0) >= patience:
            break
    history.restore(model)
    return scores


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {}
