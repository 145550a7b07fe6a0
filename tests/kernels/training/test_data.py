from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from devkit.kernels.protocol import Refusal
from devkit.kernels.training import data

if TYPE_CHECKING:
    from pathlib import Path


def test_labels_are_the_inputs_shifted_by_one() -> None:
    text = np.arange(200, dtype=np.uint8)

    tokens, labels = data.batch(text, seed=5, step=3, sequences=6, seqlen=16)

    assert tokens.shape == labels.shape == (6, 16)
    assert (labels == tokens + 1).all()
    assert (np.diff(tokens, axis=1) == 1).all()


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    text = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)
    first = data.batch(text, 1, 7, 8, 32)[0]

    assert (data.batch(text, 1, 7, 8, 32)[0] == first).all()
    assert (data.batch(text, 1, 8, 8, 32)[0] != first).any()
    assert (data.batch(text, 2, 7, 8, 32)[0] != first).any()


def test_every_byte_can_be_drawn_and_none_beyond() -> None:
    text = np.arange(9, dtype=np.uint8)
    drawn = np.concatenate([data.batch(text, 0, step, 8, 4)[1].ravel() for step in range(40)])

    assert drawn.max() == 8
    assert drawn.min() == 1


def test_the_standard_library_is_split_by_file_the_same_way_each_time() -> None:
    text = data.load(None)

    assert data.load(None).digest == text.digest
    assert 0.05 < text.validation.size / (text.train.size + text.validation.size) < 0.2
    assert text.files > 200
    assert 3.0 < data.entropy(text.validation) < 3.5


def test_a_single_file_gives_its_last_tenth(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(bytes(range(97, 117)) * 10)

    text = data.load(str(tmp_path / "one.txt"))

    assert text.train.size == 180
    assert bytes(text.validation) == bytes(range(97, 117))


def test_a_folder_is_read_by_file_without_what_is_not_text(tmp_path: Path) -> None:
    for index in range(60):
        (tmp_path / f"{index}.txt").write_text(f"file {index:02d}\n")
    (tmp_path / "picture").write_bytes(b"\x89PNG\0\0")
    (tmp_path / ".hidden").write_text("not for the model")
    (tmp_path / "loop").symlink_to(tmp_path)

    text = data.load(str(tmp_path))

    assert (text.files, text.skipped) == (60, 1)
    lines = (bytes(text.train) + bytes(text.validation)).decode().splitlines()
    assert sorted(lines) == [f"file {index:02d}" for index in range(60)]
    assert text.validation.size > 0


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("missing", None, "cannot be read"),
        ("empty", b"", "is empty"),
        ("binary", b"\0\1\2\3" * 100, "is not text"),
        ("latin", "é".encode("latin-1") * 10, "is not text"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, name: str, content: bytes | None, complaint: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(Refusal, match=complaint):
        data.load(str(path))


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0")

    with pytest.raises(Refusal, match="no text was found"):
        data.load(str(tmp_path))


def test_a_character_cut_where_looking_stops_is_text() -> None:
    assert data.is_text(b"a" * 8191 + "é".encode() + b"b" * 100)
    assert not data.is_text(b"a" * 10 + b"\xc3")


def test_a_text_shorter_than_a_batch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("word " * 100)
    text = data.load(str(tmp_path / "short.txt"))

    with pytest.raises(Refusal, match="shorter than one batch"):
        data.require(text, batch=8, seqlen=64)
    with pytest.raises(Refusal, match="too little text for validation"):
        data.require(text, batch=1, seqlen=64)
    data.require(text, batch=4, seqlen=32)


def test_entropy_is_that_of_the_byte_frequencies() -> None:
    assert data.entropy(np.frombuffer(b"aabb", dtype=np.uint8)) == pytest.approx(math.log(2))
    assert data.entropy(np.frombuffer(b"aaaa", dtype=np.uint8)) == 0.0


def test_a_folder_of_few_files_gives_each_ones_last_tenth(tmp_path: Path) -> None:
    for name in ("chapter1", "chapter2", "chapter3"):
        (tmp_path / f"{name}.txt").write_text(name[-1] * 1000)
    text = data.load(str(tmp_path))

    assert (text.files, text.train.size, text.validation.size) == (3, 2700, 300)
    assert bytes(text.validation) == b"1" * 100 + b"2" * 100 + b"3" * 100


def test_many_files_are_split_by_file_as_before() -> None:
    texts = [(f"{number}.txt", bytes([65 + number % 26]) * 100) for number in range(200)]
    train, held = data.split(texts)

    assert all(len(line) == 100 for line in (*train, *held))
    assert 10 <= len(held) <= 40


def test_of_a_huge_file_that_is_no_text_only_the_beginning_is_read(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("some words\n" * 500)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(1 << 40)
    text = data.load(str(tmp_path))

    assert (text.files, text.skipped) == (1, 1)
    with pytest.raises(Refusal, match="is not text"):
        data.load(str(tmp_path / "model.safetensors"))


def test_text_in_another_encoding_is_refused_with_the_line_that_mends_it(tmp_path: Path) -> None:
    (tmp_path / "my text").write_bytes("训练数据".encode("gbk") * 5000)
    with pytest.raises(Refusal, match="is not text") as refused:
        data.load(str(tmp_path / "my text"))
    assert any(line.startswith("iconv ") and "'" in line for line in refused.value.remedies)
