"""データ集合を名前で呼び出す窓口。

`load("mnist5k")` のように名前で読み込む。名前の一覧は `names()`、表は `print(catalog())`。
    registry.py 登録簿          labeled.py 入れもの      errors.py 例外
    digits.py   同梱の数字      photos.py  同梱の写真    glyphs.py 同梱のフォントの字
    japanese_glyphs.py  同梱のフォントの漢字と仮名
    mnist_m.py  写真に重ねた数字（MNIST-M）               domains.py 数字のドメインの形合わせ
    files.py    置き場所と照合（sha256）
    online.py   取りに行くもの  download.py 取得と照合   formats.py 公式の形式の読み取り
import しただけでは何も読み込まず、何も取りに行かない。
"""

from tlkit.data.digits import mnist5k, uci_digits
from tlkit.data.domains import digit_domain
from tlkit.data.errors import DataCorruptedError, DataUnavailableError
from tlkit.data.labeled import LabeledImages
from tlkit.data.photos import Photo, photos
from tlkit.data.registry import catalog, load, names

__all__ = [
    "DataCorruptedError",
    "DataUnavailableError",
    "LabeledImages",
    "Photo",
    "catalog",
    "digit_domain",
    "load",
    "mnist5k",
    "names",
    "photos",
    "uci_digits",
]
