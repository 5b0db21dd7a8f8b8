"""The published Python package procbridge 1.2.2 as a contender, with the command line of the others:

    python.py serve python ENDPOINT
    python.py call python ENDPOINT [--in-flight N] [--payload small|1m|16m|BYTES] [--millis M] [--warm CALLS]
                                   [--calls N] [--server PROCESS]

ENDPOINT: unix:/PATH or tcp:127.0.0.1:PORT. Run it with the interpreter into which `scripts/peers` installs the package.

Server and client are as published: a thread and a connection for each call. With N calls in flight the client has N
threads. On the way to the server's port the package's backlog of 0 lets connects over TCP wait for seconds when there
are many at once: measure it with many in flight over Unix sockets.
"""

import gc
import json
import os
import resource
import sys
import threading
import time

sys.dont_write_bytecode = True

from procbridge import Client, Server  # noqa: E402


def usage():
    sys.exit("usage: python.py serve|call python ENDPOINT [OPTIONS]")


def endpoint(text):
    if text.startswith("unix:"):
        return (text[len("unix:"):],)
    if text.startswith("tcp:"):
        host, _, port = text[len("tcp:"):].rpartition(":")
        return (host, int(port))
    usage()


def payload(text):
    if text == "small":
        return {"a": 1, "b": [1, 2, 3], "s": "hello"}
    size = int(text[:-1]) << 20 if text.endswith("m") else int(text)
    words = "the quick brown fox jumps over the lazy dog "
    return (words * (size // len(words) + 1))[: size - 2]


def serve(where):
    def echo(method, payload):
        return payload

    server = Server.from_unix(where[0], echo) if len(where) == 1 else Server.from_inet(*where, echo)
    server.start()
    print("ready", flush=True)
    while os.read(0, 65536):
        pass
    # The package's threads wait for connections: do not wait for them.
    os._exit(0)


def processor_time(process):
    """What a process has used, in microseconds: fields 14 and 15 of proc(5), in ticks."""
    with open("/proc/{}/stat".format(process)) as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000 // os.sysconf("SC_CLK_TCK")


def memory(key):
    with open("/proc/self/status") as status:
        return next((int(line.split()[1]) for line in status if line.startswith(key + ":")), 0)


class End:
    """When to stop: at a time, or after so many calls of all threads together."""

    def __init__(self, calls=None, millis=None):
        self.at = None if millis is None else time.perf_counter_ns() + millis * 1_000_000
        self.left = calls
        self.lock = threading.Lock()

    def allows(self, now):
        if self.at is not None:
            return now < self.at
        with self.lock:
            self.left -= 1
            return self.left >= 0


def together(count, work):
    """Runs `work` on so many threads, the first of which is this one if it is alone. Returns what they return."""
    if count == 1:
        return [work()]
    results, errors = [], []

    def run():
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def call(where, options):
    client = Client.from_unix(where[0]) if len(where) == 1 else Client.from_inet(*where)
    content = payload(options.get("payload", "small"))
    in_flight = int(options.get("in-flight", 1))
    if client.request("echo", content) != content:
        sys.exit("the answer is not what was sent")

    def worker(end):
        latencies = []
        now = time.perf_counter_ns()
        while end.allows(now):
            client.request("echo", content)
            before, now = now, time.perf_counter_ns()
            latencies.append(now - before)
        return latencies

    warm = End(calls=int(options.get("warm", 1000)))
    together(in_flight, lambda: worker(warm))

    gc.collect()
    server = int(options["server"]) if "server" in options else None
    server_used = processor_time(server) if server else 0
    used = time.process_time_ns()
    begun = time.perf_counter_ns()
    end = End(calls=int(options["calls"])) if "calls" in options else End(millis=int(options.get("millis", 1000)))
    latencies = sorted(latency for part in together(in_flight, lambda: worker(end)) for latency in part)
    elapsed = time.perf_counter_ns() - begun
    used = time.process_time_ns() - used

    report = {"calls": len(latencies), "elapsed_ns": elapsed}
    for key, part in (("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99), ("max_ns", 1)):
        report[key] = latencies[min(int(part * len(latencies)), len(latencies) - 1)] if latencies else 0
    report["cpu_us"] = used / 1000
    if server:
        report["server_cpu_us"] = processor_time(server) - server_used
    report["rss_kib"] = memory("VmRSS")
    report["peak_kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(report))


def main(arguments):
    if len(arguments) < 3 or arguments[1] != "python" or len(arguments) % 2 == 0:
        usage()
    verb, where, rest = arguments[0], endpoint(arguments[2]), arguments[3:]
    if verb == "serve":
        serve(where)
    elif verb == "call" and all(name.startswith("--") for name in rest[::2]):
        call(where, {name[2:]: value for name, value in zip(rest[::2], rest[1::2])})
    else:
        usage()


if __name__ == "__main__":
    main(sys.argv[1:])
