"""取得と照合: 切れた接続、偽の中身、壊れた手元、書けない置き場所、並んで動く取得、返事のない配布元。"""

import errno
import os
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.error import URLError

import offline
import pytest
from data_mirror import Mirror

from tlkit import data
from tlkit.data import download, files
from tlkit.data.download import RemoteFile, obtain

NAME = "usps.t.bz2"


def remote(mirror: Mirror, *urls: str) -> RemoteFile:
    return RemoteFile(NAME, urls or (mirror.url + NAME,), mirror.md5(NAME))


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


class TestInterrupted:
    def test_connection_cut_half_way_leaves_nothing(self, mirror: Mirror, own_cache: Path) -> None:
        mirror.cut.add(NAME)
        with pytest.raises(data.DataUnavailableError, match="途中で切れた") as caught:
            data.load("usps", split="test")
        assert NAME in str(caught.value) and 'data.load("uci_digits")' in str(caught.value)
        assert left_in(own_cache) == []

    def test_next_try_succeeds(self, mirror: Mirror) -> None:
        mirror.cut.add(NAME)
        with pytest.raises(data.DataUnavailableError):
            data.load("usps", split="test")
        mirror.cut.clear()
        assert len(data.load("usps", split="test").images) == 12

    def test_stop_by_the_learner_leaves_nothing(
        self, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stopped(*args: object) -> bytes:
            raise KeyboardInterrupt

        monkeypatch.setattr(download, "_receive", stopped)
        with pytest.raises(KeyboardInterrupt):
            obtain(remote(mirror), tmp_path / "d")
        assert left_in(tmp_path / "d") == []

    def test_second_part_cut_keeps_the_first(self, mirror: Mirror, own_cache: Path) -> None:
        mirror.cut.add("mnist/t10k-labels-idx1-ubyte.gz")
        with pytest.raises(data.DataUnavailableError, match="t10k-labels"):
            data.load("mnist", split="test")
        assert left_in(own_cache) == ["t10k-images-idx3-ubyte.gz"]


class TestMirrors:
    def test_next_mirror_is_tried(self, mirror: Mirror, tmp_path: Path) -> None:
        content = obtain(remote(mirror, mirror.url + "absent", mirror.url + NAME), tmp_path)
        assert content == mirror.files[NAME] and mirror.requests == ["absent", NAME]

    def test_a_false_answer_is_never_stored(self, mirror: Mirror, tmp_path: Path) -> None:
        """ログイン画面を返すネットワークの中にいるとき。"""
        mirror.files["page"] = b"<html>login</html>"
        with pytest.raises(data.DataUnavailableError, match=r"18 バイト.*公式のものと違う") as caught:
            obtain(remote(mirror, mirror.url + "page"), tmp_path)
        assert mirror.md5(NAME) in str(caught.value)
        assert left_in(tmp_path) == []

    def test_missing_file_tells_the_answer_of_the_server(self, mirror: Mirror, tmp_path: Path) -> None:
        with pytest.raises(data.DataUnavailableError, match="サーバーが 404 を返した"):
            obtain(remote(mirror, mirror.url + "absent"), tmp_path)

    def test_without_certificates_plain_http_is_tried(
        self, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = download.urlopen

        def no_certificates(request, timeout: float):
            if request.full_url.startswith("https:"):
                raise URLError(ssl.SSLCertVerificationError("certificate verify failed"))
            return real(request, timeout=timeout)

        monkeypatch.setattr(download, "urlopen", no_certificates)
        content = obtain(remote(mirror, mirror.url.replace("http:", "https:") + NAME), tmp_path)
        assert content == mirror.files[NAME]


class TestNoNetwork:
    def test_refused_connection_is_told_at_once(self, mirror: Mirror, own_cache: Path) -> None:
        started = time.monotonic()
        with pytest.raises(data.DataUnavailableError, match="つながらない") as caught:
            obtain(remote(mirror, "http://127.0.0.1:9/" + NAME), own_cache)
        assert time.monotonic() - started < 2
        assert isinstance(caught.value, RuntimeError) and left_in(own_cache) == []

    def test_silent_mirrors_are_given_up_in_the_set_time(
        self, mirror: Mirror, own_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """名前を引く所から返事がない場合。ソケットの timeout では止まらない。"""
        release = threading.Event()
        monkeypatch.setattr(download, "urlopen", lambda *a, **k: release.wait(30))
        monkeypatch.setattr(download, "OPEN_SECONDS", 0.6)
        started = time.monotonic()
        with pytest.raises(data.DataUnavailableError, match=r"0\.3 秒待っても返事がない"):
            obtain(remote(mirror, "http://a.invalid/x", "http://b.invalid/x"), own_cache)
        release.set()
        assert 0.5 < time.monotonic() - started < 2
        assert left_in(own_cache) == []

    @pytest.mark.linux
    @pytest.mark.parametrize(("name", "fallback"), [("mnist", "mnist5k"), ("usps", "uci_digits"), ("svhn", "mnist5k")])
    def test_cut_machine(self, own_cache: Path, name: str, fallback: str) -> None:
        code = (
            "import time; from tlkit import data; import torchvision; started = time.monotonic()\n"
            f"try: data.load({name!r})\n"
            "except data.DataUnavailableError as error: print(time.monotonic() - started, error)"
        )
        command = [sys.executable, offline.__file__, "--", sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
        if done.returncode == offline.EXIT_UNAVAILABLE:
            pytest.skip("[linux] 名前空間を作れない機械です")
        seconds, message = done.stdout.split(" ", 1)
        assert float(seconds) < download.OPEN_SECONDS + 1
        assert "取りに行けませんでした" in message and f'data.load("{fallback}")' in message
        assert left_in(own_cache) == []


class TestBrokenFile:
    @pytest.mark.parametrize("damage", ["empty", "short", "bit", "other"])
    def test_it_is_set_aside_and_told(self, mirror: Mirror, tmp_path: Path, damage: str) -> None:
        good = mirror.files[NAME]
        bad = {"empty": b"", "short": good[:-1], "bit": good[:-1] + bytes([good[-1] ^ 1]), "other": b"<html>"}[damage]
        (tmp_path / NAME).write_bytes(bad)
        (tmp_path / "note.txt").write_text("学習者のファイル", encoding="utf-8")
        with pytest.raises(data.DataCorruptedError, match="もう一度実行すると") as caught:
            obtain(remote(mirror), tmp_path)
        (aside,) = tmp_path.glob(f"{NAME}.broken-*")
        assert aside.read_bytes() == bad and left_in(tmp_path) == sorted(["note.txt", aside.name])
        assert all(word in str(caught.value) for word in (str(tmp_path / NAME), mirror.md5(NAME), aside.name))
        assert mirror.requests == []
        assert obtain(remote(mirror), tmp_path) == good and aside.read_bytes() == bad

    def test_two_different_broken_files_are_both_kept(self, mirror: Mirror, tmp_path: Path) -> None:
        for bad in (b"first", b"second"):
            (tmp_path / NAME).write_bytes(bad)
            with pytest.raises(data.DataCorruptedError):
                obtain(remote(mirror), tmp_path)
        assert {path.read_bytes() for path in tmp_path.glob("*.broken-*")} == {b"first", b"second"}

    def test_it_is_not_used_even_when_it_cannot_be_moved(
        self, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / NAME).write_bytes(b"bad")

        def read_only(self: Path, target: Path) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(Path, "replace", read_only)
        with pytest.raises(data.DataCorruptedError, match=r"名前を変えることもできません.*TLKIT_DATA"):
            obtain(remote(mirror), tmp_path)
        assert (tmp_path / NAME).read_bytes() == b"bad"


class TestDisk:
    @pytest.mark.parametrize(
        ("number", "word"),
        [(errno.ENOSPC, "空きがない"), (errno.EROFS, "読み取り専用"), (errno.EACCES, "許されていない")],
    )
    def test_reason_is_told(
        self, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, word: str
    ) -> None:
        def fail(self: Path, target: Path) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(data.DataUnavailableError, match=rf"{word}.*TLKIT_DATA"):
            obtain(remote(mirror), tmp_path)
        assert left_in(tmp_path) == []

    @pytest.mark.linux
    def test_write_that_really_fails_leaves_nothing(self, mirror: Mirror, own_cache: Path) -> None:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(mirror.files[NAME]) // 2, hard))
        try:
            with pytest.raises(data.DataUnavailableError, match="書き込めません") as caught:
                data.load("usps", split="test")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert 'data.load("uci_digits")' in str(caught.value)
        assert left_in(own_cache) == []

    def test_unwritable_root_is_told_before_the_network_is_touched(self, mirror: Mirror, tmp_path: Path) -> None:
        blocker = tmp_path / "file"
        blocker.write_text("フォルダではない", encoding="utf-8")
        with pytest.raises(data.DataUnavailableError, match=r"書き込めません.*TLKIT_DATA"):
            data.load("usps", split="test", root=blocker)
        assert mirror.requests == []

    def test_a_folder_in_the_place_of_the_file_is_told(self, mirror: Mirror, tmp_path: Path) -> None:
        (tmp_path / NAME).mkdir()
        with pytest.raises(data.DataUnavailableError, match="を読めません"):
            obtain(remote(mirror), tmp_path)


class TestSideBySide:
    def test_many_at_once_end_with_one_good_file(self, mirror: Mirror, tmp_path: Path) -> None:
        start, results = threading.Barrier(8), []

        def work() -> None:
            start.wait()
            results.append(obtain(remote(mirror), tmp_path))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [mirror.files[NAME]] * 8
        assert left_in(tmp_path) == [NAME]

    def test_file_put_there_by_another_process_is_accepted(
        self, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Windows では、別のプロセスが読んでいる間は置き換えられない。"""

        def in_use(self: Path, target: Path) -> None:
            target.write_bytes(mirror.files[NAME])
            raise PermissionError(errno.EACCES, "The process cannot access the file")

        monkeypatch.setattr(Path, "replace", in_use)
        assert obtain(remote(mirror), tmp_path) == mirror.files[NAME]

    def test_leftovers_of_a_killed_process_are_swept_but_not_a_running_one(
        self, mirror: Mirror, tmp_path: Path
    ) -> None:
        old, young = (tmp_path / f".{NAME}.{word}.part" for word in ("dead", "live"))
        for path in (old, young):
            path.write_bytes(b"half")
        os.utime(old, (time.time() - 2 * 86_400,) * 2)
        obtain(remote(mirror), tmp_path)
        assert left_in(tmp_path) == sorted([young.name, NAME])


@pytest.mark.skipif(os.name == "nt", reason="Windows に許可の下位ビットはない")
def test_files_can_be_shared_with_other_users(tmp_path: Path) -> None:
    """一時ファイルの許可（本人だけ）のまま置くと、教室で置き場所を共有できない。"""
    before = os.umask(0o022)
    try:
        with files.atomic_file(tmp_path / "shared") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o644
