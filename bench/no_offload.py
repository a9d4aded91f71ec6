"""python3 no_offload.py INTERFACE: the kernel finishes checksums and segments before a frame leaves the interface, as
`ethtool -K INTERFACE tx off gso off` says. ioctl SIOCETHTOOL, linux/ethtool.h; standard library only."""

import array
import fcntl
import socket
import struct
import sys

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
ETHTOOL_SGSO = 0x24

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    for command in (ETHTOOL_STXCSUM, ETHTOOL_SGSO):
        value = array.array("I", (command, 0))
        request = struct.pack("16sP16x", sys.argv[1].encode(), value.buffer_info()[0])
        fcntl.ioctl(control, SIOCETHTOOL, request)
