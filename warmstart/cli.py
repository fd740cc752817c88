"""The command line. No logic of its own: a command reads its input, calls one function and shows the outcome.

Everything heavy is imported inside the commands, so that `warmstart --help` answers at once.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import warmstart
from warmstart.errors import Interrupted, UserError
from warmstart.terminal import Terminal
from warmstart.visible import visible

if TYPE_CHECKING:
    from warmstart.yours import Given

console = Terminal()


class _Commands(typer.core.TyperGroup):
    """Turns what the user can mend into one line and exit code 2, an interruption into exit code 130."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["command"] = shlex.join(["warmstart", *(word for word in args if word != "--fresh")])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            for line in str(error).split("\n"):  # other line breaks came from a file
                print(f"error: {line}", file=sys.stderr)
            raise typer.Exit(2) from None
        except (Interrupted, KeyboardInterrupt) as error:
            said = str(error) or "interrupted"
            print(f"{visible(said)}; resume with: {ctx.meta['command']}", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    help="Train models from what already exists; measure what each way of doing so saves at equal compute.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Put a value on top, e.g. stages.0.budget.steps=10; repeatable."),
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Your own model, a folder or hub id, where the study takes one."),
]
OwnData = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="DATA", help="Your own text: a file, a glob, or a data set's hub id; repeatable."),
]
OwnSizes = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="KEY=VALUE", help="Sizes of a larger model, where the study needs them: width=512."),
]
Resume = Annotated[bool, typer.Option("--resume/--fresh", help="Go on where an earlier run stopped, or start again.")]
EngineKind = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="Where row steps run: on this machine, or on a Ray cluster.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes for the row steps of the local engine.")]


def _given(model: str | None, data: list[str] | None, to: list[str] | None) -> Given | None:
    """What `--model`, `--data` and `--to` give; None where none of them is there."""
    if model is None and not data and not to:
        return None
    from warmstart.recipe_file import sizes
    from warmstart.yours import Given, written

    return Given(model, [written(one) for one in data or ()], sizes(to or (), "--to"))


def _print_version(asked: bool) -> None:
    if asked:
        print(f"warmstart {warmstart.__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file.")],
    out: Annotated[Path | None, typer.Option(help="The run's folder; default: runs/<name of the recipe file>.")] = None,
    resume: Resume = True,
    sets: Sets = None,
    accept_changed_data: Annotated[
        bool,
        typer.Option("--accept-changed-data", help="Resume although the data changed since the state was saved."),
    ] = False,
    engine: EngineKind = "local",
    workers: Workers = 1,
) -> None:
    """Carry a recipe out, stage by stage."""
    from warmstart.recipe_file import read_recipe

    read = read_recipe(recipe, sets or ())
    from warmstart.data.engine import Engine  # after the check, so that a bad recipe is told sooner
    from warmstart.run_recipe import run as carry_out
    from warmstart.train.interrupts import terminated_like_ctrl_c
    from warmstart.train.processes import left_at_the_end

    with terminated_like_ctrl_c(), left_at_the_end():
        result = carry_out(
            read,
            out or Path("runs") / recipe.stem,
            resume=resume,
            console=console,
            accept_changed_data=accept_changed_data,
            engine=Engine(engine, workers),
        )
    console.print(f"model: {result.model}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def study(
    study: Annotated[str, typer.Argument(help="A study file, or the slug of a packaged study (see `catalog`).")],
    scale: Annotated[str, typer.Option(help="One of the study's scales: smoke, demo, laptop, gpu.")] = "laptop",
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds; default: the study's own number.")] = None,
    arms: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these arms (the baseline is always run).")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time; default: one per core, one per GPU.")] = None,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="Cores of each run; default: all of them, divided; on Ray one.")
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="GPU of each run, 0 to 1; default: a whole one, where there is one."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The study's folder; default: runs/<slug>-<scale>.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Also write the results to <family>/<slug>.json below this folder.")
    ] = None,
    model: Model = None,
    own_data: OwnData = None,
    to: OwnSizes = None,
    resume: Resume = True,
    sets: Sets = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            "--engine", help="Where the runs go on: this machine, or a Ray cluster that sees --out everywhere."
        ),
    ] = "local",
    workers: Workers = 1,
) -> None:
    """Compare ways of training at equal compute: every arm of a study at every seed."""
    from warmstart.catalog import study_file
    from warmstart.recipe_file import read_study

    given = _given(model, own_data, to)
    read = read_study(study, scale, sets or (), given)
    from warmstart.data.engine import Engine
    from warmstart.run_study import study as carry_out

    slug = study_file(study).stem
    carry_out(
        read,
        slug=slug,
        scale=scale,
        out=out or Path("runs") / f"{slug}-{scale}{'-own' if given else ''}",
        seeds=seeds,
        arms=[arm.strip() for arm in arms.split(",") if arm.strip()] if arms else None,
        jobs=jobs,
        cpus=cpus,
        gpus=gpus,
        resume=resume,
        results=results,
        console=console,
        engine=Engine(engine, workers),
    )


@app.command()
def forecast(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Finished runs at growing amounts, or one run (or its metrics.jsonl).")
    ] = None,
    metric: Annotated[str, typer.Option(help="A metric of the runs.")] = "validation/loss",
    axis: Annotated[Literal["tokens", "flops", "step"], typer.Option(help="What grows.")] = "tokens",
    kind: Annotated[
        Literal["accuracy", "share", "loss"] | None,
        typer.Option(help="Percent, 0 to 1, or a loss; default: by how the metric moves."),
    ] = None,
    at: Annotated[
        list[float] | None, typer.Option(help="Forecast this amount; default: 2 and 10 times the last.")
    ] = None,
    goal: Annotated[float | None, typer.Option(help="How much is needed for this value of the metric?")] = None,
    tolerance: Annotated[float | None, typer.Option(min=0, help="From where is at most this left to gain?")] = None,
    forecaster: Annotated[str, typer.Option(help="A forecaster by name.")] = "learning-curve",
    replay: Annotated[
        Path | None,
        typer.Option(help="Instead: how often would `compare: {stop: forecast}` have been wrong in these results?"),
    ] = None,
) -> None:
    """Say what more data or compute would bring, from the metrics of runs, with an interval."""
    from warmstart.forecast.overview import of_runs, replayed

    if (replay is None) == (not runs):
        raise UserError("give runs to forecast, or --replay with a folder of results (one of the two)")
    shown = (
        replayed(replay)
        if replay is not None
        else of_runs(runs or [], metric, axis, kind, forecaster=forecaster, at=at or (), goal=goal, tolerance=tolerance)
    )
    for line in shown:
        console.print(line, highlight=False, soft_wrap=True)


@app.command()
def grow(
    model: Annotated[str, typer.Argument(help="A model folder or hub id.")],
    out: Annotated[Path, typer.Argument(help="The folder of the grown model.")],
    to: Annotated[
        list[str],
        typer.Option("--to", metavar="KEY=VALUE", help="A field of the larger configuration, e.g. hidden_size=512."),
    ],
    width: Annotated[
        Literal["fpi", "aki", "exact", "direct", "random"], typer.Option(help="How new width is filled.")
    ] = "fpi",
    depth: Annotated[
        Literal["stack", "interleave", "identity"], typer.Option(help="How new layers are filled.")
    ] = "stack",
    variant: Annotated[
        Literal["columns", "paired"], typer.Option(help="aki: what is borrowed from the block above.")
    ] = "columns",
    mapping: Annotated[
        Literal["balanced", "random"], typer.Option(help="What is copied: each in turn, or each drawn at random.")
    ] = "balanced",
    noise: Annotated[
        float, typer.Option(min=0, help="Noise on new entries, as a multiple of the weight's standard deviation.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="The seed of what is drawn at random.")] = 0,
) -> None:
    """Make a larger model from a smaller one, without training."""
    from warmstart.recipe_file import sizes
    from warmstart.surgery.grow import grow as enlarge

    report = enlarge(
        model,
        out,
        to=sizes(to, "--to"),
        width=width,
        depth=depth,
        variant=variant,
        mapping=mapping,
        noise=noise,
        seed=seed,
    )
    lines = [
        f"{out}: {report.old_parameters:,} -> {report.new_parameters:,} weights in {report.seconds:.1f} s",
        f"keeps the function {report.promise}: {report.reason}",
    ]
    if report.largest is not None:
        lines.append(f"largest logit difference {report.largest:.3g}, on average {report.mean:.3g}")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="A recipe or study file, or the slug of a packaged study.")],
    scale: Annotated[str | None, typer.Option(help="Of a study: check this scale; default: every scale.")] = None,
    model: Model = None,
    own_data: OwnData = None,
    to: OwnSizes = None,
    sets: Sets = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Of a recipe: what would each of so many processes hold, and does it fit?")
    ] = None,
    memory: Annotated[float, typer.Option(min=0.1, help="With --processes: GB of each GPU.")] = 80.0,
) -> None:
    """Say what a recipe or study would do, or what is wrong with it."""
    from warmstart.plan import Cluster
    from warmstart.plan import check as checked

    cluster = Cluster(processes, memory) if processes is not None else None
    for line in checked(file, scale, sets or (), _given(model, own_data, to), cluster):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def catalog(
    query: Annotated[list[str] | None, typer.Argument(help="What to look for, in your own words, or a slug.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for scripts.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write it as one HTML page.")] = None,
    docs: Annotated[Path | None, typer.Option(help="Write gallery.md and its figures into this folder.")] = None,
    check: Annotated[bool, typer.Option("--check", help="With --docs: only see whether they are up to date.")] = False,
) -> None:
    """List the published systems that have a study here, with their claim and our own verdict."""
    from warmstart.report import gallery
    from warmstart.search import search

    words = " ".join(query or ())
    found = gallery.entries(search(words))
    if check and docs is None:
        raise UserError("--check goes with --docs")
    if docs is not None:
        from warmstart.report import gallery_markdown

        if words:
            raise UserError("--docs writes the page of all systems; leave the words out")
        for path in [] if check else gallery_markdown.write(found, docs):
            print(path)
        gallery_markdown.check(found, docs)
    elif html is not None:
        from warmstart.disk import write_whole
        from warmstart.report.gallery_html import page

        print(write_whole(html, page(found)))
    elif as_json:
        print(json.dumps([gallery.as_json(one) for one in found], indent=2))
    elif not found:
        print(f"no system fits '{words}'; all of them: warmstart catalog")
    else:
        from warmstart.report.gallery_terminal import overview, results_of_search

        console.print(results_of_search(found) if words else overview(found), highlight=False)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a run or a study.")],
) -> None:
    """Write (again) the HTML report of a run or a study."""
    from warmstart.report.page import render

    console.print(f"report: {render(folder)}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def schema(
    kind: Annotated[Literal["recipe", "study"], typer.Argument(help="Of which kind of file.")] = "recipe",
    out: Annotated[Path | None, typer.Option(help="Write it to this file instead of the terminal.")] = None,
) -> None:
    """Print the JSON Schema of recipe or study files, so that editors complete them."""
    from warmstart.recipe_schema import schema as build
    from warmstart.recipe_schema import write

    if out is None:
        print(json.dumps(build(kind), indent=2))
    else:
        write(kind, out)


data = typer.Typer(
    cls=_Commands,
    help="Corpora by name, and rows without training.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data, name="data")


@data.command("list")
def list_corpora() -> None:
    """List the corpora that can be had by name, with size, licence and metadata columns."""
    from warmstart.data.corpora.overview import table

    console.print(table())


@data.command("get")
def get_corpora(
    names: Annotated[list[str], typer.Argument(help="Corpora of `data list`.")],
    language: Annotated[str | None, typer.Option(help="One of the corpus's languages; default: its first.")] = None,
) -> None:
    """Fetch corpora into the cache, check them and say what is in them."""
    from warmstart.data.corpora.overview import get

    for line in get(names, language, lambda text: print(visible(text), file=sys.stderr, flush=True)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@data.command("run")
def run_data(
    recipe: Annotated[Path, typer.Argument(help="A recipe file.")],
    out: Annotated[Path, typer.Option(help="An empty folder for the rows.")],
    stage: Annotated[int, typer.Option(min=0, help="The stage whose data are made.")] = 0,
    sets: Sets = None,
    engine: EngineKind = "local",
    workers: Workers = 1,
) -> None:
    """Curate and rewrite the rows of a stage, without training, and write them as JSON Lines."""
    from warmstart.data.engine import Engine
    from warmstart.data.export import export, summary
    from warmstart.recipe_file import read_recipe

    def notify(line: str) -> None:
        console.print(line, markup=False)

    read = read_recipe(recipe, sets or ())
    if stage >= len(read.stages):
        raise UserError(f"--stage: {recipe} has the stages 0 to {len(read.stages) - 1}, found {stage}")
    rows = read.stages[stage].data
    assert rows is not None
    for line in summary(export(rows, out, engine=Engine(engine, workers), notify=notify), out):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """The entry point of the installed command."""
    app(prog_name="warmstart")


if __name__ == "__main__":
    main()
