"""A test client over the published Python package `procbridge` 1.2.2. See README.md.

    client.py tcp HOST PORT
    client.py unix PATH
"""

import sys

sys.dont_write_bytecode = True

from procbridge import Client  # noqa: E402

import common  # noqa: E402

if __name__ == "__main__":
    kind, *where = common.client_endpoint()
    client = Client.from_inet(*where) if kind == "tcp" else Client.from_unix(*where)
    common.drive(client.request)
