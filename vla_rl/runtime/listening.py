"""Where a command listens, what this machine is called there, and who may come in."""

from __future__ import annotations

import hmac
import ipaddress
import socket

LOCAL = ("127.0.0.1", "localhost", "[::1]")
"""What a program on this machine may call it."""


def listener(host: str, port: int, command: str) -> socket.socket:
    """A socket that listens on an address of this machine; port 0 takes a free one. Raises OSError."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise OSError(
            f"{command}: cannot listen on {host}, port {port} ({error}); --port=0 takes a free one"
        ) from error


def in_address(host: str) -> str:
    """A host as addresses have it: `[::1]` for `::1`."""
    return f"[{host}]" if ":" in host else host


def is_local(host: str) -> bool:
    """Whether only this machine reaches what listens on a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def same(given: str, secret: str) -> bool:
    """Whether a token is the secret one, in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode("utf-8", "backslashreplace"), secret.encode())
