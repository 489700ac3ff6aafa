"""`check`: validates the configuration, the models and the labels without hardware or network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, Json, LogLevel, reporting
from edge_classifierd.cli.streams import complain, print_json, show
from edge_classifierd.errors import ExitCode, counted, message_text

if TYPE_CHECKING:
    from edge_classifierd.errors import Problem
    from edge_classifierd.pipeline.planning.plan import Plan


@reporting
def command(config: Config = DEFAULT_CONFIG, *, json: Json = False, log_level: LogLevel = "warning") -> ExitCode:  # noqa: ARG001
    """Validate a configuration, its models, labels and watches.

    Needs neither hardware nor network; `doctor` tests cameras. Each CPU model is built in a child process.

    Prints every problem at once, as FILE:LINE:COLUMN: key.path: what is wrong. Exit code 0 without problems, 2 for
    mistakes in the file, 1 when the file is valid but a pipeline could not start now (a folder, a model or a video
    file is missing or damaged): the daemon would run the others and try that one again. A missing certificate is a
    warning, and so is a model that the daemon still has to fetch from its `url`.

    Example: edge-classifierd check --config config.yaml
    """
    from edge_classifierd.errors import ConfigurationError
    from edge_classifierd.pipeline.planning.missing_files import missing_certificates, missing_videos
    from edge_classifierd.pipeline.planning.plan import Plan
    from edge_classifierd.pipeline.planning.validation import examine, in_order, unusable_models

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    summary: list[dict[str, object]] = []
    try:
        document, found, problems = examine(config)
    except ConfigurationError as error:
        problems = error.problems
    else:
        warnings = (
            *document.warnings,
            *missing_certificates(document),
            *(one for one in problems if one.awaited),
        )
        problems = tuple(one for one in problems if not one.awaited)
        problems = in_order((*problems, *unusable_models(document, found), *missing_videos(document)))
        summary = [_summary(plan) for plan in found if isinstance(plan, Plan)]
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
    if not all(problem.temporary for problem in problems):
        return ExitCode.USAGE
    return ExitCode.FAILED if problems else ExitCode.OK


def _summary(plan: Plan) -> dict[str, object]:
    watches = {rule.name: 0 if rule.indices is None else len(rule.indices) for rule in plan.rules}
    return {"name": plan.section.name, "model": str(plan.bundle.path), "watches": watches}


def _print(
    problems: tuple[Problem, ...], warnings: tuple[Problem, ...], summary: list[dict[str, object]], file: str
) -> None:
    for problem in problems:
        complain(str(problem))
    for problem in warnings:
        complain(f"warning: {problem}")
    if problems:
        count, temporary = len(problems), all(one.temporary for one in problems)
        remark = "; the file is valid, the other pipelines would run" if temporary else ""
        if count > 1 or remark:
            complain(f"{file}: {counted(count, 'problem')}{remark}")
        return
    from edge_classifierd.model.bundle import model_title

    for pipeline in summary:
        watches = pipeline["watches"]
        assert isinstance(watches, dict)
        listed = ", ".join(
            f"{name} ({counted(count, 'label') if count else 'the best label'})" for name, count in watches.items()
        )
        title = model_title(Path(str(pipeline["model"])))
        show(message_text(f"{pipeline['name']}: {title}; watches {listed}"))
    show(f"{file}: ok")


def _document(problem: Problem) -> dict[str, object]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "key": problem.key,
        "message": problem.message,
        "temporary": problem.temporary,
    }
