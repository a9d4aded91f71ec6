"""Connections found in captured packets, each stated in the terms of Zeek's conn.log.

`table.py` is the entrance: frames in, `Row`s out. Everything here is pure and needs the standard library only: octets
are read by `struct` where they lie, without a copy, so that 100,000 frames take seconds.

Whatever the octets are, nothing here raises: what cannot be read is passed over.
"""
