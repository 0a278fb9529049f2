"""Context: what the sections of a report are made from; what several of them need is computed once, when asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from analysis.bands import with_bands
from analysis.curves import Curve, curve
from analysis.decide import Decision, decide
from analysis.exchange import place_of
from analysis.laws import Law, law_of
from analysis.prices import Prices
from analysis.provenance import Provenance, Sample, provenance, samples
from analysis.ranking import Candidate, rank
from analysis.runs import Table, load
from analysis.worth import Worth, worth


@dataclass(frozen=True)
class Context:
    """tracking_uri  where MLflow is, for what is not in the table; a table that was not read from there has no more
    prices        of images, where they are known
    domains       of test sets, where they are known (`gap.gap`)
    """

    table: Table
    tracking_uri: str | None = None
    prices: Prices | None = None
    domains: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        search: str,
        tracking_uri: str | None = None,
        experiment: str | None = None,
        *,
        prices: Prices | None = None,
        domains: Mapping[str, str] | None = None,
    ) -> "Context":
        """Of a search in MLflow. Raises ValueError as `runs.load` does."""
        return cls(load(search, tracking_uri=tracking_uri, experiment=experiment), tracking_uri, prices, domains or {})

    @cached_property
    def decision(self) -> Decision:
        return decide(self.table)

    @property
    def winner(self) -> Candidate | None:
        return self.decision.winner

    @cached_property
    def _law(self) -> Law | str:
        try:
            return law_of(self.table)
        except ValueError as error:
            return str(error)

    @property
    def law(self) -> Law | None:
        """The objective's; None where the runs give none, and then `no_law` says why."""
        return None if isinstance(self._law, str) else self._law

    @property
    def no_law(self) -> str:
        return self._law if isinstance(self._law, str) else ""

    @cached_property
    def worth(self) -> Worth | None:
        """What synthetic images are worth; None without a law, or a finished recipe that trains on both kinds."""
        if self.law is None:
            return None
        try:
            method = place_of(self.law, rank(self.table)).group
        except ValueError:  # no such recipe
            return None
        return worth(self.table, method=method, law=self.law, prices=self.prices)

    @cached_property
    def curve(self) -> Curve:
        """The objective against the real fraction, with bands where there is a law."""
        drawn = curve(self.table)
        return drawn if self.law is None else with_bands(drawn, self.law)

    @cached_property
    def provenance(self) -> Provenance | None:
        return provenance(self.table, self.tracking_uri) if self.table.run_id else None

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Pictures of the winner's predictions: of its first replicate that has any."""
        rows = self.winner.rows if self.table.run_id and self.winner is not None else ()
        found = (samples(row.run_id, self.tracking_uri) for row in rows)
        return next(filter(None, found), ())
