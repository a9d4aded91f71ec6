"""Ports where a server is to be expected: of a connection whose beginning was not captured, they tell who asked whom.

The numbers are IANA's, and those that the protocols' own documents name; the choice is that of Zeek's
`likely_server_ports` with its default scripts, so that both take the same side for the originator.
"""

from __future__ import annotations

from typing import Final

_FTP = (21, 2811)
_MAIL = (25, 587, 110, 143)
_HTTP = (80, 81, 631, 1080, 3128, 8000, 8080, 8888)
_TLS = (443, 563, 585, 614, 636, 989, 990, 992, 993, 995, 5223)
_IRC = (6666, 6667, 6668, 6669)
_WINDOWS = (88, 135, 139, 389, 445, 3268, 3389)
_DATABASES = (1434, 3306, 5432, 6379)
_CONTROL = (502, 20000)
_CHAT = (5222, 5269)

LIKELY_TCP_SERVERS: Final = frozenset(
    (*_FTP, 22, *_MAIL, 53, 79, *_HTTP, *_TLS, *_IRC, *_WINDOWS, *_DATABASES, *_CONTROL, *_CHAT, 1883)
)

TEREDO: Final = 3544
GTP: Final = frozenset((2152, 2123))
VXLAN: Final = 4789
GENEVE: Final = 6081
AYIYA: Final = 5072

DNS: Final = frozenset((53, 137, 5353, 5355))
NTP: Final = 123

LIKELY_UDP_SERVERS: Final = frozenset(
    (*DNS, 67, 4011, 88, NTP, 161, 162, 389, 443, 514, 784, 1812, 3389, 5060, 20000, TEREDO, *GTP, VXLAN, GENEVE, AYIYA)
)

INTERACTIVE: Final = frozenset((21, 22, 23, 513))
"""TCP services whose users are allowed to think: their connections may be silent for an hour."""
