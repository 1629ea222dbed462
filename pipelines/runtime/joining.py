"""The address of a Ray cluster: what it may be, and whether a cluster answers there."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

from fusionrec.errors import ConfigError, InputError
from pipelines.runtime import tokens

VARIABLE = "RAY_ADDRESS"
_SECONDS = 10.0


class Address(NamedTuple):
    """Where a cluster is to be joined, and the key or variable that says so."""

    value: str
    origin: str

    def __str__(self) -> str:
        return f"{self.origin} {self.value!r}"


def address(configured: str | None) -> Address | None:
    """The cluster's address, from the config or else the environment; None for a local run.

    Raises
    ------
    ConfigError
        It is of a kind that cannot be joined.
    """
    if configured:
        found = Address(configured, "cluster.address")
    elif os.environ.get(VARIABLE):
        found = Address(os.environ[VARIABLE], VARIABLE)
    else:
        return None
    if found.value == "local":
        return None
    _check_kind(found)
    return found


def _check_kind(found: Address) -> None:
    scheme, separator, _ = found.value.partition("://")
    without = "unset it" if found.origin == VARIABLE else "leave the key out"
    if separator and scheme in ("http", "https"):
        raise ConfigError(
            f"{found}: is the address of the dashboard, which takes jobs; run the command there "
            f"with `fusionrec submit --address {found.value} -- COMMAND`, or {without} for a "
            "local run"
        )
    if separator:
        what = "an address of Ray Client, which" if scheme == "ray" else "an address that"
        raise ConfigError(
            f"{found}: is {what} fusionrec does not use; run the command on the cluster with "
            "`fusionrec submit --address http://HEAD:8265 -- COMMAND` or `ray job submit`, or "
            f"{without} for a local run"
        )
    if found.value != "auto" and not _host_and_port(found):
        raise ConfigError(
            f"{found}: must be HOST:PORT of the head node (its port is 6379, unless `ray start` "
            "was told another), auto or local"
        )


def _host_and_port(found: Address) -> tuple[str, int] | None:
    host, _, port = found.value.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else None


def check_reachable(found: Address) -> None:
    """Fail at once where no cluster listens, or one that refuses us: Ray itself tries for long.

    Raises
    ------
    InputError
        No cluster answers there, or not to our token.
    """
    place = _host_and_port(found)
    if place is None:
        return  # "auto": Ray looks for it on this machine
    try:
        socket.create_connection(place, timeout=_SECONDS).close()
    except OSError as error:
        raise unreachable(found, error) from None
    if _refuses_token(found.value):
        raise InputError(tokens.refused(str(found)))


def unreachable(found: Address, error: Exception) -> InputError:
    """The error where no cluster can be joined."""
    reason = " ".join(str(error).split())
    return InputError(
        f"{found}: no Ray cluster answers there ({reason}); start one with `ray start --head`, or "
        f"{'unset it' if found.origin == VARIABLE else 'leave the key out'} for a local run"
    )


def _refuses_token(target: str) -> bool:
    """Ask the cluster for a sign of life, as Ray would: with the token, if there is one."""
    import grpc

    token = tokens.find() if os.environ.get(tokens.MODE, "token").lower() == "token" else None
    metadata = [("authorization", f"Bearer {token.value}")] if token else []
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            ask(b"", metadata=metadata, timeout=_SECONDS)
        except grpc.RpcError as error:
            # Anything else (TLS, another version) is Ray's to tell.
            return bool(error.code() == grpc.StatusCode.UNAUTHENTICATED)
    return False
