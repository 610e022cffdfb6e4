"""pyproject.toml、requirements.lock、environment.yml の言うことが、食い違わないことの検査。"""

import re
import tomllib
from pathlib import Path
from typing import Any

import bootstrap
import lock
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = {"linux": "x86_64", "win32": "AMD64", "darwin": "arm64"}
# 一緒に配られた組だけが動く。torch を上げるときは、ここに組を書き足して確かめる
TORCH_PAIRS = {("2.11", "0.26"), ("2.12", "0.27"), ("2.15", "0.29")}
OUTSIDE = re.compile(
    r"://|@|^\s*(?:-i|-f|--index-url|--extra-index-url|--find-links)|(?:^|\s)(?:/|~|[A-Za-z]:\\)", re.MULTILINE
)


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def direct() -> list[Requirement]:
    made = project()
    extras = [text for group in made["optional-dependencies"].values() for text in group]
    return [Requirement(text) for text in made["dependencies"] + extras]


def locked() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def versions_on(pins: list[Requirement], name: str, python: str, platform: str) -> list[str]:
    values = {"sys_platform": platform, "platform_machine": PLATFORMS[platform], "python_version": python}
    values |= {"python_full_version": f"{python}.9", "os_name": "nt" if platform == "win32" else "posix"}
    here = [pin for pin in pins if canonicalize_name(pin.name) == canonicalize_name(name)]
    return [str(pin.specifier).removeprefix("==") for pin in here if pin.marker is None or pin.marker.evaluate(values)]


def without_comments(name: str) -> str:
    return re.sub(r"(?m)(^|\s)#.*$", "", (ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("requirement", direct(), ids=lambda requirement: requirement.name)
def test_every_direct_dependency_is_pinned_once_within_its_range(requirement: Requirement) -> None:
    for python in PYTHONS:
        for platform in PLATFORMS:
            if requirement.marker and not requirement.marker.evaluate(
                {"sys_platform": platform, "python_version": python}
            ):
                continue
            found = versions_on(locked(), requirement.name, python, platform)
            assert len(found) == 1, (requirement.name, python, platform, found)
            assert requirement.specifier.contains(found[0], prereleases=True), (requirement, found)


def test_lock_lines_are_exact_versions() -> None:
    for pin in locked():
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), pin
        assert pin.url is None
        assert not pin.extras


def test_torch_and_torchvision_are_a_known_pair() -> None:
    for python in PYTHONS:
        for platform in PLATFORMS:
            (torch,), (vision,) = (versions_on(locked(), name, python, platform) for name in ("torch", "torchvision"))
            assert (torch.rpartition(".")[0], vision.rpartition(".")[0]) in TORCH_PAIRS
            assert torch != "2.13.0"
    assert not next(each for each in direct() if each.name == "torch").specifier.contains("2.13.0")


@pytest.mark.parametrize("name", ["requirements.lock", "environment.yml"])
def test_no_url_host_or_path(name: str) -> None:
    assert OUTSIDE.findall(without_comments(name)) == []


@pytest.mark.parametrize("bad", ["x @ https://e.org/a.whl", "--extra-index-url x", "/srv/share/a.whl", "C:\\a.whl"])
def test_the_url_pattern_can_fail(bad: str) -> None:
    assert OUTSIDE.search(bad)


def test_environment_yml_says_the_same_as_pyproject() -> None:
    made = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = {
        Requirement(item).name: Requirement(item).specifier for item in made["dependencies"] if isinstance(item, str)
    }
    assert plain["python"] == SpecifierSet(project()["requires-python"])
    assert made["dependencies"][-1] == {"pip": ["-c requirements.lock", "-e .[lab]"]}
    assert plain.keys() == {"python", "pip"}


def test_supported_pythons_agree_everywhere() -> None:
    wanted = SpecifierSet(project()["requires-python"])
    assert [minor for minor in range(8, 20) if wanted.contains(f"3.{minor}.1")] == [11, 12, 13]
    assert (bootstrap.OLDEST, bootstrap.NEWEST) == ((3, 11), (3, 13))
    assert lock.PYTHONS == PYTHONS


def test_lock_has_no_line_that_no_platform_needs() -> None:
    idle = [
        pin for pin in locked() if pin.marker and not any(pin.marker.evaluate(each) for each in lock.environments())
    ]
    assert idle == []


def test_lock_tidy_drops_browser_only_lines_and_refuses_urls() -> None:
    text = "a==1 ; sys_platform == 'emscripten'\nb==2 ; sys_platform == 'win32'\nC_d==3\n"
    kept = [line for line in lock.tidy(text).splitlines() if not line.startswith("#")]
    assert kept == ["b==2 ; sys_platform == 'win32'", "c-d==3"]
    with pytest.raises(lock.LockError, match="URL"):
        lock.tidy("a @ https://example.org/a.whl\n")
