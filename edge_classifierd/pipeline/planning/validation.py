"""Validates a configuration with its models and labels, without hardware or network, and plans its pipelines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from edge_classifierd.config.loading.load import MAX_PROBLEMS, FaultyFileError, and_more, load
from edge_classifierd.config.sections.paths import state_directory
from edge_classifierd.config.sections.sources import FolderSection
from edge_classifierd.errors import ConfigurationError, ModelError, SourceError
from edge_classifierd.frames.folder import images_in
from edge_classifierd.inference.edgetpu.cpu_fallback import check_cpu_model
from edge_classifierd.inference.runtime import edgetpu_sentence
from edge_classifierd.inference.trial import try_model
from edge_classifierd.model.bundle import bundled_model_path, load_bundle, read_regular_file
from edge_classifierd.model.options import ModelOptions
from edge_classifierd.model.store import NotFetchedError, RemoteModel, fetched_file
from edge_classifierd.model.taught import taught_in_use
from edge_classifierd.pipeline.planning.fetched_models import as_remote, remote_model, with_other_model
from edge_classifierd.pipeline.planning.label_selection import LabelSelection, PlanMistake
from edge_classifierd.pipeline.planning.plan import BlockedPlan, Plan
from edge_classifierd.pipeline.planning.taught_models import taught_bundle, without_foreign_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from edge_classifierd.config.loading.load import Document
    from edge_classifierd.config.sections.model import ModelSection
    from edge_classifierd.config.sections.pipeline import PipelineSection
    from edge_classifierd.config.sections.sources import Source
    from edge_classifierd.errors import Problem
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.model.taught import TaughtInUse
    from edge_classifierd.pipeline.planning.fetched_models import OtherModel
    from edge_classifierd.pipeline.planning.plan import AnyPlan

    _Loaded = dict[tuple[Path, Path | None, str | None, ModelOptions], ModelBundle | ModelError]


def prepare(config: Path) -> tuple[Document, tuple[Plan, ...]]:
    """Return the configuration file and the plans of its pipelines.

    Raises ConfigurationError with every problem at once: mistakes in the file, and models and folders that cannot be
    used now.
    """
    document, plans, problems = examine(config)
    if problems:
        raise ConfigurationError(problems)
    return document, _complete(plans)


def plan_pipelines(config: Path) -> tuple[Document, tuple[AnyPlan, ...]]:
    """Return the configuration file and the plan of each pipeline, a BlockedPlan if its model cannot be used now.

    Folders are not checked. Raises ConfigurationError with every problem when the file has mistakes.
    """
    document, plans, problems = examine(config, sources=False)
    if not all(problem.temporary for problem in problems):
        raise ConfigurationError(problems)
    return document, plans


def preflight(document: Document) -> tuple[Plan, ...]:
    """Return the plans of all pipelines. Raises ConfigurationError with the problems of models, labels and folders."""
    plans, mistakes = _plan_all(document, sources=True)
    if mistakes:
        raise ConfigurationError(_listed(document, mistakes))
    return _complete(plans)


def examine(config: Path, *, sources: bool = True) -> tuple[Document, tuple[AnyPlan, ...], tuple[Problem, ...]]:
    """Return the file, the plans of the pipelines without mistakes, and every problem in the file's order.

    Raises ConfigurationError for a file that cannot be read at all.
    """
    found: tuple[Problem, ...] = ()
    more = 0
    try:
        document = load(config)
    except FaultyFileError as error:
        document, found, more = error.rest, error.found, error.more
    plans, mistakes = _plan_all(document, sources=sources)
    return document, plans, _listed(document, [*map(PlanMistake, found), *mistakes], more)


def unusable_models(document: Document, plans: Iterable[AnyPlan]) -> Iterator[Problem]:
    """Load each CPU model in a child process and yield a problem for each key whose model fails."""
    keys = {section.name: key for key, section in document.pipelines}
    tried: dict[Path, str | None] = {}
    for plan in _complete(plans):
        for name, bundle in ((_key_of_file(plan.section.model), plan.bundle), ("cpu_model", plan.cpu_bundle)):
            if bundle is None or bundle.edgetpu_compiled:
                continue
            if bundle.path not in tried:
                tried[bundle.path] = _trial_failure(bundle)
            reason = tried[bundle.path]
            if reason is not None:
                yield document.problem(f"{keys[plan.section.name]}.model.{name}", reason, temporary=True)


def _trial_failure(bundle: ModelBundle) -> str | None:
    try:
        try_model(bundle)
    except ModelError as error:
        return str(error)
    return None


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort problems by their place in the file; those without a place come last."""
    return tuple(sorted(problems, key=_place))


def _complete(plans: Iterable[AnyPlan]) -> tuple[Plan, ...]:
    return tuple(plan for plan in plans if isinstance(plan, Plan))


def _plan_all(document: Document, *, sources: bool) -> tuple[tuple[AnyPlan, ...], list[PlanMistake]]:
    mistakes: list[PlanMistake] = []
    bundles: _Loaded = {}
    plans = []
    if sources:
        named = {document.source_key(key, section): section.source for key, section in document.pipelines}
        for key, source in named.items():
            mistakes += map(PlanMistake, _source_problems(document, source, key))
    for key, section in document.pipelines:
        plan, found = _plan_one(document, key, section, bundles, None)
        mistakes += found
        if plan is not None:
            plans.append(plan)
    return tuple(plans), mistakes


def _plan_one(
    document: Document, key: str, section: PipelineSection, bundles: _Loaded, other: OtherModel | None
) -> tuple[AnyPlan | None, list[PlanMistake]]:
    """Return the plan of one pipeline (None when the file has a mistake there) and its mistakes."""
    again = partial(_plan_again, document, key, section, other)
    section = with_other_model(section, other)
    models = _Models(document, section.model, bundles, f"{key}.model")
    mistakes = [*map(PlanMistake, models.problems)]
    plan: AnyPlan | None = None
    if models.bundle is not None:
        watches = section.watches
        if other is not None:
            section = without_foreign_labels(section, models.bundle.labels)
        selection = LabelSelection(document, section, models.bundle, models.cpu_bundle, key, taught=models.taught)
        plan = selection.plan(again)
        mistakes += selection.mistakes
        if isinstance(other, RemoteModel) and watches and not section.watches:
            unsuited = f"{other.title} has the labels of none of the watches"
            mistakes.append(PlanMistake(document.problem(f"{key}.watches", unsuited)))
    if section.model.url is not None:  # the file at the address is not part of the configuration
        mistakes = [replace(one, problem=replace(one.problem, temporary=True)) for one in mistakes]
    reason = next((one.problem.message + one.remedy() for one in mistakes if one.problem.temporary), None)
    if reason is not None and all(mistake.problem.temporary for mistake in mistakes):
        plan = BlockedPlan(section, reason, again)
    return plan, mistakes


def plan_with_models(document: Document, plans: Iterable[AnyPlan], models: Mapping[str, str]) -> tuple[AnyPlan, ...]:
    """Return the plans, those of pipelines in `models` with the taught model that is commanded for them.

    A pipeline whose commanded model cannot be used has a BlockedPlan.
    """
    return tuple(
        plan if (name := plan.section.name) not in models else plan_one_pipeline(document, name, models[name])
        for plan in plans
    )


def plan_one_pipeline(document: Document, name: str, other: OtherModel | None) -> AnyPlan:
    """Return the plan of one pipeline from its files as they are now.

    Args:
        document: The configuration.
        name: The pipeline, one of the configuration.
        other: The model in place of the configured one, which is used with None.
    """
    key, section = next((key, section) for key, section in document.pipelines if section.name == name)
    return _plan_again(document, key, section, other)


def _plan_again(document: Document, key: str, section: PipelineSection, other: OtherModel | None) -> AnyPlan:
    """Make the plan of one pipeline from its files as they are now."""
    plan, mistakes = _plan_one(document, key, section, {}, other)
    if plan is not None and not (mistakes and isinstance(plan, Plan)):
        return plan
    reason = mistakes[0].problem.message + mistakes[0].remedy()
    again = partial(_plan_again, document, key, section, other)
    return BlockedPlan(with_other_model(section, other), reason, again)


def _listed(document: Document, mistakes: list[PlanMistake], more: int = 0) -> tuple[Problem, ...]:
    """Return the first `MAX_PROBLEMS` in the file's order; the others and the `more` found before are only counted."""
    temporary = not more and all(mistake.problem.temporary for mistake in mistakes)
    first = sorted(mistakes, key=lambda mistake: _place(mistake.problem))[:MAX_PROBLEMS]
    listed = [replace(one.problem, message=one.problem.message + one.remedy()) for one in first]
    more += len(mistakes) - len(first)
    return (*listed, replace(and_more(document.file, more), temporary=temporary)) if more else tuple(listed)


def _place(problem: Problem) -> tuple[bool, int, int]:
    """Return a sort key: the order in the file; problems without a place come last."""
    return (problem.line == 0, problem.line, problem.column)


def _source_problems(document: Document, source: Source, key: str) -> Iterator[Problem]:
    if isinstance(source, FolderSection):
        folder = source.path
        try:
            if not images_in(folder, recursive=source.recursive) and not source.watch:
                below = "" if source.recursive else " (set `recursive: true` to look into the folders below)"
                message = f"{folder}: holds no pictures{below}; put some there"
                yield document.problem(f"{key}.path", message, temporary=True)
        except SourceError as error:
            if not (source.watch and not folder.exists()):
                yield document.problem(f"{key}.path", str(error), temporary=True)


def model_path(model: ModelSection) -> Path:
    """Return the path of the file that the section `model` chooses.

    Raises ModelError for a taught model without a version in use, and for a model that is not fetched yet.
    """
    if model.taught is not None:
        return taught_in_use(state_directory(), model.taught).file
    if (remote := remote_model(model)) is not None:
        return fetched_file(state_directory(), remote)
    return model.path or bundled_model_path(model.bundled)


def model_options(model: ModelSection) -> ModelOptions:
    """Return the options of the section `model`."""
    given = model.input
    return ModelOptions(given.mean, given.std, given.channels, given.size, model.output)


def _bundle(model: ModelSection, loaded: _Loaded) -> ModelBundle | ModelError:
    """Return the model or its error. Each file is read once; an error is reported at every key that names the file."""
    try:
        wanted = (model_path(model), model.labels, model.locale, model_options(model))
        if wanted not in loaded:
            try:
                loaded[wanted] = load_bundle(*wanted)
            except ModelError as error:
                loaded[wanted] = error
        found, remote = loaded[wanted], remote_model(model)
        return found if remote is None or isinstance(found, ModelError) else as_remote(found, remote)
    except NotFetchedError as error:
        return error


def _key_of_file(model: ModelSection) -> str:
    """Return the key that chooses the model's file."""
    return next((key for key in ("taught", "url") if getattr(model, key) is not None), "path")


def _taught(name: str) -> tuple[TaughtInUse | None, ModelBundle | ModelError]:
    try:
        in_use = taught_in_use(state_directory(), name)
        return in_use, taught_bundle(in_use)
    except ModelError as error:
        return None, error


class _Models:
    """Loads the models of one pipeline and collects their problems; an error of one does not hide one of the other."""

    def __init__(self, document: Document, model: ModelSection, loaded: _Loaded, key: str) -> None:
        self.problems: list[Problem] = []
        self.cpu_bundle: ModelBundle | None = None
        self._document = document
        self._model = model
        self._key = key
        self.taught: TaughtInUse | None = None
        if model.taught is not None:
            self.taught, found = _taught(model.taught)
            self.bundle = self._usable("taught", found)
            return
        self._file_key = _key_of_file(model)
        self.bundle = self._usable(self._file_key, _bundle(model, loaded))
        if model.cpu_model is not None:
            for_cpu = model.model_copy(update={"path": model.cpu_model, "url": None, "sha256": None})
            cpu_bundle = _bundle(for_cpu, loaded)
            if self.bundle is not None or not self._is_about_labels(cpu_bundle):
                self.cpu_bundle = self._usable("cpu_model", cpu_bundle)
        if self.bundle is not None and (model.cpu_model is None or self.cpu_bundle is not None):
            self._check_accelerator(self.bundle, self.cpu_bundle)

    def _usable(self, name: str, found: ModelBundle | ModelError) -> ModelBundle | None:
        if not isinstance(found, ModelError):
            return found
        about_labels = name in {"path", "url"} and self._is_about_labels(found)
        self._add("labels" if about_labels else name, found, temporary=True)
        if name in {"path", "url"} and self._model.labels is not None and not about_labels:
            try:
                read_regular_file(self._model.labels, "a label file")
            except ModelError as error:
                self._add("labels", error, temporary=True)
        return None

    def _is_about_labels(self, found: ModelBundle | ModelError) -> bool:
        labels = self._model.labels
        return isinstance(found, ModelError) and labels is not None and str(labels) in str(found)

    def _check_accelerator(self, bundle: ModelBundle, cpu_bundle: ModelBundle | None) -> None:
        """Check that device, model and CPU model fit together, as far as this is possible without hardware."""
        if self._model.device == "cpu" and cpu_bundle is None and bundle.edgetpu_compiled:
            self._add(self._file_key, edgetpu_sentence(bundle.path))
        try:
            if self._model.device not in {"auto", "cpu"}:
                from edge_classifierd.inference.edgetpu.delegate import check_compiled  # noqa: PLC0415 - imports the child process

                check_compiled(bundle)
        except ModelError as error:
            self._add("device", error)
        try:
            if cpu_bundle is not None:
                check_cpu_model(bundle, cpu_bundle)
        except ModelError as error:
            self._add("cpu_model", error)

    def _add(self, name: str, what: ModelError | str, *, temporary: bool = False) -> None:
        awaited = isinstance(what, NotFetchedError)
        key = f"{self._key}.{name}"
        self.problems.append(self._document.problem(key, str(what), temporary=temporary, awaited=awaited))
