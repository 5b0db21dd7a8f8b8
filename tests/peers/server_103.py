"""A test server over the published Python package `procbridge` 1.0.3, which speaks ProcBridge 1.0. See README.md.

    server_103.py tcp PORT      PORT 0 finds a free one
"""

import json
import sys
import time
import types

sys.dont_write_bytecode = True

from procbridge import procbridge  # noqa: E402

import common  # noqa: E402

# The package calls json.loads(text, encoding="utf-8"). Python 3.9 removed that argument (ignored since 3.1) and raises
# TypeError, so that no packet can be read. The package gets a `json` whose loads() drops the argument.
procbridge.json = types.SimpleNamespace(loads=lambda text, encoding=None: json.loads(text), dumps=json.dumps)


def delegate(api, body):
    if api == "echo":
        return body
    if api == "sum":
        return {"result": sum(body["values"])}
    if api == "err":
        raise RuntimeError("generated error")
    if api == "sleep":
        time.sleep(body["seconds"])
        return None
    if api == "big":
        return {"result": "x" * body["bytes"]}
    return None


if __name__ == "__main__":
    common.serve(tcp=lambda host, port: procbridge.ProcBridgeServer(host, port, delegate))
