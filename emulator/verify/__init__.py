"""Judgement: from a resolved lab and the evidence to verdicts that cite frames. Pure: no system is touched here."""
