"""The command: what it prints, what it leaves behind, and what it says about mistakes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import somvae_ext
from somvae_ext.cli import main

ROOT = Path(somvae_ext.__file__).parents[1]
TINY = ["fit", "--rows", "3", "--cols", "4", "--epochs", "1", "--latent-dim", "8", "--accelerator", "cpu"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_num_threads(threads)  # the command sets them for its process


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python, without warnings: those of the fallback are tested elsewhere."""
    command = [sys.executable, "-W", "ignore", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def table(output: str) -> dict[str, str]:
    lines = [re.split(r"\s{2,}", line, maxsplit=1) for line in output.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def test_fit_trains_evaluates_and_draws() -> None:
    run = python("-m", "somvae_ext", *TINY, "--out", "run")
    assert run.returncode == 0, run.stderr
    assert "270 test images on 3 x 4 nodes" in run.stdout
    printed = table(run.stdout)
    assert list(printed) == ["purity", "NMI", "usage", "perplexity", "training", "picture"]
    assert 0.1 <= float(printed["purity"]) <= 1
    assert re.fullmatch(r"0\.\d{3} \(arithmetic mean of the entropies\)", printed["NMI"])
    assert printed["picture"] == "run/map.png"
    assert Path("run/map.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads(Path("run/config.json").read_text())
    assert (config["data"], config["model"]["rows"], config["training"]["epochs"]) == ("digits", 3, 1)
    (record,) = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert {"train", "validation", "metrics"} <= record.keys()
    assert "transitions.logits" not in torch.load("run/checkpoint.pt")["model"]


def test_fit_trains_transitions_on_series(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--data", "digits-series", "--batch-size", "64"]) == 0
    assert "270 test images" in capsys.readouterr().out
    logits = torch.load("runs/digits-series/checkpoint.pt")["model"]["transitions.logits"]
    assert (logits != 0).any()


def test_a_run_is_not_overwritten_unasked_and_repeats_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TINY) == 0
    first, weights = table(capsys.readouterr().out), torch.load("runs/digits/checkpoint.pt")["model"]
    assert main(TINY) == 2
    refused = capsys.readouterr()
    assert refused.out == ""
    assert "runs/digits is not empty" in refused.err
    assert main([*TINY, "--overwrite"]) == 0
    again, weights_again = table(capsys.readouterr().out), torch.load("runs/digits/checkpoint.pt")["model"]
    assert all(weights[name].equal(weights_again[name]) for name in weights)
    assert (first["purity"], first["NMI"]) == (again["purity"], again["NMI"])


def test_options_come_from_a_file_and_the_command_line_wins(capsys: pytest.CaptureFixture[str]) -> None:
    Path("fit.json").write_text('{"rows": 2, "cols": 3, "epochs": 1, "accelerator": "cpu"}')
    assert main(["fit", "--config", "fit.json", "--cols", "2"]) == 0
    assert "on 2 x 2 nodes" in capsys.readouterr().out


def test_info_says_what_this_installation_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    printed = table(capsys.readouterr().out)
    assert printed["somvae_ext"] == somvae_ext.__version__
    assert printed["torch"].startswith(torch.__version__.partition("+")[0])
    assert {"python", "compiled library", "cuda", "simd"} <= printed.keys()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "--rowz", "3"], "unknown option --rowz; did you mean --rows?"),
        (["fit", "--learning_rate=1"], "unknown option --learning_rate; did you mean --learning-rate?"),
        (["fit", "--zzzzz"], "unknown option --zzzzz"),
        (["fit", "--rows", "many"], "--rows must be an integer, got 'many'"),
        (["fit", "--learning-rate", "fast"], "--learning-rate must be a number, got 'fast'"),
        (["fit", "--rows", "0"], "rows must be a positive integer, got 0"),
        (["fit", "--alpha", "-1"], "alpha must be a finite number of at least 0, got -1.0"),
        (["fit", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["fit", "--epochs", "0"], "epochs must be at least 1, got 0"),
        (["fit", "--topology", "hexagonal", "--periodic", "--rows", "3"], "rows must be even"),
        (["fit", "--data", "cifar"], "invalid choice: 'cifar' (choose from 'digits', 'digits-series')"),
        (["fit", "--tau", "1"], "--gamma and --tau must be 0 for digits"),
        (["fit", "--config", "nowhere.yaml"], "File does not exist"),
        (["fit", "--learning-rate", "1e30", "--accelerator", "cpu"], "so training stopped"),
        (["train"], "invalid choice: 'train'"),
        ([], 'expected "command" to be one of {fit,info}'),
    ],
)
def test_a_mistake_is_answered_with_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("somvae: ")
    assert printed.err.count("\n") == 1
    assert sentence in printed.err


def test_a_mistake_ends_the_process_with_code_2_and_no_traceback() -> None:
    run = python("-m", "somvae_ext", "fit", "--rows", "many")
    assert (run.returncode, run.stdout, run.stderr) == (2, "", "somvae: --rows must be an integer, got 'many'\n")


@pytest.mark.parametrize(
    ("module", "extra"), [("jsonargparse", "train"), ("lightning", "train"), ("matplotlib", "plot")]
)
def test_a_missing_extra_is_named_before_anything_is_written(module: str, extra: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from somvae_ext.cli import main; sys.exit(main(['fit']))"
    run = python("-c", code)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"somvae: {module} is not installed; run: pip install 'somvae_ext[{extra}]'\n"
    assert list(Path().iterdir()) == []


def test_importing_the_package_loads_no_extra() -> None:
    # tqdm is not in the list: torch.hub loads it by itself where it is installed.
    code = """
import sys, somvae_ext, somvae_ext.nn, somvae_ext.models, somvae_ext.data, somvae_ext.evaluation, somvae_ext.cli
print([name for name in ("jsonargparse", "lightning", "matplotlib", "sklearn") if name in sys.modules])
"""
    assert python("-c", code).stdout == "[]\n"
