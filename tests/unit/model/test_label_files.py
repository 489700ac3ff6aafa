"""Label files as they come: plain, numbered, CSV, in every encoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.errors import ModelError
from edge_classifierd.model.label_files import align, parse_labels

THREE = ("cat", "dog", "hot dog")


@pytest.mark.parametrize(
    "content",
    [
        b"cat\ndog\nhot dog\n",
        b"cat\r\ndog\r\nhot dog",
        b"cat\rdog\rhot dog\r",
        b"\xef\xbb\xbfcat\n dog \n\thot dog\n\n\n",
        b"cat\n\ndog\n\nhot dog\n",
        "cat\ndog\nhot dog\n".encode("utf-16"),
        b"0 cat\n1 dog\n2 hot dog\n",
        b"0  cat\n1  dog\n2  hot dog",
        b"0: cat\n1: dog\n2: hot dog\n",
        b"0:cat\n1:dog\n2:hot dog\n",
        b"0\tcat\n1\tdog\n2\thot dog\n",
        b"0 = cat\n1 = dog\n2 = hot dog\n",
        b"2 hot dog\n0 cat\n1 dog\n",
        b"1 cat\n2 dog\n3 hot dog\n",
        b"000 cat\n001 dog\n002 hot dog\n",
    ],
)
def test_text_file_in_any_shape_gives_the_same_labels(content: bytes) -> None:
    assert parse_labels(content, "labels.txt", 3) == THREE


@pytest.mark.parametrize(
    "content",
    [
        b"index,label\n0,cat\n1,dog\n2,hot dog\n",
        b"\xef\xbb\xbfclass_index,label\r\n2,hot dog\r\n0,cat\r\n1,dog\r\n",
        b"id,name\n0,cat\n1,dog\n2,hot dog\n",
        b"Label,Class ID\ncat,0\ndog,1\nhot dog,2\n",
        b"file,class_index,label\na.jpg,0,cat\nb.jpg,1,dog\nc.jpg,0,cat\nd.jpg,2,hot dog\n",
        b"0,cat\n1,dog\n2,hot dog\n",
        b"label\ncat\ndog\nhot dog\n",
        b"cat\ndog\nhot dog\n",
        b'index,label\n\n0,"cat"\n1,dog\n2,hot dog\n\n',
    ],
)
def test_table_in_any_shape_gives_the_same_labels(content: bytes) -> None:
    assert parse_labels(content, "labels.CSV", 3) == THREE


def test_label_with_commas_stays_whole() -> None:
    assert parse_labels(b"tench, Tinca tinca\ngoldfish", "l.txt", 2)[0] == "tench, Tinca tinca"
    assert parse_labels(b'index,label\n0,"tench, Tinca tinca"\n', "l.csv", 1) == ("tench, Tinca tinca",)


@pytest.mark.parametrize(
    "lines",
    [
        ("2 of hearts", "3 of hearts", "4 of hearts"),
        ("5 euro", "10 euro", "20 euro"),
        ("2012 Tesla", "2012 Audi", "2009 BMW"),
        ("0 marks", "1 mark", "many marks"),
        ("10", "20", "30"),
    ],
)
def test_labels_that_start_with_numbers_are_labels(lines: tuple[str, ...]) -> None:
    assert parse_labels("\n".join(lines).encode(), "labels.txt", 3) == lines


def test_numbered_file_with_gaps_keeps_every_label_at_its_index() -> None:
    assert parse_labels(b"0: cat\n3: dog\n", "labels.txt", 4) == ("cat", "class 1", "class 2", "dog")


def test_numbered_from_one_leaves_zero_to_the_background() -> None:
    assert parse_labels(b"1: cat\n2: dog\n", "labels.txt", 3) == ("background", "cat", "dog")


def test_blank_line_holds_a_place_where_the_count_needs_it() -> None:
    assert parse_labels(b"cat\n\ndog\n", "labels.txt", 3) == ("cat", "class 1", "dog")


@pytest.mark.parametrize(
    ("content", "file", "sentence"),
    [
        (b"", "l.txt", "contains no label"),
        (b"\n \n", "l.txt", "contains no label"),
        (b"", "l.csv", "contains no label"),
        ("Käse\n".encode("latin-1"), "l.txt", r"is not UTF-8 text \(byte 1\)"),
        (b"\xff\xfe\x00", "l.txt", "is not UTF-8"),
        (b"a\0b", "l.txt", "is not a text file"),
        (b"a,b,c\n1,2,3\n", "l.csv", "names no column `label`"),
        (b"index,label\n0\n", "l.csv", "row 1 has fewer than 2 columns"),
        (b"index,label\nzero,cat\n", "l.csv", "`zero` is not an index"),
        (b"index,label\n0,cat\n0,dog\n", "l.csv", "index 0 has two labels"),
        (b"index,label\n999999,cat\n", "l.csv", "larger than any model"),
        (b"x" * 17_000_000, "l.txt", "is larger than 16 MB"),
        (b"1\ta\n" * 400_001, "l.txt", "has more than 400000 lines"),
        (b"1,a\r\n" * 400_001, "l.csv", "has more than 400000 lines"),
    ],
)
def test_unusable_file_is_one_sentence(content: bytes, file: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        parse_labels(content, file, 3)
    assert str(caught.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("content", "file"),
    [
        ("\x1b]0;cat\x07\ndog\u2028s\n".encode(), "l.txt"),
        ("0 \x1b]0;cat\x07\n1 dog\x85s\n".encode(), "l.txt"),
        (b'label\n\x1b]0;cat\x07\n"dog\ns"\n', "l.csv"),
    ],
)
def test_control_characters_are_removed_from_labels(content: bytes, file: str) -> None:
    assert parse_labels(content, file, 2) == ("]0;cat", "dog s")


def test_imagenets_background_is_added_and_removed() -> None:
    names = tuple(f"n{i}" for i in range(1000))
    assert align(names, 1001) == ("background", *names)
    assert align(("background", *names), 1000) == names
    assert align(names, 1000) == names
    assert align(names[:10], 11) is None  # an eleven-class model with ten labels is a mistake, not ImageNet
    assert align(("n", *names), 1000) is None


@given(st.binary(max_size=200), st.sampled_from(["l.txt", "l.csv"]), st.integers(1, 5))
def test_any_bytes_give_labels_or_one_sentence(content: bytes, file: str, classes: int) -> None:
    try:
        labels = parse_labels(content, file, classes)
    except ModelError:
        return
    assert labels
    assert all(labels)


@given(st.lists(st.from_regex(r"[a-z]{1,6}( [a-z]{1,6})?", fullmatch=True), min_size=1, max_size=20))
def test_plain_and_numbered_lists_read_back(names: list[str]) -> None:
    assert parse_labels("\n".join(names).encode(), "l.txt", len(names)) == tuple(names)
    numbered = "\n".join(f"{index} {name}" for index, name in enumerate(names))
    assert parse_labels(numbered.encode(), "l.txt", len(names)) == tuple(names)


def test_numbers_with_gaps_belong_to_the_labels_where_the_list_is_as_long_as_the_outputs() -> None:
    content = b"10: ten\n20: twenty\n30: thirty\n"
    assert parse_labels(content, "labels.txt", 3) == ("10: ten", "20: twenty", "30: thirty")
    assert parse_labels(content, "labels.txt", 31)[20] == "twenty"


@pytest.mark.parametrize(
    ("content", "file"),
    [
        (b'"red"\n"green"\n"blue"\n', "labels.txt"),
        (b"'red',\n'green',\n'blue'\n", "labels.txt"),
        (b"0,red\n1,green\n2,blue\n", "labels.txt"),
        (b"0: 'red'\n1: 'green'\n2: 'blue'\n", "labels.txt"),
        (b"{0: 'red',\n 1: 'green',\n 2: 'blue'}", "imagenet_clsidx_to_labels.txt"),
        (b"red,green,blue", "labels.txt"),
        (b"n00000001 red\nn00000002 green\nn00000003 blue\n", "synset_words.txt"),
        (b'["red", "green", "blue"]', "a.json"),
        (b'{"0": "red", "2": "blue", "1": "green"}', "a.json"),
        (b'{"1": "red", "2": "green", "3": "blue"}', "a.json"),
        (b'{"red": 0, "green": 1, "blue": 2}', "a.json"),
        (b'{"0": ["n01", "red"], "1": ["n02", "green"], "2": ["n03", "blue"]}', "imagenet_class_index.json"),
        (b'{"id2label": {"0": "red", "1": "green", "2": "blue"}}', "config.json"),
        (b'{"categories": [{"id": 2, "name": "green"}, {"id":1, "name":"red"}, {"id": 3, "name": "blue"}]}', "x.json"),
        (b'{"classes": {"Label": ["red", "green", "blue"]}}', "signature.json"),
        (b'[{"label": "red"}, {"label": "green"}, {"label": "blue"}]', "a.json"),
        (b"- red\n- green\n- blue\n", "a.yaml"),
        (b"path: x\nnames: [red, green, blue]\n", "data.yml"),
        (b'item{id:1 name: "/m/1" display_name: "red"} item{id: 2\nname: "green"} item{id: 3 name: "blue"}', "a.pbtxt"),
    ],
)  # fmt: skip
def test_every_format_gives_the_same_labels(content: bytes, file: str) -> None:
    assert parse_labels(content, file, 3) == ("red", "green", "blue")


@pytest.mark.parametrize(
    ("content", "file", "sentence"),
    [
        (b"{" * 100_000, "a.json", "a.json: is not"),
        (b"[" * 100_000, "a.json", "a.json: is"),
        (b'{"version": 1, "name": "x"}', "a.json", "contains no label"),
        (b"a: &a [x]\nb: *a\n", "a.yaml", "has references"),
        (b"[" * 50 + b"]" * 50, "a.yaml", "nested too deeply|neither JSON nor YAML|contains no label"),
        (b"a: [", "a.yaml", "is neither JSON nor YAML"),
        (b"item { name: 'x' }", "a.pbtxt", "contains no label"),
    ],
)
def test_a_document_without_labels_is_one_sentence(content: bytes, file: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        parse_labels(content, file, 3)
