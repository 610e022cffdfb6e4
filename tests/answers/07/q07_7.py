"""演習 07-7 の答え: 測る側（run_grid）と選ぶ側（choose_and_test）。"""

import functools
import math
import statistics
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, as_completed, wait

import numpy as np
from answer_kit import borrower, right, untouched, wrong

from tlkit import stats

# ---------------------------------------------------------------- 正しい答え


def run_grid(evaluate, settings, seeds, finished, executor):
    left = [(setting, seed) for setting in settings for seed in seeds if (setting, seed) not in finished]
    futures = {executor.submit(evaluate, *pair): pair for pair in left}
    failed = []
    for future in as_completed(futures):
        try:
            finished[futures[future]] = future.result()
        except Exception as error:
            failed.append(error)
    if failed:
        raise ExceptionGroup("測れない組があります", failed)
    return {setting: [finished[setting, seed] for seed in seeds] for setting in settings}


def choose_and_test(table, test):
    means = {setting: sum(values) / len(values) for setting, values in table.items()}
    usable = {setting: mean for setting, mean in means.items() if not math.isnan(mean)}
    if not usable:
        raise ValueError("選べる設定がありません")
    best = max(usable, key=usable.get)
    return {"setting": best, "validation": usable[best], "test": test(best)}


@right.each
def plain():
    return run_grid, choose_and_test


def table_of(finished, settings, seeds):
    return {s: [finished[s, k] for k in seeds] for s in settings}


def left_of(settings, seeds, finished):
    return [(s, k) for s in settings for k in seeds if (s, k) not in finished]


def waits_for_the_next(evaluate, settings, seeds, finished, executor):
    """wait で、次に終わるものを待つ。"""
    waiting = {executor.submit(evaluate, setting=s, seed=k): (s, k) for s, k in left_of(settings, seeds, finished)}
    error = None
    while waiting:
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            pair = waiting.pop(future)
            if future.exception() is None:
                finished[pair] = future.result()
            else:
                error = future.exception()
    if error is not None:
        raise RuntimeError("測れない組があります") from error
    return {s: tuple(row) for s, row in table_of(finished, settings, seeds).items()}


def compares_in_a_loop(table, test):
    best, highest = None, -math.inf
    for setting, values in table.items():
        mean = float(np.mean(values))
        if mean > highest:  # NaN との比較は偽なので、選ばれない
            best, highest = setting, mean
    if best is None:
        raise ValueError
    return dict(test=test(best), setting=best, validation=highest)


@right.each
def waits_and_compares():
    return waits_for_the_next, compares_in_a_loop


def keep(finished, pair, future):
    if not future.exception():
        finished[pair] = future.result()


def uses_callbacks(evaluate, settings, seeds, finished, executor):
    """終わったときに呼ばれる関数で書き入れる。"""
    futures = []
    for setting, seed in left_of(settings, seeds, finished):
        futures.append(executor.submit(functools.partial(evaluate, setting), seed))
        futures[-1].add_done_callback(functools.partial(keep, finished, (setting, seed)))
    wait(futures)
    for future in futures:
        future.result()
    return {s: np.array(row) for s, row in table_of(finished, settings, seeds).items()}


def with_numpy(table, test):
    names = list(table)
    means = np.array([np.mean(table[name]) for name in names])
    if np.isnan(means).all():
        raise ValueError("全部 NaN")
    place = int(np.nanargmax(means))
    return {"setting": names[place], "validation": means[place], "test": test(names[place])}


@right.each
def callbacks_and_numpy():
    return uses_callbacks, with_numpy


def polls(evaluate, settings, seeds, finished, executor):
    """終わったかを調べて回る。"""
    jobs = {pair: executor.submit(evaluate, *pair) for pair in left_of(settings, seeds, finished)}
    errors = []
    while jobs:
        for pair in [pair for pair, future in jobs.items() if future.done()]:
            try:
                finished.update({pair: jobs.pop(pair).result()})
            except ZeroDivisionError as error:
                errors += [error]
    if errors:
        raise errors[-1]
    return table_of(finished, settings, seeds)


def sorts(table, test):
    """安定な並べ替えで選ぶ。"""
    rows = [(statistics.fmean(v), s) for s, v in table.items() if all(x == x for x in v)]
    if not rows:
        raise ValueError("値がありません")
    mean, setting = sorted(rows, key=lambda row: -row[0])[0]
    return {"setting": setting, "validation": mean, "test": test(setting)}


@right.each
def polls_and_sorts():
    return polls, sorts


@right.each
def polls_one_at_a_time():
    """送った順に調べて回り、終わっていたら取り出す。"""

    def answer(evaluate, settings, seeds, finished, executor):
        jobs = [(pair, executor.submit(evaluate, *pair)) for pair in left_of(settings, seeds, finished)]
        errors = []
        while jobs:
            pair, future = jobs.pop(0)
            if not future.done():
                jobs.append((pair, future))
            elif future.exception():
                errors.append(future.exception())
            else:
                finished[pair] = future.result()
        for error in errors:
            raise error
        return table_of(finished, settings, seeds)

    return answer, choose_and_test


# ---------------------------------------------------------------- 測る側の誤り


def measuring(answer):
    return answer, choose_and_test


def collecting(left=left_of, table=table_of):
    """残りの決め方と、表の作り方だけを変えた答え。"""

    def answer(evaluate, settings, seeds, finished, executor):
        futures = {executor.submit(evaluate, *pair): pair for pair in left(settings, seeds, finished)}
        failed = []
        for future in as_completed(futures):
            try:
                finished[futures[future]] = future.result()
            except Exception as error:
                failed.append(error)
        if failed:
            raise ExceptionGroup("失敗", failed)
        return table(finished, settings, seeds)

    return answer, choose_and_test


@wrong("direct-call").each
def calls_it_in_a_loop():
    def answer(evaluate, settings, seeds, finished, executor):
        for pair in left_of(settings, seeds, finished):
            finished[pair] = evaluate(*pair)
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("direct-call").each
def makes_its_own_executor():
    def answer(evaluate, settings, seeds, finished, executor):
        with ThreadPoolExecutor(2) as own:
            return run_grid(evaluate, settings, seeds, finished, own)

    return measuring(answer)


@wrong("direct-call").each
def calls_it_while_submitting():
    def answer(evaluate, settings, seeds, finished, executor):
        for pair in left_of(settings, seeds, finished):
            finished[pair] = executor.submit(evaluate(*pair))
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("wrapped").each
def wraps_it_in_a_lambda():
    def answer(evaluate, settings, seeds, finished, executor):
        futures = [
            executor.submit(lambda s=s, k=k: (s, k, evaluate(s, k))) for s, k in left_of(settings, seeds, finished)
        ]
        for future in as_completed(futures):
            s, k, value = future.result()
            finished[s, k] = value
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("endless-wait").each
def waits_for_one_too_many():
    def answer(evaluate, settings, seeds, finished, executor):
        from concurrent.futures import Future

        futures = {executor.submit(evaluate, *pair): pair for pair in left_of(settings, seeds, finished)}
        extra = type(next(iter(futures)))(executor) if futures else Future()
        for future in as_completed([*futures, extra] if futures else []):
            finished[futures[future]] = future.result()
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("rerun").each
def measures_everything_again():
    return collecting(lambda settings, seeds, finished: [(s, k) for s in settings for k in seeds])


@wrong("zero-rerun").each
def takes_zero_for_missing():
    return collecting(lambda settings, seeds, finished: [(s, k) for s in settings for k in seeds if not finished.get((s, k))])  # fmt: skip


@wrong("setting-rerun").each
def measures_a_setting_again_unless_complete():
    def left(settings, seeds, finished):
        return [(s, k) for s in settings if not all((s, j) in finished for j in seeds) for k in seeds]

    return collecting(left)


@wrong("partial-skipped").each
def skips_a_setting_that_was_begun():
    begun = lambda finished: {s for s, _ in finished}  # noqa: E731
    return collecting(lambda settings, seeds, finished: [(s, k) for s in settings if s not in begun(finished) for k in seeds])  # fmt: skip


@wrong("not-sent").each
def only_the_first_seed():
    return collecting(lambda settings, seeds, finished: [(s, k) for s, k in left_of(settings, seeds, finished) if k == seeds[0]])  # fmt: skip


@wrong("not-sent").each
def the_seeds_of_one_setting():
    """リストの内包の入れ子を取り違え、最後の設定だけを送る。"""
    return collecting(lambda settings, seeds, finished: [(settings[-1], k) for k in seeds if (settings[-1], k) not in finished])  # fmt: skip


@wrong("sent-twice").each
def sends_each_twice():
    return collecting(lambda settings, seeds, finished: left_of(settings, seeds, finished) * 2)


@wrong("one-at-a-time").each
def waits_after_each():
    def answer(evaluate, settings, seeds, finished, executor):
        for pair in left_of(settings, seeds, finished):
            finished[pair] = executor.submit(evaluate, *pair).result()
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("one-at-a-time").each
def waits_after_each_setting():
    def answer(evaluate, settings, seeds, finished, executor):
        for setting in settings:
            run_grid(evaluate, [setting], seeds, finished, executor)
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("executor-closed").each
def closes_the_executor():
    def answer(evaluate, settings, seeds, finished, executor):
        with executor:
            return run_grid(evaluate, settings, seeds, finished, executor)

    return measuring(answer)


@wrong("argument-changed").each
def empties_the_seeds():
    def answer(evaluate, settings, seeds, finished, executor):
        table = run_grid(evaluate, settings, list(seeds), finished, executor)
        seeds.sort()
        return table

    return measuring(answer)


@wrong("finished-lost").each
def begins_with_an_empty_dict():
    def answer(evaluate, settings, seeds, finished, executor):
        before = dict(finished)
        futures = {executor.submit(evaluate, *pair): pair for pair in left_of(settings, seeds, before)}
        finished.clear()
        for future in as_completed(futures):
            finished[futures[future]] = future.result()
        return table_of(before | finished, settings, seeds)

    return measuring(answer)


@wrong("not-recorded").each
def records_in_a_copy():
    def answer(evaluate, settings, seeds, finished, executor):
        return run_grid(evaluate, settings, seeds, dict(finished), executor)

    return measuring(answer)


@wrong("mixed-up").each
def trusts_the_order_of_completion():
    def answer(evaluate, settings, seeds, finished, executor):
        left = left_of(settings, seeds, finished)
        futures = [executor.submit(evaluate, *pair) for pair in left]
        for pair, future in zip(left, as_completed(futures)):
            finished[pair] = future.result()
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("mixed-up").each
def a_name_of_the_loop_is_left_over():
    """送ったループの変数を、受け取るループで使う。"""

    def answer(evaluate, settings, seeds, finished, executor):
        values, pairs = {}, left_of(settings, seeds, finished)
        for pair in pairs:
            values[executor.submit(evaluate, *pair)] = pair
        for place, future in enumerate(as_completed(values)):
            finished[pairs[place - 1]] = future.result()
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("some-not-recorded").each
def records_only_the_best_seed():
    def answer(evaluate, settings, seeds, finished, executor):
        futures = {executor.submit(evaluate, *pair): pair for pair in left_of(settings, seeds, finished)}
        found = dict(finished)
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            if found[futures[future]] > 0.3:
                finished[futures[future]] = future.result()
        return table_of(found, settings, seeds)

    return measuring(answer)


@wrong("late-record").each
def waits_in_the_order_of_sending():
    def answer(evaluate, settings, seeds, finished, executor):
        futures = {pair: executor.submit(evaluate, *pair) for pair in left_of(settings, seeds, finished)}
        for pair, future in futures.items():
            finished[pair] = future.result()
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("late-record").each
def waits_for_all():
    def answer(evaluate, settings, seeds, finished, executor):
        futures = {executor.submit(evaluate, *pair): pair for pair in left_of(settings, seeds, finished)}
        wait(futures)
        for future, pair in futures.items():
            finished[pair] = future.result()
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("late-record").each
def uses_map():
    def answer(evaluate, settings, seeds, finished, executor):
        left = left_of(settings, seeds, finished)
        if left:
            for pair, value in zip(left, executor.map(evaluate, *zip(*left))):
                finished[pair] = value
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("failure-recorded").each
def records_the_failure_as_zero():
    def answer(evaluate, settings, seeds, finished, executor):
        futures = {executor.submit(evaluate, *pair): pair for pair in left_of(settings, seeds, finished)}
        for future in as_completed(futures):
            finished[futures[future]] = 0.0 if future.exception() else future.result()
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("failure-recorded").each
def records_the_failure_as_nan():
    def answer(evaluate, settings, seeds, finished, executor):
        futures = {executor.submit(evaluate, *pair): pair for pair in left_of(settings, seeds, finished)}
        for future in as_completed(futures):
            finished[futures[future]] = math.nan if future.exception() else future.result()
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("lost-results").each
def stops_at_the_first_failure():
    def answer(evaluate, settings, seeds, finished, executor):
        futures = {executor.submit(evaluate, *pair): pair for pair in left_of(settings, seeds, finished)}
        for future in as_completed(futures):
            finished[futures[future]] = future.result()
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("swallowed").each
def leaves_the_failures_out():
    def answer(evaluate, settings, seeds, finished, executor):
        futures = {executor.submit(evaluate, *pair): pair for pair in left_of(settings, seeds, finished)}
        for future in as_completed(futures):
            if not future.exception():
                finished[futures[future]] = future.result()
        return {s: [finished[s, k] for k in seeds if (s, k) in finished] for s in settings}

    return measuring(answer)


@wrong("swallowed").each
def ends_with_a_key_error():
    def answer(evaluate, settings, seeds, finished, executor):
        futures = {executor.submit(evaluate, *pair): pair for pair in left_of(settings, seeds, finished)}
        for future in as_completed(futures):
            try:
                finished[futures[future]] = future.result()
            except Exception:
                print("失敗")
        return table_of(finished, settings, seeds)

    return measuring(answer)


@wrong("not-dict").each
def returns_a_list():
    return collecting(table=lambda finished, settings, seeds: [finished[s, k] for s in settings for k in seeds])


@wrong("flat-table").each
def returns_finished_itself():
    return collecting(table=lambda finished, settings, seeds: {(s, k): finished[s, k] for s in settings for k in seeds})


@wrong("not-list").each
def returns_the_means():
    return collecting(table=lambda f, settings, seeds: {s: sum(f[s, k] for k in seeds) / len(seeds) for s in settings})


@wrong("extra-setting").each
def returns_everything_in_finished():
    def table(finished, settings, seeds):
        found = {}
        for s, k in finished:
            found.setdefault(s, []).append(finished[s, k])
        return found

    return collecting(table=table)


@wrong("incomplete-table").each
def returns_only_what_is_new():
    def answer(evaluate, settings, seeds, finished, executor):
        new = left_of(settings, seeds, finished)
        run_grid(evaluate, settings, seeds, finished, executor)
        return {s: [finished[s, k] for k in seeds if (s, k) in new] for s in settings}

    return measuring(answer)


@wrong("table-value").each
def repeats_the_best_seed():
    return collecting(
        table=lambda f, settings, seeds: {s: [max(f[s, k] for k in seeds)] * len(seeds) for s in settings}
    )


@wrong("seed-order").each
def in_the_order_of_the_values():
    return collecting(table=lambda f, settings, seeds: {s: sorted(f[s, k] for k in seeds) for s in settings})


@wrong("seed-order").each
def in_the_order_of_the_seeds_as_numbers():
    return collecting(table=lambda f, settings, seeds: {s: [f[s, k] for k in sorted(seeds)] for s in settings})


@wrong("setting-order").each
def in_the_order_of_the_settings_as_numbers():
    return collecting(table=lambda f, settings, seeds: table_of(f, sorted(settings), seeds))


@wrong("bad-arguments").each
def swaps_the_arguments():
    def answer(evaluate, settings, seeds, finished, executor):
        futures = {executor.submit(evaluate, k, s): (s, k) for s, k in left_of(settings, seeds, finished)}
        for future in as_completed(futures):
            finished[futures[future]] = future.result()
        return table_of(finished, settings, seeds)

    return measuring(answer)


# ---------------------------------------------------------------- 選ぶ側の誤り


def choosing(answer):
    return run_grid, answer


def by(score, *, usable=lambda values: not math.isnan(sum(values)), pick=max):
    """選ぶ基準だけを変えた答え。"""

    def answer(table, test):
        scores = {setting: score(values) for setting, values in table.items() if usable(values)}
        if not scores:
            raise ValueError("選べる設定がありません")
        best = pick(scores, key=scores.get)
        return {"setting": best, "validation": sum(table[best]) / len(table[best]), "test": test(best)}

    return run_grid, answer


@wrong("not-best").each
def chooses_the_lowest():
    return by(statistics.fmean, pick=min)


@wrong("lucky-seed").each
def chooses_the_best_single_seed():
    return by(max)


@wrong("bad-seed-ignored").each
def chooses_by_the_median():
    return by(statistics.median)


@wrong("worst-seed").each
def chooses_by_the_worst_seed():
    return by(min)


@wrong("tie").each
def the_last_of_equals():
    return by(statistics.fmean, pick=lambda scores, key: max(reversed(scores), key=key))


@wrong("tie").each
def the_smallest_setting_of_equals():
    return by(statistics.fmean, pick=lambda scores, key: min(scores, key=lambda s: (-key(s), s)))


@wrong("tie-by-size").each
def the_largest_setting_of_equals():
    return by(statistics.fmean, pick=lambda scores, key: max(scores, key=lambda s: (key(s), s)))


@wrong("negative").each
def begins_at_zero():
    def answer(table, test):
        best, highest = next(iter(table)), 0.0
        usable = {s: v for s, v in table.items() if not math.isnan(sum(v))}
        if not usable:
            raise ValueError
        for setting, values in usable.items():
            if statistics.fmean(values) > highest:
                best, highest = setting, statistics.fmean(values)
        return {"setting": best, "validation": highest, "test": test(best)}

    return choosing(answer)


@wrong("nan-wins").each
def skips_the_nans_in_the_mean():
    return by(np.nanmean, usable=lambda values: not np.isnan(values).all())


@wrong("nan-wins").each
def the_maximum_of_nan():
    return by(statistics.fmean, usable=lambda values: True)


@wrong("nan-hides").each
def sorts_with_nan():
    """NaN を含むまま大きい順に並べてから、NaN でない初めのものを選ぶ。"""

    def answer(table, test):
        means = {s: statistics.fmean(v) for s, v in table.items()}
        ordered = [s for s in sorted(means, key=means.get, reverse=True) if not math.isnan(means[s])]
        if not ordered:
            raise ValueError
        return {"setting": ordered[0], "validation": means[ordered[0]], "test": test(ordered[0])}

    return choosing(answer)


@wrong("test-for-many").each
def chooses_on_the_test():
    def answer(table, test):
        usable = [s for s, v in table.items() if not math.isnan(sum(v))]
        if not usable:
            raise ValueError
        found = {s: test(s) for s in usable}
        best = max(found, key=found.get)
        return {"setting": best, "validation": statistics.fmean(table[best]), "test": found[best]}

    return choosing(answer)


@wrong("test-for-many").each
def looks_at_every_test():
    """選ぶのは検証だが、テストの表も作ってしまう。"""

    def answer(table, test):
        tests = {s: test(s) for s in table}
        return choose_and_test(table, tests.get)

    return choosing(answer)


@wrong("test-twice").each
def tests_twice():
    def answer(table, test):
        chosen = choose_and_test(table, test)
        return chosen | {"test": max(chosen["test"], test(chosen["setting"]))}

    return choosing(answer)


@wrong("test-not-called").each
def reports_the_validation_as_the_test():
    return choosing(lambda table, test: choose_and_test(table, lambda setting: statistics.fmean(table[setting])))


@wrong("tested-another").each
def tests_the_first_setting():
    return choosing(lambda table, test: choose_and_test(table, lambda setting: test(list(table)[-1 if setting == list(table)[0] and len(table) > 1 else 0])))  # fmt: skip


@wrong("validation-value").each
def reports_the_best_seed():
    def answer(table, test):
        chosen = choose_and_test(table, test)
        return chosen | {"validation": max(table[chosen["setting"]])}

    return choosing(answer)


@wrong("validation-value").each
def reports_the_sum():
    def answer(table, test):
        chosen = choose_and_test(table, test)
        return chosen | {"validation": sum(table[chosen["setting"]])}

    return choosing(answer)


@wrong("test-value").each
def rounds_the_test():
    return choosing(lambda table, test: choose_and_test(table, lambda setting: round(test(setting), 1)))


@wrong("all-nan-error").each
def max_of_nothing():
    def answer(table, test):
        usable = {s: statistics.fmean(v) for s, v in table.items() if not math.isnan(sum(v))}
        best = sorted(usable, key=usable.get, reverse=True)[0]
        return {"setting": best, "validation": usable[best], "test": test(best)}

    return choosing(answer)


@wrong("all-nan-silent").each
def chooses_something_all_the_same():
    def answer(table, test):
        try:
            return choose_and_test(table, test)
        except ValueError:
            return {"setting": None, "validation": math.nan, "test": math.nan}

    return choosing(answer)


@wrong("all-nan-test").each
def tests_before_it_complains():
    def answer(table, test):
        try:
            return choose_and_test(table, test)
        except ValueError:
            test(next(iter(table)))
            raise

    return choosing(answer)


@wrong("choice-not-dict").each
def returns_a_tuple():
    return choosing(lambda table, test: tuple(choose_and_test(table, test).values()))


@wrong("missing-key").each
def leaves_the_validation_out():
    return choosing(lambda table, test: {k: v for k, v in choose_and_test(table, test).items() if k != "validation"})


@wrong("unknown-setting").each
def returns_the_place():
    return choosing(lambda table, test: choose_and_test(table, test) | {"setting": 0})


@wrong("table-changed").each
def removes_the_nans():
    def answer(table, test):
        for setting in [s for s, v in table.items() if math.isnan(sum(v))]:
            del table[setting]
        return choose_and_test(table, test)

    return choosing(answer)


@wrong("refused").each
def refuses_any_nan():
    def answer(table, test):
        if any(math.isnan(sum(values)) for values in table.values()):
            raise ValueError("NaN があります")
        return choose_and_test(table, test)

    return choosing(answer)


# ---------------------------------------------------------------- ひな形のまま


def stub(evaluate, settings, seeds, finished, executor):
    raise NotImplementedError("ここを実装してください")


def choice_stub(table, test):
    raise NotImplementedError("ここを実装してください")


@untouched.each
def both_are_stubs():
    return stub, choice_stub


@untouched.each
def the_choice_is_a_stub():
    return run_grid, choice_stub


# ---------------------------------------------------------------- 借り物


@borrower.each
def takes_the_mean_of_tlkit():
    def answer(table, test):
        usable = {s: stats.mean_ci(v).mean for s, v in table.items() if len(v) > 1 and not math.isnan(sum(v))}
        usable |= {s: v[0] for s, v in table.items() if len(v) == 1}
        if not usable:
            raise ValueError
        best = max(usable, key=usable.get)
        return {"setting": best, "validation": usable[best], "test": test(best)}

    return choosing(answer)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "if not usable:\n    raise ValueError('どの設定にもNaNがあるので、選べません。') → （削除）": "空の辞書の max も ValueError を送出する",
}
