"""What was written: the lab file, checked whole, and the lab with every address, route and zone filled in. Pure."""
