"""A test client over the published Python package `procbridge` 1.0.3, which speaks ProcBridge 1.0. See README.md.

    client_103.py tcp HOST PORT
"""

import json
import sys
import types

sys.dont_write_bytecode = True

from procbridge import procbridge  # noqa: E402

import common  # noqa: E402

# The package calls json.loads(text, encoding="utf-8"). Python 3.9 removed that argument (ignored since 3.1) and raises
# TypeError, so that no packet can be read. The package gets a `json` whose loads() drops the argument.
procbridge.json = types.SimpleNamespace(loads=lambda text, encoding=None: json.loads(text), dumps=json.dumps)

if __name__ == "__main__":
    _, host, port = common.client_endpoint(unix=False)
    common.drive(procbridge.ProcBridge(host, port).request)
