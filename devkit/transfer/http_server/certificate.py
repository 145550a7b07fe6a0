"""A share's own TLS certificate: made anew for each, trusted by its fingerprint in the share's address."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509

CLOCKS_APART = dt.timedelta(days=1)
LIFETIME = dt.timedelta(days=30)


@dataclass(frozen=True)
class Certificate:
    """A server's side of TLS."""

    context: ssl.SSLContext  # what wraps its connections
    fingerprint: str  # SHA-256 of the certificate, hexadecimal, as a share's address carries it
    pin: str  # SHA-256 of its public key, base64, as curl takes it


def make_certificate(hosts: list[str]) -> Certificate:
    """Make a key and a certificate for these names and addresses; neither stays on the disk."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "devkit serve")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_APART)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding, serialization.PublicFormat
    private = key.private_bytes(encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.TemporaryDirectory(prefix="devkit-") as folder:  # only its owner may enter it
        path = Path(folder) / "pem"
        path.write_bytes(private + certificate.public_bytes(encoding.PEM))
        context.load_cert_chain(path)
    public = key.public_key().public_bytes(encoding.DER, form.SubjectPublicKeyInfo)
    return Certificate(
        context,
        hashlib.sha256(certificate.public_bytes(encoding.DER)).hexdigest(),
        base64.b64encode(hashlib.sha256(public).digest()).decode(),
    )


def _alternative(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
