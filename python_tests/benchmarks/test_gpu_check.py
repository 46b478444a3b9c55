"""The GPU check, rehearsed on the CPU: all steps run, and their rows are kept whatever happens to the check."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import children
import gpu_check
import pytest
import torch
from profiled_ops import calls

ROOT = Path(__file__).resolve().parents[2]
# All steps except the build and the two runs of pytest, of which this test is itself a part.
STEPS = [name for name in gpu_check.NAMES if name not in ("build", "kernels", "tests")]


def rehearsal(out: Path, *steps: str) -> list[str]:
    script = str(ROOT / "benchmarks" / "gpu_check.sh")
    return [script, "--rehearse", "--out", str(out), "--only", *steps]


def environment(folder: Path) -> dict[str, str]:
    stand_ins = children.stand_ins(folder)
    return {**os.environ, **stand_ins, "PYTHON": stand_ins[children.STAND_IN]}


def test_rehearsal_runs_every_step_and_keeps_its_rows(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    fast = environment(tmp_path_factory.mktemp("python"))
    done = subprocess.run(rehearsal(tmp_path, *STEPS), env=fast, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    report = json.loads((tmp_path / "gpu_check.json").read_text())["steps"]
    outcomes = dict.fromkeys(STEPS, "passed") | dict.fromkeys(["racecheck", "synccheck", "initcheck"], "skipped")
    assert {name: entry["outcome"] for name, entry in report.items()} == outcomes
    assert all(entry["rehearsal"] for entry in report.values())
    ceilings = report["machine"]["result"]["ceilings"]
    assert [row["what"] for row in ceilings] == ["copy", "float32 product", "float64 product"]
    searches = report["search"]["result"]["rows"]
    assert {row["case"] for row in searches} == {"headline", "maps, sheet"}
    assert len(report["maps"]["result"]["rows"]) == 4
    assert report["head"]["result"]["rows"][0]["size"]["side"] == 8
    ops = {row["case"].split(",")[0] for row in report["ops"]["result"]["rows"]}
    assert {"local_transition_losses", "row_adam", "bmu_index", "bmu", "som_ema_update"} <= ops
    assert report["steps"]["result"]["rows"][0]["own"] == ["somvae_ext", "ordered, wide", "ordered, narrow"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu_check.json", "gpu_check.log"]


def test_a_terminated_check_keeps_its_results(tmp_path: Path) -> None:
    check = subprocess.Popen(rehearsal(tmp_path, "ops"), env=environment(tmp_path), stdout=subprocess.DEVNULL)
    rows = tmp_path / "gpu_check_parts" / "ops.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (rows.exists() and json.loads(rows.read_text())["rows"]):
        time.sleep(0.1)
    check.send_signal(signal.SIGTERM)
    assert check.wait(timeout=30) == 130

    entry = json.loads((tmp_path / "gpu_check.json").read_text())["steps"]["ops"]
    assert (entry["outcome"], entry["reason"]) == ("stopped", "the check was interrupted")
    assert entry["result"]["rows"]


def test_the_kernels_expected_in_a_profile_exist() -> None:
    assert list(calls(torch.device("cpu"))) == list(gpu_check.PROFILED)
    sources = "".join(path.read_text() for path in (ROOT / "csrc").rglob("*_kernel.cuh"))
    assert all(f"{name}(" in sources for name in gpu_check.PROFILED)


def test_a_check_without_a_gpu_says_what_to_do(tmp_path: Path) -> None:
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = children.run(ROOT / "benchmarks" / "gpu_check.py", "--out", tmp_path, env=hidden)
    assert done.returncode == 2
    assert "torch sees no GPU; --rehearse runs the same steps on the CPU" in done.stderr


def test_a_profile_that_lacks_a_kernel_is_reported() -> None:
    rows = [{"kernel": f"somvae::{name}<float>"} for name in gpu_check.PROFILED]
    assert gpu_check.some_kernel_is_missing(rows) is None
    assert gpu_check.some_kernel_is_missing(rows[1:]) == "ncu profiled no difference_search_kernel"


def test_a_library_built_for_other_gpus_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "somvae_ext"
    package.mkdir()
    (package / "__init__.py").write_text("def build_info(): return {'native': True, 'cuda_archs': ['8.0', '9.0+PTX']}")
    (tmp_path / "library.so").write_text("")
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    assert gpu_check.place_prebuilt(tmp_path / "library.so", "9.0")
    (placed,) = package.glob("_C*")
    assert not gpu_check.place_prebuilt(placed, "12.0")  # a library that is already in place is not removed
    assert placed.exists()
    assert not gpu_check.place_prebuilt(tmp_path / "library.so", "12.0")
    assert not list(package.glob("_C*"))
    assert "does not fit here" in capsys.readouterr().out
