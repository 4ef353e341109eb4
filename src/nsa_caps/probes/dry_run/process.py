"""The process of a dry run: started afresh, without the user's site packages, and ended when its time is up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any

from nsa_caps.errors import NsaCapsError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DryRunError", "run_child"]

# `-S` leaves out what .pth files run; the paths hold this package and `packaging`, and are taken away again.
_START = """
import sys
sys.path[:0] = {paths!r}
from nsa_caps.probes.dry_run.child import main
del sys.path[:{count}]
main()
"""
_MOST_BYTES = 2**25
# No GPU is seen, nothing of the user's environment is passed on.
_ENVIRON = {"HIP_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "", "LC_ALL": "C.UTF-8"}


class DryRunError(NsaCapsError):
    """A dry run came to nothing; the message says how it ended."""


def run_child(task: Mapping[str, Any], python: str, limit: float) -> Any:
    """Return what the child answers.

    Args:
        task: what is asked.
        python: the interpreter.
        limit: seconds.

    Raises:
        DryRunError: it could not be started, did not end in time, or did not answer.
    """
    import packaging  # noqa: PLC0415  where it is, not what it does

    here = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
    there = os.path.dirname(os.path.dirname(os.path.abspath(packaging.__file__)))
    paths = list(dict.fromkeys((here, there)))
    began = time.monotonic()
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answered:
        asked.write(json.dumps({**task, "limit": limit}).encode())
        asked.seek(0)
        start = _START.format(paths=paths, count=len(paths))
        try:
            process = subprocess.Popen(  # noqa: S603 this Python, or the one that the user names
                [python, "-I", "-S", "-c", start],
                stdin=asked, stdout=answered, stderr=subprocess.DEVNULL, env=_ENVIRON, cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise DryRunError(f"{python} could not be started: {error.strerror or error}") from error
        try:
            code = process.wait(limit - (time.monotonic() - began))
        except subprocess.TimeoutExpired as error:
            raise DryRunError(f"did not end within {limit:g} s") from error
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code:
            raise DryRunError(_how(code))
        answered.seek(0)
        try:
            return json.loads(answered.read(_MOST_BYTES))
        except (ValueError, RecursionError) as error:
            raise DryRunError("ended without an answer") from error


def _how(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
