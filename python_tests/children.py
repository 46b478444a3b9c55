"""Child processes of tests, forked from an interpreter that has already done its imports.

Importing torch takes seconds of processor time, Lightning as many again, and the tests start two hundred children. A
forked child starts at once and otherwise behaves like a new ``python`` process: it has its own ``__main__``, arguments,
environment, working directory and streams, and exits as an interpreter does. It differs in three ways: all children
share one hash seed whatever PYTHONHASHSEED says, because Python fixes the seed at startup; environment variables that a
library reads while it is imported come too late; and without OMP_NUM_THREADS a child uses one thread. Tests that depend
on any of these start ``sys.executable`` instead.

Each process of a test session keeps two interpreters to fork from. One has imported torch but not this package, for
tests of what an import brings or lacks. The other has imported the package and everything that training needs.

    children.run("-c", "import somvae_ext", imported=children.TORCH)
    child = children.start("-m", "somvae_ext", "fit", "digits")
    child.send_signal(signal.SIGTERM)

Run as a program, this file requests a child and stands in for it: the child uses this process's streams, signals are
forwarded to the child, and this process exits as the child does. Shells and torchrun start it in place of Python.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import re
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]

# Environment variables of stand-ins: the socket at which they request a child, and the program to start as Python.
SOCKET = "SOMVAE_EXT_TEST_SOCKET"
STAND_IN = "SOMVAE_EXT_TEST_PYTHON"

TORCH = "torch"
TRAINING = "training"
IMPORTS = {
    TORCH: ["numpy", "torch", "torch._dynamo"],  # operators implemented in Python need torch._dynamo
    TRAINING: [
        "jsonargparse",
        "lightning_fabric",
        "matplotlib.backends.backend_agg",
        "matplotlib.pyplot",
        "safetensors.torch",
        "sklearn.cluster",
        "sklearn.datasets",
        "sklearn.decomposition",
        "torch.distributed.run",
        "tqdm",
        "somvae_ext.cli.fit_map",
        "somvae_ext.cli.fit_model",
        "somvae_ext.estimators",
        "somvae_ext.plotting",
    ],
}


# ---- in the process that requests a child ----------------------------------------------------------------------------


class Child:
    """A forked child, with the methods of :class:`subprocess.Popen` that the tests need.

    Its output goes to files, so it never blocks on a reader. It is killed when the last reference to it is dropped.
    """

    def __init__(
        self,
        arguments: list[str],
        path: str,
        environment: dict[str, str],
        folder: str,
        stdin: int,
        stdout: int | None,
        stderr: int | None,
    ) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._written = [tempfile.TemporaryFile() if stream is None else None for stream in (stdout, stderr)]  # noqa: SIM115
        out, errors = (
            stream if file is None else file.fileno()
            for stream, file in zip((stdout, stderr), self._written, strict=True)
        )
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(path)
        socket.send_fds(self._connection, [b"streams"], [stdin, out, errors])  # type: ignore[list-item]
        request = json.dumps({"arguments": arguments, "environment": environment, "folder": folder}).encode()
        self._connection.send(request)
        self.pid: int = self._answer(None)["pid"]

    def _answer(self, timeout: float | None) -> dict[str, int]:
        self._connection.settimeout(timeout)
        answer = self._connection.recv(1000)
        if not answer:
            raise ChildProcessError("the interpreter that children are forked from has ended")
        return json.loads(answer)

    def poll(self) -> int | None:
        if self.returncode is None:
            with contextlib.suppress(BlockingIOError):
                self.returncode = self._answer(0)["code"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            try:
                self.returncode = self._answer(timeout)["code"]
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0, *self._output()) from None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        out, errors = self._output()
        return out, errors

    def _output(self) -> list[str]:
        text = []
        for file in self._written:
            if file is not None:
                file.seek(0)
            text.append("" if file is None else file.read().decode(errors="replace"))
        return text

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def start(
    *arguments: str | Path,
    imported: str = TRAINING,
    cwd: str | Path | None = None,
    env: dict[str, str] | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Child:
    """Starts ``python ARGUMENT ...``: any ``-W``, then ``-c CODE``, ``-m MODULE`` or a file, then its arguments.

    Args:
        imported: TORCH or TRAINING, what the interpreter that the child is forked from has imported.
        cwd: the child's working directory, by default the current one.
        env: the child's environment, by default the current one. The child can import the package in either case.
            Without OMP_NUM_THREADS it uses one thread. A new interpreter would use all cores, which the test workers
            share.
        stdout, stderr: file descriptors to write to; by default, :meth:`Child.communicate` returns the output.
    """
    environment = dict(os.environ if env is None else env)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    command = [str(argument) for argument in arguments]
    with open(os.devnull) as devnull:
        return Child(command, server(imported), environment, str(cwd or Path.cwd()), devnull.fileno(), stdout, stderr)


def run(*arguments: str | Path, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """Starts a child as :func:`start` does and waits for it; kills it after ``timeout`` seconds."""
    child = start(*arguments, **options)
    try:
        out, errors = child.communicate(timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        raise
    return subprocess.CompletedProcess(child.args, child.wait(), out, errors)


def stand_ins(folder: Path) -> dict[str, str]:
    """Writes a program that takes the place of ``python``, and returns the environment variables that it needs.

    A child with these variables finds the program in ``sys.executable``, so its own children are forked, too.
    """
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -E -S "{__file__}" "$@"\n')
    program.chmod(0o755)
    return {SOCKET: server(TRAINING), STAND_IN: str(program)}


@functools.cache
def server(imported: str) -> str:
    """Starts an interpreter that imports ``imported`` and ends with this process; returns the path of its socket."""
    folder = tempfile.mkdtemp(prefix="somvae_ext_")
    path = os.path.join(folder, "socket")
    # Children cannot observe warnings during an import, so this package's own warnings are errors.
    command = [sys.executable, "-W", "ignore", "-W", "error:somvae_ext", __file__, "--serve", path, imported]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",  # one thread per child: each test worker that waits for one occupies one core
        "JE_ARROW_MALLOC_CONF": "background_thread:false",  # else pyarrow starts a thread: see check_threads
    }
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise ChildProcessError(f"the interpreter that children are forked from ended with {process.wait()}")

    @atexit.register
    def end() -> None:
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
        with contextlib.suppress(OSError):
            os.unlink(path)
            os.rmdir(folder)

    return path


# ---- in the interpreter that children are forked from ----------------------------------------------------------------


def serve(path: str, imported: str) -> dict[str, Any]:
    """Forks a child for each connection until stdin ends. Returns only in the children, with the child's request."""
    for name in IMPORTS[imported]:
        importlib.import_module(name)
    check_threads()
    gc.freeze()  # children share these objects instead of copying them
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C interrupts the tests, and they end this process
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing reaps the processes that wait for children
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            request = fork_and_wait(connection)
            connection.close()
            return request
        connection.close()


def check_threads() -> None:
    """Raises if there are other threads: a fork does not copy them, and a lock that one holds stays locked for ever."""
    for thread in os.listdir("/proc/self/task"):
        if int(thread) != os.getpid():
            name = Path(f"/proc/self/task/{thread}/comm").read_text().strip()
            raise RuntimeError(f"children cannot be forked, because an import has started the thread {name}")


def fork_and_wait(connection: socket.socket) -> dict[str, Any]:
    """Forks the child. Returns in the child only; this process waits for the child, sends its exit code and exits."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(connection, 1000, 3)
    request: dict[str, Any] = json.loads(connection.recv(1 << 20))
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return request
    for stream in (*streams, 0, 1, 2):
        os.close(stream)
    try:
        connection.send(json.dumps({"pid": pid}).encode())
        ready, _, _ = select.select([connection, os.pidfd_open(pid)], [], [])
        if connection in ready:  # the requester has closed the connection
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        connection.send(json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode())
    finally:
        os._exit(0)


def become(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Runs ``python ARGUMENT ...`` in this process, with this environment and working directory."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = environment.get(STAND_IN, sys.executable)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), line_buffering=os.isatty(1))  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(
        open(2, "wb", closefd=False),  # noqa: SIM115
        errors="backslashreplace",
        line_buffering=True,
    )
    rest = iter(arguments)
    option = next(rest)
    warning_options = list(filter(None, environment.get("PYTHONWARNINGS", "").split(",")))
    while option in ("-W", "-u"):
        if option == "-W":
            warning_options.append(next(rest))
        option = next(rest)
    filter_warnings(warning_options)
    threads = environment.get("OMP_NUM_THREADS", "1")
    if threads != "1" and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(threads))
    if "numpy" in sys.modules:  # a new interpreter would seed it; Python itself reseeds random after a fork
        sys.modules["numpy"].random.seed()
    path = list(filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)))
    if option in ("-", "-c", "-m"):
        code_or_module = sys.stdin.read() if option == "-" else next(rest)
        sys.argv = [option, *rest]
        sys.path[0:1] = [folder if option == "-m" else "", *path]
        if option == "-m":
            runpy.run_module(code_or_module, run_name="__main__", alter_sys=True)
            return
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(code_or_module, "<stdin>" if option == "-" else "<string>", "exec"), vars(main))
    else:
        sys.argv = [option, *rest]
        sys.path[0:1] = [str(Path(option).resolve().parent), *path]
        runpy.run_path(option, run_name="__main__")


def filter_warnings(options: list[str]) -> None:
    """Sets Python's default warning filters, then those of ``-W ACTION`` and ``-W ACTION:MESSAGE``, which win."""
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")
    sys.warnoptions[:] = options
    for option in options:
        action, _, message = option.partition(":")
        if ":" in message:
            raise ValueError(f"a child takes -W ACTION or -W ACTION:MESSAGE, got -W {option}")
        warnings.filterwarnings(action, re.escape(message))  # type: ignore[arg-type]


# ---- in the stand-in of a child --------------------------------------------------------------------------------------


def stand_in(arguments: list[str]) -> NoReturn:
    """Requests a child with this process's streams from the interpreter at SOCKET, and exits as the child does."""
    child = Child(arguments, os.environ[SOCKET], dict(os.environ), os.getcwd(), 0, 1, 2)

    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    code = child.wait()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        become(**serve(*sys.argv[2:]))
    else:
        stand_in(sys.argv[1:])
