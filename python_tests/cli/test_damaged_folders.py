"""Commands on damaged folders give the same result as before or a one-sentence error, and execute nothing from them."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.estimators import SavedMap
from somvae_ext.store import manifest

EXECUTED = Path("executed")


class Malicious:
    """A pickle that leaves a trace when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return EXECUTED.touch, ()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Undamaged folders of a model and a map, another one of each with a different seed, and the training data."""
    path = tmp_path_factory.mktemp("folders")
    generator = np.random.default_rng(0)
    np.save(path / "table.npy", generator.random((60, 3)))
    np.savetxt(path / "rows.csv", generator.random((20, 5)), delimiter=",", header="a,b,c,d,e", comments="")
    model = ["fit", str(path / "rows.csv"), "--epochs", "2", "--rows", "2", "--cols", "2", "--threads", "1"]
    grid = ["fit", str(path / "table.npy"), "--model", "som", "--rows", "3", "--cols", "4", "--epochs", "3", "--quiet"]
    for name, seed in (("whole", "0"), ("other", "1")):
        for kind, command in (("model", model), ("map", grid)):
            assert main([*command, "--seed", seed, "--out", str(path / name / kind)]) == 0
    return path


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    yield capsys
    assert not EXECUTED.exists()


def loaded(path: Path) -> int:
    """Acts like a command that loads a folder and prints its contents."""
    try:
        result = somvae_ext.load(path)
    except (ValueError, OSError) as error:
        print(error)
        return 2
    if isinstance(result, SavedMap):
        print(result.codebook.tolist(), result.hits.tolist(), result.som.history_, result.evaluation, result.record)
    else:
        print({name: value.tolist() for name, value in result.state_dict().items()}, result.config)
    return 0


def commands(folders: Path, kind: str) -> list[Callable[[Path], int]]:
    table, rows = str(folders / "table.npy"), str(folders / "rows.csv")
    if kind == "map":
        return [loaded, lambda path: main(["predict", str(path), table])]
    return [
        loaded,
        lambda path: main(["predict", str(path), rows]),
        lambda path: main(["evaluate", str(path)]),
        lambda path: main(["fit", "--resume", str(path), "--epochs", "3", "--threads", "1"]),
    ]


def damage(path: Path, folders: Path, kind: str, draw: random.Random) -> None:
    content = path.read_bytes()
    place = draw.randrange(len(content)) if content else 0
    way = draw.randrange(7)
    if way <= 1 and content:
        content = content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
    elif way == 2:
        content = content[:place]
    elif way == 3:
        content = content[:place] + bytes(512) + content[place + 512 :]
    elif way == 4:
        content = (folders / "other" / kind / path.name).read_bytes()
    elif way == 5:
        content = draw.choice(sorted(path.parent.iterdir())).read_bytes()
    else:
        content = pickle.dumps(Malicious())
    path.write_bytes(content)


def without_times(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("training", "pictures", "epoch"))]


def check(folders: Path, tmp_path: Path, out: pytest.CaptureFixture[str], count: int) -> int:
    """Damages ``count`` folders and returns how many were refused."""
    refused = 0
    for number in range(count):
        draw = random.Random(number)
        kind = "map" if number % 3 == 0 else "model"
        choices = commands(folders, kind)
        # Loading reads the most and takes the least time, so it is chosen most often.
        command = choices[0] if draw.random() < 0.6 else draw.choice(choices)
        place = tmp_path / "run"  # the same path for both, because messages and pictures contain it
        outcomes = []
        for is_damaged in (False, True):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(folders / "whole" / kind, place)
            if is_damaged:
                written = [
                    path for path in sorted(place.iterdir()) if path.suffix in (".json", ".jsonl", ".safetensors")
                ]
                damage(draw.choice(written), folders, kind, draw)
            out.readouterr()
            code = command(place)
            text = out.readouterr()
            outcomes.append((code, without_times(text.out if code == 0 else text.out + text.err)))
        expected, (code, lines) = outcomes
        if code == 2:
            assert len(lines) == 1, (number, lines)
            assert str(place) in lines[0]
            refused += 1
        else:
            assert (code, lines) == expected, number
    return refused


def test_damaged_folders_are_refused_or_give_the_same_result(
    folders: Path, tmp_path: Path, out: pytest.CaptureFixture[str]
) -> None:
    assert check(folders, tmp_path, out, 60) > 20


@pytest.mark.slow
def test_a_thousand_damaged_folders(folders: Path, tmp_path: Path, out: pytest.CaptureFixture[str]) -> None:
    refused = check(folders, tmp_path, out, 1000)
    assert refused > 300
    with out.disabled():
        print(f"refused: {refused} of 1000")


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(leaf for key, value in entries for leaf in leaves(value, (*path, key)))]


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**9,
    10**30,
    float("1e300"),
    "",
    "somvae",
    "\x00\t",
    [],
    {},
    [[[[]]]],
    {"name": "vae"},
    "a" * 10**6,
    list(range(10**5)),
]


@pytest.mark.parametrize("kind", ["model", "map"])
def test_edited_configs_with_a_valid_sha_256_cause_no_traceback(
    folders: Path, tmp_path: Path, out: pytest.CaptureFixture[str], kind: str
) -> None:
    """A valid SHA-256 does not make the values valid: each is refused with one sentence, or used as it stands."""
    content = json.loads((folders / "whole" / kind / manifest.NAME).read_text())
    del content["sha256"]
    draw = random.Random(0)
    for path in leaves(content["config"])[1:]:
        for value in draw.sample(ODD, 1):
            changed = json.loads(json.dumps(content))
            node = changed["config"]
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = value
            if isinstance(node, dict) and draw.random() < 0.1:
                node[str(draw.random())] = value
            place = tmp_path / "run"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(folders / "whole" / kind, place)
            changed["sha256"] = manifest.content_hash(changed)
            (place / manifest.NAME).write_text(json.dumps(changed))
            command = draw.choice(commands(folders, kind)[:2])
            out.readouterr()
            code = command(place)
            assert code in (0, 2), (path, value)
            if code == 2:
                text = out.readouterr()
                assert len((text.out + text.err).strip().split("\n")) == 1, (path, value)


def test_states_of_other_trainings_are_refused(folders: Path, tmp_path: Path, out: pytest.CaptureFixture[str]) -> None:
    """The states of generators, optimizers and schedules are wrong although the checkpoint's SHA-256 is valid."""
    from somvae_ext.store import ResultFolder

    for change in (
        {"generators": {"order": torch.zeros(3, dtype=torch.uint8), "cpu": [torch.get_rng_state()], "cuda": [None]}},
        {"generators": {"order": torch.get_rng_state(), "cpu": [torch.zeros(9)], "cuda": [None]}},
        {"optimizers": [{"state": {}, "param_groups": []}]},
        {"schedules": ["none"]},
        {"step": 2.5},
        {"epoch": None},
    ):
        place = tmp_path / "run"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folders / "whole" / "model", place)
        folder = ResultFolder.open(place)
        folder.save_checkpoint(3, folder.load_weights(), folder.load_state() | change, {})
        out.readouterr()
        assert main(["fit", "--resume", str(place), "--epochs", "4"]) == 2
        assert f"somvae: {place}: the checkpoint must" in out.readouterr().err
