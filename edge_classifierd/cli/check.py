"""`check`: validates the configuration, the models and the labels without touching hardware or network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, Json, LogLevel, reporting
from edge_classifierd.cli.streams import complain, print_json
from edge_classifierd.errors import ExitCode

if TYPE_CHECKING:
    from edge_classifierd.config.loading.load import Document
    from edge_classifierd.errors import Problem
    from edge_classifierd.pipeline.plan import Plan


@reporting
def command(config: Config = DEFAULT_CONFIG, *, json: Json = False, log_level: LogLevel = "warning") -> ExitCode:  # noqa: ARG001
    """Validate a configuration, its models, labels and watches.

    Needs neither hardware nor network.

    Every mistake is shown at once, as FILE:LINE:COLUMN: key.path: what is wrong. Exit code 0 when all is well, else 2.
    What the daemon would wait for (a video file, a certificate) is a warning.

    Example: edge-classifierd check --config config.yaml
    """
    from edge_classifierd.errors import ConfigurationError
    from edge_classifierd.pipeline.missing_files import absent_files
    from edge_classifierd.pipeline.validation import UnpreparedError, prepare

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    summary: list[dict[str, object]] = []
    document: Document | None = None
    plans: tuple[Plan, ...] = ()
    try:
        document, plans = prepare(config)
    except UnpreparedError as error:
        document, problems = error.document, error.problems
    except ConfigurationError as error:
        problems = error.problems
    if document is not None:
        warnings = (*document.warnings, *absent_files(document))
    for plan in plans:
        watches = {rule.name: 0 if rule.indices is None else len(rule.indices) for rule in plan.rules}
        name = plan.section.name
        summary.append({"name": name, "model": str(plan.bundle.path), "watches": watches})
    if json:
        print_json(
            {
                "file": str(config),
                "ok": not problems,
                "problems": [_document(problem) for problem in problems],
                "warnings": [_document(problem) for problem in warnings],
                "pipelines": summary,
            }
        )
    else:
        _print(problems, warnings, summary, str(config))
    return ExitCode.USAGE if problems else ExitCode.OK


def _print(
    problems: tuple[Problem, ...], warnings: tuple[Problem, ...], summary: list[dict[str, object]], file: str
) -> None:
    for problem in problems:
        complain(str(problem))
    for problem in warnings:
        complain(f"warning: {problem}")
    if problems:
        count = len(problems)
        complain(f"{file}: {count} problem{'s' if count > 1 else ''}")
        return
    for pipeline in summary:
        watches = pipeline["watches"]
        assert isinstance(watches, dict)
        told = ", ".join(
            f"{name} ({f'{count} label' + 's' * (count > 1) if count else 'the top label'})"
            for name, count in watches.items()
        )
        typer.echo(f"{pipeline['name']}: {pipeline['model']}; watches {told}")
    typer.echo(f"{file}: ok")


def _document(problem: Problem) -> dict[str, object]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "key": problem.key,
        "message": problem.message,
    }
