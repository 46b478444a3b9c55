"""``somvae bench`` and ``python -m somvae_ext.bench``: what they measure, write, and refuse."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installations import python_without

import somvae_ext
from somvae_ext.bench import bmu, run
from somvae_ext.bench.__main__ import main as module_main
from somvae_ext.bench.files import SCHEMA, ResultFile, changed_contestants
from somvae_ext.bench.options import MEASURING, add_options, jobs, own_options
from somvae_ext.bench.rows import OURS, Row
from somvae_ext.bench.suite import Plan
from somvae_ext.bench.suites import SUITES
from somvae_ext.cli import main
from somvae_ext.cli.options import parse

SMALL = {
    "ops": ["--ops", "som_losses", "-N", "20", "--side", "3", "-D", "4"],
    "bmu": ["-N", "50", "-K", "9", "-D", "3", "--dtype", "bfloat16", "-k", "2"],
    "pruned": ["-N", "60", "--side", "4", "-D", "3"],
    "head": ["--side", "3", "--batch", "8", "--peers"],
    "training": ["-N", "60", "-D", "3", "--side", "4", "--epochs", "2", "--peers"],
    "models": ["--model", "vae", "--batch", "4"],
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bench(*arguments: str) -> int:
    return main(["bench", *arguments, "--repeat", "1", "--threads", "1"])


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_measures_a_custom_shape(suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(suite, *SMALL[suite], "--no-picture") == 0
    said = capsys.readouterr()
    written = ResultFile.read(Path("runs/bench") / f"{suite}.json")
    assert written.contents["suite"] == suite
    assert written.contents["command"].startswith(f"somvae bench {suite} ")
    assert {"commit", "cpu", "torch", "somvae_ext"} <= written.contents["machine"].keys()
    assert written.contents["one_thread_clock"] == "process_time"
    assert written.contents["seconds"] > 0
    assert [len(load) for load in written.contents["load_average"].values()] == [3, 3]
    for row in written.rows:
        assert row.ours in row.samples
        assert {len(times) for times in row.samples.values()} == {1}
        assert (row.suite, row.device, row.threads) == (suite, "cpu", 1)
        for name in ("N", "D"):
            if f"-{name}" in SMALL[suite]:
                assert str(row.size[name]) == SMALL[suite][SMALL[suite].index(f"-{name}") + 1]
        assert row.label in said.out
        assert row.label in said.err
    assert f"{SUITES[suite].summary}; ms are CPU time (process_time)\n" in said.out
    assert "files: runs/bench" in said.out


def test_the_picture_is_written_beside_the_result_file() -> None:
    assert bench("bmu", "-N", "50", "-K", "9", "-D", "3", "--json", "some/where.json", "--quiet") == 0
    assert sorted(path.name for path in Path("some").iterdir()) == ["where.json", "where.png"]
    assert not Path("runs").exists()


def test_libraries_that_are_not_installed_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peers = {"torch": "2", "faiss": None}
    monkeypatch.setitem(SUITES, "bmu", dataclasses.replace(SUITES["bmu"], peers=lambda device: peers))
    assert bench("bmu", "-N", "5", "-K", "4", "-D", "2", "--no-picture") == 0
    assert "not installed, so not measured: faiss" in capsys.readouterr().out
    assert json.loads(Path("runs/bench/bmu.json").read_text())["not_installed"] == ["faiss"]


def test_files_are_replaced_only_with_overwrite(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["bmu", "-N", "5", "-K", "4", "-D", "2", "--no-picture", "--quiet"]
    assert bench(*small) == 0
    before = Path("runs/bench/bmu.json").read_bytes()
    assert bench(*small) == 2
    sentence = "runs/bench/bmu.json is there already; choose another --out or --json, or set --overwrite"
    assert sentence in capsys.readouterr().err
    assert Path("runs/bench/bmu.json").read_bytes() == before
    assert bench(*small, "--overwrite") == 0


def rows(*factors: float) -> list[Row]:
    """Makes a row with 9 repetitions per factor, which multiplies our times but not those of "mm"."""
    times = [1 + number / 100 for number in range(9)]
    return [
        Row("bmu", f"case {number}", {}, samples={OURS: [factor * time for time in times], "mm": times})
        for number, factor in enumerate(factors)
    ]


def test_without_a_suite_all_of_them_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plans: list[Plan] = []

    def measure(plan: Plan) -> Iterator[Row]:
        plans.append(plan)
        yield from rows(1)

    for name, suite in SUITES.items():
        monkeypatch.setitem(SUITES, name, dataclasses.replace(suite, measure=measure))
    assert main(["bench", "--quick", "--no-picture", "--quiet"]) == 0
    assert sorted(path.stem for path in Path("runs/bench").iterdir()) == sorted(SUITES)
    assert len(plans) == 8 * len(SUITES)
    assert all(plan.quick and plan.threads == [1] and (plan.passes, plan.repetitions) == (8, 2) for plan in plans)
    assert not any({"memory", "growth"} & {*plan.parts} for plan in plans)
    assert [ResultFile.read(path).rows[0].passes for path in Path("runs/bench").iterdir()] == [8] * len(SUITES)
    assert capsys.readouterr().out.count("case 0") == len(SUITES)


def test_a_full_run_of_the_search_measures_its_memory_once() -> None:
    (job,) = jobs(parse(["bench", "bmu"]).bench)
    assert "memory" in job.plan.parts
    calls = [
        dataclasses.replace(job.plan, parts=["memory"], threads=[1, 2], passes=2, number=number) for number in (0, 1)
    ]
    measured: list[int | None] = []

    def memory_at_scale(plan: Plan, threads: int | None) -> Row:
        measured.append(threads)
        return rows(1)[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bmu, "memory_at_scale", memory_at_scale)
        assert [len(list(bmu.measure(plan))) for plan in calls] == [1, 0]
    assert measured == [2]


def test_the_file_of_an_unfinished_run_holds_the_time_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(plan: Plan) -> Iterator[Row]:
        time.sleep(0.1)
        yield from rows(1)
        contents = ResultFile.read(Path("runs/bench/ops.json")).contents
        assert contents["seconds"] >= 0.1
        assert len(contents["load_average"]["after"]) == 3

    monkeypatch.setitem(SUITES, "ops", dataclasses.replace(SUITES["ops"], measure=measure))
    assert bench("ops", "--no-picture", "--quiet") == 0


def test_derived_figures_use_the_times_of_all_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base takes 1, 1 and 4 s, its double 2, 8 and 8 s: the medians are 1 and 8 s, the first pass 1 and 2 s."""
    times = {"base": [1.0, 1.0, 4.0], "N doubled": [2.0, 8.0, 8.0]}

    def measure(plan: Plan) -> Iterator[Row]:
        for name, seconds in times.items():
            yield Row("bmu", f"growth, {name}", {}, threads=1, samples={OURS: [seconds[plan.number]]})

    monkeypatch.setitem(SUITES, "bmu", dataclasses.replace(SUITES["bmu"], measure=measure, claims=lambda rows: []))
    assert main(["bench", "bmu", "--repeat", "1", "--threads", "1", "--passes", "3", "--no-picture", "--quiet"]) == 0
    written = ResultFile.read(Path("runs/bench/bmu.json")).rows
    assert [row.extra["times_of_base"] for row in written] == [1, 8]


def test_shares_of_a_floor_use_the_times_of_all_passes() -> None:
    def part(seconds: float) -> Row:
        samples = {"somvae_ext": [1.0], "somvae_ext ffma": [seconds], "mm float32": [1.0]}
        return Row("bmu", "headline", {}, device="cuda", samples=samples, work=8e9, ceilings={"mm float32": 32e9})

    (row,) = bmu.derived([part(9).with_pass(part(1)).with_pass(part(1))])
    assert row.extra["share_of_floor"] == {"somvae_ext ffma": pytest.approx(0.5)}  # 8 of 32 / 2 GFLOP/s


@pytest.mark.parametrize("entry", [lambda arguments: main(["bench", *arguments]), module_main])
def test_an_interrupted_run_keeps_what_it_has_measured(
    entry: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(plan: Plan) -> Iterator[Row]:
        yield from rows(1, 2)
        raise KeyboardInterrupt

    monkeypatch.setitem(SUITES, "ops", dataclasses.replace(SUITES["ops"], measure=measure))
    assert entry(["ops"]) == 130  # type: ignore[operator]
    said = capsys.readouterr()
    assert "interrupted; 2 rows are in runs/bench/ops.json" in said.err
    assert "case 1" in said.out
    assert len(ResultFile.read(Path("runs/bench/ops.json")).rows) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bmu", "-N", "0"], "-N must be at least 1, got 0"),
        (["bmu", "--side", "3"], "--side is not for bmu, which takes -N, -K, -D, -k, --dtype"),
        (["-N", "3"], "-N needs a SUITE: somvae bench bmu -N 3, say"),
        (["bmu", "-N", "many"], "must be an integer, got 'many'"),
        (["bmu", "-k", "3"], "-k must be 1 or 2 and at most the codes, got 3 for 4096 codes"),
        (["bmu", "--dtype", "int8"], "--dtype must be float32 or float64 or bfloat16 or float16, got 'int8'"),
        (["bmu", "-N", "100000000000000", "-D", "4"], "-N 100000000000000 -D 4 takes about "),
        (["pruned", "--side", "10000000"], "GiB are left"),
        (["pruned", "-D", "1"], "-N, --side and -D must be at least 2"),
        (["ops", "--ops", "transition_log_prob", "-K", "9000000"], "GiB are left"),
        (["ops", "--ops", "bmu", "--side", "3"], "bmu takes -N, -K, -D, got --side"),
        (["ops", "--ops", "sorting"], "--ops must be of bmu, "),
        (["ops", "--only", "bmu"], "--only is for a suite that has parts, and ops has --ops, got ops"),
        (["bmu", "--ops", "bmu"], "--ops is for ops, got bmu"),
        (["bmu", "--only", "tails"], "--only must be of headline, maps, D, "),
        (["bmu", "--only", "D", "-N", "3"], "--only is for a suite's own sizes, and a custom shape is one case"),
        (["head", "--side", "100000"], "GiB are left"),
        (["training", "-N", "10000000000"], "GiB are left"),
        (["training", "--only", "mnist"], "--only mnist needs --data-root, the folder with MNIST/raw"),
        (["models", "--model", "vae", "--side", "3"], "--side is for --model somvae, and vae has no map"),
        (["bmu", "--peers", "annoy"], "--peers must be of "),
        (["--peers", "faiss", "annoy"], "for all suites, got 'annoy'"),
        (["ops", "--data-root", "."], "--data-root is for images, and ops has none"),
        (["models", "--data-root", "."], "--data-root is for images, and models has none"),
        (
            ["bmu", "-N", "3", "--data-root", "."],
            "--data-root is for a suite's own sizes, and a custom shape is drawn at random",
        ),
        (["compare", "a", "b", "--quick"], "--quick is for measuring, and somvae bench compare measures nothing"),
        (["compare", "a", "b", "--peers"], "--peers is for measuring"),
        (["compare", "a", "b", "-N", "3"], "-N is for measuring"),
        (["compare", "a", "b", "--data-root", "."], "--data-root is for measuring"),
        (["compare", "a", "b", "--no-picture"], "--no-picture is for measuring"),
        (["bmu", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["bmu", "--repeat", "-1"], "--repeat must be at least 1, got -1"),
        (["bmu", "--data-root", "nowhere"], "--data-root must be a folder that exists, got nowhere"),
        (["--json", "a.json"], "--json is for one suite, and in place of --out"),
        (["bmu", "--json", "a.txt"], "--json must be a .json file, got a.txt"),
        (["bmu", "a.json"], "unexpected argument 'a.json': files are for somvae bench compare"),
        (["bmu", "--least-effect", "0.2"], "--least-effect is for somvae bench compare"),
        (["boxes"], "SUITE must be ops or bmu or pruned or head or training or models or compare, got 'boxes'"),
    ],
)
def test_invalid_arguments_give_a_one_line_error(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert sentence in error
    assert not Path("runs").exists()


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert bench("bmu", "--device", "cuda") == 2
    assert capsys.readouterr().err == "somvae: --device cuda needs a GPU that torch can use, got none\n"


def test_threads_are_refused_on_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert bench("bmu", "--device", "cuda") == 2
    assert capsys.readouterr().err == "somvae: --threads is for --device cpu: on a GPU it changes nothing\n"


def test_every_option_of_measuring_is_refused_by_a_comparison() -> None:
    of_comparing = {"suite", "files", "least_effect"}
    parser = argparse.ArgumentParser()
    add_options(parser)
    assert {*vars(parser.parse_args([]))} == {*MEASURING, *own_options(), *of_comparing}


def test_the_commands_of_the_readme_are_understood() -> None:
    lines = re.findall(
        r"^somvae bench .*$", (Path(somvae_ext.__file__).parents[1] / "README.md").read_text(), re.MULTILINE
    )
    assert len(lines) == 4
    for line in lines:
        options = parse(shlex.split(line, comments=True)[1:]).bench
        assert options.suite == "compare" or jobs(options)


# --- Comparing -------------------------------------------------------------------------------------------------------


def write(path: str, *factors: float, **machine: object) -> str:
    contents = {
        "schema": SCHEMA,
        "machine": {"cpu": "some", "cores": 2, "threads": 1, **machine},
        "quick": True,
        "peers": {},
        "rows": [row.as_json() for row in rows(*factors)],
    }
    Path(path).write_text(json.dumps(contents))
    return path


@pytest.mark.parametrize(("factors", "code"), [((1, 1), 0), ((1, 1.2), 1), ((1, 0.8), 0), ((1.2, 1.2), 1)])
def test_the_exit_code_tells_whether_something_is_slower(factors: tuple[float, ...], code: int) -> None:
    assert main(["bench", "compare", write("a.json", 1, 1), write("b.json", *factors)]) == code


def test_a_comparison_names_rows_and_machines_that_differ(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", write("a.json", 1, 1, 1), write("b.json", 1, 1.3, cpu="other", cores=4)]
    assert module_main(arguments) == 1
    said = capsys.readouterr()
    assert "the processor differs: some and other" in said.err
    assert "the number of cores differs: 2 and 4" in said.err
    assert re.search(r"^bmu: case 1 +1\.300 .* slower$", said.out, re.MULTILINE)
    assert "1 slower, 0 faster, 1 the same" in said.out
    assert "1 only in the first file: bmu: case 2" in said.out


def test_contestants_of_different_versions_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """The product "mm" is torch's, so with two versions of torch it says nothing about the machine."""
    slower = [dataclasses.replace(row, samples={**row.samples, "mm": [2.0] * 9}) for row in rows(1, 1)]
    before, after = write("a.json", 1, 1, torch="2.13"), write("b.json", 1, 1, torch="2.14")
    contents = json.loads(Path(after).read_text())
    Path(after).write_text(json.dumps(contents | {"rows": [row.as_json() for row in slower]}))
    assert main(["bench", "compare", before, after]) == 0
    said = capsys.readouterr()
    assert "torch differs: 2.13 and 2.14" in said.err
    assert "2 by raw times, as no other contestant of the same version took turns with ours in both files" in said.out


def test_a_contestants_version_is_that_of_its_package() -> None:
    def file(**peers: str) -> ResultFile:
        row = Row(
            "bmu", "case", {}, samples={OURS: [1.0], "sklearn argmin": [1.0], "faiss": [1.0], "mm float32": [1.0]}
        )
        packages = {"sklearn argmin": "sklearn", "faiss": "faiss"}
        return ResultFile(Path(), {"machine": {"torch": "2"}, "peers": peers, "contestants": packages}, [row])

    assert changed_contestants(file(sklearn="1.7", faiss="1"), file(sklearn="1.8", faiss="1")) == {"sklearn argmin"}


def test_contestants_that_disagree_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    contents = json.loads(Path(write("a.json", 1)).read_text())
    for name, factor in (("a.json", 1), ("b.json", 1.5)):
        row = rows(1)[0]
        torch = [factor * time for time in row.samples["mm"]]
        changed = dataclasses.replace(row, samples={**row.samples, "torch": torch})
        Path(name).write_text(json.dumps(contents | {"rows": [changed.as_json()]}))
    assert main(["bench", "compare", "a.json", "b.json"]) == 0
    assert "1 unknown: the other contestants changed, each in another way" in capsys.readouterr().out


def test_files_with_too_few_repetitions_are_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    contents = json.loads(Path(write("a.json", 1, 2)).read_text())
    for row in contents["rows"]:
        row["samples"] = {name: times[:2] for name, times in row["samples"].items()}
    Path("a.json").write_text(json.dumps(contents))
    assert main(["bench", "compare", "a.json", "a.json"]) == 2
    said = capsys.readouterr()
    assert "2 unknown: a row needs at least 4 passes, or as many repetitions in a single pass" in said.out
    assert said.err == "somvae: the files have too few repetitions for a comparison\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "a.json"], "compare takes two files, the earlier one and the later one, got 1"),
        (["compare", "a.json", "none.json"], "none.json"),
        (
            ["compare", "a.json", "text.json"],
            f"text.json must be a file that somvae bench has written, with schema {SCHEMA}",
        ),
        (["compare", "a.json", "empty.json"], "a.json and empty.json have no row in common"),
        (["compare", "a.json", "a.json", "--least-effect", "-1"], "--least-effect must be a share from 0"),
    ],
)
def test_files_that_cannot_be_compared_are_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("a.json", 1)
    write("empty.json")
    Path("text.json").write_text("{}")
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert sentence in error


# --- On a machine with few libraries ---------------------------------------------------------------------------------


def test_no_module_of_the_benchmarks_imports_what_gpu_machines_lack() -> None:
    package = Path(run.__file__).parent
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert not imported & {"jsonargparse", "lightning_fabric", "pyarrow", "scipy"}


RUN = f"""
sys.path.insert(0, {str(Path(somvae_ext.__file__).parents[1])!r})
from somvae_ext.bench.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
OTHERS = {"jsonargparse", "lightning_fabric", "matplotlib", "torchvision", "pyarrow", "minisom", "bokeh", "jinja2"}
WITHOUT_SKLEARN = {*OTHERS, "sklearn", "tqdm"}


@pytest.mark.parametrize(
    ("suite", "shape"), [*SMALL.items(), ("ops", ["--ops", "bmu_index", "-N", "60", "--side", "4", "-D", "3"])]
)
def test_the_module_runs_with_torch_alone_and_training_with_scikit_learn(suite: str, shape: list[str]) -> None:
    hidden = OTHERS if suite == "training" else WITHOUT_SKLEARN
    done = python_without(hidden, RUN, suite, *shape, "--repeat", "1", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert (
        "no picture: a picture needs matplotlib, which is not installed; run: pip install 'somvae_ext[plot]'"
        in done.stderr
    )
    assert ResultFile.read(Path(f"runs/bench/{suite}.json")).rows


@pytest.mark.parametrize("arguments", [[], ["training"]])
def test_training_says_that_it_needs_scikit_learn_before_anything_runs(arguments: list[str]) -> None:
    done = python_without(WITHOUT_SKLEARN, RUN, *arguments)
    sentence = "the suite training needs scikit-learn, which is not installed; run: pip install 'somvae_ext[som]'"
    assert (done.returncode, done.stderr) == (2, f"python -m somvae_ext.bench: {sentence}\n")
    assert not Path("runs").exists()
