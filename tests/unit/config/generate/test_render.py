import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from config_files import MINIMAL, written

from edge_classifierd.config.generate.example import render_example
from edge_classifierd.config.generate.json_schema import render_schema
from edge_classifierd.config.generate.reference import render_reference
from edge_classifierd.config.generate.render import DOCUMENTS, outdated
from edge_classifierd.config.loading.load import load
from edge_classifierd.config.sections.base import Section
from edge_classifierd.config.sections.configuration import Configuration
from edge_classifierd.config.sections.key_paths import sections_of


def _every_section() -> set[type[Section]]:
    found: set[type[Section]] = set()
    waiting: list[type[Section]] = [Configuration]
    while waiting:
        section = waiting.pop()
        found.add(section)
        waiting += [inner for field in section.model_fields.values() for inner in sections_of(field.annotation)]
    return found


def test_the_files_in_the_repository_are_what_the_sections_say(repository: Path) -> None:
    assert outdated(repository) == [], "run python -m edge_classifierd.config.generate.render"


def test_drift_is_noticed_and_named(tmp_path: Path) -> None:
    assert outdated(tmp_path) == list(DOCUMENTS)
    for name, render in DOCUMENTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(render())
    assert outdated(tmp_path) == []
    (tmp_path / "docs/configuration.md").write_text("old")
    assert outdated(tmp_path) == ["docs/configuration.md"]


def test_the_command_checks_without_writing(repository: Path) -> None:
    command = [sys.executable, "-m", "edge_classifierd.config.generate.render"]
    result = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False, cwd=repository)
    assert (result.returncode, result.stdout) == (0, "")
    assert subprocess.run([*command, "--chek"], capture_output=True, check=False, cwd=repository).returncode == 2


def test_the_example_loads(tmp_path: Path) -> None:
    configuration = load(written(tmp_path, render_example())).configuration
    assert [pipeline.name for pipeline in configuration.pipelines] == ["driveway", "garden"]
    assert configuration.pipelines[0].watches[0].labels == ("*terrier*", "Labrador retriever", "151-268")


def test_the_example_loads_with_every_key_uncommented_and_shows_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in ("mqtt_password", "web_password", "metrics_token"):
        (tmp_path / name).write_text("a long secret")
    text = render_example()
    one_source = re.sub(r"(?m)^    # Instead: .*\n(    #.*\n)*", "", text)
    one_source = re.sub(r"(?m)^ *# bundled: .*\n", "", one_source)  # `path` is in its place
    uncommented = re.sub(r"(?m)^( *)# ([a-z_]+:.*)$", r"\1\2", one_source)
    configuration = load(written(tmp_path, uncommented)).configuration
    set_keys = configuration.pipelines[0].model_fields_set
    assert set_keys == set(type(configuration.pipelines[0]).model_fields)
    assert configuration.mqtt.model_fields_set == set(type(configuration.mqtt).model_fields)
    for section in _every_section():
        for key in section.model_fields:
            assert re.search(rf"(?m)^ *(# +)*(- )?{key}:", text), key


@pytest.mark.parametrize("kind", ["stream", "folder"])
def test_the_other_sources_of_the_example_load_when_they_take_the_place_of_the_first(tmp_path: Path, kind: str) -> None:
    block = re.search(rf"(?m)^    # source:\n    #   type: {kind}\n(    #   .*\n)*", render_example())
    assert block
    source = re.sub(r"(?m)^    # ", "    ", block[0])
    made = load(written(tmp_path, f"pipelines:\n  - name: a\n{source}")).configuration.pipelines[0].source
    assert made.type == kind
    assert made.model_fields_set | {"rotation", "mirror", "stall_timeout"} >= set(type(made).model_fields)


def test_the_reference_names_every_key_of_every_section() -> None:
    page = render_reference()
    for section in _every_section():
        for key, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{key} needs a description"
            assert f"| `{key}` |" in page
    assert "None" not in page
    assert "Undefined" not in page


def test_the_reference_allows_null_only_where_it_loads() -> None:
    page = render_reference()
    assert "| `tls` | [`mqtt.tls`](#mqtttls) | plain |" in page
    assert "| `ca_file` | a path, or null |" in page


def test_links_of_the_reference_lead_to_its_headings() -> None:
    page = render_reference()
    headings = re.findall(r"(?m)^#+ (.*)$", page)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= anchors
    assert len(anchors) == len(headings)


def test_the_yaml_in_the_reference_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"(?s)```yaml\n(.*?)```", render_reference())
    assert load(written(tmp_path, block)).configuration.pipelines[0].watches[0].confirm == 3


_GOOD = [
    MINIMAL,
    MINIMAL + "outbox:\nmqtt: {tls: {}, password: x, username: y, protocol: 3.1.1, keepalive: 5}\ndevice: ~\n",
    MINIMAL + "    watches:\n    region: {x: 0.5}\n    model: {locale: de}\n",
    "pipelines: [{name: a, source: {type: v4l2, fps: null, stall_timeout: 5m}, watches: []}]",
    "pipelines: [{name: a, source: {type: v4l2}, watches: [{name: b, labels: [1, '2-3'], release: ~}]}]",
    "pipelines: [{name: a, source: {type: folder, path: x, fps: 0, loop: 'on'}}]",
    MINIMAL + "    snapshot: {enabled: 'Yes'}\n    collect: {enabled: 'OFF'}\n",
]
_BAD = [
    "pipelines: []",
    "{}",
    MINIMAL + "foo: 5\n",
    MINIMAL + "mqtt: {port: '5'}\n",
    MINIMAL + "mqtt: {tls: ~}\n",
    MINIMAL + "mqtt: {tls: 5}\n",
    MINIMAL + "    snapshot: {enabled: 'yess'}\n",
    MINIMAL + "    snapshot: {enabled: 'True'}\n",
    "pipelines: [{name: a, source: {type: v4l2, device: ''}}]",
    MINIMAL + "    fit: none\n",
    MINIMAL + "    watches: [{name: a, labels: []}]\n",
    MINIMAL + "    watches: [{name: a, labels: [b], cooldown: 5 minutes}]\n",
    "pipelines: [{name: A b, source: {type: v4l2}}]",
    "pipelines: [{name: a, source: {type: v4l2, path: x}}]",
    "pipelines: [{name: a, source: {type: camera}}]",
]


@pytest.mark.parametrize("text", [*_GOOD, render_example()])
def test_the_schema_accepts_what_loads(tmp_path: Path, text: str) -> None:
    load(written(tmp_path, text))
    jsonschema.validate(yaml.safe_load(text), json.loads(render_schema()), jsonschema.Draft202012Validator)


@pytest.mark.parametrize("text", _BAD)
def test_the_schema_refuses_what_does_not_load(tmp_path: Path, text: str) -> None:
    with pytest.raises(Exception, match=r"config\.yaml"):
        load(written(tmp_path, text))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), json.loads(render_schema()), jsonschema.Draft202012Validator)


def test_the_schema_is_a_schema_and_says_nothing_of_this_machine() -> None:
    schema = json.loads(render_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "default" not in schema["$defs"]["ModelSection"]["properties"]["threads"]
    assert schema["$defs"]["MqttSection"]["properties"]["password"]["anyOf"][0]["type"] == "string"
