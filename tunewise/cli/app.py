"""The commands. Each reads its flags, calls one function of `tunewise.api`, and prints what comes back.

`tunewise.api` is imported inside the commands, so that `tunewise --help` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tunewise.cli.exits import guarded, resumable
from tunewise.cli.options import takes_settings
from tunewise.cli.usage import Commands, Comparing
from tunewise.figures import counted
from tunewise.run_folders import RUNS, free, name_of
from tunewise.settings import Resolved, Settings, resolve

DEMO = {"train_rows": 256, "validation": 200}
DEMO_DATA = "trec"

app = typer.Typer(
    cls=Commands,
    help="Should I prompt the model, prompt-tune it or fine-tune it? Every way compared on your own data.",
    epilog="Settings may also stand in tunewise.toml, named like the flags of `tunewise compare`.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="List the catalog's base models, or fetch one.", rich_markup_mode=None)
data_app = typer.Typer(help="List the catalog's data sets, or fetch one.", rich_markup_mode=None)

Data = Annotated[
    str,
    typer.Argument(metavar="DATA", help="A file (CSV, TSV, JSONL, Parquet) or a name of `tunewise data`."),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
Requests = Annotated[
    float | None, typer.Option(metavar="N", help="Requests that costs are counted for. [default: 100000]")
]
Updates = Annotated[
    float | None, typer.Option(metavar="N", help="How often it is made again in a month. [default: 1]")
]
RealTime = Annotated[
    bool, typer.Option("--real-time", help="The instruction must be free to change with each request.")
]


def _version(asked: bool) -> None:
    if asked:
        from tunewise import __version__

        print(f"tunewise {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
@guarded
@takes_settings("budget", "seed", "curve", "curve_budget", "jobs")
def demo(flags: dict[str, Any], as_json: Json = False) -> None:
    """Compare every method on real questions (TREC) with 256 training rows, in 10 minutes."""
    _compare(DEMO_DATA, resolve(DEMO | flags, file=None), free(RUNS / "demo"), as_json)


@app.command(cls=Comparing)
@guarded
@takes_settings()
def compare(data: Data, flags: dict[str, Any], as_json: Json = False) -> None:
    """Try every method within the budget and recommend one, with the evidence."""
    resolved = resolve(flags)
    _compare(data, resolved, resolved.settings.out or free(RUNS / name_of(data)), as_json)


@app.command(cls=Comparing)
@guarded
@takes_settings(*(name for name in Settings.model_fields if not name.startswith(("curve", "jobs"))))
def plan(
    data: Data,
    flags: dict[str, Any],
    requests_per_month: Requests = None,
    updates_per_month: Updates = None,
    real_time: RealTime = False,
    as_json: Json = False,
) -> None:
    """Show, before anything is spent, what the data look like and which trials would run."""
    from tunewise import api
    from tunewise.cli.output import print_plan
    from tunewise.progress import progress, told

    with progress() as on_event:
        told(on_event)("measuring the data and this machine")
        planned = api.plan(
            data,
            **_arguments(resolve(flags)),
            requests_per_month=requests_per_month,
            updates_per_month=updates_per_month,
            real_time=real_time,
        )
    if as_json:
        _print_json(planned.to_json())
    else:
        print_plan(planned, data)


@app.command()
@guarded
def resume(
    run: Run,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Trials at a time from here on. [default: as the run was begun]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Go on with a comparison that was interrupted."""
    from tunewise import api
    from tunewise.progress import progress

    with resumable(run), progress() as on_event:
        study = api.resume(run, jobs=jobs, on_event=on_event)
    _print_study(study, as_json)


@app.command()
@guarded
def curve(
    run: Run,
    budget: Annotated[str, typer.Option(metavar="BUDGET", help="What the curves may take.")] = "20m",
    as_json: Json = False,
) -> None:
    """Measure what more labels are worth: a run's finalists, made again from fewer rows."""
    from tunewise import api
    from tunewise.cli.output import print_recommendation
    from tunewise.progress import progress

    with resumable(run, "curve"), progress() as on_event:
        study = api.curve(run, budget=budget, on_event=on_event)
    if as_json:
        _print_study(study, as_json)
    else:
        print_recommendation(study.recommendation, costs=False)


@app.command()
@guarded
def recommend(
    run: Run,
    requests_per_month: Requests = None,
    updates_per_month: Updates = None,
    max_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Milliseconds that a request may take, as in the test.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory that answering may take, as in 1GB.")
    ] = None,
    real_time: RealTime = False,
    price_per_hour: Annotated[
        float | None, typer.Option(metavar="PRICE", help="Of the machine: costs are told in its currency as well.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(metavar="POINTS", help="Points of score that a lower cost may be worth.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a run again, with other wishes; nothing is run."""
    from tunewise import api
    from tunewise.cli.output import print_recommendation

    found = api.recommend(
        run,
        margin=margin,
        requests_per_month=requests_per_month,
        updates_per_month=updates_per_month,
        max_ms=max_ms,
        max_memory=max_memory,
        real_time=real_time,
        price_per_hour=price_per_hour,
    )
    if as_json:
        _print_json({**found.to_json(), "folder": str(run)})
    else:
        print_recommendation(found)


@app.command()
@guarded
def report(run: Run) -> None:
    """Build the report page again from the files of a run."""
    from tunewise import api

    print(api.report(run))


@app.command()
@guarded
def predict(
    source: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_CANDIDATE", help="A run folder (its pick answers) or a candidate's."),
    ],
    new: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="A file with new rows, - for standard input (also what is piped in), or one text.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Where to write: .csv, .tsv or .jsonl. Standard output otherwise.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="One text; a JSON object where a task has several input columns."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="What standard input holds: text (one per line), csv, tsv or jsonl. [default: text]",
        ),
    ] = None,
) -> None:
    """Predict for new rows with what a run recommends; rows keep their order and columns."""
    from tunewise import api
    from tunewise.cli.rows import asked, check_writable
    from tunewise.progress import progress

    rows = asked(new, text, format)
    check_writable(out, rows)
    spec = api.spec_of(source)
    rows.check(spec)
    if empty := rows.empty(spec):
        print(f"warning: {empty}", file=sys.stderr)
    with progress() as on_event:
        predictions = api.predict(source, rows.inputs, on_event=on_event)
    rows.write(predictions, spec, out)
    if out is not None:
        print(f"wrote {counted(len(predictions), 'row')} to {out}", file=sys.stderr)


@app.command()
@guarded
def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the run folders are.")] = RUNS,
) -> None:
    """List what has been compared."""
    from tunewise import api
    from tunewise.cli.output import print_runs

    print_runs(api.runs(folder), folder)


@models_app.callback(invoke_without_command=True)
@guarded
def models(context: typer.Context) -> None:
    """List the catalog's base models, or fetch one."""
    if context.invoked_subcommand is None:
        from tunewise import api
        from tunewise.cli.output import print_entries

        print_entries(api.models(), "models")


@models_app.command("pull")
@guarded
def pull_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `tunewise models`.")],
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="The model's terms were read and are accepted.")
    ] = False,
) -> None:
    """Fetch a base model now, instead of when it is first used."""
    from tunewise import api
    from tunewise.progress import progress, told

    with progress() as on_event:
        folder = api.pull_model(name, accept_terms=accept_terms, on_progress=told(on_event))
    print(folder)


@data_app.callback(invoke_without_command=True)
@guarded
def data(context: typer.Context) -> None:
    """List the catalog's data sets, or fetch one."""
    if context.invoked_subcommand is None:
        from tunewise import api
        from tunewise.cli.output import print_entries

        print_entries(api.data(), "data")


@data_app.command("pull")
@guarded
def pull_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `tunewise data`.")],
) -> None:
    """Fetch a data set now, instead of when it is first used."""
    from tunewise import api
    from tunewise.progress import progress, told

    with progress() as on_event:
        path = api.pull_data(name, on_progress=told(on_event))
    print(path)


app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")


def _compare(data: str, resolved: Resolved, out: Path, as_json: bool) -> None:
    from tunewise import api
    from tunewise.progress import progress

    with resumable(out), progress() as on_event:
        study = api.compare(
            data,
            **_arguments(resolved),
            curve=resolved.settings.curve,
            curve_budget=resolved.settings.curve_budget,
            jobs=resolved.settings.jobs,
            out=out,
            settings=resolved.record() | {"out": {"value": str(out), "from": resolved.origins["out"]}},
            command=["tunewise", *sys.argv[1:]],
            on_event=on_event,
        )
    _print_study(study, as_json)


def _arguments(resolved: Resolved) -> dict[str, Any]:
    """The keyword arguments that `api.compare` and `api.plan` share."""
    settings = resolved.settings
    return {
        "model": settings.model[0] if len(settings.model) == 1 else settings.model,
        "methods": settings.methods,
        "budget": settings.budget,
        "margin": settings.margin,
        "seed": settings.seed,
        "truncate": settings.truncate,
        **resolved.reading(),
    }


def _print_study(study: Any, as_json: bool) -> None:
    from tunewise.cli.output import print_study

    if as_json:
        _print_json({**study.recommendation.to_json(), "folder": str(study.folder)})
    else:
        print_study(study)


def _print_json(value: Any) -> None:
    print(json.dumps(_without_minus_zero(value), indent=2, ensure_ascii=False))


def _without_minus_zero(value: Any) -> Any:
    """`value` with 0.0 for -0.0, which says nothing that a reader should wonder about."""
    if isinstance(value, dict):
        return {name: _without_minus_zero(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_minus_zero(one) for one in value]
    return 0.0 if isinstance(value, float) and value == 0 else value
