"""Signing in: factors, credentials and tokens around the one session (R60, R63, R79-R94).

    vault       where users' credentials and one-time items are kept (port; memory, SQLite, SQLAlchemy)
    ground      what every flow stands on
    throttle    attempts that are limited, per user and per source, across processes and restarts

Each way to sign in has the three parts of every capability: rules (decide), flow (do), and its doors.
"""
