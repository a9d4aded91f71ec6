"""Which octets of a frame belong to which layer: for pictures. Best effort, never fails; the decoder's layers count."""

from __future__ import annotations

from collections.abc import Iterator

from emulator.capture.frame import Frame

_SIZES = {"eth": 14, "vlan": 4, "ipv6": 40, "udp": 8, "icmp": 8, "icmpv6": 8, "llc": 3}


def spans(frame: Frame, link_type: int = 1) -> list[tuple[str, int, int]]:
    """Layer, first octet, octet after its last; what is left over at the end is `data`."""
    found = []
    place, end = 0, len(frame.data)
    layers = [layer for layer in frame.layers if layer != "malformed"]
    for number, layer in enumerate(layers):
        size = _size(layer, frame, place, last=number == len(layers) - 1)
        size = min(size, end - place)
        if size > 0:
            found.append((layer, place, place + size))
        place += max(size, 0)
    if place < end:
        found.append(("data", place, end))
    return found


def _size(layer: str, frame: Frame, place: int, *, last: bool) -> int:
    if layer == "ip":
        return frame.number_of("ip.hdr_len")
    if layer == "tcp":
        return frame.number_of("tcp.hdr_len")
    if layer in _SIZES and not (last and layer in ("icmp", "icmpv6", "llc")):
        return _SIZES[layer]
    return max(0, _packet_end(frame) - place)


def _packet_end(frame: Frame) -> int:
    """Where the IP packet ends; behind it an Ethernet frame is filled up to its smallest size."""
    start = 14 + 4 * len(frame.fields.get("vlan.id", ())) if "eth" in frame.layers else 0
    if "ip" in frame.layers and frame.number_of("ip.len") > 0:
        return min(len(frame.data), start + frame.number_of("ip.len"))
    if "ipv6" in frame.layers and frame.number_of("ipv6.plen") > 0:
        return min(len(frame.data), start + 40 + frame.number_of("ipv6.plen"))
    if "arp" in frame.layers:
        return min(len(frame.data), start + 28)
    return len(frame.data)


def fields_by_layer(frame: Frame) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The decoded fields of each layer, values as text; octets in hexadecimal."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, values in frame.fields.items():
        prefix = name.partition(".")[0]
        prefix = {"_ws": "malformed", "wirelab": name.split(".")[1] if name.count(".") else "wirelab"}.get(
            prefix, prefix
        )
        groups.setdefault(prefix, []).append((name, _shown(values)))
    for layer in ("frame", *dict.fromkeys(frame.layers)):
        if layer in groups:
            yield layer, groups.pop(layer)
    yield from groups.items()


def _shown(values: tuple[object, ...]) -> str:
    texts = []
    for value in values[:32]:
        if isinstance(value, bytes):
            texts.append(value[:64].hex(" ") + (" …" if len(value) > 64 else ""))
        elif isinstance(value, bool):
            texts.append("1" if value else "0")
        else:
            texts.append(str(value))
    more = f" (and {len(values) - 32} more)" if len(values) > 32 else ""
    return ", ".join(texts) + more
