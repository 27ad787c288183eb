"""A real PgBouncer in transaction mode before a test's database, with few connections, each transaction on the next."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.programs import free_port, program, wait_for_port

#: Connections to PostgreSQL that all clients share.
POOL = 2

CONFIGURATION = """\
[databases]
{name} = {target}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool}
server_round_robin = 1
max_client_conn = 200
"""


class PgBouncer:
    """Runs from `with` to its end. Whoever connects is let in, as the user of the test's database."""

    def __init__(self, folder: Path, database: dict[str, Any]) -> None:
        self._name = database["NAME"]
        self.port = free_port()
        self._folder = folder
        place = {
            "host": database["HOST"],
            "port": database["PORT"],
            "user": database["USER"],
            "password": database["PASSWORD"],
            "dbname": self._name,
        }
        target = " ".join(f"{key}='{value}'" for key, value in place.items() if value)
        text = CONFIGURATION.format(name=self._name, target=target, port=self.port, pool=POOL)
        (folder / "pgbouncer.ini").write_text(text)

    @property
    def url(self) -> str:
        return f"postgres://anybody@127.0.0.1:{self.port}/{self._name}"

    def __enter__(self) -> Self:
        # It refuses to be root; the embedded PostgreSQL of root belongs to nobody, too.
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        command = [program("pgbouncer"), *user, str(self._folder / "pgbouncer.ini")]
        with (self._folder / "output").open("wb") as output:
            self._server = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_for_port(self.port, self._server, (self._folder / "output").read_text)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.kill()
        self._server.wait()
