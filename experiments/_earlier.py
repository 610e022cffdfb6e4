"""第7章の三つの実験より前に試した、教師モデルと生徒モデルの組。何組を試したかを、結果に残すためにある。

種が少なく（多くは 3 個）、分け方も違うので、主張の根拠にはしない。accuracy の鍵は手法で、値は種の平均である。
同じ条件の繰り返しでないので、区間は付けない。
"""

from typing import Any

EARLIER: list[dict[str, Any]] = [
    {
        "pair": "h=64, n=2000",
        "augment": False,
        "unlabelled": 0,
        "accuracy": {"hard": 0.921, "smooth": 0.929, "distill T=1": 0.923, "distill T=4": 0.938},
    },
    {
        "pair": "h=64, n=500",
        "augment": False,
        "unlabelled": 0,
        "accuracy": {"hard": 0.864, "smooth": 0.863, "distill T=1": 0.869, "distill T=4": 0.881},
    },
    {
        "pair": "h=16, n=2000",
        "augment": False,
        "unlabelled": 0,
        "accuracy": {"hard": 0.903, "smooth": 0.900, "distill T=1": 0.906, "distill T=4": 0.913},
    },
    {
        "pair": "h=16, n=500",
        "augment": False,
        "unlabelled": 0,
        "accuracy": {"hard": 0.852, "smooth": 0.829, "distill T=1": 0.853, "distill T=4": 0.857},
    },
    {
        "pair": "h=64, n=2000",
        "augment": True,
        "unlabelled": 0,
        "accuracy": {},
        "note": "T=4、α=0.9。変形を同じにすると、ラベル平滑化との差がなくなった",
    },
    {
        "pair": "h=64, n=200",
        "augment": True,
        "unlabelled": 0,
        "accuracy": {"hard": 0.913, "smooth": 0.911, "distill T=2": 0.922},
    },
    {
        "pair": "h=64, n=200",
        "augment": True,
        "unlabelled": 1800,
        "accuracy": {"hard": 0.889, "smooth": 0.895, "distill T=2": 0.932, "pseudo": 0.931},
    },
    {
        "pair": "h=16, n=500",
        "augment": True,
        "unlabelled": 0,
        "accuracy": {"hard": 0.866, "smooth": 0.867, "distill": 0.865},
    },
]
