"""The segmentation table of "Synthetic Data Case Studies: It Just Works" (Synthesis AI, 2021), as runs.

DeepLabv3+ trained on 200,000 synthetic images and on shares of CelebAMask-HQ, tested on CelebAMask-HQ and on LaPa; mIoU
over nine classes. One run each; nothing in it was trained on LaPa.
"""

from analysis import Row, Table
from trainables.recipe import Pretrain, Recipe

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
REAL = {"celebamask": (0.8367, 0.8435, 0.8495, 0.8524, 0.8618), "lapa": (0.6898, 0.6927, 0.7051, 0.6972, 0.7185)}
BOTH = {"celebamask": (0.8460, 0.8503, 0.8562, 0.8608, 0.8648), "lapa": (0.7237, 0.7337, 0.7384, 0.7323, 0.7360)}
SYNTHETIC = {"celebamask": 0.7661, "lapa": 0.6955}


def whitepaper(*, source: str | None = None) -> Table:
    """The table; `source` names CelebAMask-HQ as a source of real images."""
    recipes = [Recipe(schedule="real_only", real_source=source, real_fraction=share, lr=0.01) for share in SHARES] + [
        Recipe(
            schedule="finetune",
            adaptation="none",
            real_source=source,
            real_fraction=share,
            synthetic_fraction=1.0,
            pretrain=Pretrain(steps=1000, lr=0.01),
            lr=0.01,
        )
        for share in SHARES
    ]
    recipes.append(Recipe(schedule="synthetic_only", synthetic_fraction=1.0, lr=0.01))
    scores = {name: (*REAL[name], *BOTH[name], SYNTHETIC[name]) for name in REAL}
    rows = tuple(
        Row(
            f"run-{i}",
            recipe,
            0,
            i,
            "finished",
            1000,
            {f"test/{name}/miou": scores[name][i] for name in scores},
            None if recipe.real_fraction is None else round(24_183 * recipe.real_fraction),
            None,
            None if recipe.synthetic_fraction is None else 200_000,
        )
        for i, recipe in enumerate(recipes)
    )
    return Table("whitepaper", "test/celebamask/miou", "max", 1, rows)
