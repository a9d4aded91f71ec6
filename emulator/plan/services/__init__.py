"""One file a service: what it needs on the node, how it is started, and how to know that it answers."""
