"""The contract of a vault, as tests that every vault inherits.

    class TestMyVault(VaultContract):
        blocking = False

        def open_vault(self) -> Vault:
            return MyVault(...)

Each test opens a vault, which must be empty, and closes it. `blocking` says which door is tested.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from sessile.auth.vault import (
    MAX_KEY_CHARS,
    MAX_VALUE_BYTES,
    Item,
    ItemInvalid,
    Vault,
    Write,
    living,
    settle,
    version_of,
)
from sessile.core.session import MAX_USER_BYTES
from sessile.errors import StoreUnavailable

from .rehearsal import Rehearsal

# What collations, padding, normal forms and patterns of LIKE take for one: they are different texts.
ALIKE: Final = (
    *("k", "K", "k ", "k  ", " k", "k\t", "k%", "k_", "kk", "k\\", "k'", 'k"', "k%s", "k:0", "k\x01"),
    *("\N{KELVIN SIGN}", "\N{FULLWIDTH LATIN SMALL LETTER K}", "ß", "ss", "ẞ", "é", "e\N{COMBINING ACUTE ACCENT}", "e"),
    *(
        "ı",
        "i",
        "İ",
        "æ",
        "ae",
        "日本",
        "\N{DUCK}",
        "\N{ROOSTER}",
        "\N{WAVING HAND SIGN}",
        "\N{BYTE ORDER MARK}",
        "\uffff",
    ),
)
NO_KEYS: Final = ("", "k" * (MAX_KEY_CHARS + 1), "k\0", "\0", "\ud800", "k\udfff")
NO_USERS: Final = ("u" * (MAX_USER_BYTES + 1), "ü" * (MAX_USER_BYTES // 2 + 1), "\ud800")


def scenario(body: Callable[[Any, Any], Awaitable[None]]) -> Callable[[Any], None]:
    """Turn `async def test(self, vault)` into a test that opens the vault, runs, and closes it."""

    def test(self: VaultContract) -> None:
        async def run() -> None:
            vault = self.open_vault()
            try:
                await body(self, vault)
            finally:
                await vault.close()

        self.run(run())

    # Not functools.wraps: pytest would look through it and take `vault` for a fixture.
    test.__name__, test.__qualname__, test.__doc__ = body.__name__, body.__qualname__, body.__doc__
    return test


async def put(vault: Vault, key: str, value: bytes = b"", user: str | None = None, at: float | None = None) -> Item:
    """Put an item where nothing stands, and return it."""
    assert await vault.write(Write(key, value, 0, user, at))
    return await there(vault, key)


async def there(vault: Vault, key: str) -> Item:
    """Return what stands under a key."""
    item = await vault.get(key)
    assert item is not None
    return item


class VaultContract(Rehearsal):
    """Inherit this, say how the vault is opened, and pytest does the rest."""

    def open_vault(self) -> Vault:
        """Return a vault that is empty.

        Raises:
            TypeError: the inheriting class does not say how.
        """
        raise TypeError(f"{type(self).__name__} must say how its vault is opened: def open_vault(self)")

    # -- one item

    @scenario
    async def test_an_item_is_what_was_written_last(self, vault: Vault) -> None:
        """With its user and its time; gone when it was removed."""
        assert await vault.get("k") is None
        first = await put(vault, "k", b"\x00\xff", "ada", 1_764_000_000.123_456_7)
        assert tuple(first._replace(version=0)) == ("k", b"\x00\xff", 0, "ada", 1_764_000_000.123_456_7)
        assert first.version != 0
        assert await vault.write(Write("k", b"", first.version))
        second = await there(vault, "k")
        assert (second.value, second.user, second.expires_at) == (b"", None, None)
        assert await vault.write(Write("k", None, second.version))
        assert await vault.get("k") is None

    @scenario
    async def test_a_write_over_what_was_not_read_does_nothing(self, vault: Vault) -> None:
        """Neither over another version, nor over something where nothing was read, nor over nothing."""
        item = await put(vault, "k", b"1", "ada", 5.0)
        for write in (
            Write("k", b"2", 0),
            Write("k", None, 0),
            Write("k", b"2", item.version - 1),
            Write("k", None, item.version - 1),
            Write("other", b"2", item.version),
            Write("other", None, item.version),
        ):
            assert not await vault.write(write)
        assert await vault.get("k") == item
        assert await vault.get("other") is None

    @scenario
    async def test_what_was_removed_and_put_again_is_not_what_was_read(self, vault: Vault) -> None:
        """Whoever read the first one must not take the second one for it, nor the third with the first one's value."""
        first = await put(vault, "k", b"same")
        assert await vault.write(Write("k", None, first.version))
        second = await put(vault, "k", b"same")
        assert await vault.write(Write("k", b"other", second.version))
        assert await vault.write(Write("k", b"same", (await there(vault, "k")).version))
        for stale in (first, second):
            assert not await vault.write(Write("k", b"stale", stale.version))
            assert not await vault.write(Write("k", None, stale.version))
        assert (await there(vault, "k")).value == b"same"

    @scenario
    async def test_nothing_can_be_asked_for(self, vault: Vault) -> None:
        """To remove what is not there says that it is not there, and leaves nothing."""
        assert await vault.write(Write("k", None, 0, "ada"), Write("other", b"", 0))
        assert await vault.get("k") is None
        assert await vault.of_user("ada") == ()
        assert not await vault.write(Write("other", None, 0), Write("k", b"", 0))
        assert await vault.get("k") is None
        await there(vault, "other")

    # -- several items

    @scenario
    async def test_all_writes_are_carried_out_or_none(self, vault: Vault) -> None:
        """Whichever of them does not fit, first, in the middle or last by its key."""
        for place in "bdf":
            present = await put(vault, place, b"there")
            others = [Write(key, b"new", 0) for key in "ace"]
            assert not await vault.write(*others, Write(place, b"new", 0))
            assert not await vault.write(Write(place, None, present.version - 1), *others)
            assert [await vault.get(key) for key in "ace"] == [None] * 3
            assert await vault.get(place) == present
            assert await vault.write(others[2], Write(place, None, present.version), others[0])
            assert [await vault.get(key) is not None for key in f"ace{place}"] == [True, False, True, False]
            assert await vault.write(*[Write(key, None, (await there(vault, key)).version) for key in "ae"])
        assert await vault.write()

    @scenario
    async def test_what_is_no_item_is_refused_and_nothing_is_written(self, vault: Vault) -> None:
        """The same in every vault, and never one of the others in the same write."""
        wrong = [Write(key, b"", 0) for key in NO_KEYS]
        wrong += [Write("k", b"", 0, user) for user in NO_USERS]
        wrong += [Write("k", b"", 0, None, at) for at in (math.nan, math.inf, -math.inf)]
        wrong += [Write("k", b"", version) for version in (-1, 2**63)]
        wrong += [Write("k", bytes(MAX_VALUE_BYTES + 1), 0), Write("good", b"", 0)]
        for write in wrong:
            with pytest.raises(ItemInvalid):
                await vault.write(Write("good", b"", 0), write)
        assert [await vault.get(key) for key in ("good", "k", *NO_KEYS)] == [None] * (2 + len(NO_KEYS))
        for user in NO_USERS:
            assert await vault.of_user(user) == ()
            assert await vault.forget_user(user) == 0
        for prefix in NO_KEYS[1:]:
            assert await vault.of_user("ada", prefix) == ()

    @scenario
    async def test_items_may_be_large(self, vault: Vault) -> None:
        """Of every byte, under the longest key of the widest signs, of a user whose name is as long as it may be."""
        user, key = "\N{DUCK}" * (MAX_USER_BYTES // 4), "\N{ROOSTER}" * MAX_KEY_CHARS
        value = (bytes(range(256)) * (MAX_VALUE_BYTES // 256))[::-1]
        item = await put(vault, key, value, user)
        assert (item.key, item.value == value, item.user) == (key, True, user)
        assert await vault.of_user(user, key) == (item,)
        assert await vault.write(Write(key, value[1:], item.version, user))
        assert (await there(vault, key)).value == value[1:]
        assert await vault.forget_user(user) == 1

    @scenario
    async def test_nothing_secret_is_shown(self, vault: Vault) -> None:
        """What logs and tracebacks show of an item is not its value (R96)."""
        item = await put(vault, "k", b"hunter2")
        assert "hunter2" not in f"{item!r} {item} {Write('k', b'hunter2', 0)!r}"

    # -- keys and users

    @scenario
    async def test_keys_that_look_alike_are_different_keys(self, vault: Vault) -> None:
        """In case, blanks, forms of one letter, signs that mean something elsewhere; each is there, and none twice."""
        assert await vault.write(*(Write(key, key.encode(), 0) for key in ALIKE))
        for key in ALIKE:
            item = await there(vault, key)
            assert (item.key, item.value) == (key, key.encode())
        first = await there(vault, ALIKE[0])
        assert await vault.write(Write(first.key, None, first.version))
        assert [await vault.get(key) is not None for key in ALIKE] == [False] + [True] * (len(ALIKE) - 1)

    @scenario
    async def test_users_that_look_alike_are_different_users(self, vault: Vault) -> None:
        """Nobody sees or forgets another one's items; the empty name is a name, and no user is none (R99)."""
        users = (*ALIKE, "", "u\0", "u")
        assert await vault.write(*(Write(f"item:{place}", b"", 0, user) for place, user in enumerate(users)))
        await put(vault, "nobody's")
        for place, user in enumerate(users):
            assert [item.key for item in await vault.of_user(user)] == [f"item:{place}"]
        assert [await vault.forget_user(user) for user in users[:2]] == [1, 1]
        assert [len(await vault.of_user(user)) for user in users] == [0, 0] + [1] * (len(users) - 2)
        assert await vault.forget_user("") == 1
        await there(vault, "nobody's")

    @scenario
    async def test_a_users_items_come_in_the_order_of_their_keys(self, vault: Vault) -> None:
        """By code points, whatever a language would say; whole."""
        await vault.write(*(Write(key, b"v", 0, "ada", 7.0) for key in ALIKE))
        found = await vault.of_user("ada")
        assert [item.key for item in found] == sorted(ALIKE)
        assert found[0] == await vault.get(found[0].key)

    @scenario
    async def test_a_prefix_means_what_it_says(self, vault: Vault) -> None:
        """No sign of it is a pattern, and what is shorter or differs in one letter does not begin with it."""
        keys = ("key:1", "key:2", "keys:3", "k_y:4", "k%:5", "KEY:6", "k\\_:7", "key", "\N{DUCK}:8", "k\uffff:9")
        await vault.write(*(Write(key, b"", 0, "ada") for key in keys))
        await put(vault, "key:0", user="eve")
        prefixes = (
            "key:",
            "key",
            "k",
            "K",
            "k_",
            "k%",
            "%",
            "_",
            "\\",
            "k\\",
            "\N{DUCK}",
            "k\uffff",
            "key:1",
            "key:10",
        )
        for prefix in prefixes:
            expected = sorted(key for key in keys if key.startswith(prefix))
            assert [item.key for item in await vault.of_user("ada", prefix)] == expected, prefix

    @scenario
    async def test_a_users_items_are_forgotten(self, vault: Vault) -> None:
        """All of them, with their number; another user's stay, and what was given to another one is theirs (R99)."""
        for number in range(5):
            await put(vault, f"k{number}", user="ada")
        moved = await there(vault, "k4")
        await vault.write(Write("k4", b"", moved.version, "eve"))
        await put(vault, "of nobody")
        assert await vault.forget_user("ada") == 4
        assert await vault.forget_user("ada") == 0
        assert await vault.of_user("ada") == ()
        assert [item.key for item in await vault.of_user("eve")] == ["k4"]
        await there(vault, "of nobody")

    # -- time

    @scenario
    async def test_what_has_expired_is_there_until_it_is_swept(self, vault: Vault) -> None:
        """No more at once than was asked for, and nothing that stays (R99)."""
        for number in range(5):
            await put(vault, f"k{number}", at=number + 0.5)
        await put(vault, "stays")
        old = await there(vault, "k1")
        assert (living(old, 1.5), living(old, 1.4)) == (None, old)
        assert await vault.sweep(0.4, 10) == 0
        assert await vault.sweep(2.5, 0) == 0
        assert await vault.sweep(2.5, 2) == 2
        assert await vault.sweep(2.5, 10) == 1
        assert await vault.sweep(2.5, 10) == 0
        assert [await vault.get(f"k{number}") is None for number in range(5)] == [True, True, True, False, False]
        await there(vault, "stays")

    @scenario
    async def test_a_deadline_goes_with_its_write(self, vault: Vault) -> None:
        """What was written over with another one, or none, is swept by that."""
        first, second = await put(vault, "later", at=1.0), await put(vault, "never", at=1.0)
        assert await vault.write(Write("later", b"", first.version, None, 9.0), Write("never", b"", second.version))
        assert await vault.sweep(5.0, 10) == 0
        assert await vault.sweep(9.0, 10) == 1
        await there(vault, "never")

    @scenario
    async def test_a_decision_goes_over_what_has_expired(self, vault: Vault) -> None:
        """What nobody may take any more is in nobody's way."""
        await put(vault, "k", b"old", at=1.0)
        seen, _ = await settle(vault, "k", lambda item: (item, Write("k", b"new", 0)), now=2.0)
        assert seen is None
        assert (await there(vault, "k")).value == b"new"

    # -- at the same time

    @scenario
    async def test_of_many_takers_one_takes_an_item(self, vault: Vault) -> None:
        """A code is good once, however many come with it at the same moment (R91, R92)."""

        async def take(key: str) -> bool:
            item = await vault.get(key)
            await self.pause()
            return item is not None and await vault.write(Write(key, None, item.version))

        for number in range(self.rounds // 5):
            await put(vault, f"k{number}")
            took = await self.together(*(lambda key=f"k{number}": take(key) for _ in range(6)))
            assert sum(took) == 1, took
            assert await vault.get(f"k{number}") is None

    @scenario
    async def test_of_many_who_find_nothing_one_puts(self, vault: Vault) -> None:
        """An account is made once, a proof is taken once; what the one put is what stands there."""

        async def place(key: str, number: int) -> int | None:
            return number if await vault.write(Write(key, bytes([number]), 0), Write(f"{key}:too", b"", 0)) else None

        for turn in range(self.rounds // 5):
            key = f"k{turn}"
            placed = await self.together(*(lambda n=number, key=key: place(key, n) for number in range(6)))
            [winner] = [number for number in placed if number is not None]
            assert (await there(vault, key)).value == bytes([winner])

    @scenario
    async def test_a_count_loses_no_step(self, vault: Vault) -> None:
        """However many count at the same time: attempts are limited by this (R91)."""

        def one_more(item: Item | None) -> tuple[None, Write]:
            return None, Write("count", str(int(item.value if item else b"0") + 1).encode(), 0)

        async def count() -> None:
            for _ in range(max(self.rounds // 20, 2)):
                await settle(vault, "count", one_more, now=0.0)

        await self.together(*[count] * 4)
        assert int((await there(vault, "count")).value) == 4 * max(self.rounds // 20, 2)

    @scenario
    async def test_writes_of_several_items_meet_and_none_is_lost_or_halved(self, vault: Vault) -> None:
        """Coins that are moved between three places in every order: nobody waits in a circle, and no coin is lost."""
        for key in "abc":
            await put(vault, key, b"100")

        async def move(source: str, target: str) -> None:
            for _ in range(max(self.rounds // 20, 2)):
                done = False
                while not done:
                    left, right = await there(vault, source), await there(vault, target)
                    await self.pause()
                    less, more = str(int(left.value) - 1).encode(), str(int(right.value) + 1).encode()
                    done = await vault.write(Write(source, less, left.version), Write(target, more, right.version))

        pairs = ("ab", "ba", "bc", "cb", "ca", "ac", "ab", "ab")
        await self.together(*(lambda pair=pair: move(*pair) for pair in pairs))
        values = [int((await there(vault, key)).value) for key in "abc"]
        moved = 2 * max(self.rounds // 20, 2)
        assert values == [100 - moved, 100 + moved, 100]

    @scenario
    async def test_who_is_forgotten_while_others_write_is_forgotten_whole(self, vault: Vault) -> None:
        """Both of two items that are put together are there, or none: a forgetting has no middle."""
        torn: list[str] = []

        async def write() -> None:
            for _ in range(self.rounds // 5):
                one, two = await vault.get("one"), await vault.get("two")
                await vault.write(Write("one", b"", version_of(one), "ada"), Write("two", b"", version_of(two), "ada"))

        async def forget() -> None:
            for _ in range(self.rounds // 5):
                await vault.forget_user("ada")
                await self.pause()

        async def watch() -> None:
            for _ in range(self.rounds // 5):
                found = [item.key for item in await vault.of_user("ada")]
                torn.extend(found if len(found) == 1 else [])
                await self.pause()

        await self.together(write, forget, watch, write)
        assert torn == []
        assert await vault.forget_user("ada") in (0, 2)

    @scenario
    async def test_sweepers_share_the_work(self, vault: Vault) -> None:
        """What one removes, no other counts; what is written over meanwhile stays."""
        count = max(self.rounds // 2, 10)
        await vault.write(*(Write(f"k{number}", b"", 0, None, 1.0) for number in range(count)))
        kept = await there(vault, "k0")

        async def renew() -> int:
            return 1 if await vault.write(Write("k0", b"renewed", kept.version, None, 9.0)) else 0

        async def sweep() -> int:
            removed = 0
            while batch := await vault.sweep(2.0, 7):
                removed += batch
                await self.pause()
            return removed

        renewed, *swept = await self.together(renew, sweep, sweep, sweep)
        while late := await vault.sweep(2.0, count):  # a sweeper leaves what another one holds
            swept.append(late)
        assert renewed + sum(swept) == count
        assert (await vault.get("k0") is not None) == bool(renewed)

    # -- the end

    def test_what_is_closed_fails(self) -> None:
        """Every verb, and never by "there is no such item"; it may be closed twice (R45)."""

        async def body() -> None:
            vault = self.open_vault()
            await put(vault, "k", b"secret", "ada", 1.0)
            await vault.close()
            await vault.close()
            for verb in (
                lambda: vault.get("k"),
                lambda: vault.write(Write("k", None, 1)),
                lambda: vault.of_user("ada"),
                lambda: vault.forget_user("ada"),
                lambda: vault.sweep(2.0, 1),
            ):
                with pytest.raises(StoreUnavailable) as caught:
                    await verb()
                assert "secret" not in str(caught.value)

        self.run(body())
