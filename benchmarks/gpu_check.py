"""Everything that a GPU can say about this repository, in one call: builds, tests, sanitizes, measures.

    benchmarks/gpu_check.sh                                writes benchmarks/results/gpu_check.json
    benchmarks/gpu_check.sh --only search maps             single steps again; the others stay as the report has them
    benchmarks/gpu_check.sh --rehearse --out /tmp/check    the same steps on the CPU, at sizes that mean nothing

Made for a machine that is lent for a quarter of an hour: steps come in the order of their worth, each has a limit, and
what was measured when a step is stopped, or the whole check, is in the report. Nothing is installed and no network is
used. The library is built in place for the GPU at hand, unless ``--prebuilt`` names one that was built elsewhere for
the same Python and torch. Other libraries to measure against may come as ``--wheels``, a folder of wheels. Fails if a
step that counts failed or was stopped.

| step | seconds | what |
|---|---|---|
| machine | 30 | what is there, and its ceilings: bytes copied, matrix products |
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

from steps import Check, Step
from tool_reports import no_test_ran, read_json, read_junit, read_ncu, read_sanitizer

ROOT = Path(__file__).resolve().parent.parent
NAME = "gpu_check"
BUDGET = 580
NAMES = [
    "machine", "build", "kernels", "search", "tests", "memcheck", "racecheck", "synccheck", "initcheck", "counters",
    "maps", "head", "ops",
]  # fmt: skip
PROFILED = (  # the kernels that profiled_ops.py runs
    "exact_search_kernel",
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


def capability() -> str | None:
    """Of the first GPU, such as ``"9.0"``; None where torch sees none."""
    code = "import torch; print('%d.%d' % torch.cuda.get_device_capability() if torch.cuda.is_available() else '')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return answer.stdout.strip() or None


def find_tool(name: str) -> str | None:
    """One of CUDA's tools."""
    homes = [os.environ.get("CUDA_HOME"), "/usr/local/cuda", "/opt/nvidia/nsight-compute"]
    folders = [Path(home) / inner for home in homes if home for inner in ("bin", name, "")]
    found = [shutil.which(name), *(shutil.which(name, path=str(folder)) for folder in folders)]
    return next(filter(None, found), None)


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def install_peers(wheels: Path) -> str | None:
    """A temporary folder with the libraries of these wheels, for PYTHONPATH; None, and said, where pip fails."""
    target = tempfile.mkdtemp(prefix="peers")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", target]
    answer = subprocess.run([*pip, *map(str, sorted(wheels.glob("*.whl")))], capture_output=True, text=True)
    if answer.returncode:
        print(f"--wheels: {answer.stderr.strip()}; going on without them", file=sys.stderr)
        return None
    return target


def place_prebuilt(library: Path, capability: str | None) -> bool:
    """Puts a library where it is imported from; whether it loads here and has code for this GPU."""
    target = ROOT / "somvae_ext" / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    shutil.copyfile(library, target)
    code = "import somvae_ext as s; i = s.build_info(); print(i['native'], *i['cuda_archs'])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    native, *archs = answer.stdout.split() or ["False"]
    if native == "True" and (capability is None or capability in [arch.removesuffix("+PTX") for arch in archs]):
        return True
    target.unlink()
    print(
        f"--prebuilt: {library} does not fit here ({answer.stdout.strip() or answer.stderr.strip()[-300:]}); building"
    )
    return False


def all_steps(arguments: argparse.Namespace, capability: str | None, parts: Path) -> Iterator[tuple[Step, ...]]:
    """The steps in their order, those that run side by side together."""
    toy = arguments.rehearse
    device = "cpu" if toy else "cuda"
    workers = min(12, os.cpu_count() or 1)

    def benchmark(name: str, file: str, limit: float, *options: str) -> Step:
        path = parts / f"{name}.json"
        command = [sys.executable, f"benchmarks/{file}", "--device", device, *options, "--json", str(path)]
        return Step(name, command, limit, (path, read_json))

    yield (benchmark("machine", "ceilings.py", 30, *(["--toy"] if toy else [])),)

    build = [sys.executable, "setup.py", "build_ext", "--inplace"]
    archs = {} if toy else {"SOMVAE_EXT_CUDA": "1", "TORCH_CUDA_ARCH_LIST": capability or ""}
    at_hand = arguments.prebuilt and "build" in arguments.only and place_prebuilt(arguments.prebuilt, capability)
    yield (
        Step(
            "build",
            build,
            600 if toy else 180,
            environment=archs,
            skip="a library built elsewhere" if at_hand else None,
        ),
    )

    first = [f"python_tests/{name}" for name in ("ops/test_bmu_kernels.py", "nn/test_cuda_graph.py")]
    yield (pytest_step("kernels", first, 60, parts, device, "-x"),)

    images = ["--data-root", str(arguments.data_root)] if arguments.data_root else []
    small = ["--log2-flop", "24", "--repeat", "1", "--threads", "2"] if toy else ["--repeat", "3"]
    yield (
        benchmark(
            "search", "bmu.py", 100, "--sweeps", "headline", "maps", *([] if toy else ["dtype"]), *small, *images
        ),
    )

    folders = [f"python_tests/{name}" for name in (["optim"] if toy else ["ops", "optim", "nn", "models"])]
    side_by_side = ["-n", str(workers)] if is_installed("xdist") else []
    yield (pytest_step("tests", folders, 120, parts, device, "--continue-on-collection-errors", *side_by_side),)

    yield tuple(sanitizer_step(tool, parts, device) for tool in ("memcheck", "racecheck", "synccheck", "initcheck"))

    yield (counters_step(parts, device),)

    large = ["--parts", "large", *(["--quick", "--repeat", "1"] if toy else [])]
    yield (benchmark("maps", "som_training.py", 120, *large),)

    sides = ["--quick", "--sides", "8", "--repeat", "1", "--threads", "2"] if toy else ["--sides", "8", "64", "128"]
    yield (benchmark("head", "som_head.py", 60, "--sweeps", "nodes", "--peers", "fused", *sides),)

    yield (benchmark("ops", "ops.py", 120, *(["--quick", "--repeat", "1"] if toy else [])),)


def chosen_steps(arguments: argparse.Namespace, capability: str | None, parts: Path) -> Iterator[list[Step]]:
    """Those that are to be run; in a rehearsal, where nothing is measured, two at a time."""
    waiting: list[Step] = []
    for group in all_steps(arguments, capability, parts):
        waiting += [step for step in group if step.name in arguments.only]
        if waiting and (not arguments.rehearse or len(waiting) > 1):
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def pytest_step(name: str, paths: Sequence[str], limit: float, parts: Path, device: str, *options: str) -> Step:
    """The tests in ``paths`` that are marked for this device."""
    path, marked = parts / f"{name}.xml", "cuda" if device == "cuda" else "not cuda"
    command = [sys.executable, "-m", "pytest", "-q", "-m", marked, "-p", "no:cacheprovider", *options]
    command += [f"--junit-xml={path}", *paths]
    return Step(name, command, limit, (path, read_junit), no_test_ran, {"OMP_NUM_THREADS": "1"})


def sanitizer_step(tool: str, parts: Path, device: str) -> Step:
    """Every op under one of compute-sanitizer's tools; without a GPU the same program alone."""
    program = [sys.executable, "benchmarks/sanitize_ops.py", "--device", device]
    if device == "cpu":
        return Step(tool, program, 90, skip=None if tool == "memcheck" else "without its tool it is what memcheck runs")
    path, command = parts / f"{tool}.txt", find_tool("compute-sanitizer")
    options = ["--tool", tool, "--error-exitcode", "9", "--log-file", str(path)]
    # initcheck alone must see torch's kernels, which fill our inputs.
    options += [] if tool == "initcheck" else ["--kernel-name", "kns=somvae"]
    return Step(
        tool,
        [command or "compute-sanitizer", *options, *program],
        90,
        (path, read_sanitizer),
        environment={
            "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"
        },  # torch's cache would hide overruns from one tensor into the next
        skip=None if command else "compute-sanitizer was not found",
        cannot_run=("Device not supported",),
        advisory=tool == "initcheck",
    )


def counters_step(parts: Path, device: str) -> Step:
    """Hardware counters of six kernels; without a GPU the same program alone."""
    program = [sys.executable, "benchmarks/profiled_ops.py", "--device", device]
    if device == "cpu":
        return Step("counters", program, 40, advisory=True)
    path, command = parts / "counters.csv", find_tool("ncu")
    options = ["--clock-control", "none", "--profile-from-start", "off", "--csv", "--log-file", str(path)]
    options += ["--kernel-name", f"regex:^({'|'.join(PROFILED)})$"]
    return Step(
        "counters",
        [command or "ncu", *options, "--metrics", ",".join(METRICS), *program],
        40,
        (path, read_ncu),
        skip=None if command else "ncu was not found",
        cannot_run=("LibraryNotLoaded", "ERR_NVGPUCTRPERM"),
        advisory=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="STEP", help=f"of {', '.join(NAMES)}"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="where report and log go")
    parser.add_argument("--budget", type=float, default=BUDGET, help=f"seconds for everything (default: {BUDGET})")
    parser.add_argument("--prebuilt", type=Path, help="a _C*.so that was built for this Python, torch and GPU")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels of libraries to measure against")
    parser.add_argument("--data-root", type=Path, help="folder with MNIST/raw: also search maps of its images")
    parser.add_argument("--commit", help="what the report calls this tree, where there is no git")
    parser.add_argument("--rehearse", action="store_true", help="the same steps on the CPU, at toy size")
    arguments = parser.parse_args()
    found = None if arguments.rehearse else capability()
    if not arguments.rehearse and not found:
        parser.error("torch sees no GPU; --rehearse runs the same steps on the CPU")
    peers = install_peers(arguments.wheels) if arguments.wheels else None
    path = [str(ROOT), *filter(None, [peers, os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever stops the check gets what is known so far

    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = arguments.commit or subprocess.run(git, capture_output=True, text=True).stdout.strip() or None
    out = arguments.out.resolve()
    check = Check(out, NAME, ROOT, arguments.budget, {"commit": commit, "rehearsal": arguments.rehearse})
    parts = out / f"{NAME}_parts"
    interrupted = False
    try:
        for group in chosen_steps(arguments, found, parts):
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
