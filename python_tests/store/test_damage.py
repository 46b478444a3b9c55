"""A folder with damaged files is either refused with a one-line error or gives exactly what was written."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from somvae_ext.store import ResultFolder

Read = tuple[Any, ...]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "run"
    write(path, seed=0)
    return path


def write(path: Path, seed: int) -> None:
    folder = ResultFolder.create(path, "model")
    folder.save_config({"seed": seed, "names": [f"column {number}" for number in range(20)]})
    generator = torch.Generator().manual_seed(seed)
    for epoch in (1, 2, 3):
        weights = {"w": torch.randn(40, generator=generator), "n": torch.tensor(epoch)}
        state = {"moments": torch.randn(40, generator=generator), "epoch": epoch, "rates": [0.5, 0.25]}
        folder.save_checkpoint(epoch, weights, state, {"metrics": [{"epoch": epoch, "seed": seed}]})
    folder.save_file("nodes", {"hits": torch.arange(9) + seed})
    folder.save_tree("clusters", {"cluster": torch.arange(5) + seed, "parameters": {"eps": 0.5}})
    folder.save_evaluation("test", {"purity": 0.5 + seed})


def read(path: Path) -> Read:
    """Returns everything that a folder gives, as comparable values."""
    folder = ResultFolder.open(path)
    values = [
        folder.kind,
        folder.config,
        folder.epochs,
        folder.evaluations,
        folder.load_weights(),
        folder.load_weights(2),
        folder.load_state(),
        folder.load_log("metrics"),
        folder.load_file("nodes"),
        folder.load_tree("clusters"),
    ]
    return tuple(comparable(value) for value in values)


def comparable(value: Any) -> Any:
    if isinstance(value, Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {key: comparable(entry) for key, entry in value.items()}
    return value


def flip_a_bit(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def zero_a_block(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    first = draw.randrange(len(content))
    content[first : first + 64] = bytes(len(content[first : first + 64]))
    path.write_bytes(content)


def lengthen(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(20))


def remove(path: Path, draw: random.Random) -> None:
    path.unlink()


def make_a_folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def swap_within(path: Path, draw: random.Random) -> None:
    other = draw.choice([entry for entry in sorted(path.parent.iterdir()) if entry != path])
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def swap_with_another_run(path: Path, draw: random.Random) -> None:
    shutil.copy(path.parent.parent / "other" / path.name, path)


DAMAGES: list[Callable[[Path, random.Random], None]] = [
    flip_a_bit,
    flip_a_bit,
    truncate,
    zero_a_block,
    lengthen,
    remove,
    make_a_folder,
    swap_within,
    swap_with_another_run,
]


def damaged(whole: Path, tmp_path: Path, seed: int) -> Path:
    draw = random.Random(seed)
    folder = tmp_path / str(seed)
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns(".lock"))
    path = draw.choice(sorted(folder.iterdir()))
    DAMAGES[seed % len(DAMAGES)](path, draw)
    return folder


def check(whole: Path, tmp_path: Path, count: int) -> int:
    """Returns the number of damaged folders that were refused; checks that the others give what was written."""
    write(tmp_path / "other", seed=1)
    expected = read(whole)
    sentences = []
    for seed in range(count):
        try:
            got = read(damaged(whole, tmp_path, seed))
        except (ValueError, OSError) as error:
            sentences.append(str(error))
        else:
            assert got == expected, seed
    assert all(str(tmp_path) in sentence and "\n" not in sentence for sentence in sentences)
    return len(sentences)


def test_a_damaged_folder_is_refused_or_gives_what_was_written(whole: Path, tmp_path: Path) -> None:
    assert check(whole, tmp_path, 270) > 180


@pytest.mark.slow
def test_many_damaged_folders_are_refused_or_give_what_was_written(whole: Path, tmp_path: Path) -> None:
    assert check(whole, tmp_path, 5000) > 3500


def test_flipped_bits_of_a_small_manifest_are_refused_or_harmless(tmp_path: Path) -> None:
    """Flipped bits are refused or change nothing: a space of the indentation may become other JSON whitespace."""
    folder = ResultFolder.create(tmp_path / "run", "model")
    folder.save_config({"a": 1})
    folder.save_checkpoint(1, {"w": torch.ones(2)}, {}, {})
    path = tmp_path / "run" / "manifest.json"
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), 3):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            reopened = ResultFolder.open(tmp_path / "run")
        except (ValueError, FileNotFoundError):
            continue
        assert (reopened.config, reopened.epochs) == ({"a": 1}, [1])


def test_the_last_good_checkpoint_is_named(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    flip_a_bit(tmp_path / "run" / "weights-3.safetensors", random.Random(0))
    folder = ResultFolder.open(tmp_path / "run")
    with pytest.raises(
        ValueError,
        match=r"weights-3\.safetensors is damaged: .*; the checkpoint of epoch 2 is "
        "whole$",
    ):
        folder.load_weights()
    flip_a_bit(tmp_path / "run" / "state-2.safetensors", random.Random(0))
    with pytest.raises(ValueError, match=r"SHA-256 in manifest\.json$"):
        folder.load_weights()


def reseal(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Writes an edited manifest with a valid SHA-256."""
    from somvae_ext.store import manifest

    content = json.loads((folder / manifest.NAME).read_text())
    del content["sha256"]
    change(content)
    content["sha256"] = manifest.content_hash(content)
    (folder / manifest.NAME).write_text(json.dumps(content))


def set_to(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_to("kind", value="tree"),
        set_to("kind", value=[]),
        set_to("config", value=[1]),
        set_to("config", value="a" * 10**6),
        set_to("evaluations", value=None),
        set_to("pictures", value=3),
        set_to("files", value=[1, 2]),
        set_to("files", "nodes.safetensors", value={"size": "many", "sha256": 1}),
        set_to("checkpoints", value={"a": 1}),
        set_to("checkpoints", 0, value=7),
        set_to("checkpoints", 0, "epoch", value=-1),
        set_to("checkpoints", 0, "epoch", value="../../../etc/passwd"),
        set_to("checkpoints", 0, "epoch", value=10**30),
        set_to("checkpoints", 0, "files", value={}),
        set_to("checkpoints", 0, "files", "weights-2.safetensors", "size", value=10**12),
        set_to("checkpoints", 0, "files", "weights-2.safetensors", "size", value=-5),
        set_to("somvae_ext", value=4),
        set_to("format", value=99),
        set_to("format", value={"deep": [[[[]]]]}),
        lambda content: content.clear(),
    ],
)
def test_an_edited_manifest_is_refused(whole: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    shutil.copytree(whole, tmp_path / "run")
    reseal(tmp_path / "run", change)
    with pytest.raises((ValueError, FileNotFoundError), match=str(tmp_path)):
        read(tmp_path / "run")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"format":' * 50_000,
        "1" * 10_000,
        '{"format": NaN}',
        "",
        "\x00" * 100,
        '"somvae_ext"',
        '{"format": 2, "a": "\\ud800"}',
    ],
)
def test_other_json_as_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json must .*damaged"):
        ResultFolder.open(tmp_path)


def test_an_edited_log_is_refused(whole: Path, tmp_path: Path) -> None:
    from somvae_ext.store.manifest import file_digest

    for number, line in enumerate([b"[" * 100_000, b'{"epoch": true}', b"3", b"\xff\xfe"]):
        shutil.copytree(whole, tmp_path / str(number))
        (tmp_path / str(number) / "metrics.jsonl").write_bytes(line + b"\n")
        file = file_digest(line + b"\n")._asdict()
        reseal(tmp_path / str(number), set_to("checkpoints", 1, "files", "metrics.jsonl", value=file))
        with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged: "):
            ResultFolder.open(tmp_path / str(number)).load_log("metrics")
