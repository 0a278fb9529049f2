"""What searches of one problem on different sides say of each other: ratios, where the gain is from, projections."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

SLOTS = 2
SIDES = ("nested", "function", "titrate")
PROJECTED_S = {"minute": 60.0, "hour": 3600.0}


@dataclass(frozen=True)
class Record:
    """One search on one side with one seed. Seconds count from its start.

    steps        that were trained
    alone_steps  of its trials' paths, as far as they went, if each had been trained by itself
    busy_s       slot-seconds that trained and evaluated
    fixed_s      the part of `wall_s` that longer training would not lengthen
    idle         share of slot time without work; None where too little was seen
    finals       (second, value) of each trial that reached its last rung
    booked       (second, steps trained until then), in order
    """

    wall_s: float
    trials: int
    failed: int
    steps: int
    alone_steps: int
    busy_s: float
    fixed_s: float
    idle: float | None
    finals: Sequence[tuple[float, float]]
    booked: Sequence[tuple[float, int]]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Record":
        """The inverse of `dataclasses.asdict`, also after JSON."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def best(self) -> float:
        """The smallest value of a completed trial: all problems here minimise."""
        return min(value for _, value in self.finals)

    def reached(self, target: float) -> tuple[float, int]:
        """The second at which a completed trial first had the target, and the steps that were trained by then."""
        at = min(second for second, value in self.finals if value <= target)
        return at, max((steps for second, steps in self.booked if second <= at), default=0)


Sides = Mapping[str, Mapping[int, Record]]  # side -> seed -> its search


def figures(sides: Sides, fixed_list: Mapping[str, Any] | None) -> dict[str, Any]:
    """The JSON of a problem. What needs a side that did not run is None. Ratios are of sums over the seeds that both
    sides have; values are means over seeds."""
    ours = sides.get("titrate", {})
    idle = [record for record in ours.values() if record.idle is not None]
    return {
        "wall_ratio": _ratio(sides, "nested", lambda record, _: record.wall_s),
        "wall_ratio_function": _ratio(sides, "function", lambda record, _: record.wall_s),
        "wall_to_target_ratio": _ratio(sides, "nested", lambda record, target: record.reached(target)[0]),
        "step_ratio": fixed_list["alone"] / fixed_list["shared"] if fixed_list else None,
        "projected": {name: projected(sides, "nested", seconds) for name, seconds in PROJECTED_S.items()},
        "best_stock": _mean([record.best for record in sides.get("nested", {}).values()]),
        "best": _mean([record.best for record in ours.values()]),
        "identical": fixed_list["identical"] if fixed_list else None,
        # Weighted by what each search lasted, since a short one sees mostly its own end.
        "idle": sum((r.idle or 0) * r.wall_s for r in idle) / sum(r.wall_s for r in idle) if idle else None,
    }


def targets(sides: Sides) -> dict[int, float]:
    """For each seed the worst of the best values that the sides found, so that each of them reached it."""
    seeds = {seed for records in sides.values() for seed in records}
    return {seed: max(records[seed].best for records in sides.values() if seed in records) for seed in sorted(seeds)}


def _pairs(sides: Sides, side: str) -> list[tuple[Record, Record, float]]:
    """(stock, ours, target) of each seed that both have."""
    stock, ours, target = sides.get(side, {}), sides.get("titrate", {}), targets(sides)
    return [(stock[seed], ours[seed], target[seed]) for seed in sorted(stock.keys() & ours.keys())]


def _ratio(sides: Sides, side: str, what: Any) -> float | None:
    pairs = _pairs(sides, side)
    if not pairs:
        return None
    return float(sum(what(stock, t) for stock, _, t in pairs) / sum(what(ours, t) for _, ours, t in pairs))


def projected(sides: Sides, side: str, trial_s: float) -> float | None:
    """The ratio of walls if training took so much longer that a stock trial trained `trial_s` seconds on average.

    Training, evaluation and the time in which slots wait for each other are scaled; what is fixed on each side stays.
    """
    pairs = _pairs(sides, side)
    if not pairs:
        return None
    times = trial_s * sum(stock.trials for stock, _, _ in pairs) / sum(stock.busy_s for stock, _, _ in pairs)

    def wall(record: Record) -> float:
        return record.fixed_s + times * (record.wall_s - record.fixed_s)

    return sum(wall(stock) for stock, _, _ in pairs) / sum(wall(ours) for _, ours, _ in pairs)


def gain(sides: Sides, side: str) -> dict[str, float] | None:
    """The ratio of walls as a product: what stock's training would take without its overheads (`overhead`); what our
    trials would take if each were trained alone (`pruning`: other trials, given up earlier or later); what they take
    (`sharing`); and what our own start and waiting add (`own`, at most 1). Walls in between are steps times our
    slot-seconds a step over the number of slots."""
    pairs = _pairs(sides, side)
    if not pairs:
        return None
    stock_s, ours_s = (sum(pair[k].wall_s for pair in pairs) for k in (0, 1))  # type: ignore[union-attr]
    step_s = sum(ours.busy_s for _, ours, _ in pairs) / sum(ours.steps for _, ours, _ in pairs) / SLOTS
    stock_training = step_s * sum(stock.steps for stock, _, _ in pairs)
    alone = step_s * sum(ours.alone_steps for _, ours, _ in pairs)
    shared = step_s * sum(ours.steps for _, ours, _ in pairs)
    return {
        "overhead": stock_s / stock_training,
        "pruning": stock_training / alone,
        "sharing": alone / shared,
        "own": shared / ours_s,
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def table(sides: Sides) -> list[str]:
    """The sides beside each other, means over their seeds, and the split of the gain: lines to print."""
    target = targets(sides)
    head = ("wall s", "to target", "steps", "to target", "best", "idle", "s/step", "fixed s", "trials", "failed")
    lines = [f"{'side':<10}{'seeds':>6}" + "".join(f"{name:>11}" for name in head)]
    for side in SIDES:
        records = sides.get(side, {})
        if not records:
            continue
        reached = [record.reached(target[seed]) for seed, record in records.items()]
        every = list(records.values())
        idle = _mean([record.idle for record in every if record.idle is not None])
        cells = (
            f"{_mean([r.wall_s for r in every]):.1f}",
            f"{_mean([at for at, _ in reached]):.1f}",
            f"{_mean([r.steps for r in every]):,.0f}",
            f"{_mean([steps for _, steps in reached]):,.0f}",
            f"{_mean([r.best for r in every]):.4f}",
            "" if idle is None else f"{idle:.1%}",
            f"{sum(r.busy_s for r in every) / sum(r.steps for r in every):.4f}",
            f"{_mean([r.fixed_s for r in every]):.1f}",
            f"{_mean([r.trials for r in every]):g}",
            f"{_mean([r.failed for r in every]):g}",
        )
        lines.append(f"{side:<10}{len(every):>6}" + "".join(f"{cell:>11}" for cell in cells))
    for side in ("nested", "function"):
        split = gain(sides, side)
        if split is not None:
            parts = " x ".join(f"{name} {value:.2f}" for name, value in split.items())
            ratio = _ratio(sides, side, lambda record, _: record.wall_s)
            later = ", ".join(f"{t} trials {projected(sides, side, s):.1f}" for t, s in PROJECTED_S.items())
            lines.append(f"{side} / titrate = {ratio:.1f} = {parts}; with {later}")
    return lines
