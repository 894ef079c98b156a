"""An authority and a server's certificate, made for one test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _write(folder: Path, name: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
    cert_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
    cert_path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_path, key_path


def authority(folder: Path) -> tuple[Path, Path]:
    """Make an authority; return the paths of its certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = _builder("test authority", "test authority", key)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return _write(folder, "authority", made.sign(key, hashes.SHA256()), key)


def certificate(folder: Path, ca_cert: Path, ca_key: Path, host: str) -> tuple[Path, Path]:
    """Make a certificate for a host; return its path and its key's."""
    signer = serialization.load_pem_private_key(ca_key.read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    assert ca_cert.is_file()
    key = ec.generate_private_key(ec.SECP256R1())
    made = _builder(host, "test authority", key)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return _write(folder, host, made.sign(signer, hashes.SHA256()), key)
