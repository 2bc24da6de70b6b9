"""The command line. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from medprior import __version__
from medprior.cli import options as o
from medprior.cli.bench import bench
from medprior.cli.display import Terminal
from medprior.cli.export import export
from medprior.cli.paper import print_run
from medprior.cli.report import report_run
from medprior.cli.shared import place_of, shared_command
from medprior.cli.suggest import suggest
from medprior.errors import Interrupted, MedpriorError, SettingsError, nearest

if TYPE_CHECKING:
    from medprior.study.planning.recipe import Recipe

app = typer.Typer(
    name="medprior",
    help="Unlabelled medical images and a handful of labels in, a model and an honest verdict out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Encoder = Annotated[str, typer.Argument(help="A run, a weights FILE, LAYOUT:FILE, hf-hub:NAME.", show_default=False)]
PredictorFolder = Annotated[Path, typer.Argument(help="The best/ folder of a finished run.", show_default=False)]


def main() -> None:
    """Entry point: runs a command, turns every expected failure into one plain message and an exit code."""
    # Threads that spin for long while they wait slow training many times on a machine with other work to do.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        code = app(standalone_mode=False)  # typer swallows Ctrl-C and gives back its exit code
        if code == Interrupted.exit_code:
            _say_stopped()
    except Interrupted:
        _say_stopped()
    except MedpriorError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say_stopped()
    except Exception as error:
        sys.exit(_usage(error))


def _say_stopped() -> NoReturn:
    print("\nStopped. The same command resumes", file=sys.stderr)
    sys.exit(Interrupted.exit_code)


def _usage(error: Exception) -> int:
    """Exit code of a wrong command line, said with the nearest right name; anything else is our own fault.

    The kinds of error are told apart by what they carry: typer brings its own click, other versions import it.
    """
    kind = type(error).__name__
    if kind == "Exit":
        return int(getattr(error, "exit_code", 0))
    if kind == "Abort":
        return 130
    if not hasattr(error, "format_message"):
        raise error
    message: str = error.format_message()
    if kind == "NoArgsIsHelpError":
        print(message)
        return 0
    context = getattr(error, "ctx", None)
    if kind == "NoSuchOption" and context:
        given: str = getattr(error, "option_name", "")
        message = _with_nearest(f"unknown option {given}", given, [n for p in context.command.params for n in p.opts])
    elif kind == "MissingParameter" and context and getattr(error, "param", None):
        param = getattr(error, "param")  # noqa: B009 - typer's own click is not typed
        name = param.opts[0] if param.opts[0].startswith("-") else str(param.name).upper()
        message = f"{context.command_path} needs {name} (medprior {context.command.name} --help)"
    elif message.startswith("No such command") and context:
        given = message.split("'")[1]
        message = _with_nearest(f'unknown command "{given}"', given, list(context.command.commands))
    print(f"error: {message}", file=sys.stderr)
    return 2


def _with_nearest(message: str, given: str, known: list[str]) -> str:
    close = nearest(given, known)
    return message + (f'. Nearest: "{close}"' if close else f". All: {', '.join(known)}")


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _recipe(
    scans: Path, labels: Path | None, masks: Path | None, unlabelled: Path | None, config: Path | None
) -> Recipe:
    """What SCANS and the options beside it name: a folder, or a recipe whose paths the options go before."""
    from medprior.study.planning.recipe import Recipe, is_recipe, read_recipe

    if not is_recipe(scans):
        return Recipe(scans, labels, masks, unlabelled, {})
    if config is not None:
        do = "Write the settings into the recipe, or give single ones with --set section.key=value"
        raise SettingsError("a recipe holds its settings itself", where="--config", do=do)
    return read_recipe(scans, labels=labels, masks=masks, unlabelled=unlabelled)


def _study_command(everything: bool) -> Callable[..., None]:
    """`run` and `compare` take the same words; they differ in the methods that are meant when none are named."""

    def command(
        scans: o.ScansOrRecipe,
        labels: o.Labels = None,
        masks: o.Masks = None,
        unlabelled: o.Unlabelled = None,
        out: o.Out = Path("out"),
        task: o.Task = None,
        methods: o.Methods = None,
        backbone: o.Backbone = None,
        init: o.Init = None,
        size: o.Size = None,
        budgets: o.Budgets = None,
        seeds: o.Seeds = None,
        minutes: o.Minutes = None,
        patient: o.Patient = None,
        label: o.Label = None,
        split: o.Split = None,
        groups: o.Groups = None,
        free_validation: o.FreeValidation = False,
        dedupe: o.Dedupe = False,
        workers: o.Workers = None,
        config: o.Config = None,
        set_: o.Set = None,
    ) -> None:
        recipe = _recipe(scans, labels, masks, unlabelled, config)
        settings = o.study_settings(
            config, set_, everything=everything, base=recipe.settings, methods=methods, backbone=backbone, init=init,
            size=size, budgets=budgets, seeds=seeds, minutes=minutes, patient=patient, label=label, split=split,
            groups=groups, unlabelled=recipe.unlabelled, masks=recipe.masks, task=task, free_validation=free_validation,
            dedupe=dedupe, workers=workers,
        )  # fmt: skip
        private = {scans: "RECIPE.yaml", labels: "LABELS.csv", unlabelled: "POOL", config: "SETTINGS.yaml"}
        private |= {masks: "MASKS", place_of(init): "WEIGHTS"}
        _study(recipe.scans, recipe.labels, out, settings, private=private)

    return command


app.command(
    "run",
    help="Folder in, verdict out: pre-train, adapt at several label budgets, compare with scratch, report.",
)(_study_command(everything=False))
app.command(
    "compare",
    help="Several methods under one protocol: those of a recipe (.yaml) or of --methods, else all that are registered.",
)(_study_command(everything=True))


@app.command()
def demo(
    out: o.Out = Path("demo-out"),
    minutes: Annotated[float, typer.Option(help="Time for the whole demo.")] = 3.0,
    patients: Annotated[
        int | None, typer.Option(help="Patients of the generated cohort (600 X-rays, 24 CTs).", show_default=False)
    ] = None,
    task: Annotated[str, typer.Option(help="classify chest X-rays, or segment chest CTs.")] = "classify",
    methods: o.Methods = None,
    config: o.Config = None,
    set_: o.Set = None,
) -> None:
    """The whole path on a generated cohort of chest X-rays or CTs: no data, no network."""
    from medprior.study.demo import demo_settings, make_demo

    began = time.monotonic()
    terminal = Terminal()
    labels = make_demo(out / "cohort", task, patients, terminal)
    left = max(0.5, minutes - (time.monotonic() - began) / 60)
    settings = o.make_settings(config, [*demo_settings(task), *(set_ or [])], methods=methods, minutes=left)
    _study(labels.parent, labels, out, settings, terminal)


@app.command()
def index(
    scans: o.Scans,
    labels: o.Labels = None,
    masks: o.Masks = None,
    out: o.Out = Path("out"),
    task: o.Task = None,
    patient: o.Patient = None,
    label: o.Label = None,
    split: o.Split = None,
    store_volumes: Annotated[
        bool, typer.Option("--store-volumes", help="Also store the volumes, compressed, for fast crops (OUT/volumes).")
    ] = False,
    config: o.Config = None,
    set_: o.Set = None,
) -> None:
    """Read a folder of scans once: what is there, what is wrong with it, and the plan. Trains nothing."""
    from medprior.data.catalogfile import save_catalog
    from medprior.files import make_folder
    from medprior.report.card import data_card
    from medprior.study.planning.found import catalog_lines, write_problems, write_rows
    from medprior.study.planning.reading import read_catalog, store_all_volumes, task_lines, with_outlines

    settings = o.make_settings(config, set_, masks=masks, task=task, patient=patient, label=label, split=split)
    terminal = Terminal()
    make_folder(out)
    catalog = with_outlines(read_catalog(scans, labels, settings, out, terminal), settings, out, terminal)
    write_problems(catalog, out)
    write_rows(catalog, out)
    save_catalog(catalog, out / "catalog.parquet")
    for line in (*catalog_lines(catalog), *task_lines(catalog, settings)):
        terminal.say(line)
    page, headline = data_card(catalog, out, settings.data.ct_window)
    terminal.say(f"Card     {headline}")
    terminal.say(f"         {page}")
    terminal.say(f"Private  catalog.parquet, problems.csv, and rows.csv (which scan a row of the card is) in {out}")
    if store_volumes:
        store = store_all_volumes(catalog, settings, out, terminal)
        stored = f"{len(store.stored):,} in {out / 'volumes'} ({store.nbytes / 2**20:,.0f} MiB)"
        terminal.say(f"Volumes  {stored}")


@app.command()
def pretrain(
    scans: o.Scans,
    out: o.Out = Path("out"),
    methods: o.Methods = None,
    backbone: o.Backbone = None,
    init: o.Init = None,
    size: o.Size = None,
    minutes: o.Minutes = None,
    config: o.Config = None,
    set_: o.Set = None,
) -> None:
    """Pre-train one encoder per method on all scans of a folder; no labels needed."""
    from medprior.study.alone import pretrain_alone
    from medprior.training.interrupt import polite_stop

    settings = o.make_settings(config, set_, methods=methods, backbone=backbone, init=init, size=size, minutes=minutes)
    terminal = Terminal()
    with polite_stop() as stop:
        for folder in pretrain_alone(scans, settings, out, progress=terminal, stop=stop):
            terminal.say(f"Encoder  {folder}   (medprior finetune {folder} SCANS --labels FILE)")


@app.command()
def finetune(
    encoder: Encoder,
    scans: o.Scans,
    labels: o.Labels = None,
    out: o.Out = Path("out"),
    size: o.Size = None,
    budgets: o.Budgets = "all",
    seeds: o.Seeds = 1,
    minutes: o.Minutes = None,
    backbone: o.Backbone = None,
    patient: o.Patient = None,
    label: o.Label = None,
    split: o.Split = None,
    free_validation: o.FreeValidation = False,
    dedupe: o.Dedupe = False,
    config: o.Config = None,
    set_: o.Set = None,
) -> None:
    """Adapt a given encoder to the labels, beside scratch of the same encoder: `run --init ENCODER`."""
    settings = o.make_settings(
        config, set_, methods=None, backbone=backbone, init=encoder, size=size, budgets=budgets, seeds=seeds,
        minutes=minutes, patient=patient, label=label, split=split, free_validation=free_validation, dedupe=dedupe,
    )  # fmt: skip
    _study(scans, labels, out, settings, private={place_of(encoder): "ENCODER", config: "SETTINGS.yaml"})


@app.command()
def predict(
    predictor: PredictorFolder,
    scans: o.Scans,
    out: o.Out = Path("out"),
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Also take scans unlike those it was trained on."),
    ] = False,
) -> None:
    """Use a model on new scans: predictions.csv, and a label map of every scan where it has learnt to outline.

    Scans unlike those of its training are refused, with the reason in the table. Label maps lie below OUT/outlines,
    named as their scans and in their space; those that the same model drew before are kept.
    """
    from medprior.study.takehome.prediction import predict_scans

    terminal = Terminal()
    done = predict_scans(predictor, scans, out, anyway=anyway, progress=terminal)
    for line in done.lines:
        terminal.say(line)
    raise typer.Exit(0 if done.predicted else 8)


@app.command()
def embed(
    encoder: Encoder, scans: o.Scans, out: o.Out = Path("out"), backbone: o.Backbone = None, size: o.Size = None
) -> None:
    """Write the pooled features of every scan (features.npy) with their files (features.csv)."""
    from medprior.study.takehome.prediction import embed_scans

    terminal = Terminal()
    count, width = embed_scans(encoder, scans, out, backbone=backbone, size=size, progress=terminal)
    terminal.say(f"Features {count:,} x {width} in {out / 'features.npy'}, their files in {out / 'features.csv'}")


app.command()(bench)
app.command()(suggest)
app.command()(export)
app.command("report")(report_run)
app.command("print")(print_run)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="One method, in full.", show_default=False)] = None,
) -> None:
    """List the pre-training methods, or one with its presets."""
    from medprior.cli.listing import list_methods, show_method

    terminal = Terminal()
    show_method(name, terminal.console) if name else list_methods(terminal.console)


@app.command()
def doctor(out: o.Out = Path("out")) -> None:
    """Check this machine: versions, devices, speed, disk."""
    from medprior.cli.listing import examine

    if not examine(Terminal().console, out):
        raise typer.Exit(1)


def _study(
    scans: Path,
    labels: Path | None,
    out: Path,
    settings: object,
    terminal: Terminal | None = None,
    private: dict[Path | None, str] | None = None,
) -> None:
    from medprior.config import Settings
    from medprior.report.assemble import report
    from medprior.report.card import data_card
    from medprior.study.study import run_study
    from medprior.study.verdict.verdict import print_verdict
    from medprior.training.interrupt import polite_stop

    if not isinstance(settings, Settings):
        raise SettingsError("no settings")
    terminal = terminal or Terminal()
    command = shared_command({**(private or {}), scans: "SCANS", labels: "LABELS.csv", out: "OUT"})
    with polite_stop() as stop:
        outcome = run_study(scans, labels, settings, out, command=command, progress=terminal, stop=stop)
    page = report(outcome)
    card, _ = data_card(outcome.ground.catalog, out, settings.data.ct_window)
    terminal.say("")
    for line in print_verdict(outcome.verdict):
        terminal.say(line)
    terminal.say(f"Report   {page}")
    terminal.say(f"Data     {card}")
    terminal.say(f"Model    {out / 'best'}   (medprior predict {shlex.quote(str(out / 'best'))} NEW_SCANS)")
    terminal.say("Resume or extend (more --seeds): the same command")
