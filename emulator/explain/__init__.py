"""What happened on the wire, told: frames → journeys → exchanges → a story. Pure: no system, no packet library.

`story.tell` is the entrance. A *journey* is one packet with all places where it was seen; an *exchange* is what belongs
together: a question and its answer, a connection with all its segments.
"""
