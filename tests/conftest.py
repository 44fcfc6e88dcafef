"""What every test run shares: which tests run where, and that no skip goes unseen.

A disabled test is a failing test (lesson 6): a skip must stand, by name, in tests/skips/PLATFORM.txt, which lists what
this platform's test machine lacks in hardware or kernel; any other skip fails the run. GPU tests without an adapter are
skipped, and with SEQCORE_REQUIRE_GPU=1 they fail.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FROZEN = ROOT / "tests" / "skips" / f"{sys.platform}-{platform.machine().lower()}.txt"
NO_GPU = "no GPU adapter"

# without this the tests would take whichever adapter the machine has (SEQCORE_GPU= asks for that)
os.environ.setdefault("SEQCORE_GPU", "software")
os.environ.setdefault("NODEVICE_SELECT", "1")

# a shell starts what runs in the background with Ctrl-C ignored, nohup its end; a program's children inherit that
for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if (signum := getattr(signal, name, None)) and signal.getsignal(signum) is signal.SIG_IGN:
        signal.signal(signum, handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="long sweeps too")
    parser.addoption("--testing", action="store_true", help="only the tests for the wheel with feature `testing`")


@cache
def gpu_fault() -> str:
    """Why there is no adapter to test on; empty when there is one."""
    import seqcore

    try:
        found = [str(device) for device in seqcore.devices()]
    except seqcore.SeqcoreError as error:
        return f"{NO_GPU}: {error}"
    return "" if any("gpu" in name for name in found) else f"{NO_GPU} among {found}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out, without a skip, what another target runs."""
    for_testing = config.getoption("--testing")

    def runs(item: pytest.Item) -> bool:
        slow = item.get_closest_marker("slow") is not None and not config.getoption("--all")
        return (item.get_closest_marker("testing") is not None) == for_testing and not slow

    left_out = [item for item in items if not runs(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if runs(item)]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and gpu_fault():
        if os.environ.get("SEQCORE_REQUIRE_GPU") == "1":
            pytest.fail(f"SEQCORE_REQUIRE_GPU=1, but {gpu_fault()}", pytrace=False)
        pytest.skip(gpu_fault())


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    """What is tested is the installed wheel, not the source tree."""
    import seqcore

    assert not Path(seqcore.__file__).is_relative_to(ROOT / "python"), "run the tests by `make test`"


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn, for tests whose meaning does not depend on it."""
    return request.param


ENGINES = {
    "cpu-float32": {"device": "cpu", "dtype": "float32"},
    "cpu-float64": {"device": "cpu", "dtype": "float64"},
    "gpu-float32": {"device": "gpu", "dtype": "float32"},
}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.gpu] * name.startswith("gpu")) for name in ENGINES])
def engine(request: pytest.FixtureRequest) -> dict[str, str]:
    """Each device with each dtype that it computes in, as `compare(..., **engine)` takes them."""
    return ENGINES[request.param]


_skipped: dict[str, str] = {}


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped[report.nodeid] = reason.removeprefix("Skipped: ")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def frozen_skips() -> list[re.Pattern[str]]:
    """Names that may be skipped here; `*` stands for anything."""
    lines = FROZEN.read_text(encoding="utf-8").splitlines() if FROZEN.exists() else []
    names = [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    return [re.compile(re.escape(name).replace(r"\*", ".*")) for name in names]


def unexpected_skips() -> dict[str, str]:
    """Skips that the frozen list does not name, but for those that only lack an adapter."""
    if not FROZEN.exists():
        return {}
    patterns = frozen_skips()
    return {
        name: reason
        for name, reason in _skipped.items()
        if not reason.startswith(NO_GPU) and not any(pattern.fullmatch(name) for pattern in patterns)
    }


def pytest_sessionfinish(session: pytest.Session) -> None:
    if unexpected_skips() and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    without_gpu = sum(reason.startswith(NO_GPU) for reason in _skipped.values())
    unexpected = unexpected_skips()
    known = FROZEN.name if FROZEN.exists() else f"no list for this platform ({FROZEN.name})"
    terminalreporter.write_line(
        f"skips: {len(_skipped)}; {without_gpu} for want of a GPU adapter, {len(unexpected)} that {known} does not name"
    )
    for name, reason in unexpected.items():
        terminalreporter.write_line(f"  not in the frozen list: {name}: {reason}", red=True)
