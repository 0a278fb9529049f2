"""Labels: names that read, and tags by which MLflow's search box finds runs."""

import pytest

from search.run_labels import filter_tags, run_name
from trainables.recipe import Recipe

TUNED = {
    "schedule": "finetune",
    "adaptation": "dsbn",
    "real_fraction": 0.25,
    "synthetic_fraction": 1.0,
    "pretrain.steps": 500,
    "pretrain.lr": 0.03,
    "lr": 0.0031,
}
MIXED = {
    "schedule": "mixed",
    "adaptation": "none",
    "real_fraction": 0.05,
    "synthetic_fraction": 0.5,
    "synthetic_share": 0.5,
    "real_source": "refined",
    "lr": 0.01,
}


@pytest.mark.parametrize(
    ("params", "name"),
    [
        (TUNED | {"adaptation": "real_bn"}, "#12 finetune 25% real_bn lr=0.0031 s0"),
        (MIXED, "#12 mixed 5% of refined syn=50% share=0.5 lr=0.01 s0"),
        ({"schedule": "real_only", "real_fraction": 1.0, "lr": 1e-05}, "#12 real_only 100% lr=1e-05 s0"),
        ({"schedule": "synthetic_only", "synthetic_fraction": 1.0, "lr": 0.1}, "#12 synthetic_only lr=0.1 s0"),
    ],
)
def test_a_name_says_what_mostly_tells_a_recipe_from_others(params: dict[str, object], name: str) -> None:
    assert run_name(Recipe.from_params(params), 0, 12) == name


def test_tags_have_what_the_schedule_settles() -> None:
    assert filter_tags(Recipe.from_params(MIXED | {"synthetic_share": "natural"}), 2) == {
        "schedule": "mixed",
        "adaptation": "none",
        "real_fraction": "0.05",
        "synthetic_share": "natural",
        "seed": "2",
    }
    real = filter_tags(Recipe(schedule="real_only", real_fraction=1.0, lr=0.1), 0)
    assert (real["synthetic_share"], real["adaptation"], real["real_fraction"]) == ("0", "none", "1")
    synthetic = filter_tags(Recipe(schedule="synthetic_only", synthetic_fraction=1.0, lr=0.1), 0)
    assert (synthetic["synthetic_share"], synthetic["real_fraction"]) == ("1", "0")
    assert "synthetic_share" not in filter_tags(Recipe.from_params(TUNED | {"adaptation": "real_bn"}), 0)
