"""Hearing of a PostgreSQL server's notifications on a connection of its own, without asking for them."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

TRY_AGAIN = 1.0
"""Seconds between two tries to connect: who asks often must not wait for the network each time."""


class Listener:
    """Counts what comes on a channel. May be asked by several threads; connects when it is asked first."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], channel: str) -> None:
        self._connect = connect
        self._channel = channel
        self._connection: psycopg.Connection[Any] | None = None
        self._poll = select.poll()
        self._lock = threading.Lock()
        self._news = 0
        self._failed: tuple[float, psycopg.Error] | None = None

    def news(self) -> int:
        """Give a number that is another one if something may have come since the last call.

        That takes microseconds: only a socket is looked at. After the connection was lost, something may have
        come meanwhile. Raises `psycopg.Error` while there is no connection.
        """
        if not self._lock.acquire(blocking=False):
            return self._news  # another thread looks just now
        try:
            if self._connection is None:
                self._begin()
            else:
                self._read(self._connection)
            return self._news
        finally:
            self._lock.release()

    def _begin(self) -> None:
        if self._failed is not None and time.monotonic() < self._failed[0] + TRY_AGAIN:
            raise self._failed[1]
        try:
            connection = self._connect()
            try:
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            except BaseException:
                connection.close()
                raise
        except psycopg.Error as error:
            self._failed = time.monotonic(), error
            raise
        self._failed = None
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)
        self._connection = connection
        self._news += 1

    def _read(self, connection: psycopg.Connection[Any]) -> None:
        try:
            while self._poll.poll(0):  # also the end of the connection can be read
                self._news += sum(1 for _ in connection.notifies(timeout=0))
        except psycopg.Error:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()
