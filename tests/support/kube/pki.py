"""The certificates and keys a control plane needs, made anew for each one."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

SERVER_NAMES = ("localhost", "kubernetes.default.svc")
# Fixed dates: a test certificate must not depend on the clock of the machine.
NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
NOT_AFTER = NOT_BEFORE + timedelta(days=36_500)


def _save_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, path: Path) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _builder(common_name: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = x509.CertificateBuilder().subject_name(named(common_name)).issuer_name(named(issuer))
    builder = builder.not_valid_before(NOT_BEFORE).not_valid_after(NOT_AFTER)
    return builder.public_key(key).serial_number(x509.random_serial_number())


def write_pki(folder: Path) -> None:
    """Write ca.crt, server.crt, server.key, accounts.key and accounts.pub (service account tokens) into ``folder``."""
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    authority = (
        _builder("latentry-test-ca", "latentry-test-ca", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    names = [x509.DNSName(name) for name in SERVER_NAMES]
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    server = (
        _builder("kube-apiserver", "latentry-test-ca", server_key.public_key())
        .add_extension(x509.SubjectAlternativeName([*names, address]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    accounts = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    for name, certificate in (("ca.crt", authority), ("server.crt", server)):
        (folder / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _save_key(server_key, folder / "server.key")
    _save_key(accounts, folder / "accounts.key")
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "accounts.pub").write_bytes(public)


def trusting(ca_file: Path) -> ssl.SSLContext:
    """A client's TLS settings that trust this authority alone."""
    return ssl.create_default_context(cafile=str(ca_file))
