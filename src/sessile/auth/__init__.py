"""Signing in: factors, credentials and tokens around the one session (R60, R63, R79-R94).

    vault vaults   where users' credentials and one-time items are kept (port; memory, SQLite, PostgreSQL, MariaDB)
    ground         what every flow stands on
    throttle       attempts that are limited, per factor, user and source, across processes and restarts
    changes        what changing a factor asks for, and what it ends
    users          who has an account (port, and one on the vault)
    passwords      passwords, hashed off the event loop, for small applications
    totp recovery  codes of an authenticator, and the ones on paper
    codes          codes and links by e-mail
    passkeys       WebAuthn
    tokens         access and refresh tokens, DPoP, the API door
    factors        what a user has
    activity       what happened to a user's account, for that user
    accounts       all of these, built at once
    pages          and shown: account pages for every framework

Each way to sign in has the three parts of every capability: rules (decide), flow (do), and its doors.
"""
