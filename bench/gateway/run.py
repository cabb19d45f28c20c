#!/usr/bin/env python3
"""The gateway beside HAProxy: same threads, same instance, same requests, runs in turn.

Both route by the header x-customer: slot = crc32 modulo 16384, slots to units by a table. Both speak mutual TLS to the instance, and plain HTTP to the clients. Prints requests/s and the
99th percentile of each, the processor time each spends on a request (the figure that a busy machine disturbs
least), and the ratios of the medians. Needs: haproxy, wrk, cargo.

    bench/gateway/run.py [--runs 5] [--seconds 5] [--threads 2] [--connections 64] [--json FILE]
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]

HAPROXY = """
global
    nbthread {threads}
    maxconn 4000
defaults
    mode http
    timeout connect 1500ms
    timeout client 75s
    timeout server 15s
    timeout http-request 10s
    http-reuse always
frontend clients
    bind 127.0.0.1:{listen}
    option forwardfor
    http-request set-var(txn.unit) req.hdr(x-customer),crc32,mod(16384),map_int({map})
    http-request set-header dujiang-unit %[var(txn.unit)]
    http-request set-header dujiang-epoch 1
    use_backend %[var(txn.unit)]
backend unit-1
    server instance 127.0.0.1:{instance} ssl verify required ca-file {folder}/authority.pem crt {folder}/gateway.pem
backend unit-2
    server instance 127.0.0.1:{instance} ssl verify required ca-file {folder}/authority.pem crt {folder}/gateway.pem
"""

# wrk calls request() for each request; a customer of either unit in turn.
WRK = """
local requests = {}
local next = 0
function init(args)
    for n = 1, 1000 do
        requests[n] = wrk.format("GET", "/v1/accounts/" .. n, {["x-customer"] = "customer-" .. n})
    end
end
function request()
    next = next % 1000 + 1
    return requests[next]
end
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


def build():
    """Builds the gateway and the instance; returns the folder they are in."""
    command = ["cargo", "build", "--release", "-p", "dujiang-gateway", "--examples"]
    subprocess.run(command, cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "examples"


def microseconds(text):
    number, unit = re.fullmatch(r"([0-9.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}[unit]


def processor_seconds(process):
    """What a process has used so far, all its threads together."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(command, port):
    """A process that listens on a port, ended afterwards."""
    process = subprocess.Popen(command)
    try:
        wait_for(port)
        yield process
    finally:
        process.terminate()
        process.wait()


def measure(process, port, script, options):
    command = ["wrk", "-t", "2", "-c", str(options.connections), "-d", f"{options.seconds}s", "--latency",
               "-s", script, f"http://127.0.0.1:{port}"]
    before = processor_seconds(process)
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = processor_seconds(process) - before
    # At the start of a line: elsewhere "99%" is the end of some other share.
    p99 = re.search(r"^\s+99%\s+([0-9]\S+)$", text, re.MULTILINE)
    if not p99:
        sys.exit(f"wrk measured nothing:\n{text}")
    errors = [line for line in text.splitlines() if "Socket errors" in line or "Non-2xx" in line]
    if errors:
        sys.exit("\n".join(errors))
    rate = float(re.search(r"Requests/sec:\s+([0-9.]+)", text)[1])
    requests = int(re.search(r"(\d+) requests in", text)[1])
    return {"requests_per_second": rate, "p99_us": microseconds(p99[1]), "processor_us": used / requests * 1e6}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()
    programs = build()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        instance, gateway, haproxy = free_port(), free_port(), free_port()
        (folder / "units.map").write_text("0:8191 unit-1\n8192:16383 unit-2\n")
        (folder / "wrk.lua").write_text(WRK)
        (folder / "haproxy.cfg").write_text(
            HAPROXY.format(threads=options.threads, listen=haproxy, map=folder / "units.map", instance=instance,
                           folder=folder))
        start = {
            "gateway": [programs / "serve", f"127.0.0.1:{gateway}", f"127.0.0.1:{instance}", str(options.threads), folder],
            "haproxy": ["haproxy", "-db", "-q", "-f", folder / "haproxy.cfg"],
        }
        ports = {"gateway": gateway, "haproxy": haproxy}
        results = {name: [] for name in start}
        with running([programs / "upstream", f"127.0.0.1:{instance}", folder], instance):
            for run in range(options.runs):
                # Who begins changes from run to run, so that a drift of the machine hits both. Each run has processes
                # of its own: how the kernel places their threads on few cores is luck that lasts as long as they do.
                for name in sorted(start, reverse=run % 2 == 1):
                    with running(start[name], ports[name]) as process:
                        warm_up = argparse.Namespace(connections=options.connections, seconds=1)
                        measure(process, ports[name], folder / "wrk.lua", warm_up)
                        result = measure(process, ports[name], folder / "wrk.lua", options)
                    results[name].append(result)
                    print(f"run {run + 1} {name:8} {result['requests_per_second']:9.0f} requests/s   "
                          f"p99 {result['p99_us'] / 1000:7.2f} ms   {result['processor_us']:5.1f} us of processor "
                          "per request", flush=True)
    median = {name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
              for name, runs in results.items()}
    ratio = {key: median["gateway"][key] / median["haproxy"][key] for key in median["gateway"]}
    print(f"\n{options.threads} threads, {options.connections} connections, medians of {options.runs} runs of "
          f"{options.seconds} s")
    for name, figures in median.items():
        print(f"{name:8} {figures['requests_per_second']:9.0f} requests/s   p99 {figures['p99_us'] / 1000:7.2f} ms   "
              f"{figures['processor_us']:5.1f} us of processor per request")
    print(f"gateway / haproxy: {ratio['requests_per_second']:.2f} x requests/s (more is better), "
          f"{ratio['p99_us']:.2f} x p99, {ratio['processor_us']:.2f} x processor time (less is better)")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(
            {"options": vars(options), "runs": results, "medians": median, "ratios": ratio}, indent=2))


if __name__ == "__main__":
    main()
