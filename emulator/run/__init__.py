"""The only hands: kernel calls, netlink, processes, namespaces. Every other room is data and judgement."""
