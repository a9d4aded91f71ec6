"""The commands: thin doors to the stages. Each function takes parsed arguments and returns an exit status."""
