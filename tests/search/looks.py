"""Looks at searches that do not run, for what draws and sends them."""

from search.view import Look, SlotLook

RECIPES = (
    "finetune real=0.25 of refined synthetic=1 pretrain=2000@0.03 real_bn freeze=backbone+norm lr=0.01",
    "mixed real=0.05 synthetic=0.25 share=0.5 adain_image(strength=0.5) lr=0.02",
    "real_only real=1 lr=0.0316",
)


def slot(number: int, *, busy: bool = True) -> SlotLook:
    if not busy:
        return {"process": f"node:{number}:ab", "job": None, "step": 0, "idle": 0.25}
    return {
        "process": f"node:{number}:ab",
        "job": f"{number:05d}-0-0-0",
        "recipe": RECIPES[number % 3],
        "replicate": number % 2,
        "leg": ("pretrain", "mixed", "real_only")[number % 3],
        "step": 100 + number,
        "target": 2000,
        "idle": 0.03,
    }


def look(slots: int = 4, *, idle: int = 1) -> Look:
    """A search in full swing, the first `idle` slots of which wait."""
    return {
        "summary": {
            "recipes": 48,
            "asked": 22,
            "ended": 12,
            "failed": 1,
            "pruned": 4,
            "left": 5,
            "running": 5,
            "best": [(0.6123, RECIPES[0], 3), (0.5987, RECIPES[2], 1), (0.55, RECIPES[1], 1)],
        },
        "slots": {n: slot(n, busy=n >= idle) for n in range(slots)},
        "queued": 3,
        "waiting": 2,
        "stages": {
            "trained": 14,
            "training": 3,
            "waiting": 6,
            "now": [
                {"leg": "pretrain", "step": 103, "target": 2000, "waits": 2},
                {"leg": "mixed", "step": 101, "target": 2000, "waits": 0},
                {"leg": "real_only", "step": 102, "target": 2000, "waits": 1},
            ],
        },
        "cost": {"steps_trained": 12_300, "steps_alone": 41_000, "hours": 0.8, "budget_hours": 2.0},
        "left_s": 840.0,
        "note": "",
    }
