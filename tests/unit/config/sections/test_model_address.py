"""The keys `model.url` and `model.sha256`."""

from pathlib import Path

import pytest
from config_files import loaded, pipeline_with, sentences

SHA = "3f2a91c4" * 8


def model(url: str, rest: str = f', sha256: "{SHA}"') -> str:
    return pipeline_with(f'model: {{url: "{url}"{rest}}}')


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example.org/birds.tflite?token=a%20b",
        "https://[2001:db8::1]:8443/birds.tflite",
        "http://localhost:8000/birds.tflite",
        "http://127.0.0.1/birds.tflite",
        "http://[::1]:8000/birds.tflite",
    ],
)
def test_https_and_this_machine_are_accepted(tmp_path: Path, url: str) -> None:
    section = loaded(tmp_path, model(url, f', sha256: "{SHA.upper()}"')).configuration.pipelines[0].model
    assert (section.url, section.sha256) == (url, SHA)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (model("http://nas.local/birds.tflite"), "model.url: must begin with https://, because others could read"),
        (model("ftp://nas.local/birds.tflite"), "model.url: must be an address that begins with https://"),
        (model("birds.tflite"), "model.url: must be an address that begins with https://"),
        (model("https:///birds.tflite"), "model.url: must be an address that begins with https://"),
        (model("https://a.example:port/birds.tflite"), "model.url: is not an address"),
        (model("https://[::1/birds.tflite"), "model.url: is not an address"),
        (model("https://u:hush-hush@a.example/b.tflite"), "model.url: must have no account"),
        (model("https://a.example/two words"), "model.url: must have no spaces"),
        (model("https://a.example/bl\\xE4"), "model.url: must have no spaces and only ASCII"),
        (model("https://a.example/b", ""), "model.sha256: is missing: `url` needs it, to verify the file"),
        (model("https://a.example/b", ", sha256: 3f2a91c4"), "model.sha256: must be a SHA-256 in quotes: 64"),
        (pipeline_with(f'model: {{sha256: "{SHA}"}}'), "model.sha256: needs `url`"),
        (model("https://a.example/b", f', sha256: "{SHA}", path: c'), "chooses a model, but `path` names another one"),
        (model("https://a.example/b", f', sha256: "{SHA}", taught: c'), "but `taught` names another one"),
        (model("https://a.example/b", f', sha256: "{SHA}", bundled: fast'), "bundled model, but `url` names a file"),
    ],
)
def test_mistakes_are_one_sentence_without_the_secrets_of_an_address(tmp_path: Path, text: str, message: str) -> None:
    (sentence,) = sentences(tmp_path, text)
    assert message in sentence
    assert "hush" not in sentence
