"""`teach`: the models that are taught on this device, and their pictures as an archive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_classifierd.cli.options import Json, LogLevel, file_argument, file_option, reporting
from edge_classifierd.cli.streams import complain, print_json, show
from edge_classifierd.errors import ExitCode, UsageError, counted

if TYPE_CHECKING:
    from edge_classifierd.model.taught import TaughtInUse
    from edge_classifierd.teaching.records import TaughtModel
    from edge_classifierd.teaching.store import TeachingStore
    from edge_classifierd.teaching.training.versions import Versions

app = typer.Typer(help="Show, use, export and import the models taught on this device.")

State = Annotated[Path | None, file_option("--state", help="The state directory; default: that of the service.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model.")]


@app.command("list")
@reporting
def list_command(
    *,
    state: State = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """List the models that are taught here, with their classes.

    Example: sudo edge-classifierd teach list
    """
    models = store_in(state).models()
    if json:
        print_json([_document(one) for one in models])
    for one in () if json else models:
        named = ", ".join(f"{group.name} {group.pictures}" for group in one.classes)
        show(f"{one.name}: {named}" + (f", {one.to_sort} to sort" if one.to_sort else ""))
    if not models:
        complain("no models are taught here yet; open the page and choose Teach, or use `teach import`")
    return ExitCode.OK


@app.command("show")
@reporting
def show_command(
    name: Name,
    *,
    state: State = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Show the classes of a model and what they still need.

    Example: sudo edge-classifierd teach show birds
    """
    model = store_in(state).model(name)
    if json:
        print_json(_document(model))
        return ExitCode.OK
    for one in model.classes:
        show(f"{one.name}: {counted(one.pictures, 'picture')}, {counted(one.recordings, 'recording')}. {one.advice}")
    if model.to_sort:
        show(f"to sort: {counted(model.to_sort, 'picture')} in {counted(model.to_sort_groups, 'group')}")
    show(f"in the bin: {counted(model.bin, 'picture')}; {model.bytes / 1e6:.1f} MB in all")
    show(f"to train: {model.missing or 'ready'}")
    versions = versions_in(state)
    in_use = versions.in_use(name)
    for result in versions.results(name):
        used = " (in use)" if in_use is not None and in_use.version == result.version else ""
        show(f"version {result.version}{used}: {result.sentences[0] if result.sentences else 'not measured'}")
    return ExitCode.OK


@app.command("use")
@reporting
def use_command(
    name: Name,
    version: Annotated[int, typer.Argument(min=1, metavar="VERSION", help="As `teach show` lists it.")],
    *,
    state: State = None,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Put a version in use, for all pipelines that use the model.

    A running daemon takes it over within a second.

    Example: sudo edge-classifierd teach use birds 3
    """
    show(_now_in_use(versions_in(state).use(name, version)))
    return ExitCode.OK


@app.command("rollback")
@reporting
def rollback_command(
    name: Name,
    *,
    state: State = None,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Put the version in use that was in use before.

    A second time returns to the version of now.

    Example: sudo edge-classifierd teach rollback birds
    """
    show(_now_in_use(versions_in(state).rollback(name)))
    return ExitCode.OK


@app.command("export")
@reporting
def export_command(
    name: Name,
    output: Annotated[Path, file_option("--output", "-o", help="The zip archive to write.")],
    *,
    state: State = None,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Write all pictures of a model to a zip archive.

    Its folders train/CLASS and held-out/CLASS can be given to `train` and `eval`; pictures without a class are in
    to-sort, and index.json holds the rest, so the archive is a complete backup for `teach import`. The bin is left out.

    Example: sudo edge-classifierd teach export birds -o birds.zip
    """
    from edge_classifierd.cli.outputs import refuse_unwritable

    if str(output) == "-":
        raise UsageError(f"--output {output}: an archive is not written to standard output; give the name of a file")
    refuse_unwritable("--output", output, replaced=True)
    parts = store_in(state).export(name)
    temporary = output.with_name(f".{output.name}.new")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
        temporary.replace(output)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    show(str(output))
    return ExitCode.OK


@app.command("import")
@reporting
def import_command(
    file: Annotated[Path, file_argument(metavar="FILE", help="A zip archive of pictures.")],
    name: Annotated[str, typer.Option("--name", help="The name of the new model: a-z, 0-9 and -.")],
    *,
    state: State = None,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Make a model from a zip archive of pictures.

    Takes what `teach export` wrote, or folders made by hand: train/CLASS and held-out/CLASS, or one folder for each
    class. The daemon may run meanwhile. After an interruption nothing is left behind.

    Example: sudo edge-classifierd teach import birds.zip --name birds
    """
    from edge_classifierd.cli.tables import progress_bar

    with progress_bar() as progress:
        model, left_out = store_in(state).import_(file, name, progress)
    for sentence in left_out:
        complain(sentence)
    pictures = sum(one.pictures for one in model.classes) + model.to_sort
    show(f"{model.name}: {counted(len(model.classes), 'class')}, {counted(pictures, 'picture')}")
    empty = [one.name for one in model.classes if not one.pictures and not one.unknown]
    if left_out and empty:
        complain(f"no pictures are in {', '.join(empty)}; convert or replace those that were left out")
    return ExitCode.OK


def store_in(state: Path | None) -> TeachingStore:
    """Return the store of a state directory. Raises UsageError when there is no such directory."""
    from edge_classifierd.clock import SystemClock
    from edge_classifierd.config.sections.paths import state_directory
    from edge_classifierd.teaching.store import TeachingStore

    folder = state or state_directory()
    if not os.path.isdir(folder):  # noqa: PTH112 - Path's raises in a folder that is closed to this account
        raise UsageError(f"{folder}: there is no such state directory; has the daemon run here? else give --state DIR")
    return TeachingStore(folder, SystemClock())


def versions_in(state: Path | None) -> Versions:
    """Return the versions of a state directory. Raises UsageError when there is no such directory."""
    from edge_classifierd.config.sections.paths import state_directory
    from edge_classifierd.teaching.training.versions import Versions

    store_in(state)
    return Versions(state or state_directory())


def _now_in_use(found: TaughtInUse) -> str:
    before = "" if found.previous is None else f", before it {found.previous}"
    return f"{found.name}: version {found.version} is in use{before}"


def _document(model: TaughtModel) -> dict[str, Any]:
    from dataclasses import asdict

    from edge_classifierd.clock import timestamp

    return {**asdict(model), "made": timestamp(model.made)}
