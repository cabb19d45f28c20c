"""The peer: Patroni with etcd from Debian, three nodes on loopback, synchronous mode, tuned as low as it accepts."""

import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import psycopg2

from probe import PostgresWriter

NET = "127.91.0"
HOSTS = [f"{NET}.1", f"{NET}.2", f"{NET}.3"]
POSTGRES_PORT = 5432
REST_PORT = 8008
ETCD = f"{NET}.10:2379"
ETCD_PEER = f"{NET}.10:2380"
PASSWORD = "bench"
SYSTEM_USER = "postgres"
# The lowest values it accepts.
TTL_S = 20
LOOP_WAIT_S = 1
RETRY_TIMEOUT_S = 3
# For a cluster to form, or a node to rejoin, on two busy cores.
READY_S = 120


class Patroni:
    """A cluster in a folder of its own, stopped and removed when left."""

    def __init__(self):
        versions = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        self._bin = versions[-1]
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="dujiang-bench-patroni-"))
        self._folder.chmod(0o755)
        self._processes = {}

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for number in range(len(HOSTS)):
            self._kill(number)
        etcd = self._processes.pop("etcd", None)
        if etcd:
            etcd.kill()
            etcd.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self):
        etcd_data = self._folder / "etcd"
        self._processes["etcd"] = subprocess.Popen(
            [
                "etcd", "--name", "bench", "--data-dir", str(etcd_data),
                "--listen-client-urls", f"http://{ETCD}", "--advertise-client-urls", f"http://{ETCD}",
                "--listen-peer-urls", f"http://{ETCD_PEER}", "--initial-advertise-peer-urls", f"http://{ETCD_PEER}",
                "--initial-cluster", f"bench=http://{ETCD_PEER}",
            ],
            stdout=self._log("etcd"), stderr=subprocess.STDOUT,
        )
        for number in range(len(HOSTS)):
            home = self._folder / f"node-{number + 1}"
            home.mkdir()
            shutil.chown(home, SYSTEM_USER, SYSTEM_USER)
            self._config(number).write_text(json.dumps(self._settings(number), indent=2))
            self.start_node(number)
        self.wait_whole()
        with psycopg2.connect(**self._admin(self.primary())) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE probe (id bigserial PRIMARY KEY, at timestamptz DEFAULT now())")

    def _settings(self, number):
        host = HOSTS[number]
        role = lambda name: {"username": name, "password": PASSWORD}
        return {  # YAML is a superset of JSON
            "scope": "bench",
            "name": f"node-{number + 1}",
            "restapi": {"listen": f"{host}:{REST_PORT}", "connect_address": f"{host}:{REST_PORT}"},
            "etcd3": {"hosts": [ETCD]},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_S,
                    "loop_wait": LOOP_WAIT_S,
                    "retry_timeout": RETRY_TIMEOUT_S,
                    "synchronous_mode": True,
                    "postgresql": {"use_pg_rewind": True, "use_slots": True},
                },
                "initdb": [{"encoding": "UTF8"}, "data-checksums"],
                "pg_hba": [
                    "host replication replicator 127.0.0.0/8 md5",
                    "host all all 127.0.0.0/8 md5",
                ],
            },
            "postgresql": {
                "listen": f"{host}:{POSTGRES_PORT}",
                "connect_address": f"{host}:{POSTGRES_PORT}",
                "data_dir": str(self._folder / f"node-{number + 1}" / "data"),
                "bin_dir": self._bin,
                "pgpass": str(self._folder / f"node-{number + 1}" / "pgpass"),
                "authentication": {
                    "superuser": role("postgres"),
                    "replication": role("replicator"),
                    "rewind": role("rewinder"),
                },
                "parameters": {"unix_socket_directories": str(self._folder / f"node-{number + 1}")},
            },
        }

    def _config(self, number):
        return self._folder / f"node-{number + 1}.yml"

    def _log(self, name):
        return open(self._folder / f"{name}.log", "ab")

    @staticmethod
    def _admin(host):
        return {
            "host": host, "port": POSTGRES_PORT, "user": "postgres", "password": PASSWORD, "dbname": "postgres",
            "connect_timeout": 2,
        }

    def start_node(self, number):
        """Starts a node, or starts it again after a kill."""
        self._processes[number] = subprocess.Popen(
            ["patroni", str(self._config(number))],
            user=SYSTEM_USER, group=SYSTEM_USER, extra_groups=[], cwd="/",
            stdout=self._log(f"node-{number + 1}"), stderr=subprocess.STDOUT, start_new_session=True,
        )

    def _kill(self, number):
        """SIGKILL to everything of a node: Patroni and every PostgreSQL process."""
        process = self._processes.pop(number, None)
        if process is None:
            return
        data = self._folder / f"node-{number + 1}" / "data"
        while True:
            pids = [pid for pid in _pids() if _cwd(pid) == str(data)]
            if process.poll() is None:
                pids.append(process.pid)
            if not pids:
                return
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.005)

    def kill_primary(self):
        """Kills the primary's whole node and returns its number."""
        number = HOSTS.index(self.primary())
        self._kill(number)
        return number

    def switchover(self):
        """A planned switchover to the synchronous standby, by the API that patronictl uses."""
        members = self._cluster()["members"]
        leader = next(m["name"] for m in members if m["role"] == "leader")
        candidate = next(m["name"] for m in members if m["role"] == "sync_standby")
        body = json.dumps({"leader": leader, "candidate": candidate}).encode()
        request = urllib.request.Request(f"http://{self.primary()}:{REST_PORT}/switchover", body, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()

    def primary(self):
        """Address of the primary."""
        members = self._cluster()["members"]
        return next(m["host"] for m in members if m["role"] == "leader" and m["state"] == "running")

    def _cluster(self):
        error = None
        for host in HOSTS:
            try:
                with urllib.request.urlopen(f"http://{host}:{REST_PORT}/cluster", timeout=2) as answer:
                    return json.load(answer)
            except (urllib.error.URLError, OSError) as failed:
                error = failed
        raise error

    def wait_whole(self):
        """Waits until there is one primary, one synchronous standby and one further replica, all in step."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                members = self._cluster()["members"]
                roles = sorted(m["role"] for m in members)
                fit = all(m["state"] in ("running", "streaming") and m.get("lag", 0) == 0 for m in members)
                if roles == ["leader", "replica", "sync_standby"] and fit:
                    return
                seen = members
            except (urllib.error.URLError, OSError, KeyError) as failed:
                seen = failed
            if time.monotonic() > deadline:
                raise TimeoutError(f"Patroni is not whole after {READY_S} s: {seen}")
            time.sleep(0.2)

    def writer(self, _number):
        """A probe's client."""
        return PostgresWriter(HOSTS, POSTGRES_PORT, "postgres", PASSWORD, "postgres")


def _pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _cwd(pid):
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None
