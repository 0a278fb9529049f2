"""Next run: what to train next, so that the answer narrows most for what it costs.

Once the runs are in, one trains the recipe that looks best. A further run is worth what it is expected to better that
choice by: the knowledge gradient (Frazier, Powell, Dayanik 2009), taken from the posterior's joint draws, in the
metric's own units. What perfect knowledge of all recipes would be worth is the most that any run can be. Tried are
a missing replicate of a contender, one more seed of several contenders together (alone it would tell little, since
a seed's own effect is not known), and recipes next to the contenders that nobody ran.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.design import design, first_rows, trunk_of
from analysis.posterior import SEED, Posterior
from analysis.runs import Row, Table, mean
from analysis.wording import decimals
from trainables.recipe import Recipe

CONTENDERS = 5
_AROUND = 3  # contenders whose neighbours are tried
_VARIED = (
    "real_fraction",
    "synthetic_fraction",
    "synthetic_share",
    "pretrain.steps",
    "pretrain.lr",
    "lr",
    "adaptation",
)


@dataclass(frozen=True)
class Option:
    """Recipes to train with one seed, what that is worth, and what it costs.

    value  by how much the choice is expected to be better for it, in the metric's units
    cost   steps to train, those of stages that other runs have trained not counted; runs where steps are not known
    """

    kind: str  # replicate, seed or recipe
    recipes: tuple[Recipe, ...]
    seed: int
    value: float
    cost: float

    @property
    def rate(self) -> float:
        """What each step (or run) is worth."""
        return self.value / self.cost

    def __str__(self) -> str:
        recipes = " and ".join(map(str, self.recipes))
        if self.kind == "recipe":
            return f"{recipes}, which nobody tried, with seed {self.seed}"
        return f"{'the missing' if self.kind == 'replicate' else 'one more'} seed, {self.seed}, of {recipes}"


@dataclass(frozen=True)
class Advice:
    """What to run next, the most worth for its cost first. `open` is what perfect knowledge would be worth."""

    metric: str
    unit: str  # steps or runs
    open: float
    options: tuple[Option, ...]

    def __str__(self) -> str:
        if not self.options:
            return "Nothing can be said of what to run next: no recipe has a neighbour or a rival."
        best, digits = self.options[0], decimals(self.open) if self.open > 0 else 3
        return (
            f"Run next {best} ({best.cost:,.0f} {self.unit}): it is expected to better the choice by"
            f" {best.value:.{digits}f} {self.metric}, of {self.open:.{digits}f} that perfect knowledge of the recipes"
            " tried would."
        )


def next_run(posterior: Posterior, *, seed: int = SEED) -> Advice:
    """What to run next. Deterministic given the seed; contenders are the most probable recipes."""
    table = posterior.table
    chances = np.where(posterior.pooled, posterior.probability_best, -1.0)
    top = [int(i) for i in np.argsort(-chances, kind="stable")[:CONTENDERS] if chances[i] > 0]
    rng = np.random.Generator(np.random.Philox(key=seed))
    bench = _Bench(posterior, rng)
    found: list[tuple[str, tuple[Row, ...], int, float]] = []
    for i in top:
        ran = {row.seed for row in posterior.candidates[i].rows}
        for r, s in enumerate(posterior.seeds):
            if s not in ran:
                found.append(("replicate", (bench.rows[i],), s, bench.replicate(i, r)))
    new = max(row.seed for row in table.rows) + 1
    for count in range(2, len(top) + 1):
        together = top[:count]
        found.append(("seed", tuple(bench.rows[i] for i in together), new, bench.further(together)))
    for row in _neighbours(table, [bench.rows[i] for i in top[:_AROUND]]):
        found.append(("recipe", (row,), posterior.seeds[0], bench.untried(row)))
    costs = [_steps(table, rows, s) for _, rows, s, _ in found]
    known = all(cost is not None for cost in costs)
    options = [
        Option(kind, tuple(row.recipe for row in rows), s, value, float(cost if known and cost else len(rows)))
        for (kind, rows, s, value), cost in zip(found, costs, strict=True)
    ]
    means = posterior.better.mean(axis=0)
    still = float(posterior.better.max(axis=1).mean() - means.max())
    return Advice(posterior.metric, "steps" if known else "runs", still, tuple(sorted(options, key=lambda o: -o.rate)))


class _Bench:
    """Draws of what a run would show, and what that is worth. All in the metric's units, more being better."""

    def __init__(self, posterior: Posterior, rng: np.random.Generator) -> None:
        self.posterior, self.rng = posterior, rng
        self.rows = first_rows(posterior.candidates)
        effects, scale = posterior.effects, posterior.scale
        self.sign = posterior.table.sign
        self.noise = scale * effects.scales
        self.seed = self.sign * scale * (effects.seed - effects.seed.mean(axis=1, keepdims=True))
        self.luck = self.sign * scale * effects.luck
        self.trunks = np.full(len(self.rows), -1)
        self.trunks[posterior.pooled] = posterior.design.trunks
        rivals = np.argsort(-posterior.better.mean(axis=0), kind="stable")[:50]
        probable = np.flatnonzero(posterior.probability_best > 0)
        self.means = posterior.better[:, np.union1d(rivals, probable)]

    def _normal(self, width: np.ndarray) -> np.ndarray:
        return width * self.rng.standard_normal(len(width))

    def replicate(self, i: int, r: int) -> float:
        """Of recipe i with the seed number r, which others have run."""
        seen = self.posterior.better[:, i] + self.seed[:, r] + self._normal(self.noise[:, 0])
        if self.trunks[i] >= 0:
            seen += self.luck[:, self.trunks[i], r]
        return self._worth(self.means, seen[:, None])

    def further(self, together: Sequence[int]) -> float:
        """Of several recipes with a seed that nobody ran: only their differences tell."""
        luck = {trunk: self._normal(self.noise[:, 2]) for trunk in sorted({int(self.trunks[i]) for i in together})}
        luck[-1] = np.zeros(len(self.noise))
        seen = [
            self.posterior.better[:, i] + luck[int(self.trunks[i])] + self._normal(self.noise[:, 0]) for i in together
        ]
        return self._worth(self.means, np.stack([other - seen[0] for other in seen[1:]], axis=1))

    def untried(self, row: Row) -> float:
        """Of a recipe that nobody ran, with the first seed."""
        posterior, effects = self.posterior, self.posterior.effects
        known = [r for r, pooled in zip(self.rows, posterior.pooled, strict=True) if pooled]
        made = design([row], like=known)
        explained = effects.explained(made)[:, 0] + effects.seed.mean(axis=1)
        own = self.sign * (posterior.centre + posterior.scale * explained) + self._normal(self.noise[:, 1])
        seen = own + self.seed[:, 0] + self._normal(self.noise[:, 0])
        if made.trunks[0] >= 0:
            seen += self.luck[:, made.trunks[0], 0]
        return self._worth(np.column_stack([self.means, own]), seen[:, None], tried=self.means.shape[1])

    @staticmethod
    def _worth(means: np.ndarray, seen: np.ndarray, tried: int | None = None) -> float:
        """By how much the expected mean of the best choice rises when `seen` (D, q) is known: means (D, n) given it are
        taken as linear in it, which they are for Gaussians. Before, one can choose of the first `tried` alone."""
        about = seen - seen.mean(axis=0)
        now = means.mean(axis=0)
        slopes = np.linalg.lstsq(about, means - now, rcond=None)[0]
        return float((now + about @ slopes).max(axis=1).mean() - now[:tried].max())


def _neighbours(table: Table, around: Sequence[Row]) -> Iterator[Row]:
    """Rows of recipes that nobody tried: a contender's with one field at the next value that two others have."""
    tried = set(table.recipes())
    for row in around:
        params = row.recipe.params()
        for name in _VARIED:
            if name not in params:
                continue
            for value in _next_values(table, name, params[name]):
                try:
                    recipe = Recipe.from_params(params | {name: value})
                except ValueError:  # a method that is told something, or means nothing here
                    continue
                if recipe in tried:
                    continue
                tried.add(recipe)
                planned = _planned(table, row, recipe)
                if table.broken([planned]) is None:
                    yield planned


def _next_values(table: Table, name: str, value: object) -> list[object]:
    uses: dict[object, int] = {}
    for recipe in table.recipes():
        found = recipe.params().get(name)
        if found is not None:
            uses[found] = uses.get(found, 0) + 1
    others = [v for v, count in uses.items() if count > 1 and v != value]
    if not isinstance(value, (int, float)):
        return sorted((v for v in others if isinstance(v, str)), key=str)
    numbers = [v for v in others if isinstance(v, (int, float))]
    lower, higher = [v for v in numbers if v < value], [v for v in numbers if v > value]
    return [*([max(lower)] if lower else []), *([min(higher)] if higher else [])]


def _planned(table: Table, base: Row, recipe: Recipe) -> Row:
    """A row of a recipe that nobody ran: its counts are those of a row with the same fraction and source."""

    def count(name: str, domain: str) -> int | None:
        wanted = (getattr(recipe, f"{domain}_fraction"), getattr(recipe, f"{domain}_source"))
        for row in table.rows:
            if (getattr(row.recipe, f"{domain}_fraction"), getattr(row.recipe, f"{domain}_source")) == wanted:
                known: int | None = getattr(row, name)
                return known
        return None

    alone = base.steps_alone
    if alone is not None and recipe.pretrain is not None and base.recipe.pretrain is not None:
        alone += recipe.pretrain.steps - base.recipe.pretrain.steps
    return replace(
        base,
        run_id="",
        recipe=recipe,
        status="planned",
        metrics={},
        num_real_labels=count("num_real_labels", "real"),
        num_synthetic=count("num_synthetic", "synthetic"),
        steps_alone=alone,
    )


def _steps(table: Table, rows: Sequence[Row], seed: int) -> float | None:
    """What it takes to train these recipes with a seed: each trunk once, and none that this seed has trained."""
    trained: dict[object, int] = {}
    for row in table.rows:
        if row.seed == seed and row.status == "finished" and row.recipe.pretrain is not None:
            trunk = trunk_of(row.recipe)
            trained[trunk] = max(trained.get(trunk, 0), row.recipe.pretrain.steps)
    total = 0.0
    for row in rows:
        alone = [r.steps_alone for r in (row, *table.rows) if r.recipe == row.recipe and r.steps_alone is not None]
        if not alone:
            return None
        total += mean([float(steps) for steps in alone])
        if row.recipe.pretrain is not None:
            trunk = trunk_of(row.recipe)
            total -= min(trained.get(trunk, 0), row.recipe.pretrain.steps)
            trained[trunk] = max(trained.get(trunk, 0), row.recipe.pretrain.steps)
    return total
