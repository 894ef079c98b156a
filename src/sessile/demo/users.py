"""The demo's users: the sample of `sessile.auth.users`, whose ids are their names, so that the panel can be read."""

from __future__ import annotations

from typing import Final

from ..auth.accounts import AsyncAccounts
from ..auth.users import Account, Unusable, VaultUsers, normal

SEEDED: Final = (("ada", "analytical-engine"), ("grace", "nanoseconds-matter"))


class Users(VaultUsers):
    """Keep users in the vault, under their names."""

    async def create(self, login: str) -> Account | Unusable:
        """Make an account; of two that ask for one name at once, one gets it."""
        name = normal(login)
        if name is None or not name.isprintable():
            return Unusable.MALFORMED
        return await VaultUsers(self.ground, new_id=lambda: name).create(name)


async def seed(accounts: AsyncAccounts, users: Users) -> None:
    """Let the first two people move in, unless they live here already."""
    for name, password in SEEDED:
        if isinstance(await users.create(name), Account):
            await accounts.passwords.set_first(name, password)
