"""Our side: a platform of release binaries in a folder and networks of its own."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
import uuid
import zlib

from probe import BankWriter

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "two-regions.yaml"
# The example's networks are 127.0.x; ours are apart from a platform that may be running.
NET = "127.92"
READY_S = 120
# Processes that are PostgreSQL's, not ours, when memory is counted.
POSTGRES = ("postgres", "initdb", "pg_")


class Dujiang:
    """A platform in a folder of its own, stopped and removed when left."""

    def __init__(self):
        target = pathlib.Path(os.environ.get("TARGET") or os.environ.get("CARGO_TARGET_DIR") or "target")
        target = target if target.is_absolute() else ROOT / target
        self.program = target / "release" / "dujiang"
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="dujiang-bench-"))
        self._folder.chmod(0o755)
        self.data = self._folder / "data"
        self._manifest = self._folder / "manifest.yaml"
        self._manifest.write_text(re.sub(r"\b127\.0\.", f"{NET}.", EXAMPLE.read_text()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.data.exists():
            self.run("down", check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, *args, check=True, reports=False):
        """Runs a command of ours; returns what it printed. With `reports` it may fail if it says how."""
        command = [str(self.program), *args, "--data", str(self.data)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
        if check and done.returncode != 0 and not (reports and done.stdout):
            raise RuntimeError(f"{' '.join(args)} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def up(self):
        """Starts everything; returns the seconds until the first payment was made."""
        began = time.monotonic()
        self.run("up", "--filename", str(self._manifest), "--detach", "-o", "json")
        return time.monotonic() - began

    def down(self):
        """Stops everything and removes the data."""
        self.run("down", "--purge", "--yes")

    def drill(self, *args):
        """Runs a drill; returns its report, also if it found something wrong: that shows in the figures."""
        return json.loads(self.run("drill", *args, "-o", "json", reports=True))

    def units(self):
        """Units by name, as `dujiang status` knows them: the command line has the identity that takes."""
        return json.loads(self.run("status", "-o", "json"))["units"]

    def home(self, unit):
        """Data center where a unit is at home."""
        return self.units()[unit]["unit"]["status"]["home"]

    def wait_whole(self):
        """Waits until every unit serves with all its replicas in the sync set."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                missing = [name for name, view in self.units().items() if not _is_whole(view)]
                if not missing:
                    return
            except RuntimeError as failed:
                missing = failed
            if time.monotonic() > deadline:
                raise TimeoutError(f"not whole after {READY_S} s: {missing}")
            time.sleep(0.2)

    def kill(self, dc):
        """Switches a data center off: every process of it is killed with SIGKILL and none started again."""
        marker = self._marker(dc)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()

    def revive(self, dc):
        """Switches it on again."""
        self._marker(dc).unlink()

    def _marker(self, dc):
        return self.data / "run" / "power-off" / dc

    def move(self, unit, to):
        """A planned move."""
        self.run("move", unit, "--to", to)

    def gateways(self, apart_from=None):
        """Addresses of the gateways, without that of one data center."""
        found = []
        for path in sorted(self.data.glob("dc/*/units.json")):
            places = json.loads(path.read_text())
            if places["dc"] != apart_from:
                host, port = places["gateway"].removeprefix("http://").rsplit(":", 1)
                found.append((host, int(port)))
        return found

    def account(self, unit):
        """Opens an account whose customer belongs to the unit."""
        slots = self.units()[unit]["unit"]["spec"]["slots"]
        ranges = [tuple(map(int, (text.split("-") * 2)[:2])) for text in slots]
        for number in range(1_000_000):
            customer = f"probe-{uuid.uuid4().hex[:8]}-{number}"
            slot = zlib.crc32(customer.encode()) % 16384
            if any(first <= slot <= last for first, last in ranges):
                break
        self._write("PUT", f"/v1/customers/{customer}", {"name": "Probe"})
        return self._write("POST", f"/v1/customers/{customer}/accounts", {"currency": "CNY"})["account"]

    def _write(self, method, path, body):
        host, port = self.gateways()[0]
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        url = f"http://{host}:{port}{path}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def writer(self, account, apart_from):
        """A probe's client: its gateway is not in the data center that is going to die, as for the peer's client."""
        gateways = self.gateways(apart_from)
        return lambda number: BankWriter(gateways[number % len(gateways):] + gateways[:number % len(gateways)], account)

    def memory(self):
        """Memory of our own processes in KiB by kind: proportional shares, so shared pages count once."""
        kinds = {}
        wanted = f"DUJIANG_DATA={self.data}".encode()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                process = pathlib.Path("/proc") / pid
                words = (process / "cmdline").read_bytes().split(b"\0")
                ours = wanted in (process / "environ").read_bytes().split(b"\0") or str(self.data).encode() in words
                name = (process / "comm").read_text().strip()
                if not ours or name.startswith(POSTGRES):
                    continue
                rollup = (process / "smaps_rollup").read_text()
            except OSError:
                continue  # ended meanwhile
            kib = int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE).group(1))
            kind = words[1].decode() if name == "dujiang" else name
            count, sum_kib = kinds.get(kind, (0, 0))
            kinds[kind] = (count + 1, sum_kib + kib)
        return kinds


def _is_whole(view):
    spec, status = view["unit"]["spec"], view["unit"]["status"]
    report = view["replicas"][status["home"]]["report"] or {}
    state = report.get("state", {})
    if status["phase"]["name"] != "serving" or state.get("name") != "primary" or not state.get("open"):
        return False
    members = (state.get("confirmed") or {}).get("members", [])
    others = [dc for dc in spec["replicas"] if dc != status["home"]]
    return all(dc in members and state["standbys"].get(dc, {}).get("streaming") for dc in others)

