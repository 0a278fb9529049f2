"""Report: what a search came to, on one page that is whole (report.html), and the same as Markdown (report.md).

A report is a list of sections, each made from the runs by a function of its own. One that has nothing to say is left
out, and one that fails says so in a line: a report is never lost for a part of it. The same runs give the same bytes.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from analysis import report_answer, report_figures, report_record, report_worth
from analysis.report_blocks import FOLDER, Block, Gallery, Interactive, Picture, Section, Text, markdown, plain, spans
from analysis.report_context import Context

log = logging.getLogger(__name__)

HTML, MARKDOWN = "report.html", "report.md"
Maker = Callable[[Context], Section | None]

# In the order of the page, each by the name that it has where it fails. The first is what MLflow shows of a search.
SECTIONS: tuple[tuple[str, Maker], ...] = (
    ("The answer", report_answer.answer),
    ("The curve", report_figures.the_curve),
    ("What synthetic images are worth", report_worth.worth),
    ("What to spend on next", report_worth.spend),
    ("Contenders", report_answer.contenders),
    ("Where the optimum lies", report_answer.optimum),
    ("From validation to test", report_answer.shrinkage),
    ("Domain gap", report_answer.domain_gap),
    ("Class by class", report_record.classes),
    ("What decides", report_figures.importances),
    ("Quality against cost", report_figures.quality_and_cost),
    ("Predictions", report_record.predictions),
    ("What it cost", report_record.cost),
    ("How sure, and what these runs cannot say", report_record.unsaid),
    ("What to run next", report_answer.following),
    ("The recipe", report_record.recipe),
    ("How to get this again", report_record.reproduce),
)


@dataclass(frozen=True)
class Report:
    title: str
    subtitle: str
    sections: tuple[Section, ...]

    def html(self) -> str:
        """The page. Plotly's script, some megabytes, is in it if a figure needs it, and then once."""
        loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
        environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
        environment.filters |= {"kind": lambda block: type(block).__name__, "spans": spans}
        script = ""
        if any(isinstance(block, Interactive) for block in self._blocks()):
            from plotly.offline import get_plotlyjs

            script = get_plotlyjs().replace("</script", "<\\/script")
        page = environment.get_template("report.html.j2")
        footer = "Made by Titrate from the runs in MLflow alone; `python -m analysis report` makes it again."
        return page.render(
            title=self.title, subtitle=self.subtitle, sections=self.sections, footer=footer, script=Markup(script)
        )

    def markdown(self) -> str:
        """The same in Markdown; pictures are files of `figures/` beside it."""
        parts = [f"# {plain(self.title)}", plain(self.subtitle)]
        for section in self.sections:
            parts += [f"## {plain(section.title)}", *filter(None, map(markdown, section.blocks))]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Writes report.html, report.md and figures/ into a folder, which is made; returns the files."""
        folder.mkdir(parents=True, exist_ok=True)
        texts = {HTML: self.html(), MARKDOWN: self.markdown()}
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        pictures = [block for block in self._blocks() if isinstance(block, Picture)]
        pictures += [one for block in self._blocks() if isinstance(block, Gallery) for one in block.pictures]
        (folder / FOLDER).mkdir(exist_ok=True)
        for picture in pictures:
            (folder / picture.file).write_bytes(picture.data)
        return (*(folder / name for name in texts), *(folder / picture.file for picture in pictures))

    def _blocks(self) -> Iterator[Block]:
        return (block for section in self.sections for block in section.blocks)


def report(context: Context) -> Report:
    """The report of a search, also of one that still runs or failed: it says what cannot be said."""
    table = context.table
    sections = [made for name, make in SECTIONS if (made := _made(name, make, context))]
    recipes, done = len(table.recipes()), sum(row.status == "finished" for row in table.rows)
    subtitle = (
        f"Search `{table.search}`: {recipes} recipes, {done} of {len(table.rows)} trials finished, by {table.metric}"
    )
    subtitle += " (higher is better)" if table.mode == "max" else " (lower is better)"
    if any(row.status == "running" for row in table.rows):
        subtitle += "; it still runs, and this is preliminary"
    return Report(f"{table.search}: how much synthetic data, and how", f"{subtitle}.", tuple(sections))


def _made(name: str, make: Maker, context: Context) -> Section | None:
    """A section, or one that says why it is not there: whatever fails in one part, the others are of use.

    A ValueError is what the runs cannot tell, in words; anything else is an error of ours.
    """
    try:
        return make(context)
    except ValueError as error:
        said = f"Not told: {error}."
    except Exception as error:
        log.warning("the report lacks %r: %s: %s", name, type(error).__name__, error, exc_info=True)
        said = f"This part could not be made: {str(error)[:300] or type(error).__name__}"
    key = "".join(c if c.isalpha() else "-" for c in name.lower())
    return Section(key, name, (Text(said, "warning"),))
