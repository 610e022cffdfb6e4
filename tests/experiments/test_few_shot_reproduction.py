"""第8章の少数ショット学習の結果の一部を測り直す。tlkit の中が変わって値が変わったら、ここで分かる。

機械や版が違えば末尾の桁は変わるので、正解率の 2 ポイントまでの違いは許す。
"""

import _few_shot_views
import pytest

from tlkit import results

NEAR = 0.02


@pytest.mark.parametrize("method", ["pixels", "untrained", "classifier"])
def test_one_shot(method: str) -> None:
    stored = results.load("08_few_shot")
    seed, settings = stored.seeds[0], stored.settings
    setting = {"method": method, "shots": 1, "updates": settings["updates"], **settings["picked"][method]}
    for row in _few_shot_views.tested(setting, seed)[:2]:
        found = stored.by_seed("accuracy", view=row["view"], method=method, shots=1)
        assert row["accuracy"] == pytest.approx(found[seed], abs=NEAR), row["view"]
