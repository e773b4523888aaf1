"""The other load generator: a client program (drivers/driver.mjs, for Node) for systems that pgbench cannot drive."""

import functools
import json
import re
import shutil
import subprocess
from pathlib import Path

DIRECTORY = Path(__file__).parent / "drivers"
NEEDED_NODE = 20


def packages() -> tuple[str, ...]:
    """The Debian packages that the drivers need; Node from elsewhere will do."""
    return () if shutil.which("node") and shutil.which("npm") else ("nodejs", "npm")


@functools.cache
def prepare() -> str | None:
    """Install the client libraries beside the drivers, once; return why that cannot be, or None."""
    for program in ("node", "npm"):
        if not shutil.which(program):
            return f"{program} is not installed"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(re.match(r"v(\d+)", version)[1]) < NEEDED_NODE:
        return f"Node {NEEDED_NODE} or later is needed, this is {version}"
    install = subprocess.run(["npm", "install", "--silent", "--no-package-lock", "--omit=peer", "--no-audit", "--no-fund"],
                             cwd=DIRECTORY, capture_output=True, text=True, check=False)
    return None if install.returncode == 0 else f"npm cannot install the client libraries: {install.stderr.strip()[-300:]}"


def run(**task: object) -> dict:
    """Carry out one task of the driver (see there); return what it measured, or {} for a task that measures nothing."""
    done = subprocess.run(["node", "driver.mjs", json.dumps(task)], cwd=DIRECTORY, capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the driver of {task['system']} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout or "{}")
