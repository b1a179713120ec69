"""Keys and certificates of one control plane: its own authority, the server's certificate, the token signing key.

Made anew for each control plane and valid for a day: they protect nothing, but every client speaks TLS as in a
cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

LIFE = timedelta(days=8)
"""Longer than any lab lives."""


@dataclass(frozen=True, slots=True)
class Pki:
    """PEM files in one folder."""

    ca: Path
    certificate: Path
    key: Path
    token_key: Path


def make(folder: Path, *, address: str) -> Pki:
    """Write all files; the server's certificate is for the IP ``address``."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    found = Pki(folder / "ca.crt", folder / "server.crt", folder / "server.key", folder / "tokens.key")
    ca_key, key, token_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    issuer, subject = _name("vipd lab authority"), _name("kube-apiserver")
    ca = _certificate(subject=issuer, issuer=issuer, key=ca_key, signer=ca_key, authority=True)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address)), x509.DNSName("kubernetes")])
    server = _certificate(subject=subject, issuer=issuer, key=key, signer=ca_key, names=names)
    found.ca.write_bytes(_pem(ca))
    found.certificate.write_bytes(_pem(server))
    _write_key(found.key, key)
    _write_key(found.token_key, token_key)
    return found


def _name(text: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    *, subject: Any, issuer: Any, key: Any, signer: Any, authority: bool = False, names: Any = None
) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks that were set back a little must not make it invalid.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    data: bytes = certificate.public_bytes(Encoding.PEM)
    return data


def _write_key(path: Path, key: Any) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path.touch(mode=0o600)
    # kube-apiserver takes a private key for the public one, too, but not in PKCS #8.
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
