"""One family of commands for maps and models: fit, and the commands that use its folder, whatever it holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from saved_configs import config_of, contents

import somvae_ext
from somvae_ext import evaluation
from somvae_ext.cli import main
from somvae_ext.cli.fit_options import explicit_options
from somvae_ext.cli.model_choice import TRAINABLE
from somvae_ext.cli.options import parse
from somvae_ext.models import MODELS
from somvae_ext.store import ResultFolder

SMALL_MAP = ["--model", "som", "--rows", "3", "--cols", "4", "--epochs", "3", "--quiet"]
SMALL_MODEL = ["--rows", "2", "--cols", "3", "--latent-dim", "4", "--epochs", "1", "--threads", "1", "--device", "cpu"]


@pytest.fixture(autouse=True)
def table() -> None:
    """Writes two features around two points, and the class."""
    generator = np.random.default_rng(0)
    label = np.arange(60) % 2
    values = np.array([[1, 200], [2, 100]])[label] + generator.normal(size=(60, 2))
    lines = [f"{','.join(map(repr, row.tolist()))},{'ab'[kind]}" for row, kind in zip(values, label, strict=True)]
    Path("table.csv").write_text("\n".join(["height,weight,kind", *lines]) + "\n")


def fit_map(*options: str) -> int:
    return main(["fit", "table.csv", "--label-column", "kind", *SMALL_MAP, "--out", "map", *options])


def fit_model(*options: str) -> int:
    return main(["fit", "table.csv", "--label-column", "kind", *SMALL_MODEL, "--out", "run", "--quiet", *options])


def lines_of(output: str) -> dict[str, str]:
    """Parses the names and values of a table that a command has printed."""
    lines = [re.split(r"\s{2,}", line, maxsplit=1) for line in output.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


# ---- one fit for all -------------------------------------------------------------------------------------------------


def test_maps_and_models_are_trained_into_folders_named_by_model_and_data() -> None:
    assert main(["fit", "table.csv", "--label-column", "kind", *SMALL_MAP]) == 0
    assert main(["fit", "table.csv", "--label-column", "kind", *SMALL_MODEL, "--quiet"]) == 0
    vae = ["--model", "vae", "--hidden-sizes", "4", "--epochs", "1", "--device", "cpu"]
    assert main(["fit", "table.csv", "--label-column", "kind", *vae, "--quiet"]) == 0
    assert {path.name for path in Path("runs").iterdir()} == {"som-table", "table", "vae-table"}
    assert [ResultFolder.open(f"runs/{name}").kind for name in ("som-table", "table")] == ["map", "model"]


@pytest.mark.parametrize("fit", [fit_map, fit_model])
def test_a_quiet_training_says_nothing_on_stderr(fit: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit() == 0  # type: ignore[operator]
    assert capsys.readouterr().err == ""


def test_both_kinds_are_resumed_by_the_same_command(capsys: pytest.CaptureFixture[str]) -> None:
    fit_map()
    fit_model()
    assert main(["fit", "--resume", "run", "--epochs", "2", "--device", "cpu", "--quiet"]) == 0
    assert ResultFolder.open("run").last_epoch == 2
    assert main(["fit", "--resume", "map", "--from-epoch", "3", "--quiet"]) == 2
    assert "map has completed its training of 3 epochs" in capsys.readouterr().err
    for run in ("map", "run"):
        assert main(["fit", "--resume", run, "--model", "vae"]) == 2
        assert "so --model must not be given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("small", "printed"),
    [
        (["--model", "vae", "--hidden-sizes", "4", "--epochs", "1"], "270 samples of the test split"),
        (SMALL_MAP, "1527 rows of 64 features"),
    ],
)
def test_a_named_data_set_is_taken_before_a_file_of_its_name_and_says_so(
    small: list[str], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("rows.npy", np.random.default_rng(0).random((40, 3)))
    Path("rows.npy").rename("digits")
    small = [*small, "--device", "cpu", "--quiet"]
    assert main(["fit", "digits", *small]) == 0
    said = capsys.readouterr()
    assert said.err == "somvae: digits is the data set; ./digits is the file or folder of that name\n"
    assert printed in said.out
    assert main(["fit", "./digits", *small, "--out", "own"]) == 2  # a file without an extension is refused
    assert "must be a" in capsys.readouterr().err


# ---- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digits", "--device", "tpu"], "--device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        (
            ["table.csv", "--model", "som", "--device", "cuda:x"],
            "--device must be auto, cpu, cuda or cuda:N, got 'cuda:x'",
        ),
        (["digits", "--device", "cuda"], "--device cuda needs a GPU that torch can use, got none"),
        (
            ["table.csv", "--model", "som", "--device", "cuda:1"],
            "--device cuda:1 needs a GPU that torch can use, got none",
        ),
        (
            ["digits", "--device", "cuda:1"],
            "--device must be auto, cpu or cuda for --model somvae, which takes the first GPU that it sees, got "
            "'cuda:1'; choose a GPU by CUDA_VISIBLE_DEVICES=1 and --device cuda",
        ),
    ],
)
def test_an_unavailable_device_is_refused(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["fit", *arguments]) == 2
    assert capsys.readouterr().err == f"somvae: {sentence}\n"
    assert not Path("runs").exists()


def test_device_auto_uses_a_gpu_if_there_is_one() -> None:
    assert fit_map("--device", "auto") == 0
    assert config_of("map")["device"] == ("cuda" if torch.cuda.is_available() else "cpu")


# ---- former names of commands and options ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["som", "fit", "x.csv"], "'somvae som fit' is now 'somvae fit DATA --model som'"),
        (["som", "predict", "map", "x.csv"], "'somvae som predict' is now 'somvae predict RUN DATA'"),
        (["som", "plot", "map"], "'somvae som plot' is now 'somvae plot RUN'"),
        (["fit", "--data", "x.csv"], "--data is no option any more, because the data come first: somvae fit x.csv ..."),
        (["fit", "--rows", "3", "--data=my x.csv"], "somvae fit 'my x.csv' ..."),
        (["fit", "digits", "--accelerator", "cuda"], "--accelerator is now --device: --device cuda"),
        (["fit"], "DATA is missing; name a file, a folder of series or one of digits, mnist"),
        (["fit", "--model", "som"], "DATA is missing; name a file, a folder of series or one of digits, mnist"),
    ],
)
def test_former_names_are_refused_with_the_current_ones(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


# ---- options of one model --------------------------------------------------------------------------------------------


def help_of(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def options_in(text: str) -> set[str]:
    return set(re.findall(r"^  (?:-\w(?: \w+)?, )?(--[\w-]+)", text, re.MULTILINE))


@pytest.mark.parametrize("model", TRAINABLE)
def test_the_help_of_a_model_has_its_options_and_no_other(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = options_in(help_of("fit", "--model", model, capsys=capsys))
    assert {"--model", "--config", "--print_config", "--out", "--overwrite", "--resume", "--device", "--quiet"} <= shown
    assert ("--metric" in shown) == (model == "som")
    assert ("--learning-rate" in shown) == (model != "som")
    assert ("--sigma-steps" in shown) == (model == "somvae")
    assert ("--temperature" in shown) == (model == "gumbel-vae")
    assert ("--num-series" in shown) == (model == "somvae")
    assert ("--revive" in shown) == hasattr(MODELS.get(model), "revive")


def test_the_help_of_fit_lists_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of("fit", capsys=capsys)
    assert all(
        re.search(rf"^  {model} +{re.escape(meaning)}$", shown, re.MULTILINE) for model, meaning in TRAINABLE.items()
    )
    assert "'somvae fit --model vae --help' lists those of another" in shown


def test_defaults_are_those_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    def latent_dim(model: str) -> str:
        shown = " ".join(help_of("fit", "--model", model, capsys=capsys).split())
        (default,) = re.findall(r"--latent-dim LATENT_DIM [\w ]+ \(default: ([^)]*)\)", shown)
        return str(default)

    assert (latent_dim("somvae"), latent_dim("vae")) == ("64", "20")


def test_the_model_comes_from_the_config_file_and_from_the_folder_to_resume(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text("model: gumbel-vae\n")
    assert "--temperature" in help_of("fit", "--config", "run.yaml", capsys=capsys)
    assert "--metric" in help_of("fit", "--config", "run.yaml", "--model=som", capsys=capsys)
    fit_map()
    assert "--metric" in help_of("fit", "--resume", "map", capsys=capsys)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "vae", "--sigma-steps", "3"], "--sigma-steps is for somvae, and --model vae has no use for it"),
        (["--metric", "cosine"], "--metric is for som, and --model somvae has no use for it"),
        (["--model", "som", "--best-of", "2"], "--best-of is for somvae, vqvae, vae, conditional-vae, gumbel-vae and "),
        (["--model", "vae", "--revive"], "--revive is for somvae and vqvae, and --model vae has no use for it"),
        (["--model", "vae", "--rowz", "3"], "unknown option --rowz"),
        (
            ["--model", "gan"],
            "--model must be som or somvae or vqvae or vae or conditional-vae or gumbel-vae or moe-vae",
        ),
    ],
)
def test_an_option_of_other_models_is_refused_with_their_names(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "table.csv", *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


COMMANDS = ["fit", "tune", "evaluate", "predict", "export", "sample", "cluster", "plot", "report", "info", "bench"]


def examples_of(shown: str) -> list[str]:
    """Returns the lines of the examples, each a shell command."""
    section = re.search(r"^examples?:\n((?:  .*\n?)+)", shown, re.MULTILINE)
    assert section is not None
    return [line.strip() for line in section[1].splitlines()]


def test_the_main_help_has_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(capsys=capsys)
    assert all(re.search(rf"\b{code}\b", shown.partition("exit codes:")[2]) for code in (0, 2, 130, 143, 129))
    assert examples_of(shown)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS), *(["fit", "--model", m] for m in TRAINABLE)])
def test_examples_of_the_help_work_when_pasted(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = examples_of(help_of(*arguments, capsys=capsys))
    root = Path(somvae_ext.__file__).parents[1]
    words = {"somvae ": f"{sys.executable} -W ignore -m somvae_ext ", "python -c": f"{sys.executable} -c"}
    script = "\n".join(lines)
    for word, command in words.items():
        script = re.sub(rf"(?m)(^|&& ){re.escape(word)}", rf"\g<1>{command}", script)
    done = subprocess.run(
        ["sh", "-e", "-c", script], env={"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr


# The example of experiment is not run above: it takes too long and downloads its data.
@pytest.mark.parametrize("name", [*COMMANDS, "experiment"])
def test_every_help_ends_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(name, capsys=capsys)
    assert shown.rstrip().endswith(examples_of(shown)[-1])


# ---- configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["table.csv", "--label-column", "kind", *SMALL_MAP, "--periodic"],
        ["table.csv", "--label-column", "kind", *SMALL_MODEL, "--quiet"],
        [
            "table.csv",
            "--model",
            "vae",
            "--hidden-sizes",
            "6",
            "4",
            "--label-column",
            "kind",
            "--epochs",
            "1",
            "--quiet",
        ],
    ],
)
def test_a_printed_config_trains_the_same(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *arguments, "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert not Path("runs").exists()
    Path("run.yaml").write_text(printed)
    assert main(["fit", *arguments, "--out", "direct"]) == 0
    assert main(["fit", "--config", "run.yaml", "--out", "by-file"]) == 0
    direct, by_file = (ResultFolder.open(path) for path in ("direct", "by-file"))
    assert direct.config == by_file.config
    weights = direct.load_weights()
    assert all(weights[name].equal(value) for name, value in by_file.load_weights().items())


def test_a_printed_config_holds_what_was_given_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["fit", "digits", "--model", "vae", "--hidden-sizes", "20", "10", "--epochs", "3", "--print_config"]) == 0
    )
    assert capsys.readouterr().out == "data: digits\nmodel: vae\nhidden_sizes: [20, 10]\nepochs: 3\n"


def test_command_line_options_override_the_file_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text("data: table.csv\nrows: 3\ncols: 5\nmodel: som\n")
    assert main(["fit", "--rows", "2", "--config", "run.yaml", "--print_config"]) == 0
    assert "rows: 2\ncols: 5\n" in capsys.readouterr().out
    assert main(["fit", "other.csv", "--config=run.yaml", "--print_config"]) == 0
    assert capsys.readouterr().out.startswith("data: other.csv\n")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("header: yes", "header", "yes"),
        ("header: false", "header", "no"),
        ("columns: [1, 2]", "columns", ["1", "2"]),
        ("columns: Wert", "columns", ["Wert"]),
        ("na: -9999", "na", ["-9999"]),
        ("na: [-9999, 1e3, 007, yes]", "na", ["-9999", "1e3", "007", "yes"]),
        ("na:\n- -1\n- null", "na", ["-1", "null"]),
        ("id_column: 0", "id_column", "0"),
        ("label_column: 3", "label_column", "3"),
        ("id_column: 2020-01-01", "id_column", "2020-01-01"),
        ("id_column: null", "id_column", None),
        ("out: 2024", "out", "2024"),
        ("hidden_sizes: 20", "hidden_sizes", [20]),
        ("learning_rate: 1e-3", "learning_rate", 1e-3),
    ],
)
def test_values_in_a_config_mean_the_same_as_in_a_shell(text: str, name: str, value: object) -> None:
    Path("run.yaml").write_text(f"{text}\n")
    assert parse(["fit", "table.csv", "--config", "run.yaml"])["fit"][name] == value


def test_a_printed_config_quotes_what_yaml_would_read_as_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["1e3", "1E-3", "-9999", "+1.", ".5", "007", "yes", "null", "~", "2020-01-01", "1_0", "0x1F", "?", "k.A."]
    arguments = ["fit", "table.csv", "--header", "no", "--id-column", "1e3", "--learning-rate", "1e-5", "--na"]
    assert main([*arguments, *texts, "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert "id_column: '1e3'\n" in printed
    assert "['1e3', '1E-3', '-9999'," in printed
    Path("run.yaml").write_text(printed)
    assert explicit_options(parse(["fit", "--config", "run.yaml"])["fit"]) == explicit_options(
        parse([*arguments, *texts])["fit"]
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rowz: 3\n", "unknown option rowz in the --config file; did you mean rows?"),
        ("model: vae\nsigma_steps: 3\n", "--sigma-steps is for somvae, and --model vae has no use for it"),
        ("accelerator: cpu\n", "accelerator in the --config file is now device"),
        ("model: gan\n", "--model must be som or somvae or"),
        ("rows: many\n", "--rows must be an integer, got 'many'"),
        ("rows: [\n", "--config must be a YAML or JSON file with options of this command"),
        ("- rows\n", "--config must be a YAML or JSON file with options of this command"),
        ("one_hot: {a: b}\n", "the --config file must hold a value or a list of values for one_hot"),
        ("columns: [[a]]\n", "the --config file must hold a value or a list of values for columns"),
        ("foo: &a [*a]\n", "the --config file must hold a value or a list of values for each option"),
        ("id_column: [a]\n", "the --config file must hold one value for id_column"),
        ("header: maybe\n", "--header must be yes or no, got 'maybe'"),
    ],
)
def test_an_error_in_a_config_is_reported_with_one_sentence(
    text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run.yaml").write_text(text)
    assert main(["fit", "table.csv", "--config", "run.yaml"]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


# ---- commands that use a folder --------------------------------------------------------------------------------------


def test_a_map_is_evaluated_on_its_training_data(capsys: pytest.CaptureFixture[str]) -> None:
    fit_map()
    capsys.readouterr()
    assert main(["evaluate", "map"]) == 0
    printed = lines_of(capsys.readouterr().out)
    saved = somvae_ext.load("map")
    rows = [line.split(",") for line in Path("table.csv").read_text().splitlines()[1:]]
    x = saved.scaling.apply(np.array([row[:2] for row in rows], dtype=float))
    node, kind = saved.som.predict(x), [row[2] for row in rows]
    expected = {
        "samples": 60,
        "quantization_error": saved.som.quantization_error(x),
        "topographic_error_4": saved.som.topographic_error(x, connectivity=4),
        "topographic_error_8": saved.som.topographic_error(x, connectivity=8),
        "usage": len(set(node.tolist())) / 12,
        "purity": evaluation.purity(kind, node),
        "nmi_arithmetic": evaluation.nmi(kind, node),
        "nmi_geometric": evaluation.nmi(kind, node, average="geometric"),
    }
    assert ResultFolder.open("map").evaluations["train"] == pytest.approx(expected)
    assert json.loads(Path("map/evaluation.json").read_text())["train"] == pytest.approx(expected)
    assert printed["nodes used"] == f"{len(set(node.tolist()))} of 12"
    assert printed["purity"] == f"{expected['purity']:.3f}"
    assert somvae_ext.load("map").som.quantization_error_ == pytest.approx(saved.som.quantization_error_)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["evaluate", "map", "--split", "test"],
            "--split must be train for map, which holds a map of all its data, got test",
        ),
        (["plot", "map", "--data-root", "x"], "--data-root is for a model, but map holds a map"),
        (["plot", "map", "--download"], "--download is for a model, but map holds a map"),
        (["plot", "run", "--kind", "clusters"], "--kind is for a map, but run holds a model"),
        (["plot", "map", "--clusters", "3"], "--clusters is now: somvae cluster RUN -n 3"),
        (["plot", "run", "--clusters"], "--clusters is now: somvae cluster RUN -n N"),
        (["plot", "run", "--image-shape", "2", "2"], "--image-shape is for a map, but run holds a model"),
        (
            ["sample", "map"],
            "map must hold a trained model, but it holds a map, which has no prior to sample from; somvae plot map "
            "draws its nodes",
        ),
        (["sample", "run", "map"], "map must hold a trained model, but it holds a map"),
        (["info", "nowhere"], "nowhere must be the folder of a trained map or model, but it has no manifest.json"),
    ],
)
def test_commands_that_a_result_does_not_support_are_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_map()
    fit_model()
    before = [contents(run) for run in ("map", "run")]
    capsys.readouterr()
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
    assert [contents(run) for run in ("map", "run")] == before


@pytest.mark.pictures
@pytest.mark.parametrize("run", ["map", "run"])
def test_maps_and_models_are_predicted_and_drawn(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    (fit_map if run == "map" else fit_model)()
    assert main(["predict", run, "table.csv", "-o", "nodes.csv"]) == 0
    header, *rows = Path("nodes.csv").read_text().splitlines()
    units = {"map": "distance_in_scaled_units", "run": "distance_in_latent_space"}[run]
    assert header == f"index,node,row,column,{units},class"
    assert len(rows) == 60
    capsys.readouterr()
    assert main(["plot", run, "-o", "pictures"]) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(map(str, Path("pictures").iterdir()))


def test_pictures_that_cannot_be_drawn_leave_no_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no")

    fit_map()
    monkeypatch.setattr("somvae_ext.plotting.plot_hits", fail)
    assert main(["plot", "map", "-o", "pictures"]) == 2
    assert not Path("pictures").exists()


def test_info_says_what_a_map_holds(capsys: pytest.CaptureFixture[str]) -> None:
    fit_map()
    capsys.readouterr()
    assert main(["info", "map"]) == 0
    printed = lines_of(capsys.readouterr().out)
    assert printed["kind"] == "map"
    assert printed["model"] == "som, 3 x 4 nodes, rectangular"
    assert printed["data"] == str(Path("table.csv").resolve())
    assert (printed["rows"], printed["features"]) == ("60", "2: height, weight")
    assert (printed["label column"], printed["classes"], printed["scaling"]) == ("kind", "a, b", "standard")
    assert printed["epochs"] == "3"
    assert "quantization_error" in printed["on train"]
    assert {"manifest.json", "hits.png", "nodes.safetensors"} <= set(printed["files"].split(", "))


def test_info_says_what_a_model_holds(capsys: pytest.CaptureFixture[str]) -> None:
    fit_model()
    capsys.readouterr()
    assert main(["info", "run"]) == 0
    printed = lines_of(capsys.readouterr().out)
    assert (printed["kind"], printed["model"]) == ("model", "somvae, 2 x 3 nodes, rectangular")
    assert printed["features"] == "2: height, weight"
    assert (printed["read as"], printed["split"], printed["epochs"]) == ("single samples", "holdout", "1")
    assert "purity" in printed["on test"]


def test_info_says_how_to_resume_an_interrupted_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = ResultFolder.save_checkpoint

    def interrupted(self: ResultFolder, epoch: int, *contents: object) -> None:
        save(self, epoch, *contents)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResultFolder, "save_checkpoint", interrupted)
        assert fit_map() == 130
    assert "somvae fit --resume map goes on from there" in capsys.readouterr().err
    assert main(["info", "map"]) == 0
    assert lines_of(capsys.readouterr().out)["epochs"] == "1 of 3; somvae fit --resume map goes on"
    assert main(["fit", "--resume", "map", "--quiet"]) == 0
