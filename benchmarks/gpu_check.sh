#!/usr/bin/env bash
# Everything a GPU can say about this repository, in one call of at most 10 minutes:
#
#   benchmarks/gpu_check.sh                        writes benchmarks/results/gpu_check.json
#   OUT=somewhere PYTHON=python3.12 benchmarks/gpu_check.sh
#
# Builds in place with the Python at hand (nothing is installed, no network is used), runs the tests marked cuda, runs
# every op under compute-sanitizer, and benchmarks. Without a GPU it builds, benchmarks the CPU briefly, and says what it
# skipped. Fails if a step that ran failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/results}
BUDGET=580 # seconds for everything
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$OUT"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

# step NAME SECONDS COMMAND...: runs it, bounded by its own limit and by what is left of the budget. The log stays in
# $work/NAME.log, the outcome in $work/steps.tsv.
step() {
  local name=$1 limit=$2 left=$((BUDGET - SECONDS)) start=$SECONDS status
  shift 2
  if ((left < 10)); then
    skip "$name" "the $BUDGET seconds for the whole check were spent"
    return 1
  fi
  echo "== $name: $*"
  timeout --kill-after=5 $((limit < left ? limit : left)) "$@" >"$work/$name.log" 2>&1
  status=$?
  case $status in
    0) record "$name" passed $((SECONDS - start)) "" ;;
    124 | 137) record "$name" failed $((SECONDS - start)) "stopped after $((SECONDS - start)) seconds" ;;
    *) record "$name" failed $((SECONDS - start)) "exit status $status" ;;
  esac
  tail -n 20 "$work/$name.log" | cut -c1-160
  return $status
}
skip() {
  echo "== $1: skipped, $2"
  record "$1" skipped 0 "$2"
}
record() { printf '%s\t%s\t%s\t%s\n' "$@" >>"$work/steps.tsv"; }

# What this machine has.
capability=$("$PYTHON" -c 'import torch
if torch.cuda.is_available(): print("%d.%d" % torch.cuda.get_device_capability())' 2>"$work/python.log")
if [[ $capability ]]; then device=cuda; else device=cpu; fi
for folder in "" "${CUDA_HOME:-/usr/local/cuda}/bin/" /usr/local/cuda/compute-sanitizer/; do
  sanitizer=$(command -v "${folder}compute-sanitizer") && break
done
no_gpu="torch sees no GPU"

if [[ $device == cuda ]]; then
  step build 240 env SOMVAE_EXT_CUDA=1 TORCH_CUDA_ARCH_LIST="$capability" "$PYTHON" setup.py build_ext --inplace
else
  step build 400 "$PYTHON" setup.py build_ext --inplace
fi
built=$?

if ((built != 0)); then
  no_gpu="the build failed"
  skip tests "$no_gpu"
elif [[ $device == cuda ]]; then
  step tests 240 "$PYTHON" -m pytest -m cuda -q -p no:cacheprovider --junit-xml="$work/tests.xml"
else
  skip tests "$no_gpu"
fi

for tool in memcheck racecheck synccheck initcheck; do
  if ((built != 0)) || [[ $device != cuda ]]; then
    skip $tool "$no_gpu"
  elif [[ ! $sanitizer ]]; then
    skip $tool "compute-sanitizer was not found"
  else
    # Only our kernels: their names hold the namespace. Not for initcheck, which must see torch's kernels fill the inputs.
    # torch caches memory, which would hide overruns between tensors.
    only=(--kernel-name kns=somvae)
    [[ $tool == initcheck ]] && only=()
    step $tool 90 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool $tool "${only[@]}" \
      --error-exitcode 9 "$PYTHON" benchmarks/sanitize_ops.py ||
      if grep -qs "Device not supported" "$work/$tool.log"; then
        sed -i '$d' "$work/steps.tsv"
        skip $tool "compute-sanitizer does not support this device or its driver"
      fi
  fi
done

if ((built != 0)); then
  skip benchmarks "$no_gpu"
  skip search "$no_gpu"
  skip head "$no_gpu"
  skip training "$no_gpu"
elif [[ $device == cuda ]]; then
  step search 200 "$PYTHON" benchmarks/bmu.py --device cuda --memory --sweeps headline D K dtype growth \
    --json "$work/bmu.json"
  step benchmarks 180 "$PYTHON" benchmarks/ops.py --device cuda --json "$work/ops.json"
  step head 150 "$PYTHON" benchmarks/som_head.py --device cuda --sweeps nodes --json "$work/head.json"
  step training 90 "$PYTHON" benchmarks/som_training.py --parts cuda --json "$work/training.json"
else
  step search 120 "$PYTHON" benchmarks/bmu.py --quick --sweeps headline growth --json "$work/bmu.json"
  step benchmarks 120 "$PYTHON" benchmarks/ops.py --quick --json "$work/ops.json"
  step head 120 "$PYTHON" benchmarks/som_head.py --quick --sweeps nodes --json "$work/head.json"
  step training 120 "$PYTHON" benchmarks/som_training.py --quick --parts blobs memmap --json "$work/training.json"
fi

"$PYTHON" - "$work" "$device" "$OUT/gpu_check.json" <<'PYTHON'
"""Gathers the steps into one JSON file and prints the summary; fails if a step failed."""
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

work, device, target = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
steps = {}
for line in (work / "steps.tsv").read_text().splitlines():
    name, outcome, seconds, reason = line.split("\t")
    steps[name] = {"outcome": outcome, "seconds": int(seconds)}
    if reason:
        steps[name]["reason"] = reason
    if outcome == "failed":
        steps[name]["log"] = (work / f"{name}.log").read_text(errors="replace").splitlines()[-60:]
if (work / "tests.xml").exists():
    suite = ElementTree.parse(work / "tests.xml").find("testsuite").attrib
    steps["tests"]["counts"] = {name: int(suite[name]) for name in ("tests", "failures", "errors", "skipped")}
    if steps["tests"]["outcome"] == "passed" and suite["tests"] == suite["skipped"]:
        steps["tests"].update(outcome="failed", reason="every test was skipped")

report = {"machine": None, "steps": steps, "search": None, "benchmarks": None, "head": None, "training": None}
try:
    sys.path.insert(0, "benchmarks")
    from machine import describe

    report["machine"] = describe(device)
except Exception as error:  # a machine that cannot even be described still gets a report
    report["machine"] = {"error": repr(error)}
for part, file in {"search": "bmu.json", "head": "head.json", "training": "training.json"}.items():
    if (work / file).exists():
        report[part] = json.loads((work / file).read_text())
        del report[part]["machine"]
if (work / "ops.json").exists():
    report["benchmarks"] = json.loads((work / "ops.json").read_text())["results"]
target.write_text(json.dumps(report, indent=1) + "\n")

gpu = (report["machine"].get("gpu") or {}).get("name", "no GPU")
print(f"\n{gpu}: {target}")
for name, step in steps.items():
    counts = "".join(f", {number} {what}" for what, number in step.get("counts", {}).items())
    reason = f" ({step['reason']})" if "reason" in step else ""
    print(f"  {name:12} {step['outcome']:8} {step['seconds']:4d} s{counts}{reason}")
sys.exit(any(step["outcome"] == "failed" for step in steps.values()))
PYTHON
