"""演習 07-5（注意転移の損失）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import functools

import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong

import tlkit.losses
from tlkit.losses import attention_transfer as home

# ---------------------------------------------------------------- 共通の部品


def require_same_places(student, teacher):
    if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(f"{tuple(student.shape)} と {tuple(teacher.shape)} は比べられません")


def squares(maps):
    return maps.square().sum(1)


def unit(power):
    return F.normalize(power.flatten(1), dim=1)


def mean_square(a, b):
    return (a - b).square().mean()


def loss(power=squares, normal=unit, gap=mean_square, target=torch.Tensor.detach, check=require_same_places):
    """一段だけを変えた答え。地図の作り方、正規化、差の測り方、教師の扱い、形の検査。"""

    def answer(student_maps, teacher_maps):
        check(student_maps, teacher_maps)
        return gap(normal(power(student_maps)), target(normal(power(teacher_maps))))

    return answer


# ---------------------------------------------------------------- 正しい答え


@right
def straightforward(student_maps, teacher_maps):
    require_same_places(student_maps, teacher_maps)
    with torch.no_grad():
        teacher = unit(squares(teacher_maps))
    return F.mse_loss(unit(squares(student_maps)), teacher)


@right
def one_example_at_a_time(student_maps, teacher_maps):
    if len(student_maps) != len(teacher_maps):
        raise ValueError("標本の数")
    total = 0.0
    for ours, theirs in zip(student_maps, teacher_maps.detach()):
        a, b = ((f * f).sum(0) for f in (ours, theirs))
        if a.shape != b.shape:
            raise ValueError("縦横")
        a, b = (m / torch.linalg.matrix_norm(m).clamp_min(1e-12) for m in (a, b))
        total = total + (a - b).pow(2).mean()
    return total / len(student_maps)


@right
def means_over_channels_with_einsum(student_maps, teacher_maps):
    """チャネルの平均でも、正規化すれば同じ。縦横は並べ替えない。"""
    n, _, h, w = student_maps.shape
    if (n, h, w) != (teacher_maps.shape[0], *teacher_maps.shape[2:]):
        raise ValueError("形が違います")

    def attention(maps):
        power = torch.einsum("nchw,nchw->nhw", maps, maps) / maps.shape[1]
        return power / (power.pow(2).sum((1, 2), keepdim=True) + 1e-24).sqrt()

    return (attention(student_maps) - attention(teacher_maps.detach())).pow(2).sum() / (n * h * w)


@right
def from_the_cosine(student_maps, teacher_maps):
    """‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b を使う。"""
    require_same_places(student_maps, teacher_maps)
    a, b = unit(squares(student_maps)), unit(squares(teacher_maps.detach()))
    return ((a * a).sum(1) + (b * b).sum(1) - 2 * (a * b).sum(1)).mean() / a.shape[1]


@right
def masks_the_dark_examples(student_maps, teacher_maps):
    require_same_places(student_maps, teacher_maps)

    def attention(maps):
        power = maps.pow(2).sum(1).flatten(1)
        lit = power.sum(1, keepdim=True) > 0
        safe = torch.where(lit, power, torch.ones_like(power))
        return torch.where(lit, safe / safe.norm(dim=1, keepdim=True), torch.zeros_like(power))

    return mean_square(attention(student_maps), attention(teacher_maps).detach())


# ---------------------------------------------------------------- 地図の作り方


@wrong("sign-matters").each
def adds_before_squaring():
    return loss(power=lambda f: f.sum(1).square())


@wrong("sign-matters").each
def forgets_the_square():
    return loss(power=lambda f: f.sum(1))


@wrong("not-sum-of-squares").each
def sums_the_absolute_values():
    return loss(power=lambda f: f.abs().sum(1))


@wrong("not-sum-of-squares").each
def takes_the_strongest_channel():
    return loss(power=lambda f: f.square().amax(1))


@wrong("not-sum-of-squares").each
def fourth_power():
    return loss(power=lambda f: f.pow(4).sum(1))


@wrong("channel-counts").each
def sums_over_the_places():
    """位置でなくチャネルの地図を作る。"""
    return loss(power=lambda f: f.square().sum((2, 3)))


@wrong("channel-counts").each
def keeps_the_channels():
    return loss(power=torch.square)


@wrong("channel-counts").each
def compares_the_whole_shape():
    def same_shape(student, teacher):
        if student.shape != teacher.shape:
            raise ValueError("形が違います")

    return loss(check=same_shape)


@wrong("value-mismatch").each
def square_root_of_the_power():
    return loss(power=lambda f: f.square().sum(1).sqrt())


@wrong("nonzero-at-target").each
def squares_only_the_student():
    def answer(student_maps, teacher_maps):
        require_same_places(student_maps, teacher_maps)
        teacher = unit(teacher_maps.abs().mean(1)).detach()
        return mean_square(unit(squares(student_maps)), teacher)

    return answer


# ---------------------------------------------------------------- 正規化


@wrong("not-normalised").each
def no_normalisation():
    return loss(normal=lambda power: power.flatten(1))


@wrong("not-normalised").each
def softmax_over_the_places():
    return loss(normal=lambda power: power.flatten(1).softmax(1))


@wrong("scaled-together").each
def one_length_for_the_batch():
    return loss(normal=lambda power: power.flatten(1) / power.norm().clamp_min(1e-12))


@wrong("scaled-together").each
def normalises_over_the_batch():
    return loss(normal=lambda power: F.normalize(power.flatten(1), dim=0))


@wrong("not-unit-length").each
def forgets_to_flatten():
    """(N, H, W) の dim=1 は、縦だけ。"""
    return loss(normal=lambda power: F.normalize(power, dim=1))


@wrong("not-unit-length").each
def sums_to_one():
    return loss(normal=lambda power: F.normalize(power.flatten(1), p=1, dim=1))


@wrong("not-unit-length").each
def strongest_is_one():
    return loss(normal=lambda power: power.flatten(1) / power.flatten(1).amax(1, keepdim=True).clamp_min(1e-12))


@wrong("dark-not-finite").each
def divides_by_zero():
    return loss(normal=lambda power: power.flatten(1) / power.flatten(1).norm(dim=1, keepdim=True))


@wrong("not-finite").each
def divides_by_the_gap_to_itself():
    return loss(gap=lambda a, b: mean_square(a, b) / mean_square(a, a))


@wrong("dark-both").each
def a_floor_under_the_loss():
    return loss(gap=lambda a, b: mean_square(a, b) if a.any() or b.any() else mean_square(a, b) + 1)


@wrong("floor-too-high").each
def adds_one_to_the_length():
    return loss(normal=lambda power: power.flatten(1) / power.flatten(1).norm(dim=1, keepdim=True).clamp_min(1.0))


# ---------------------------------------------------------------- 差の測り方


@wrong("gap-not-squared").each
def norm_as_in_the_paper():
    return loss(gap=lambda a, b: (a - b).norm(dim=1).mean())


@wrong("gap-not-squared").each
def absolute_differences():
    return loss(gap=lambda a, b: (a - b).abs().mean())


@wrong("places-summed").each
def sums_over_places_of_the_gap():
    return loss(gap=lambda a, b: (a - b).square().sum(1).mean())


@wrong("batch-sum").each
def sums_everything():
    return loss(gap=lambda a, b: (a - b).square().sum())


@wrong("batch-sum").each
def sums_over_the_batch():
    return loss(gap=lambda a, b: (a - b).square().mean(1).sum())


@wrong("factor").each
def half_of_the_mean():
    return loss(gap=lambda a, b: (a - b).square().mean() / 2)


@wrong("negative").each
def similarity_for_distance():
    return loss(gap=lambda a, b: -mean_square(a, b))


@wrong("not-scalar").each
def a_value_per_example():
    return loss(gap=lambda a, b: (a - b).square().mean(1))


@wrong("not-tensor").each
def a_python_number():
    return loss(gap=lambda a, b: mean_square(a, b).item())


@wrong("dtype-changed").each
def float32_inside():
    return loss(power=lambda f: squares(f.float()))


# ---------------------------------------------------------------- 断るべき形


@wrong("places-accepted").each
def checks_only_the_length():
    def same_length(student, teacher):
        if len(student) != len(teacher) or student[0, 0].numel() != teacher[0, 0].numel():
            raise ValueError("長さが違います")

    return loss(check=same_length)


@wrong("places-accepted").each
def resizes_silently():
    def answer(student_maps, teacher_maps):
        if len(student_maps) != len(teacher_maps):
            raise ValueError("標本の数が違います")
        teacher = F.adaptive_avg_pool2d(squares(teacher_maps), student_maps.shape[2:])
        return mean_square(unit(squares(student_maps)), unit(teacher).detach())

    return answer


@wrong("batch-accepted").each
def forgets_the_batch():
    def same_places(student, teacher):
        if student.shape[2:] != teacher.shape[2:]:
            raise ValueError("縦横が違います")

    return loss(check=same_places)


@wrong("other-exception").each
def lets_the_subtraction_fail():
    return loss(check=lambda student, teacher: None)


@wrong("other-exception").each
def asserts():
    def same(student, teacher):
        assert student.shape[2:] == teacher.shape[2:] and len(student) == len(teacher)

    return loss(check=same)


@wrong("raised").each
def always_refuses():
    return loss(check=lambda student, teacher: torch.zeros(2) @ torch.zeros(3))


# ---------------------------------------------------------------- 勾配


@wrong("teacher-gradient").each
def forgets_to_detach():
    return loss(target=lambda q: q)


@wrong("gradient-cut").each
def detaches_both():
    return loss(normal=lambda power: unit(power).detach())


@wrong("gradient-cut").each
def no_grad_for_everything():
    return torch.no_grad()(loss())


@wrong("gradient-cut").each
def detaches_the_student_instead():
    def answer(student_maps, teacher_maps):
        require_same_places(student_maps, teacher_maps)
        return mean_square(unit(squares(student_maps)).detach(), unit(squares(teacher_maps.detach())))

    return answer


@wrong("norm-detached").each
def length_as_a_constant():
    return loss(
        normal=lambda power: power.flatten(1) / power.flatten(1).norm(dim=1, keepdim=True).clamp_min(1e-12).detach()
    )


@wrong("gradient-not-finite").each
def root_of_zero():
    """値は F.normalize と同じだが、0 での平方根の微分は無限大。"""

    def normal(power):
        flat = power.flatten(1)
        return flat / flat.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12)

    return loss(normal=lambda power: normal(power).nan_to_num(), power=lambda f: (f.square().sum(1).sqrt()) ** 2)


@wrong("gradient-wrong").each
def half_of_the_student_is_cut():
    return loss(power=lambda f: squares(f) / 2 + squares(f.detach()) / 2)


@wrong("argument-changed")
def squares_in_place(student_maps, teacher_maps):
    with torch.no_grad():
        teacher_maps.square_()
    require_same_places(student_maps, teacher_maps)
    return mean_square(unit(squares(student_maps)), unit(teacher_maps.sum(1)))


@wrong("returned-none")
def returns_nothing(student_maps, teacher_maps):
    loss()(student_maps, teacher_maps)


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(student_maps, teacher_maps):
    raise NotImplementedError("ここを実装してください")


@untouched
def only_a_docstring(student_maps, teacher_maps):
    """何もしない。"""


@untouched.each
def partial_of_a_stub():
    return functools.partial(raises)


# ---------------------------------------------------------------- 借り物


@borrower
def calls_the_library(student_maps, teacher_maps):
    return tlkit.losses.attention_transfer_loss(student_maps, teacher_maps.detach())


@borrower.each
def hands_in_the_library():
    return tlkit.losses.attention_transfer_loss


@borrower
def calls_a_part_of_the_library(student_maps, teacher_maps):
    home._check_maps(student_maps, teacher_maps)
    return loss()(student_maps, teacher_maps)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "maps.square().sum(dim=1) → maps.square().mean(dim=1)": "正規化するので、チャネルの和と平均は同じ",
    "attention(student_maps) - target → target - attention(student_maps)": "二乗するので、引く順は値と勾配に影響しない",
}
