"""Calls that are almost right: each one works, or fails with one sentence and leaves no files behind.

Right calls are mutated at random: words are dropped, repeated, misspelled or swapped, values are replaced by odd ones
and files by others that a user may have.
"""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path

import numpy as np
import pytest

from somvae_ext.cli import main

CALLS = [
    "fit table.csv --model som --rows 2 --cols 2 --epochs 1 --label-column kind --id-column id --quiet --out out",
    "fit table.csv --model som --rows 2 --cols 3 --epochs 1 --drop kind id --missing mean --quiet --out out",
    "fit european.csv --model som --decimal , --separator ; --rows 2 --cols 2 --epochs 1 --quiet --out out",
    "fit table.csv --model som --one-hot kind --columns a b kind --epochs 1 --rows 2 --cols 2 --quiet --out out",
    "fit rows.npy --model som --scaling minmax --topology hexagonal --rows 2 --cols 2 --epochs 1 --quiet --out out",
    "fit series.npz --model som --rows 2 --cols 2 --epochs 1 --quiet --out out",
    "fit table.csv --drop id --label-column kind --rows 2 --cols 2 --latent-dim 3 --epochs 1 --device cpu --quiet",
    "fit images.npy --model vae --latent-dim 2 --epochs 1 --batch-size 8 --device cpu --seed 3 --quiet --out out",
    "fit --config run.yaml --out out",
    "fit --resume map --quiet",
    "predict map table.csv -o nodes.csv",
    "predict map new.csv --separator ; -o nodes.csv",
    "predict vae images.npy -o codes.csv",
    "evaluate map",
    "evaluate vae --split validation",
    "plot map --kind hits u_matrix --out pictures",
    "cluster map -n 2 --clusterer KMeans --set n_init=2 -o nodes.csv",
    "cluster map -n auto --criterion davies-bouldin",
    "plot map --kind clusters --out pictures",
    "sample vae -n 2 --seed 1 -o picture.png",
    "info map",
    "info",
]
ODD_WORDS = """
0 -1 1 2.5 nan inf 1e999 99999999999999999999 None true [] {} \u00e9 -- - kind id a nobody , ; # utf-16 latin-1
../out /nowhere/out . map vae table.csv rows.npy images.npy series.npz folder empty.csv only_names.csv broken.npz
binary.csv ragged.csv loop objects.npy text.parquet digits-series som run.yaml
"""
ALL_OPTIONS = """
--rows --epochs --missing --header --na --decimal --thousands --encoding --comment --columns --drop --label-column
--id-column --one-hot --kind --scaling --model --preset --threads --device --sigma-final --init --overwrite --periodic
--number --criterion --clusterer --set --split --fold --best-of --from-epoch --config --data --accelerator --image-size
--warm-up-epochs --print_config --help
"""
VALUES = [*ODD_WORDS.split(), "", "a b", "x" * 300]
OPTIONS = ALL_OPTIONS.split()


@pytest.fixture
def files() -> None:
    """Writes what a user's folder may contain: data of several kinds, trained results, and broken files."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 3)).round(3)
    rows = [f"{row + 7},{a},{b},{c},{'uvw'[row % 3]}" for row, (a, b, c) in enumerate(x)]
    Path("table.csv").write_text("id,a,b,c,kind\n" + "\n".join(rows))
    Path("new.csv").write_text("id,a,b,c,kind\n".replace(",", ";") + "\n".join(rows).replace(",", ";"))
    Path("european.csv").write_text("a;b\n" + "\n".join(f"{a};{b}" for a, b, _ in x).replace(".", ","))
    np.save("rows.npy", x)
    np.save("images.npy", rng.integers(0, 256, size=(24, 4, 4), dtype=np.uint8))
    np.savez("series.npz", x=rng.normal(size=(6, 5, 2)), lengths=[5, 4, 3, 2, 1, 5])
    Path("run.yaml").write_text(
        "data: table.csv\nmodel: som\nrows: 2\ncols: 2\nepochs: 1\nquiet: true\ndrop: [id, kind]\n"
    )
    Path("folder").mkdir()
    Path("empty.csv").write_text("")
    Path("only_names.csv").write_text("a,b\n")
    Path("broken.npz").write_bytes(b"PK\x03\x04 broken")
    Path("binary.csv").write_bytes(bytes(range(256)))
    Path("ragged.csv").write_text("a,b\n1,2\n3\n")
    np.save("objects.npy", np.array([{}, None]), allow_pickle=True)
    Path("text.parquet").write_text("a,b\n1,2\n")
    os.symlink("loop", "loop")
    small = ["--rows", "2", "--cols", "2", "--epochs", "1", "--quiet"]
    assert main(["fit", "table.csv", "--model", "som", "--drop", "id", "kind", *small, "--out", "map"]) == 0
    assert main(["cluster", "map", "-n", "2"]) == 0
    vae = ["--latent-dim", "2", "--epochs", "1", "--device", "cpu", "--quiet", "--out", "vae"]
    assert main(["fit", "images.npy", "--model", "vae", *vae]) == 0


def mutated(words: list[str], rng: random.Random) -> list[str]:
    words = list(words)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(len(words))
        change = rng.randrange(8)
        if change == 0 and len(words) > 1:
            del words[at]
        elif change == 1:
            words.insert(at, words[at])
        elif change == 2:
            other = rng.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        elif change == 3 and len(words[at]) > 2:
            letter = rng.randrange(len(words[at]))
            words[at] = words[at][:letter] + words[at][letter + 1 :]
        elif change == 4:
            words += [rng.choice(OPTIONS), rng.choice(VALUES)]
        elif change == 5:
            words.insert(at, rng.choice(OPTIONS))
        else:
            words[at] = rng.choice(VALUES)
    return words


def contents() -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() if path.is_file() else b""
        for path in sorted(Path().rglob("*"))
        if not path.is_symlink()
    }


def check_calls(number: int, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(seed)
    for _ in range(number):
        call = mutated(rng.choice(CALLS).split(), rng)
        before = contents()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn and torch warn about tiny data
            try:
                code = main(call)
            except SystemExit as end:  # --help
                code = int(end.code or 0)
        complaint = capsys.readouterr().err
        assert code in (0, 2), (call, complaint)
        assert "Traceback" not in complaint, (call, complaint)
        if code == 2:
            assert complaint.splitlines()[-1].startswith("somvae: "), (call, complaint)
            assert contents() == before, call
        else:
            for path in sorted(contents().keys() - before.keys(), reverse=True):
                Path(path).rmdir() if Path(path).is_dir() else Path(path).unlink()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("call", [call for call in CALLS if "--resume" not in call])
def test_the_calls_work_before_they_are_mutated(call: str) -> None:
    assert main(call.split()) == 0


@pytest.mark.usefixtures("files")
def test_mutated_calls_work_or_fail_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    check_calls(100, 0, capsys)


@pytest.mark.slow
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_mutated_calls_work_or_fail_with_one_sentence(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    check_calls(100, seed, capsys)
