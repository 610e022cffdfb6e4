"""檻を作れなかったときに見せる文。理由ごとに、直し方を一つは示す。どれが当てはまるかは `available.py` が試して決める。"""

NAMESPACES = """この機械は、管理者でない利用者が名前空間を作ることを禁じています。どれか一つで直せます。
- Ubuntu 23.10 以降: `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`（再起動すると元へ戻ります）
- 古い Debian: `sudo sysctl -w kernel.unprivileged_userns_clone=1`
- Docker の中: コンテナを `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined` で始める"""

NOT_LINUX = (
    "人のノートブックを閉じ込めて動かす檻は、Linux だけで作れます。"
    "閉じ込めずに動かすと、採点者のファイルやほかの人の提出に手が届くため、採点を始めません。\n"
    "Windows では WSL2 の Ubuntu、macOS では Linux の仮想機械（Lima、UTM など）を用意し、"
    "その中で `sudo apt install bubblewrap` を実行して採点してください。\n"
    "Docker Desktop は使いません。コンテナが仮想機械の中で動き、外から量ることも、止めることもできないためです。"
)

INSTEAD = (
    "bubblewrap を使えない Linux では、root でない podman（`sudo apt install podman`）か、"
    "root で動かす docker でも採点できます。入れれば、自動で選びます。"
)

_BUBBLEWRAP = (
    (
        ("Unknown option",),
        "bubblewrap が古いようです。0.8 以上に上げてください（Debian 12、Ubuntu 24.04 以降にあります）。",
    ),
    (("uid map", "new namespace", "userns", "clone failed", "Operation not permitted", "proc on"), NAMESPACES),
)
_BUBBLEWRAP_ELSE = "`bwrap --version` が 0.8 以上か、この機械で `bwrap --ro-bind / / true` が動くかを確かめてください。"

_CONTAINER = (
    (
        ("hybrid mode",),
        "この機械の cgroup の作りでは、この実行部品が動きません。"
        "`sudo apt install runc` で別の実行部品を入れると、自動で試します。",
    ),
    (
        ("newuidmap", "subuid", "user namespace", "not mapped"),
        "利用者の番号を移す設定がありません。`sudo apt install uidmap` と "
        "`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER` のあとで、"
        "`podman system migrate` を実行してください。",
    ),
    (
        ("permission denied while trying to connect", "dial unix"),
        "docker のデーモンに話しかける許可がありません。`sudo` で採点するか、root でない podman を使ってください。"
        "docker グループに入ることは、root の権限を持つことと同じです。",
    ),
    (
        ("Cannot connect to the Docker daemon", "daemon running"),
        "docker のデーモンが動いていません。`sudo systemctl start docker` を実行してください。",
    ),
)
_CONTAINER_ELSE = "`podman info` か `docker info` が失敗しないかを確かめてください。"


def explain(name: str, complaint: str, own: bool = False) -> str:
    """bubblewrap、podman、docker のどれかの言い分に、直し方を添える。

    Args:
        name: 檻の作り方の名前。
        complaint: 言い分。
        own: 言い分がこの採点の部品のもので、直し方をもう含んでいるなら True。
    """
    inner = name == "bubblewrap"
    head = f"{name} で檻を作れませんでした: {complaint or '（何も言わずに終わりました）'}"
    for marks, fix in _BUBBLEWRAP if inner else _CONTAINER:
        if any(mark in complaint for mark in marks):
            return f"{head}\n{fix}"
    return head if own else f"{head}\n{_BUBBLEWRAP_ELSE if inner else _CONTAINER_ELSE}"


def leaky(name: str, wrong: dict[str, object]) -> str:
    """檻は始まったが、閉じていないところがあったとき。"""
    found = "、".join(f"{_OPENINGS[key]}（{value!r}）" for key, value in wrong.items())
    return (
        f"{name} で始めた檻は、閉じていません: {found}。この作り方では採点しません。\n"
        f"{name} の設定（特権や、ネットワークの既定など）を元に戻すか、`sudo apt install bubblewrap` を実行してください。"
    )


_OPENINGS = {
    "user": "管理者として動く",
    "rights": "権限が残る",
    "locked": "権限を取り戻せる",
    "network": "ネットワークにつながる",
    "writable": "書けないはずの場所に書ける",
    "nested": "名前空間を新しく作れる",
    "world": "外から見えるプロセスと違う",
}
