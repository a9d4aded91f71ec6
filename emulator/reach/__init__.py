"""Which hosts of a running lab reach which: all ordered pairs, by real echo requests and replies."""
