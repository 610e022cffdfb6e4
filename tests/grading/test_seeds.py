import os
import stat
import sys

import pytest

from tlkit.course.errors import CourseError
from tlkit.course.grading import seeds
from tlkit.course.grading.seeds import load_secret, secret_id, seed_for, seeds_for

SECRET = bytes(range(32))
posix = pytest.mark.skipif(sys.platform == "win32", reason="権限の仕組みが違う")


def test_the_seed_is_the_same_everywhere_and_forever():
    assert seed_for(SECRET, "s001", "01-1") == 3908520849
    assert seed_for(SECRET, "学生é", "02-10") == 428802623


def test_seeds_differ_by_secret_student_and_question():
    made = {
        seed_for(secret, student, question)
        for secret in (SECRET, bytes(32))
        for student in ("s001", "s002")
        for question in ("01-1", "01-2")
    }
    assert len(made) == 8


def test_moving_letters_between_student_and_question_changes_the_seed():
    assert seed_for(SECRET, "s0010", "1-1") != seed_for(SECRET, "s001", "01-1")


def test_seeds_fit_the_random_generators():
    made = [seed_for(SECRET, f"s{number}", "01-1") for number in range(500)]
    assert all(0 <= seed < 2**32 for seed in made)
    assert len(set(made)) == 500
    assert max(made) > 2**31  # 上の桁も使われている


def test_seeds_for_makes_one_seed_for_each_question():
    assert seeds_for(SECRET, "s001", ["01-1", "01-2"]) == {q: seed_for(SECRET, "s001", q) for q in ("01-1", "01-2")}


def test_the_name_of_a_secret_does_not_reveal_it():
    assert secret_id(SECRET) != secret_id(bytes(32))
    assert len(secret_id(SECRET)) == 16
    assert SECRET.hex()[:16] != secret_id(SECRET)


def test_a_missing_secret_is_made_once(tmp_path):
    path = tmp_path / "new" / "secret"
    first = load_secret(path)
    assert len(first) == 32
    assert load_secret(path) == first
    assert [item.name for item in path.parent.iterdir()] == ["secret"]


def test_two_new_secrets_differ(tmp_path):
    assert load_secret(tmp_path / "a") != load_secret(tmp_path / "b")


@posix
def test_a_new_secret_is_readable_by_its_owner_only(tmp_path):
    old = os.umask(0)
    try:
        load_secret(tmp_path / "secret")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("mode", [0o604, 0o640, 0o666, 0o601])
def test_a_secret_that_others_can_touch_is_refused(tmp_path, mode):
    path = tmp_path / "secret"
    load_secret(path)
    path.chmod(mode)
    with pytest.raises(CourseError, match="chmod 600"):
        load_secret(path)


@pytest.mark.parametrize("data", [b"", b"x" * 31, b"x" * 33])
def test_a_file_that_is_no_secret_is_refused_and_kept(tmp_path, data):
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_bytes(data)
    with pytest.raises(CourseError, match="秘密ではありません"):
        load_secret(path)
    assert path.read_bytes() == data


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(CourseError):
        load_secret(tmp_path)


def test_being_stopped_while_writing_leaves_no_secret(tmp_path, monkeypatch):
    def stop(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(seeds.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        load_secret(tmp_path / "secret")
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_makers_wins(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    link = os.link

    def late(source, target):
        path.touch(0o600)
        path.write_bytes(b"w" * 32)
        link(source, target)

    monkeypatch.setattr(seeds.os, "link", late)
    assert load_secret(path) == b"w" * 32
    assert [item.name for item in tmp_path.iterdir()] == ["secret"]
