"""A check keeps the output of its steps, however they end."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
from gpu_check import pytest_step
from steps import Check, Step
from tool_reports import read_json

ROWS_FOREVER = """
    import json, signal, sys, time
    from pathlib import Path
    path, rows = Path(sys.argv[1]), []
    {handler}
    while True:
        rows.append(len(rows))
        whole = path.with_suffix(".whole")
        whole.write_text(json.dumps(rows))
        whole.replace(path)
        print("row", len(rows), flush=True)
        time.sleep(0.02)
"""


def make_check(tmp_path: Path, budget: float = 60.0) -> Check:
    return Check(tmp_path / "out", "check", tmp_path, budget, time.monotonic(), {"commit": "abc"})


def python(name: str, code: str, *arguments: object, limit: float = 30.0, **options: object) -> Step:
    return Step(name, [sys.executable, "-c", dedent(code), *map(str, arguments)], limit, **options)  # type: ignore[arg-type]


def rows_forever(tmp_path: Path, limit: float, handler: str = "") -> Step:
    path = tmp_path / "parts" / "rows.json"
    code = ROWS_FOREVER.format(handler=handler)
    return python("rows", code, path, limit=limit, grace=0.5, result=(path, read_json))


def report(check: Check) -> dict[str, dict]:
    return json.loads(check.path.read_text())["steps"]


@pytest.mark.parametrize("handler", ["", "signal.signal(signal.SIGINT, signal.SIG_IGN)"], ids=["ends", "goes on"])
def test_a_step_at_its_limit_leaves_its_rows_and_the_next_one_runs(tmp_path: Path, handler: str) -> None:
    check = make_check(tmp_path)
    assert not check.run(rows_forever(tmp_path, 1.0, handler))
    assert check.run(python("next", "print('here')"))

    entries = report(check)
    assert entries["rows"]["outcome"] == "stopped"
    assert entries["rows"]["reason"] == "stopped at its limit of 1 s"
    assert entries["rows"]["result"] == list(range(len(entries["rows"]["result"])))
    assert entries["rows"]["result"]
    assert entries["next"]["outcome"] == "passed"
    assert check.failed() == ["rows"]
    assert "rows: row 1\n" in (tmp_path / "out" / "check.log").read_text()


def test_parallel_steps_each_keep_their_own_limit(tmp_path: Path) -> None:
    check = make_check(tmp_path)
    check.run(
        python("long", "import time; time.sleep(2)"),
        python("short", "import time; time.sleep(60)", limit=0.5),
    )
    entries = report(check)
    assert (entries["long"]["outcome"], entries["short"]["outcome"]) == ("passed", "stopped")
    assert entries["short"]["seconds"] < 2


def test_children_of_a_stopped_step_are_gone(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = """
        import subprocess, sys, time
        from pathlib import Path
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(sys.argv[1]).write_text(str(child.pid))
        time.sleep(600)
    """
    make_check(tmp_path).run(python("parent", code, pid, limit=2.0, grace=0.2))
    status = Path("/proc", pid.read_text(), "status")
    deadline = time.monotonic() + 10  # a killed process may take a moment to end
    while (runs := status.exists() and "State:\tZ" not in status.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs


def test_a_failed_step_keeps_the_end_of_its_output(tmp_path: Path) -> None:
    check = make_check(tmp_path)
    check.run(python("fails", "print('before'); raise SystemExit(3)"))
    entry = report(check)["fails"]
    assert (entry["outcome"], entry["reason"], entry["log"]) == ("failed", "exit status 3", ["before"])


def test_a_command_that_is_missing_fails_alone(tmp_path: Path) -> None:
    check = make_check(tmp_path)
    check.run(Step("missing", ["/nonexistent/tool"], 5.0), python("other", "pass"))
    entries = report(check)
    assert entries["missing"]["outcome"] == "failed"
    assert "/nonexistent/tool" in entries["missing"]["reason"]
    assert entries["other"]["outcome"] == "passed"


def test_a_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "parts" / "rows.json"
    check = make_check(tmp_path)
    check.run(python("half", "import sys; open(sys.argv[1], 'w').write('[1, 2')", path, result=(path, read_json)))
    assert report(check)["half"]["unreadable"].startswith("rows.json: JSONDecodeError")


def test_no_step_begins_when_the_time_is_spent(tmp_path: Path) -> None:
    check = make_check(tmp_path, budget=1.0)
    check.run(python("late", "pass"))
    assert report(check)["late"] | {"time": "", "command": ""} == {
        "outcome": "skipped",
        "seconds": 0.0,
        "limit": 30.0,
        "reason": "the 1 seconds of the check were spent",
        "time": "",
        "commit": "abc",
        "command": "",
    }
    assert check.failed() == []


def test_a_tool_that_does_not_work_here_counts_as_skipped(tmp_path: Path) -> None:
    check = make_check(tmp_path)
    check.run(python("tool", "print('Device not supported'); raise SystemExit(1)", cannot_run=("not supported",)))
    assert report(check)["tool"]["outcome"] == "skipped"
    assert check.failed() == []


def test_what_a_command_prints_can_be_its_result(tmp_path: Path) -> None:
    path = tmp_path / "parts" / "lines.txt"
    step = python("tool", "print('one'); print('two')", output_is_result=True, result=(path, Path.read_text))
    check = make_check(tmp_path)
    check.run(step)
    assert report(check)["tool"]["result"] == "one\ntwo\n"
    assert "tool: two\n" in (tmp_path / "out" / "check.log").read_text()


def test_an_advisory_step_may_fail(tmp_path: Path) -> None:
    check = make_check(tmp_path)
    check.run(python("advice", "raise SystemExit(1)", advisory=True))
    assert report(check)["advice"]["outcome"] == "failed"
    assert check.failed() == []


def test_steps_of_an_earlier_call_stay_in_the_report(tmp_path: Path) -> None:
    make_check(tmp_path).run(python("first", "pass"), python("second", "raise SystemExit(1)"))
    again = make_check(tmp_path)
    again.run(python("second", "pass"))
    assert {name: entry["outcome"] for name, entry in report(again).items()} == {"first": "passed", "second": "passed"}


def run_tests(tmp_path: Path, limit: float, *options: str, **files: str) -> dict:
    """Runs these test files in a step and returns the report on it."""
    folder = tmp_path / "suite"
    folder.mkdir()
    for name, code in files.items():
        (folder / f"test_{name}.py").write_text(dedent(code))
    check = make_check(tmp_path)
    check.run(pytest_step("tests", [str(folder)], limit, tmp_path / "parts", "cpu", *options))
    return report(check)["tests"]


def test_an_import_that_fails_in_one_file_leaves_the_results_of_the_others(tmp_path: Path) -> None:
    broken, works = "import nothing_of_this_name", "def test_one(): pass\ndef test_two(): assert 1 + 1 == 3"
    entry = run_tests(tmp_path, 30.0, "--continue-on-collection-errors", broken=broken, works=works)
    result = entry["result"]
    assert entry["outcome"] == "failed"
    assert {name: result[name] for name in ("passed", "failures", "errors")} == {
        "passed": 1,
        "failures": 1,
        "errors": 1,
    }
    told = {failure["kind"]: failure["message"] for failure in result["failed"]}
    assert "nothing_of_this_name" in told["error"]
    assert "1 + 1 == 3" in told["failure"]


def test_a_run_in_which_every_test_was_skipped_has_failed(tmp_path: Path) -> None:
    entry = run_tests(tmp_path, 30.0, suite="import pytest\n@pytest.mark.skip\ndef test_one(): pass")
    assert (entry["outcome"], entry["reason"]) == ("failed", "no test ran")


WORKERS = [[], *([["-n", "2"]] if importlib.util.find_spec("xdist") else [])]


@pytest.mark.parametrize("options", WORKERS, ids=["alone", "by workers"][: len(WORKERS)])
def test_tests_that_are_stopped_leave_the_results_of_those_that_ran(tmp_path: Path, options: list[str]) -> None:
    code = "import time\ndef test_quick(): pass\ndef test_slow(): time.sleep(600)"
    # Long enough for pytest and its workers to start even on a loaded machine.
    entry = run_tests(tmp_path, 25.0 if options else 10.0, *options, suite=code)
    assert entry["outcome"] == "stopped"
    assert entry["result"]["passed"] == 1
