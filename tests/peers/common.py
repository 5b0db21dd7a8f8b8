"""What the Python peers share: the life of a test server, and the line protocol of a test client.

Only the standard library is used here. The peers themselves bring the published package that they drive.
"""

import errno
import json
import os
import socket
import sys
import threading

HOST = "127.0.0.1"
ATTEMPTS = 50


def usage(text):
    sys.stderr.write("usage: {} {}\n".format(os.path.basename(sys.argv[0]), text))
    sys.exit(2)


def free_port():
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]
    finally:
        probe.close()


def start_tcp(make, port):
    """Starts `make(host, port)` and returns the port. The packages do not take port 0, so 0 finds a free one here."""
    if port != 0:
        make(HOST, port).start()
        return port
    for attempt in range(ATTEMPTS):
        port = free_port()
        try:
            make(HOST, port).start()
            return port
        except OSError as err:
            # Somebody else took the port between the probe and the start.
            if err.errno != errno.EADDRINUSE or attempt + 1 == ATTEMPTS:
                raise


def serve(tcp, unix=None):
    """Runs a server as the arguments say: `tcp PORT` or, where `unix` is given, `unix PATH`.

    `tcp(host, port)` and `unix(path)` make a server whose start() returns when it listens. Prints `ready ENDPOINT`
    and serves until standard input ends, so that a test that is killed leaves no server behind.
    """
    args = sys.argv[1:]
    socket_file = None
    if len(args) == 2 and args[0] == "tcp" and args[1].isdigit():
        endpoint = "tcp:{}:{}".format(HOST, start_tcp(tcp, int(args[1])))
    elif len(args) == 2 and args[0] == "unix" and unix is not None:
        unix(args[1]).start()
        socket_file = (args[1], os.stat(args[1]).st_ino)
        endpoint = "unix:{}".format(args[1])
    else:
        usage("tcp PORT" if unix is None else "tcp PORT | unix PATH")

    print("ready {}".format(endpoint), flush=True)
    while os.read(0, 65536):
        pass
    if socket_file is not None:
        # The package leaves its socket file, which would block the next start.
        try:
            if os.stat(socket_file[0]).st_ino == socket_file[1]:
                os.unlink(socket_file[0])
        except FileNotFoundError:
            pass
    # Handlers that still run are daemon threads of the package: do not wait for them.
    os._exit(0)


def client_endpoint(unix=True):
    """The arguments of a client: ("tcp", host, port) or ("unix", path)."""
    args = sys.argv[1:]
    if len(args) == 3 and args[0] == "tcp" and args[2].isdigit():
        return ("tcp", args[1], int(args[2]))
    if len(args) == 2 and args[0] == "unix" and unix:
        return ("unix", args[1])
    usage("tcp HOST PORT | unix PATH" if unix else "tcp HOST PORT")


def failure(err):
    """What a failed call answers. The errors of 1.2.2 carry `message`, and one of them may carry `detail`."""
    result = {"error": getattr(err, "message", None) or str(err), "type": type(err).__name__}
    if getattr(err, "detail", None) is not None:
        result["detail"] = err.detail
    return result


def run(command, request):
    """Makes the calls of one command, and returns one JSON text per call.

    `concurrent` workers begin together and make `repeat` calls each, one after the other.
    """
    args = [command.get("method")]
    if "payload" in command:
        args.append(command["payload"])
    repeat = command.get("repeat", 1)
    workers = command.get("concurrent", 1)
    results = [None] * (repeat * workers)

    def call(index):
        try:
            answer = {"ok": request(*args)}
        except Exception as err:
            answer = failure(err)
        results[index] = json.dumps(answer)

    if workers == 1:
        for index in range(repeat):
            call(index)
        return results

    barrier = threading.Barrier(workers)

    def work(worker):
        barrier.wait()
        for index in range(worker * repeat, (worker + 1) * repeat):
            call(index)

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def drive(request):
    """Reads a JSON command from each line of standard input, makes its calls, and answers with one JSON line."""
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        results = run(json.loads(line.decode("utf-8")), request)
        if len(results) > 1 and all(result == results[0] for result in results):
            answer = '{{"results": [{}], "count": {}}}'.format(results[0], len(results))
        else:
            answer = '{{"results": [{}]}}'.format(", ".join(results))
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()
