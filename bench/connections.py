"""Opens many TCP connections and keeps them, or answers them. Standard library only; run in a node:

    python3 connections.py serve PORT…                     says "ready"; echoes until its standard input ends
    python3 connections.py open COUNT ADDRESS PORT…        says "ready"; for each line on standard input:

`go` opens COUNT connections, evenly over the ports, as fast as it can, and prints {"opened", "failed", "began",
"ended"} (seconds of CLOCK_MONOTONIC, which all processes of a machine share); `ask` sends one octet through each and
prints {"answered"}; the end of standard input closes all of them at once (RST, so that no port waits).
"""

import errno
import json
import resource
import select
import socket
import struct
import sys
import time

AT_ONCE = 256
"""Handshakes of one process that are under way; more would only fill the server's queue."""

LATE_S = 30.0
"""What has not been answered by then is counted as lost."""


def main():
    """Do what the command line says."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    role, *words = sys.argv[1:]
    if role == "serve":
        serve([int(word) for word in words])
    else:
        client(int(words[0]), words[1], [int(word) for word in words[2:]])


def say(text):
    """A line for whoever started this."""
    print(text, flush=True)


def serve(ports):
    """Take every connection, and send back what comes."""
    poll = select.epoll()
    listeners, open_ones = {}, {}
    for port in ports:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen(65535)
        listener.setblocking(False)
        listeners[listener.fileno()] = listener
        poll.register(listener, select.EPOLLIN)
    poll.register(0, select.EPOLLIN)
    say("ready")
    while True:
        for number, _ in poll.poll():
            if number in listeners:
                accept(listeners[number], poll, open_ones)
            elif number == 0:
                return
            else:
                echo(number, open_ones)


def accept(listener, poll, open_ones):
    """Take the connections that wait."""
    for _ in range(64):
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        open_ones[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)


def echo(number, open_ones):
    """Send back what came, or close what has ended."""
    connection = open_ones[number]
    try:
        octets = connection.recv(4096)
        if octets:
            connection.send(octets)
            return
    except OSError:
        pass
    del open_ones[number]
    connection.close()


def client(count, address, ports):
    """Wait for orders."""
    say("ready")
    connections = []
    for line in sys.stdin:
        if line.strip() == "go":
            connections, report = open_all(count, address, ports)
            say(json.dumps(report))
        elif line.strip() == "ask":
            say(json.dumps({"answered": ask(connections)}))
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def open_all(count, address, ports):
    """Open `count` connections; gives them, and how it went."""
    poll = select.epoll()
    pending, done, failed, begun = {}, [], 0, 0
    began = time.monotonic()
    last = began
    while len(done) + failed < count:
        while begun < count and len(pending) < AT_ONCE:
            connection = socket.socket()
            connection.setblocking(False)
            result = connection.connect_ex((address, ports[begun % len(ports)]))
            begun += 1
            if result not in (0, errno.EINPROGRESS):
                failed += 1
                connection.close()
                continue
            pending[connection.fileno()] = connection
            poll.register(connection, select.EPOLLOUT | select.EPOLLONESHOT)
        for number, _ in poll.poll(1.0):
            connection = pending.pop(number)
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                failed += 1
                connection.close()
            else:
                done.append(connection)
            last = time.monotonic()
        if time.monotonic() - last > LATE_S:
            failed += len(pending) + count - begun
            break
    return done, {"opened": len(done), "failed": failed, "began": began, "ended": last}


def ask(connections):
    """Send an octet through each connection, and count the answers."""
    poll = select.epoll()
    waiting = {}
    answered = 0
    deadline = time.monotonic() + LATE_S
    for connection in connections:
        waiting[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
        try:
            connection.send(b"?")
        except OSError:
            del waiting[connection.fileno()]
        if len(waiting) % 256 == 0:
            answered += answers(poll, waiting, 0)
    while waiting and time.monotonic() < deadline:
        answered += answers(poll, waiting, 1.0)
    return answered


def answers(poll, waiting, seconds):
    """How many answers have come within `seconds`."""
    count = 0
    for number, _ in poll.poll(seconds, 4096):
        connection = waiting.pop(number, None)
        poll.unregister(number)
        try:
            count += connection is not None and connection.recv(16) == b"?"
        except OSError:
            pass
    return count


if __name__ == "__main__":
    main()
