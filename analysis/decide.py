"""Decision: which recipe to train, by how much it is better, how sure that is, and what the runs cannot tell.

The recipe is the first of `ranking.rank`: means over replicates choose, and no lucky seed. How probable it is that it
really is the best, and which schedule, adaptation and share are, comes from `posterior`; the differences from
others are also given as paired comparisons, which lean on no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from analysis import notes
from analysis.axes import Axis
from analysis.design import Group
from analysis.optimum import Optimum, optimum
from analysis.posterior import Posterior, posterior
from analysis.ranking import Candidate, Comparison, comparisons, rank
from analysis.runs import Table
from analysis.shrinkage import Shrunk, shrinkage
from analysis.wording import chance, decimals, describe

CONTENDERS = 5
_AXES: tuple[Axis, ...] = ("synthetic_share", "num_synthetic", "real_fraction")


@dataclass(frozen=True)
class Decision:
    """Candidates best first, what the first is compared with, one line to act on, and what to know before acting.

    `notes` are lines too: what still runs, each comparison, how sure, where the best share lies, and scores on test
    sets. Without a finished recipe there is no posterior, and `optima` and `contenders` are empty.

    optima      where the best recipe lies on each axis that the search varied
    contenders  the winner and the most probable others, each with what its score regresses to
    """

    candidates: tuple[Candidate, ...]
    comparisons: tuple[Comparison, ...]
    recommendation: str
    notes: tuple[str, ...]
    posterior: Posterior | None = field(default=None, repr=False)
    optima: tuple[Optimum, ...] = ()
    contenders: tuple[Shrunk, ...] = ()

    @property
    def winner(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None

    @property
    def probability(self) -> float | None:
        """That the winner is the best of the candidates; None without one."""
        return self.contenders[0].probability_best if self.contenders else None

    @property
    def groups(self) -> Mapping[Group, float]:
        """The probability that the best recipe is of each (schedule, adaptation), the most probable first."""
        return {} if self.posterior is None else self.posterior.probability_group_best


def decide(table: Table) -> Decision:
    """The recommendation of a search, and how sure it is. Never raises for a search that failed: it says so."""
    candidates = rank(table)
    lines = notes.on_trials(table)
    if not candidates:
        return Decision((), (), notes.nothing(table), tuple(lines))
    winner, compared, beliefs = candidates[0], comparisons(table, candidates), posterior(table)
    probable = sorted(candidates[1:], key=lambda c: -beliefs.probability_best[beliefs.index(c.recipe)])
    contenders = shrinkage(beliefs, (winner, *probable[: CONTENDERS - 1]))
    optima = tuple(found for axis in _AXES if (found := optimum(beliefs, axis)) is not None)
    lines += [notes.versus(winner, comparison) for comparison in compared]
    lines += notes.on_seeds(table, winner, compared)
    lines += notes.on_probabilities(beliefs, winner)
    lines += notes.on_optima(optima)
    lines += notes.on_choice(table, winner, candidates, contenders[0])
    return Decision(
        candidates, compared, _sentence(table, candidates, contenders[0]), tuple(lines), beliefs, optima, contenders
    )


def _sentence(table: Table, candidates: Sequence[Candidate], shrunk: Shrunk) -> str:
    """One seed leaves a probability to what is thought beforehand: it stays in the notes, which say so."""
    winner = candidates[0]
    digits, count = decimals(winner.mean), len(winner.values)
    seeds = "one seed" if count == 1 else f"mean ± std over {count} seeds"
    spread = "" if count == 1 else f" ± {winner.std:.{digits}f}"
    text = f"Train {describe(winner)}: {table.metric} {winner.mean:.{digits}f}{spread} ({seeds})"
    if count > 1 and len(candidates) > 1:
        text += f", the best of {len(candidates)} recipes with probability {chance(shrunk.probability_best)}"
    return f"{text}."
