"""The failure lab: real servers that are killed, frozen, cut off and lagged behind, and an audit of every answer."""
