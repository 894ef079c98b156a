"""The engine: what every framework and every store share."""
