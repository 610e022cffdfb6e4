"""登録簿: 表と中身の一致、名前と引数の誤り、import だけでは何もしないこと。"""

import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from tlkit import data
from tlkit.data.registry import ENTRIES

QUIET = """
import sys
events = []
sys.addaudithook(lambda event, details: events.append(event) if event.startswith(("socket.", "urllib.")) else None)
from tlkit import data
print(data.catalog())
data.load("mnist5k"); data.load("uci_digits"); data.load("photos"); data.load("mnist_m")
assert not events, events
"""


@pytest.mark.parametrize("name", data.names("同梱"))
def test_entry_states_what_the_set_is(name: str) -> None:
    entry, loaded = ENTRIES[name], data.load(name)
    assert loaded.images.shape == (sum(entry.counts.values()), *entry.shape)
    assert len(loaded.classes) == entry.classes == len(loaded.labels.unique())
    assert loaded.images.min() >= 0 and loaded.images.max() <= 1
    assert entry.fallback is None


@pytest.mark.parametrize("name", data.names("オンライン"))
def test_online_entry_has_an_embedded_fallback(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.fallback in data.names("同梱")
    assert entry.options == ("split", "download", "root")


def test_unknown_name_lists_every_known_one() -> None:
    with pytest.raises(ValueError, match="cifar10") as caught:
        data.load("cifar10")
    assert all(name in str(caught.value) for name in data.names())


def test_unknown_option_lists_the_usable_ones() -> None:
    with pytest.raises(ValueError, match="引数 train が渡されました。使える引数は split、download、root"):
        data.load("mnist", train=True)
    with pytest.raises(ValueError, match="このデータ集合に引数はありません"):
        data.load("mnist5k", split="test")


def test_catalog_has_one_aligned_row_per_set() -> None:
    head, _, *rows = data.catalog().splitlines()
    assert [row.split()[0] for row in rows] == list(data.names())
    for name, row in zip(data.names(), rows, strict=True):
        entry = ENTRIES[name]
        assert entry.title in row and entry.kind in row and entry.licence in row
        assert cell_len(row[: row.index(entry.kind)]) == cell_len(head[: head.index("種類")])


def test_import_and_embedded_sets_touch_no_network(own_cache: Path) -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "mnist5k" in done.stdout


def test_import_alone_reads_and_writes_nothing(own_cache: Path) -> None:
    code = "import sys; import tlkit.data; print([m for m in ('torchvision', 'sklearn', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
    assert not own_cache.exists()
