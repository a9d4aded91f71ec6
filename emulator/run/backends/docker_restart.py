"""Booting nodes of a running lab of which some are containers: the engine starts these again."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.errors import CommandFailed
from emulator.plan.containers import CreateContainer
from emulator.run import engine
from emulator.run.backends.docker import DockerHands, Made, agreed_mounts
from emulator.run.backends.netns import initial_settings
from emulator.run.restart import FIRST_INDEX, RestartHands
from emulator.run.view import Shared

if TYPE_CHECKING:
    from docker import DockerClient

_ENDED_S = 20
"""How long the engine may take to notice that a container has ended."""


class DockerRestartHands(RestartHands, DockerHands):
    """The hands of the builder for nodes that are off, containers among them. The engine still has a container that is
    off, with its files; its cables are held by the lab's first process, which puts them into the new network namespace
    as soon as it is told of it."""

    def _create(self, client: DockerClient, operation: CreateContainer, shared: Mapping[str, Shared]) -> Made:
        import requests
        from docker.errors import APIError

        ours = engine.containers(self._socket_path, str(self._directory))
        found = [entry["Id"] for entry in ours if entry["Labels"].get(engine.NODE) == operation.node]
        agreed_mounts(operation, shared)  # the engine goes by the paths once more
        if not found:
            raise CommandFailed(
                f"the engine has no container of {operation.node} any more", hint="wirelab down, and up"
            )
        try:
            client.api.wait(found[0], timeout=_ENDED_S, condition="not-running")
        except (APIError, OSError, requests.RequestException) as error:
            raise CommandFailed(f"the container of {operation.node} does not end: {error}") from None
        return self._start_container(client, operation, found[0])

    def _enter(self, made: Sequence[Made]) -> None:
        super()._enter(made)
        for one in made:  # the cables are there again
            node = self._nodes[one.operation.node]
            self._in_namespace(node.name)
            node.indexes.update({interface: index for index, interface in socket.if_nameindex()})
            node.numbers = count(FIRST_INDEX)
            self._settle(node, initial_settings(one.operation))

    def _root_of(self, node: str) -> Path:
        return DockerHands._root_of(self, node) if node in self._made else RestartHands._root_of(self, node)
