"""The same kind of write probe for both sides: a few clients that each commit one small write after the other.

What is measured is the longest time between two successful commits, whoever made them, around a fault or a switchover.
"""

import http.client
import json
import threading
import time
import uuid

import psycopg2

# Enough that one client stuck in a timeout does not hide that others are served again.
CLIENTS = 4
# Pause between two writes of a client: 4 clients make up to 100 writes per second together.
PAUSE_S = 0.04
# Pause after a failure. Nothing is gained by asking more often.
RETRY_S = 0.02
# A client gives up on an answer after this; held requests are answered earlier.
TIMEOUT_S = 12


class Probe:
    """Clients in threads. `connect` makes a writer: an object with `write()` and `close()`."""

    def __init__(self, connect):
        self._connect = connect
        self._successes = []
        self._failures = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2 * TIMEOUT_S)

    def _run(self, number):
        writer = None
        while not self._stop.is_set():
            try:
                writer = writer or self._connect(number)
                writer.write()
                self._successes.append(time.monotonic())
                time.sleep(PAUSE_S)
            except Exception as error:  # whatever the driver throws: for a probe it is all the same
                self._failures.append((time.monotonic(), repr(error)))
                if writer:
                    writer.close()
                writer = None
                time.sleep(RETRY_S)

    def wait_for_writes(self, count, timeout_s):
        """Waits until that many more writes have succeeded."""
        goal, deadline = len(self._successes) + count, time.monotonic() + timeout_s
        while len(self._successes) < goal:
            if time.monotonic() > deadline:
                last = self._failures[-1][1] if self._failures else "nothing"
                raise TimeoutError(f"no {count} writes within {timeout_s} s; the last failure was {last}")
            time.sleep(0.01)

    def longest_gap_ms(self, since):
        """Longest time between two successes, of those that end after `since` (time.monotonic)."""
        times = sorted(self._successes)
        gaps = [(after - before) * 1000 for before, after in zip(times, times[1:]) if after > since]
        return max(gaps, default=float("inf"))

    def failures_since(self, since):
        """Writes that failed after `since`."""
        return sum(1 for at, _ in self._failures if at > since)


class PostgresWriter:
    """Commits one row on whichever of the servers takes writes."""

    def __init__(self, hosts, port, user, password, database):
        self._connection = psycopg2.connect(
            host=",".join(hosts),
            port=port,
            user=user,
            password=password,
            dbname=database,
            target_session_attrs="read-write",
            connect_timeout=2,
            # A server that vanished without a word is noticed within the time a client waits for an answer.
            tcp_user_timeout=TIMEOUT_S * 1000,
        )
        self._connection.autocommit = True

    def write(self):
        with self._connection.cursor() as cursor:
            cursor.execute("INSERT INTO probe DEFAULT VALUES")

    def close(self):
        self._connection.close()


class BankWriter:
    """Makes a deposit through a gateway; a new connection goes to the first gateway that takes it."""

    def __init__(self, gateways, account):
        self._account = account
        error = None
        for host, port in gateways:
            try:
                self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
                self._connection.connect()
                return
            except OSError as refused:
                error = refused
        raise error

    def write(self):
        body = json.dumps({"amount": {"minor": 1, "currency": "CNY"}})
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        self._connection.request("POST", f"/v1/accounts/{self._account}/deposits", body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            raise RuntimeError(f"{answer.status} {text[:200]!r}")

    def close(self):
        self._connection.close()
