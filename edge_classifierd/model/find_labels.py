"""Finds the labels of a model: in a given file, inside the model, or beside it; and with them the output they name."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import ModelError, counted
from edge_classifierd.model.archive import SET_LABELS, Archive
from edge_classifierd.model.label_documents import CODE
from edge_classifierd.model.label_files import LABEL_ENDINGS, align, parse_labels
from edge_classifierd.model.labels import Labels, make_labels
from edge_classifierd.model.model_file import model_title, read_regular_file
from edge_classifierd.model.tflite.metadata import read_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge_classifierd.model.tflite.metadata import LabelFile
    from edge_classifierd.model.tflite.score_output import ScoreOutput
    from edge_classifierd.model.tflite.signature import Signature

_TEXT_ENDINGS: Final = (".txt", ".csv")
_DESCRIPTIONS: Final = frozenset({"metadata.json", "metadata.yaml", "temp_meta.txt", "signature.json"})
_BESIDE: Final = ("labels.txt", "label.txt", "classes.txt", "class_names.txt", "names.txt", "dict.txt")
_WORDS: Final = ("class", "categor", "synset", "index_to_name", "id_to_name")
_MAX_ENTRIES: Final = 5_000
_MAX_BESIDE_BYTES: Final = 16_000_000


@dataclass(frozen=True, slots=True)
class FoundLabels:
    """The labels of a model."""

    labels: Labels
    output: ScoreOutput
    source: str
    """Where they are: `its own labels.txt`, or the path of a file."""
    beside: bool = False
    """Whether the file was found beside the model under a name that does not contain the model's."""


class _MisfitError(ModelError):
    """A file holds another number of labels than the model has outputs."""

    def __init__(self, sentence: str, count: int) -> None:
        super().__init__(sentence)
        self.count = count


def find_labels(
    path: Path,
    archive: Archive,
    signature: Signature,
    outputs: Sequence[ScoreOutput],
    *,
    given: Path | None = None,
    locale: str | None = None,
) -> FoundLabels:
    """Return the labels of one of `outputs`.

    They come from the file `given`, else from what the TensorFlow Lite metadata names, else from the exporter's
    metadata or a text file in the archive, else from a file beside the model: with the model's name, or `labels.txt`,
    `*labels*`, `metadata.json`, Lobe's `signature.json`, a YAML or pbtxt label map. `locale` ("de", "pt-BR") selects
    display names where the metadata contains them. Raises ModelError.
    """
    if given is not None:
        return _given(path, given, outputs)
    found = _from_metadata(archive, signature, outputs, locale) or _from_archive(archive, outputs)
    if found is not None:
        return found
    misfits: list[str] = []
    for group in _files_beside(path):
        fitting = list(_fitting(group, outputs, misfits))
        fitting = [one for one in fitting if path.stem in one.source.rpartition("/")[2]] or fitting
        if len({one.labels.names for one in fitting}) > 1:
            listed = ", ".join(f"`{Path(one.source).name}`" for one in fitting[:5])
            raise ModelError(f"{model_title(path)}: has several label files beside it ({listed}); {SET_LABELS}")
        if fitting:
            found = fitting[0]
            return dataclasses.replace(found, beside=path.stem not in Path(found.source).name)
    counts = _counts(outputs)
    misfit = misfits[0] if misfits else ""
    raise ModelError(f"{model_title(path)}: carries no labels for its {counts}{misfit}; {SET_LABELS}")


def _fitting(files: Sequence[Path], outputs: Sequence[ScoreOutput], misfits: list[str]) -> Iterator[FoundLabels]:
    """Yield the labels of the files that fit one of the outputs; add a note to `misfits` for each other label file."""
    for file in files:
        try:
            if not file.is_file() or file.stat().st_size > _MAX_BESIDE_BYTES:
                continue
            names, output = _fit(read_regular_file(file, "a label file"), str(file), str(file), outputs)
        except _MisfitError as error:
            misfits.append(f", and `{file.name}` beside it holds {error.count:,}")
        except (OSError, ModelError):
            continue  # a file of another purpose
        else:
            yield FoundLabels(make_labels(names), output, str(file))


def choose_output(outputs: Sequence[ScoreOutput], wanted: int | str | None) -> tuple[ScoreOutput, ...]:
    """Return the output with that position or name, or all that can be scores. Raises ModelError."""
    if wanted is None:
        return tuple(outputs)
    chosen = tuple(one for one in outputs if wanted == one.position or wanted in one.names)
    if chosen:
        return chosen
    raise ModelError(f"has no output `{wanted}` of scores; `model.output` can be {_listed(outputs)}")


def _given(path: Path, file: Path, outputs: Sequence[ScoreOutput]) -> FoundLabels:
    content = read_regular_file(file, "a label file")
    try:
        names, output = _fit(content, str(file), str(file), outputs)
    except ModelError as error:
        sentence = str(error)
        raise ModelError(sentence if sentence.startswith(str(file)) else f"{model_title(path)}: {sentence}") from error
    return FoundLabels(make_labels(names), output, str(file))


def _fit(
    content: bytes, described: str, file: str, outputs: Sequence[ScoreOutput]
) -> tuple[tuple[str, ...], ScoreOutput]:
    """Return the labels and the output that they fit. Raises ModelError when they fit none, or several alike."""
    fitting: list[tuple[tuple[str, ...], ScoreOutput]] = []
    parsed: tuple[str, ...] = ()
    for output in outputs:
        for count in output.label_counts:
            parsed = parse_labels(content, file, count)
            aligned = align(parsed, count)
            if aligned is not None:
                fitting.append((aligned, output))
                break
    if len(fitting) > 1:
        fitting = [one for one in fitting if one[1].kind != "logits"] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ModelError(
            f"has several outputs of {len(fitting[0][0]):,} scores; set `model.output` (--output on the command line) "
            f"to {_listed([output for _, output in fitting])}"
        )
    raise _MisfitError(
        f"has {_counts(outputs)} but {described} holds {counted(len(parsed), 'label')}; "
        "set `model.labels` to the list that belongs to this model",
        len(parsed),
    )


def _counts(outputs: Sequence[ScoreOutput]) -> str:
    if len(outputs) == 1:
        return counted(outputs[0].classes, "output")
    return " or ".join(f"{output.classes:,}" for output in outputs) + " outputs"


def _listed(outputs: Sequence[ScoreOutput]) -> str:
    return " or ".join(f"{one.position} (`{one.names[-1]}`, {one.classes:,} scores)" for one in outputs)


def _from_metadata(
    archive: Archive, signature: Signature, outputs: Sequence[ScoreOutput], locale: str | None
) -> FoundLabels | None:
    for output in outputs:
        files = read_metadata(signature.metadata, output.position).label_files
        if not files:
            continue
        names_file = _for_locale(files, "") or _for_locale(files, "en") or files[0]
        read = _reader(archive, output)
        names = read(names_file.name)
        display_file = _for_locale(files, locale) if locale else None
        if display_file is None and locale is None and all(CODE.fullmatch(name) for name in names[:20]):
            others = [file for file in files if file.locale]
            display_file = _for_locale(others, _user_locale()) or _for_locale(others, "en") or next(iter(others), None)
        display = read(display_file.name) if display_file is not None else None
        return FoundLabels(make_labels(names, display), output, f"its own `{names_file.name}`")
    return None


def _reader(archive: Archive, output: ScoreOutput) -> Callable[[str], tuple[str, ...]]:
    return lambda name: _fit(archive.read(name), f"its own `{name}`", name, [output])[0]


def _from_archive(archive: Archive, outputs: Sequence[ScoreOutput]) -> FoundLabels | None:
    for name in archive.names:
        if name in _DESCRIPTIONS:
            try:
                names, output = _fit(archive.read(name), f"its own `{name}`", _as_document(name), outputs)
            except ModelError:
                continue
            return FoundLabels(make_labels(names), output, f"its own `{name}`")
    texts = [name for name in archive.names if name.lower().endswith(LABEL_ENDINGS) and name not in _DESCRIPTIONS]
    candidates = [name for name in texts if "label" in name.lower()]
    candidates = candidates or [name for name in texts if name.lower().endswith(_TEXT_ENDINGS)]
    if not candidates:
        return None
    if len(candidates) > 1:
        listed = ", ".join(f"`{name}`" for name in candidates[:5])
        raise ModelError(f"carries several text files ({listed}) and does not say which holds its labels; {SET_LABELS}")
    names, output = _fit(archive.read(candidates[0]), f"its own `{candidates[0]}`", candidates[0], outputs)
    return FoundLabels(make_labels(names), output, f"its own `{candidates[0]}`")


def _as_document(name: str) -> str:
    """Return a name with which the label reader takes the file for a document."""
    return name if name.endswith((".json", ".yaml")) else f"{name}.yaml"


def _files_beside(path: Path) -> list[list[Path]]:
    """Return the files beside a model that may hold its labels, in groups, the likeliest first."""
    own = [path.with_suffix(ending).name for ending in LABEL_ENDINGS]
    try:
        with os.scandir(path.parent) as entries:
            present = sorted(entry.name for entry, _ in zip(entries, range(_MAX_ENTRIES), strict=False))
    except OSError:
        present = [*own, *_BESIDE]
    lower = {name: name.lower() for name in present}
    texts = {name: low for name, low in lower.items() if low.endswith(LABEL_ENDINGS)}
    groups = (
        [name for name in own if name in lower],
        [name for name in _BESIDE if name in lower],
        [name for name, low in texts.items() if "label" in low],
        [name for name in sorted(_DESCRIPTIONS) if name in lower],
        [name for name, low in texts.items() if any(word in low for word in _WORDS)],
        [name for name, low in lower.items() if low.endswith((".pbtxt", ".yaml", ".yml"))],
    )
    return [[path.with_name(name) for name in group] for group in groups]


def _user_locale() -> str:
    """Return the language of the user's environment, empty when it has none."""
    variables = (os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    chosen = next((value for value in variables if value), "")
    return "" if chosen.startswith(("C", "POSIX")) else chosen


def _for_locale(files: Sequence[LabelFile], locale: str) -> LabelFile | None:
    """Return the file of exactly that locale, else of its language: `de` for "de-AT"."""
    wanted = _normal_locale(locale)
    exact = next((file for file in files if _normal_locale(file.locale) == wanted), None)
    if exact or not wanted:
        return exact
    language = wanted.split("-", 1)[0]
    return next((file for file in files if _normal_locale(file.locale).split("-", 1)[0] == language), None)


def _normal_locale(locale: str) -> str:
    """Return `de-de` for both `de_DE.UTF-8` and "de-DE"."""
    return locale.split(".", 1)[0].replace("_", "-").casefold()
