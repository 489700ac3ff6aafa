"""Generates the JSON Schema (draft 2020-12) of the configuration, for editors."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from edge_classifierd.config.sections.configuration import Configuration


def render_schema() -> str:
    """Return the schema as JSON. A tagged value (`!env NAME`) is text, as editors treat it."""
    schema = TypeAdapter(Configuration).json_schema(schema_generator=_Draft)
    schema = {
        "$schema": GenerateJsonSchema.schema_dialect,
        **schema,
        "title": "edge-classifierd configuration",
        "description": "See docs/configuration.md.",
    }
    for section in (schema, *schema["$defs"].values()):
        required = section.get("required", [])
        for name, field in section.get("properties", {}).items():
            field.pop("title", None)
            if name not in required:
                section["properties"][name] = _nullable(field)
        section.pop("title", None)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


class _Draft(GenerateJsonSchema):
    """Leaves out defaults that are computed at run time."""

    def default_schema(self, schema: Any) -> Any:  # noqa: ANN401 - pydantic's own type is a union of forty types
        result = super().default_schema(schema)
        if result.get("default", ...) is None and not _accepts_null(result):
            result.pop("default")
        return result


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    """Allow null for sections and lists, which may be empty, and for keys with a computed default."""
    empty = "$ref" in field or field.get("type") == "array" or field.get("default", ...) is ...
    if not empty or _accepts_null(field) or field.get("not") == {"type": "null"}:
        return field
    said = {"description", "default"}
    kept = {key: value for key, value in field.items() if key in said}
    rest = {key: value for key, value in field.items() if key not in said}
    return {"anyOf": [rest, {"type": "null"}], **kept}


def _accepts_null(field: Any) -> bool:  # noqa: ANN401
    return {"type": "null"} in field.get("anyOf", [])
