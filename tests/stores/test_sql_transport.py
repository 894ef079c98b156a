"""The way to the server: TLS is verified when a certificate is named, and doctor sees it."""

from __future__ import annotations

import asyncio
import datetime
import os
import shutil
import tempfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sessile.core.bridge import drive
from sessile.core.ports import Created
from sessile.errors import StoreUnavailable
from sessile.testing.store_contract import new_id, new_record
from tests.stores.sql_databases import Kind, database, doors, kinds
from tests.support.servers import mariadb, postgres


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a certificate for the loopback address that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    paths[1].chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(paths[1], "postgres")
    return paths


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Make a folder that the servers may enter."""
    with tempfile.TemporaryDirectory(prefix="sessile-tls-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@kinds
@doors
def test_the_servers_certificate_is_verified(kind: Kind, blocking: bool, folder: Path) -> None:
    """With the right one, TLS; with another, no session is read and nothing is said of it (R45)."""
    good, key = certificate(folder, "good")
    other, _ = certificate(folder, "other")
    if kind == "postgresql":
        server = postgres("ssl=on", f"ssl_cert_file={good}", f"ssl_key_file={key}")
    else:
        server = mariadb(f"--ssl-cert={good}", f"--ssl-key={key}")
    options = "sslmode=verify-full&sslrootcert={}" if kind == "postgresql" else "ssl_ca={}"

    async def main(made: Any) -> None:
        store = made.open(options.format(good), blocking=blocking)
        assert await store.create(new_id(), new_record()) == Created()
        transport = [one for one in await store.diagnose() if one.code == "sql-transport"]
        assert [(one.severity, one.found) for one in transport] == [("ok", "TLS")]
        await store.close()
        store = made.open(options.format(other), blocking=blocking)
        with pytest.raises(StoreUnavailable) as caught:
            await store.load(new_id())
        assert "certificate" not in str(caught.value)
        await store.close()

    with server as running, database(kind, running) as made:
        drive(main(made)) if blocking else asyncio.run(main(made))
