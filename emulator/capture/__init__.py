"""Packets: recorded at every interface of a lab, kept as pcapng, decoded into frames with named fields."""
