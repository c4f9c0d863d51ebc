"""What makes a line of error text a correct one; every ReloError of the suite is checked."""

import re

# Words that a message may begin with although they are capitalised.
NAMES = {"Python", "Ray", "Hugging", "Ctrl-C", "Triton"}
DOUBLED = re.compile(r"\b(found|expected|no|not|is|the|a)\s+\1\b")
EMPTY = re.compile(r"found (None)?[,;]|found( None)?$|expected (None)?;|expected$")
PRONOUN = re.compile(r"expected (it|them|one)($|;)")


def find_faults(message: str) -> list[str]:
    """What is wrong with the form of one message, in a few words each."""
    faults = []
    if not message or message != " ".join(message.split()):
        faults.append("is not one line of single-spaced words")
    first = message.split(" ", 1)[0].strip("'\"(`")
    plain = first.isalpha() and first[:1].isupper() and first[1:].islower()
    if plain and first not in NAMES:
        faults.append("begins with a capital letter")
    if message.endswith((".", ",", ";", ":")):
        faults.append("ends in punctuation")
    if DOUBLED.search(message):
        faults.append("has a doubled word")
    if EMPTY.search(message):
        faults.append("says nothing after `found` or `expected`")
    if PRONOUN.search(message):
        faults.append("expects a pronoun")
    if "Traceback" in message:
        faults.append("carries a traceback")
    return faults
