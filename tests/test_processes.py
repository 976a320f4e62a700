"""No test waits for good: processes that hang are ended with all that they started, and the step is named."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT
from pages import Driver, requires_npm
from processes import Lines, descendants, end, run, running, started, until

FAILED = pytest.fail.Exception

# A process with a child in its group and one that leads a session of its own, whose numbers it prints.
FAMILY = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
print(*(subprocess.Popen(sleep, start_new_session=own).pid for own in (False, True)), flush=True)
time.sleep(600)
"""


@pytest.fixture
def proc() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc")


def test_what_a_command_did() -> None:
    done = run([sys.executable, "-c", "import sys; print(input()); sys.exit('no')"], input="yes\n")
    assert (done.returncode, done.stdout, done.stderr) == (1, "yes\n", "no\n")
    with pytest.raises(FAILED, match=r"exit status 1\n(.|\n)*no$"):
        run([sys.executable, "-c", "import sys; sys.exit('no')"], check=True)
    assert run([sys.executable, "-c", "print(end='a')"], text=False).stdout == b"a"


def test_a_command_that_hangs_is_ended_with_its_children_and_named(proc: None) -> None:
    with pytest.raises(FAILED, match=r"the family: took over 1\.5 s") as e:
        run([sys.executable, "-c", FAMILY], step="the family", limit_s=1.5)
    children = [int(word) for word in str(e.value).split("\n")[1].split()]
    assert len(children) == 2
    until(lambda: not any(map(running, children)), "the end of the children", 10)


def test_what_is_started_ends_with_its_block(proc: None) -> None:
    """Children too, where an error leaves the block; and where the process has ended before them."""
    import subprocess

    with suppress(ZeroDivisionError), started([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE) as process:
        line = Lines(process.stdout).next(30)
        assert line
        children = [int(word) for word in line.split()]
        assert sorted(children) == sorted(descendants(process.pid))
        _ = 1 / 0
    until(lambda: not any(map(running, [process.pid, *children])), "the end of the children", 10)
    leaves = FAMILY.replace("(False, True)", "[False]").replace("time.sleep(600)\n", "", 1)
    with started([sys.executable, "-c", leaves], stdout=subprocess.PIPE) as process:
        assert process.wait(30) == 0
        child = int(Lines(process.stdout).next(30) or 0)
        assert running(child)
        end(process)
        until(lambda: not running(child), "the end of the child", 10)


def test_lines_are_not_waited_for_forever() -> None:
    read, write = os.pipe()
    with open(read) as stream:
        lines = Lines(stream)
        assert lines.next(0.01) is None
        os.write(write, b"one\n")
        assert lines.next(30) == "one\n"
        os.close(write)
        assert lines.next(30) == ""


def stopped(pid: int) -> bool:
    """Stop a process; False if it has ended by itself, as helpers of a browser do at any time."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("browser, package", [("chromium", "playwright-core"), ("firefox-esr", "puppeteer-core")])
def test_a_browser_that_hangs_is_ended(browser: str, package: str, proc: None, tmp_path: Path) -> None:
    """While it plays a scenario, which is named, and while it is to close: Node would wait for it for good."""
    requires_npm(package)
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>a page</title><p id=status>Done</p><p id=work></p>")
    name = browser.partition("-")[0]
    for closing in (False, True):
        driver = Driver(browser)
        assert driver.play("status", page.as_uri(), [])["status"] == "Done"
        family = [pid for pid in descendants(driver.process.pid) if stopped(pid)]
        assert family
        if not closing:
            with pytest.raises(FAILED, match=rf"^{name}: (opening a page|status: .*): took over 1 s"):
                driver.play("status", page.as_uri(), [], limit_s=1)
            assert not driver.alive
        driver.close(patience_s=1)
        until(lambda: not any(map(running, family)), f"the end of {browser}", 10)  # noqa: B023 - called at once


HANGS = """
import subprocess, sys, time
def test_waits_for_a_child():
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])
"""


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_a_suite_past_its_limit_tells_what_runs_and_ends(workers: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text(HANGS)
    options = ["-p", "limits", "-p", "no:cacheprovider", "--suite-limit", "0.05", *workers]
    command = [sys.executable, "-m", "pytest", *options, tmp_path]
    done = run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")}, limit_s=60)
    assert done.returncode == 1
    assert "The suite took over 0.05 minutes" in done.stderr
    assert "test_hangs.py::test_waits_for_a_child (" in done.stderr and "time.sleep(600)" in done.stderr
    assert 'test_hangs.py", line 4 in test_waits_for_a_child' in done.stderr
