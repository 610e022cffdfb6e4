import contextlib
import json
import sys

import pytest

from tlkit.course.errors import CourseError
from tlkit.course.grading import available as availability
from tlkit.course.grading import cage, container, container_process, drivers
from tlkit.course.grading.available import available
from tlkit.course.grading.drivers import BUBBLEWRAP, Driver

pytestmark = pytest.mark.linux
CLOSED = {
    "user": True,
    "rights": 0,
    "locked": "1",
    "network": ["lo"],
    "writable": ["/dev/shm", "/tmp"],
    "nested": False,
    "world": "pid:[4026530000]",
}


class _Said:
    """始まってすぐ、決まったことを言う檻。"""

    def __init__(self, said, complained=b""):
        self._answer = said, complained

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def listen(self, seconds):
        return self._answer


@pytest.fixture(autouse=True)
def undecided(monkeypatch):
    """前の検査が決めた作り方を持ち込まず、この検査が決めたものも残さない。"""
    monkeypatch.setattr(availability, "_CHOSEN", [])


@pytest.fixture
def no_containers(monkeypatch):
    monkeypatch.setattr(container, "engines", list)


def _driver(name, said=None, complained=b"", started=None):
    def start(tree, limits, arguments):
        if started is not None:
            started.append(name)
        return _Said(json.dumps(CLOSED).encode() if said is None else said, complained)

    return Driver(name, start)


def _fails(name, text):
    def start(tree, limits, arguments):
        raise CourseError(text)

    return Driver(name, start)


def test_a_real_trial_says_that_bubblewrap_works():
    found = available()
    assert found.ok and found.reason == ""
    assert found.driver is not None and found.driver.name == BUBBLEWRAP


class TestOrder:
    @pytest.mark.parametrize(
        ("programs", "expected"),
        [
            ((), [BUBBLEWRAP]),
            (("podman",), [BUBBLEWRAP, "podman"]),
            (("docker",), [BUBBLEWRAP, "docker"]),
            (("docker", "runc", "podman"), [BUBBLEWRAP, "podman", "podman", "docker"]),
        ],
    )
    def test_bubblewrap_then_podman_then_docker(self, programs, expected, monkeypatch):
        monkeypatch.setattr(container.shutil, "which", lambda name: f"/opt/{name}" if name in programs else None)
        assert [driver.name for driver in drivers.candidates()] == expected

    def test_the_first_that_really_works_is_chosen_and_the_rest_is_not_started(self, monkeypatch):
        started = []
        tried = [
            _fails(BUBBLEWRAP, "bubblewrap がありません。"),
            _driver("podman", b"", b"Error: broken", started),
            _driver("docker", None, b"", started),
            _driver("never", None, b"", started),
        ]
        monkeypatch.setattr(drivers, "candidates", lambda: tried)
        found = available()
        assert found == availability.Availability(ok=True, driver=tried[2])
        assert started == ["podman", "docker"]

    def test_the_choice_is_made_once_in_a_process(self, monkeypatch):
        started = []
        monkeypatch.setattr(drivers, "candidates", lambda: [_driver("podman", None, b"", started)])
        assert availability.require() is availability.driver() is availability.driver()
        assert started == ["podman"]

    def test_a_failed_choice_is_not_remembered(self, monkeypatch):
        monkeypatch.setattr(drivers, "candidates", lambda: [_fails(BUBBLEWRAP, "ありません。")])
        with pytest.raises(CourseError):
            availability.driver()
        monkeypatch.setattr(drivers, "candidates", lambda: [_driver("docker")])
        assert availability.driver().name == "docker"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("user", False, "管理者として動く"),
        ("rights", 1 << 21, "権限が残る"),
        ("locked", "0", "権限を取り戻せる"),
        ("network", ["lo", "eth0"], "ネットワーク"),
        ("writable", ["/dev/shm", "/run", "/tmp"], "書けないはずの場所"),
        ("nested", True, "名前空間"),
    ],
)
def test_a_cage_that_starts_but_is_open_is_refused(key, value, told, monkeypatch):
    open_cage = _driver("podman", json.dumps(CLOSED | {key: value}).encode())
    monkeypatch.setattr(drivers, "candidates", lambda: [open_cage])
    found = available()
    assert not found.ok
    assert "閉じていません" in found.reason and told in found.reason


def test_a_container_in_another_world_than_the_watched_one_is_refused(monkeypatch):
    class Contained(_Said, container_process.ContainerProcess):
        world = "pid:[1]"

    driver = Driver("docker", lambda tree, limits, arguments: Contained(json.dumps(CLOSED).encode()))
    assert "外から見えるプロセスと違う" in availability.trouble(driver)
    Contained.world = CLOSED["world"]
    assert availability.trouble(driver) is None


class TestRefusal:
    def test_no_bwrap_and_no_container_says_what_to_install(self, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        found = available()
        assert not found.ok
        assert "apt install bubblewrap" in found.reason and "apt install podman" in found.reason
        with pytest.raises(CourseError, match="bubblewrap"):
            availability.require()

    @pytest.mark.parametrize("system", ["darwin", "win32"])
    def test_a_machine_other_than_linux_is_refused_even_with_docker(self, system, monkeypatch):
        monkeypatch.setattr(sys, "platform", system)
        reason = available().reason
        for word in ("WSL2", "Lima", "bubblewrap", "Docker Desktop は使いません"):
            assert word in reason

    @pytest.mark.parametrize(
        ("complaint", "remedy"),
        [
            ("bwrap: setting up uid map: Permission denied", "apparmor_restrict_unprivileged_userns"),
            ("bwrap: No permissions to create new namespace", "apparmor_restrict_unprivileged_userns"),
            ("bwrap: Unknown option --disable-userns", "0.8 以上"),
            ("bwrap: something new", "bwrap --version"),
        ],
    )
    def test_a_failing_bwrap_is_explained(self, complaint, remedy, monkeypatch, tmp_path, no_containers):
        fake = tmp_path / "bwrap"
        fake.write_text(f"#!/bin/sh\necho '{complaint}' >&2\nexit 1\n")
        fake.chmod(0o755)
        monkeypatch.setattr(cage, "bwrap", lambda: str(fake))
        found = available()
        assert not found.ok
        assert complaint in found.reason and remedy in found.reason

    @pytest.mark.parametrize(
        ("complaint", "remedy"),
        [
            ("Error: OCI runtime error: crun: cgroups in hybrid mode not supported", "apt install runc"),
            ("Error: cannot set up namespace using newuidmap", "--add-subuids"),
            ("permission denied while trying to connect to the Docker daemon socket", "root の権限を持つ"),
            ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "systemctl start docker"),
            ("Error: something new", "podman info"),
        ],
    )
    def test_a_failing_container_is_explained(self, complaint, remedy, monkeypatch):
        monkeypatch.setattr(drivers, "candidates", lambda: [_driver("podman", b"", complaint.encode())])
        reason = available().reason
        assert complaint in reason and remedy in reason

    def test_a_failure_to_make_the_image_is_explained_too(self, monkeypatch):
        monkeypatch.setattr(drivers, "candidates", lambda: [_fails("docker", "Cannot connect to the Docker daemon")])
        assert "systemctl start docker" in available().reason

    def test_every_driver_tells_its_own_reason_once(self, monkeypatch):
        tried = [_fails(BUBBLEWRAP, "甲"), _fails("podman", "乙"), _fails("podman", "乙"), _fails("docker", "丙")]
        monkeypatch.setattr(drivers, "candidates", lambda: tried)
        reason = available().reason
        assert [reason.count(word) for word in "甲乙丙"] == [1, 1, 1]

    def test_a_silent_failure_is_said_to_be_silent(self, monkeypatch):
        monkeypatch.setattr(drivers, "candidates", lambda: [_driver("docker", b"")])
        assert "何も言わずに終わりました" in available().reason


def test_bubblewrap_and_containers_are_asked_the_same_questions():
    """本当の檻の返事が、検査の中の返事と同じ形をしている。"""
    with contextlib.ExitStack() as stack:
        started = drivers.bubblewrap().start(
            availability.package(), availability.Limits(), ("-c", availability._SCRIPT)
        )
        said, _ = stack.enter_context(started).listen(60)
    assert json.loads(said).keys() == CLOSED.keys()
