"""Checks this repository on a GPU in one call: builds, tests, sanitizes and measures.

    benchmarks/gpu_check.sh                                writes benchmarks/results/gpu_check.json
    benchmarks/gpu_check.sh --only search maps             runs single steps again; the report keeps the others
    benchmarks/gpu_check.sh --rehearse --out /tmp/check    the same steps on the CPU, at sizes that mean nothing

Made for a machine that is available for a quarter of an hour: steps run in order of importance, each has a time limit,
and if a step or the whole check is stopped, the report holds what was measured by then. Nothing is installed, and the
network is not used. The library is built in place for the GPU at hand, unless ``--prebuilt`` names one that was built
elsewhere for the same Python and torch. ``--wheels`` names a folder of wheels of other libraries to measure against
(``pip wheel`` makes one for a library that has none). The check fails if a step that is not advisory failed or was
stopped.

The limits below add up to more than the budget of the check, since they leave room for failures. If many steps reach
their limits, the last ones are skipped.

| step | seconds | what |
|---|---|---|
| machine | 40 | the machine and its ceilings: bytes copied, matrix products |
| build | 180 | the library |
| kernels | 60 | tests of the search's kernels and of captured graphs; the first failure ends them |
| search | 100 | best matching units, each of our kernels forced, random and trained codes, beside others |
| tests | 120 | all tests of ops, optimizers, layers and models on CUDA |
| memcheck, racecheck, synccheck | 90 | every op under compute-sanitizer, side by side |
| initcheck | 90 | beside them; advisory, since it reports torch's own kernels too; ours are counted apart |
| counters | 40 | six kernels under ncu |
| maps | 120 | large maps trained, ours and fastersom |
| head | 60 | training steps of the SOM head, eager and as a graph |
| ops | 120 | every op, forward and backward, beside plain torch |
| steps | 40 | training steps of a whole SOM-VAE, by gradients and ordered |
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from steps import Check, Step
from tool_reports import no_test_ran, not_sanitized, read_json, read_junit, read_ncu, read_sanitizer

ROOT = Path(__file__).resolve().parent.parent
NAME = "gpu_check"
BUDGET = 560  # seconds, of the 600 that a call on such a machine may take
NAMES = [
    "machine", "build", "kernels", "search", "tests", "memcheck", "racecheck", "synccheck", "initcheck", "counters",
    "maps", "head", "ops", "steps",
]  # fmt: skip
FIRST_TESTS = ["python_tests/ops/test_bmu_kernels.py", "python_tests/nn/test_cuda_graph.py"]
TESTS = ["python_tests/ops", "python_tests/optim", "python_tests/nn", "python_tests/models"]
PROFILED = (  # the kernels that profiled_ops.py runs
    "difference_search_kernel",
    "tensor_core_search_kernel",
    "segment_sum_tiles_kernel",
    "weighted_sum_kernel",
    "som_head_kernel",
    "transition_losses_partial_kernel",
)
METRICS = (
    "gpu__time_duration.sum",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "dram__bytes.sum",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_fma.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
    "l1tex__data_bank_conflicts_pipe_lsu.sum",
    "launch__registers_per_thread",
)


# --- GPU, tools and libraries ----------------------------------------------------------------------------------------


def compute_capability() -> str | None:
    """Compute capability of the first GPU, such as ``"9.0"``; None where torch sees none."""
    code = "import torch; print('%d.%d' % torch.cuda.get_device_capability() if torch.cuda.is_available() else '')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return answer.stdout.strip() or None


def find_tool(name: str) -> str | None:
    """Path of one of CUDA's tools, or None."""
    homes = [Path(home) for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    folders = [folder for home in homes for folder in (home / "bin", home / name)]
    folders += sorted(Path("/opt/nvidia/nsight-compute").glob("*"), reverse=True)
    paths = [shutil.which(name), *(shutil.which(name, path=str(folder)) for folder in folders)]
    return next(filter(None, paths), None)


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def install_peers(wheels: Path) -> str | None:
    """A temporary folder with the libraries of these wheels, for PYTHONPATH; None, with a message, if pip fails."""
    files = sorted(wheels.glob("*.whl"))
    target = tempfile.mkdtemp(prefix="peers")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", target]
    answer = subprocess.run([*pip, *map(str, files)], capture_output=True, text=True)
    if answer.returncode:
        print(f"--wheels: {answer.stderr.strip()}; going on without them", file=sys.stderr)
        return None
    print(f"--wheels: {', '.join(file.name for file in files)}")
    return target


def place_prebuilt(library: Path, capability: str | None) -> bool:
    """Copies a library to where it is imported from; returns whether it loads here and has code for this GPU."""
    target = ROOT / "somvae_ext" / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    in_place = target.exists() and target.samefile(library)
    if not in_place:
        shutil.copyfile(library, target)
    code = "import somvae_ext as s; i = s.build_info(); print(i['native'], *i['cuda_archs'])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    native, *archs = answer.stdout.split() or ["False"]
    if native == "True" and (capability is None or capability in [arch.removesuffix("+PTX") for arch in archs]):
        return True
    if not in_place:
        target.unlink()
    reason = answer.stdout.strip() or answer.stderr.strip()[-300:]
    print(f"--prebuilt: {library} does not fit here ({reason}); building")
    return False


# --- The steps -------------------------------------------------------------------------------------------------------


def all_steps(arguments: argparse.Namespace, capability: str | None, parts: Path) -> Iterator[tuple[Step, ...]]:
    """Yields the steps in order; those that run side by side are in one tuple."""
    toy = arguments.rehearse
    device = "cpu" if toy else "cuda"
    images = ["--data-root", str(arguments.data_root)] if arguments.data_root else []

    def measure(name: str, suite: str, limit: float, real: Sequence[str], small: Sequence[str]) -> Step:
        """A suite of ``somvae bench``, with its options for a GPU or for a rehearsal."""
        path = parts / f"{name}.json"
        options = [*small, "--quick", "--passes", "1", "--repeat", "1", "--threads", "1"] if toy else real
        command = [sys.executable, "-m", "somvae_ext.bench", suite, "--device", device, "--no-picture", *options]
        return Step(name, [*command, "--json", str(path)], limit, result=(path, read_json))

    ceilings = parts / "machine.json"
    command = [sys.executable, "benchmarks/ceilings.py", "--device", device, *(["--toy"] if toy else [])]
    yield (Step("machine", [*command, "--json", str(ceilings)], 40, result=(ceilings, read_json)),)

    yield (build_step(toy, capability, skip="a library built elsewhere" if arguments.placed else None),)

    yield (pytest_step("kernels", FIRST_TESTS, 60, parts, device, "-x"),)

    search = ["--only", "headline", "maps"]
    yield (measure("search", "bmu", 100, [*search, "dtype", "--repeat", "3", *images], [*search, *images]),)

    workers = ["-n", str(min(12, os.cpu_count() or 1))] if is_installed("xdist") else []
    folders = ["python_tests/optim"] if toy else TESTS
    yield (pytest_step("tests", folders, 120, parts, device, "--continue-on-collection-errors", *workers),)

    yield tuple(sanitizer_step(tool, parts, device) for tool in ("memcheck", "racecheck", "synccheck", "initcheck"))

    yield (counters_step(parts, device),)

    large = ["--only", "large"]
    yield (measure("maps", "training", 120, large, large),)

    fused = ["--only", "nodes", "--peers", "torch, fused Adam"]
    yield (measure("head", "head", 60, fused, fused),)

    yield (measure("ops", "ops", 120, [], []),)

    somvae = ["--only", "somvae"]
    yield (measure("steps", "models", 40, somvae, somvae),)


def build_step(toy: bool, capability: str | None, skip: str | None) -> Step:
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    environment = {} if toy else {"SOMVAE_EXT_CUDA": "1", "TORCH_CUDA_ARCH_LIST": capability or ""}
    return Step("build", command, 900 if toy else 180, environment=environment, skip=skip)


def pytest_step(name: str, paths: Sequence[str], limit: float, parts: Path, device: str, *options: str) -> Step:
    """The tests in ``paths`` that are marked for this device."""
    path, marked = parts / f"{name}.xml", "cuda" if device == "cuda" else "not cuda"
    command = [sys.executable, "-m", "pytest", "-v", "-m", marked, "-p", "no:cacheprovider", *options]
    return Step(
        name,
        [*command, f"--junit-xml={path}", *paths],
        limit,
        grace=30 if "-n" in options else 10,  # the workers of xdist take longer to end
        result=(path, read_junit),
        objection=no_test_ran,
        environment={"OMP_NUM_THREADS": "1"},
    )


def sanitizer_step(tool: str, parts: Path, device: str) -> Step:
    """Every op under one of compute-sanitizer's tools; without a GPU the same program alone."""
    program = [sys.executable, "benchmarks/sanitize_ops.py", "--device", device]
    if device == "cpu":
        return Step(tool, program, 90, skip=None if tool == "memcheck" else "without its tool it is what memcheck runs")
    command = find_tool("compute-sanitizer")
    # initcheck alone must see torch's kernels, which fill our inputs.
    only = [] if tool == "initcheck" else ["--kernel-name", "kns=somvae"]
    # torch's memory cache would hide overruns from one tensor into the next.
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return Step(
        tool,
        [command or "compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *only, *program],
        90,
        result=(parts / f"{tool}.txt", read_sanitizer),
        output_is_result=True,
        objection=not_sanitized,
        environment=environment,
        skip=None if command else "compute-sanitizer was not found",
        cannot_run=("Device not supported",),
        advisory=tool == "initcheck",
    )


def counters_step(parts: Path, device: str) -> Step:
    """Hardware counters of six kernels; without a GPU the same program alone."""
    program = [sys.executable, "benchmarks/profiled_ops.py", "--device", device]
    if device == "cpu":
        return Step("counters", program, 40, advisory=True)
    command = find_tool("ncu")
    options = ["--clock-control", "none", "--profile-from-start", "off", "--csv"]
    options += ["--kernel-name", f"regex:(^|::)({'|'.join(PROFILED)})$", "--metrics", ",".join(METRICS)]
    return Step(
        "counters",
        [command or "ncu", *options, *program],
        40,
        result=(parts / "counters.csv", read_ncu),
        output_is_result=True,
        objection=some_kernel_is_missing,
        skip=None if command else "ncu was not found",
        cannot_run=("LibraryNotLoaded", "ERR_NVGPUCTRPERM"),
        advisory=True,
    )


def some_kernel_is_missing(rows: list[dict[str, Any]]) -> str | None:
    """The objection to a profile that lacks one of the kernels."""
    missing = [name for name in PROFILED if not any(name in row["kernel"] for row in rows)]
    return f"ncu profiled no {', no '.join(missing)}" if missing else None


def chosen_steps(arguments: argparse.Namespace, capability: str | None, parts: Path) -> Iterator[list[Step]]:
    """Groups of steps to run side by side. A rehearsal, where nothing is measured, runs two at a time."""
    waiting: list[Step] = []
    for group in all_steps(arguments, capability, parts):
        waiting += [step for step in group if step.name in arguments.only]
        alone = not arguments.rehearse or any(step.name in ("machine", "build") for step in group)
        if waiting and (alone or len(waiting) > 1):
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="STEP", help=f"steps to run, of {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of report and log (default: benchmarks/results, or build/gpu_check with --rehearse)",
    )
    parser.add_argument("--budget", type=float, default=BUDGET, help=f"seconds for everything (default: {BUDGET})")
    parser.add_argument("--prebuilt", type=Path, help="a _C*.so that was built for this Python, torch and GPU")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels of libraries to measure against")
    parser.add_argument("--data-root", type=Path, help="folder with MNIST/raw: also search maps of its images")
    parser.add_argument("--commit", help="the commit that the report names if there is no git")
    parser.add_argument("--rehearse", action="store_true", help="the same steps on the CPU, at toy size")
    arguments = parser.parse_args()
    arguments.capability = None if arguments.rehearse else compute_capability()
    if not arguments.rehearse and not arguments.capability:
        parser.error("torch sees no GPU; --rehearse runs the same steps on the CPU")
    arguments.out = (
        arguments.out or ROOT / ("build/gpu_check" if arguments.rehearse else "benchmarks/results")
    ).resolve()
    arguments.placed = bool(arguments.prebuilt) and place_prebuilt(arguments.prebuilt, arguments.capability)
    return arguments


def main() -> None:
    begin = monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as for Ctrl-C, the report then holds all results so far
    arguments = parse_arguments()
    peers = install_peers(arguments.wheels) if arguments.wheels else None
    path = [str(ROOT), *filter(None, [peers, os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = arguments.commit or subprocess.run(git, capture_output=True, text=True).stdout.strip() or None

    about = {"commit": commit, "rehearsal": arguments.rehearse}
    check = Check(arguments.out, NAME, ROOT, arguments.budget, begin, about)
    parts = arguments.out / f"{NAME}_parts"
    interrupted = False
    try:
        for group in chosen_steps(arguments, arguments.capability, parts):
            if not check.run(*group) and "build" in check.failed():
                break  # nothing else would run
    except KeyboardInterrupt:
        interrupted = True
    if parts.is_dir() and not any(parts.iterdir()):
        parts.rmdir()
    print(f"\n{check.path}, {check.log.name}\n{check.summary()}")
    sys.exit(130 if interrupted else bool(check.failed()))


if __name__ == "__main__":
    main()
