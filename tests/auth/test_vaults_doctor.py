"""`sessile doctor --vault`: what is unsafe about where passwords, keys and used codes are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessile.auth.vault import Write
from sessile.auth.vaults import open_vault
from sessile.core.bridge import drive
from tests.stores.sql_databases import Database, Kind, kinds
from tests.support.requirements import requirement
from tests.support.servers import shared

Doctor = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Call the doctor in this process; return its exit code, and the worst finding of each code."""
    from sessile.cli import main

    monkeypatch.delenv("SESSILE_STORE", raising=False)

    def called(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
        with pytest.raises(SystemExit) as stopped:
            main(("doctor", *arguments, "--json"))
        out, err = capsys.readouterr()
        assert "hunter" not in out + err
        code = stopped.value.code or 0
        assert isinstance(code, int)
        findings = json.loads(out)["findings"] if out else []
        return code, {one["code"]: one for one in reversed(findings)}  # the worst come first

    return called


@requirement("R45")
@kinds
def test_a_vault_whose_tables_are_missing_is_found(kind: Kind, doctor: Doctor) -> None:
    """With the command that makes them; afterwards the schema is as it should be, and nothing was made before."""
    made = Database(shared(kind))
    code, found = doctor("--vault", made.url())
    assert code == 1
    schema = found["vault-sql-schema"]
    assert (schema["severity"], schema["means"]) == ("fail", "Nobody can sign in.")
    assert schema["mend"] == "sessile migrate --vault URL"
    vault: Any = open_vault(made.url(), blocking=True)
    drive(vault.migrate())
    drive(vault.close())
    _, found = doctor("--vault", made.url())
    assert found["vault-sql-schema"]["severity"] == "ok"
    made.drop()


@requirement("R51")
@kinds
def test_a_server_that_forgets_what_was_used_is_found(kind: Kind, doctor: Doctor) -> None:
    """The tests' own servers are such: what was acknowledged does not survive a power cut."""
    made = Database(shared(kind))
    vault: Any = open_vault(made.url(), blocking=True)
    drive(vault.migrate())
    drive(vault.close())
    made.run(f"ALTER TABLE sessile_vault {'SET UNLOGGED' if kind == 'postgresql' else 'ENGINE = Aria'}")
    code, found = doctor("--vault", made.url())
    assert code == 1
    assert found["vault-sql-durability"]["severity"] == "fail"
    assert "Codes that were used are good again." in found["vault-sql-durability"]["means"]
    other = found["vault-sql-unlogged" if kind == "postgresql" else "vault-sql-engine"]
    assert (other["severity"], "the vault's table" in other["found"]) == ("fail", True)
    made.drop()


@requirement("R45")
@pytest.mark.parametrize("scheme", ["postgresql", "mariadb"])
def test_a_vault_that_does_not_answer_is_found(scheme: str, doctor: Doctor) -> None:
    """Without a word of its address."""
    code, found = doctor("--vault", f"{scheme}://hunter1:hunter2@127.0.0.1:1/hunter3?timeout=2")
    assert code == 1
    assert "the vault did not answer" in found["vault-unreachable"]["found"]


@requirement("R99")
def test_a_file_that_others_can_read_is_found(tmp_path: Path, doctor: Doctor) -> None:
    """As the vault makes it, it is private; what is not there yet is not made."""
    url = f"sqlite:///{tmp_path}/v.db"
    assert doctor("--vault", url) == (0, {})
    assert list(tmp_path.iterdir()) == []
    vault = open_vault(url, blocking=True)
    drive(vault.write(Write("k", b"", 0)))
    assert doctor("--vault", url)[1]["vault-mode"]["severity"] == "ok"
    (tmp_path / "v.db").chmod(0o644)
    code, found = doctor("--vault", url)
    assert (code, "how they sign in" in found["vault-mode"]["means"]) == (1, True)
    drive(vault.close())


def test_a_vault_is_examined_beside_a_store(doctor: Doctor, tmp_path: Path) -> None:
    """Both are named; one in memory is something to look at, and a URL that names none is refused."""
    code, found = doctor("--url", f"sqlite:///{tmp_path}/s.db", "--vault", "memory://")
    assert code == 0
    assert found["vault-memory"]["severity"] == "warn"
    assert "production" in found
    assert doctor("--vault", "redis://hunter1:hunter2@host") == (2, {})
