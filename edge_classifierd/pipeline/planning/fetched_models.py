"""Pipelines with a model from an address: its bundle, and sections changed to another model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from edge_classifierd.model.store import NotFetchedError, RemoteModel
from edge_classifierd.pipeline.planning.taught_models import effective_section

if TYPE_CHECKING:
    from edge_classifierd.config.sections.model import ModelSection
    from edge_classifierd.config.sections.pipeline import PipelineSection
    from edge_classifierd.model.bundle import ModelBundle

OtherModel = str | RemoteModel
"""A model in place of the configured one: a taught model by name, or one from an address that ran before."""


def remote_model(model: ModelSection) -> RemoteModel | None:
    """Return the model that `url` and `sha256` choose; None without them."""
    if model.url is None or model.sha256 is None:
        return None
    return RemoteModel(model.url, model.sha256)


def as_remote(bundle: ModelBundle, remote: RemoteModel) -> ModelBundle:
    """Return the bundle with the name of its address. Raises NotFetchedError for a damaged file."""
    if bundle.sha256 != remote.sha256:
        raise NotFetchedError(f"{bundle.path}: is damaged; the daemon fetches it again")
    return dataclasses.replace(bundle, name=remote.name)


def with_other_model(section: PipelineSection, other: OtherModel | None) -> PipelineSection:
    """Return the section of a pipeline as it is used, with another model if one is given."""
    if other is None or isinstance(other, str):
        return effective_section(section, other)
    model = section.model.model_copy(update={"url": other.url, "sha256": other.sha256})
    return section.model_copy(update={"model": model})
