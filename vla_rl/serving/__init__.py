"""A policy behind a socket: messages, the checks of what clients send, decisions for many at once, and the server."""
