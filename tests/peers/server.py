"""A test server over the published Python package `procbridge` 1.2.2. See README.md.

    server.py tcp PORT      PORT 0 finds a free one
    server.py unix PATH
"""

import sys
import time

sys.dont_write_bytecode = True

from procbridge import Server  # noqa: E402

import common  # noqa: E402


def delegate(method, payload):
    if method == "echo":
        return payload
    if method == "sum":
        return sum(payload)
    if method == "err":
        raise RuntimeError("generated error")
    if method == "sleep":
        time.sleep(payload)
        return None
    if method == "big":
        return "x" * payload["bytes"]
    return None


if __name__ == "__main__":
    common.serve(
        tcp=lambda host, port: Server.from_inet(host, port, delegate),
        unix=lambda path: Server.from_unix(path, delegate),
    )
