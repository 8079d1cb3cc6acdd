"""DTLS-SRTP of one peer over pyOpenSSL: datagrams in, datagrams out, keys at the end (RFC 5764).

One certificate and one SSL context serve a whole process: a fresh context costs more CPU than the
rest of a join, and the load generator must not be slower than what it measures.
"""

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from pylibsrtp import Policy, Session

_CIPHERS = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
# One flight of a self-signed P-256 certificate stays under this, so it leaves in one datagram.
_FLIGHT_BYTES = 4096


class DtlsError(Exception):
    """The handshake failed, or the peer is not the one that its SDP named."""


@dataclass(frozen=True, slots=True)
class Profile:
    """An SRTP profile: OpenSSL's name, libsrtp's number, key and salt sizes in bytes."""

    openssl_name: bytes
    libsrtp_number: int
    key_bytes: int
    salt_bytes: int


PROFILES = {
    "aes128-gcm": Profile(b"SRTP_AEAD_AES_128_GCM", Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
    "aes256-gcm": Profile(b"SRTP_AEAD_AES_256_GCM", Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12),
    "aes128-cm": Profile(b"SRTP_AES128_CM_SHA1_80", Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14),
}


class Identity:
    """This process's certificate and the SSL context that every handshake shares."""

    def __init__(self, profile: str) -> None:
        """`profile`: a key of PROFILES, the only one that the handshakes offer."""
        self.profile = PROFILES[profile]
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "terrace bench")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .sign(key, hashes.SHA256())
        )
        self.fingerprint = _fingerprint(certificate)
        self.context = SSL.Context(SSL.DTLS_METHOD)
        self.context.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_arguments: True
        )
        self.context.set_options(SSL.OP_NO_TICKET)
        self.context.use_certificate(certificate)
        self.context.use_privatekey(key)
        self.context.set_cipher_list(_CIPHERS)
        self.context.set_tlsext_use_srtp(self.profile.openssl_name)


class Handshake:
    """One handshake, without a socket: feed it datagrams, send what it returns."""

    def __init__(self, identity: Identity, *, client: bool, peer_fingerprint: str) -> None:
        """`peer_fingerprint`: SHA-256 as in SDP, upper case with colons."""
        self._identity = identity
        self._client = client
        self._peer_fingerprint = peer_fingerprint
        self._ssl = SSL.Connection(identity.context)
        if client:
            self._ssl.set_connect_state()
        else:
            self._ssl.set_accept_state()
        self.done = False

    def step(self, datagram: bytes = b"") -> bytes:
        """Take one datagram (none to start) and return the next flight, empty if there is none.

        Raises DtlsError when the peer's alert, certificate or fingerprint ends the handshake.
        """
        if datagram:
            self._ssl.bio_write(datagram)
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            raise DtlsError(f"the DTLS handshake failed: {error}") from error
        else:
            self._check_peer()
            self.done = True
        return self._flight()

    def timeout_s(self) -> float | None:
        """Seconds until the last flight must be sent again; None when no timer runs."""
        return self._ssl.DTLSv1_get_timeout()

    def resend(self) -> bytes:
        """The flight to send when `timeout_s` has passed."""
        self._ssl.DTLSv1_handle_timeout()
        return self._flight()

    def sessions(self) -> tuple[Session, Session]:
        """The SRTP sessions (to send with, to receive with) of a handshake that is done."""
        profile = self._identity.profile
        if self._ssl.get_selected_srtp_profile() != profile.openssl_name:
            raise DtlsError(f"the node did not take {profile.openssl_name.decode()}")
        key, salt = profile.key_bytes, profile.salt_bytes
        keys = self._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
        client = keys[:key] + keys[2 * key : 2 * key + salt]
        server = keys[key : 2 * key] + keys[2 * key + salt :]
        ours, theirs = (client, server) if self._client else (server, client)
        return (
            Session(Policy(ours, Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile.libsrtp_number)),
            Session(_inbound(theirs, profile)),
        )

    def _flight(self) -> bytes:
        try:
            return self._ssl.bio_read(_FLIGHT_BYTES)
        except SSL.WantReadError:
            return b""

    def _check_peer(self) -> None:
        certificate = self._ssl.get_peer_certificate(as_cryptography=True)
        if certificate is None or _fingerprint(certificate) != self._peer_fingerprint:
            raise DtlsError("the node's certificate is not the one that its answer named")


def _inbound(keys: bytes, profile: Profile) -> Policy:
    policy = Policy(keys, Policy.SSRC_ANY_INBOUND, srtp_profile=profile.libsrtp_number)
    # As wide as aiortc's: a repeat under its old number may come a second late.
    policy.window_size = 1024
    return policy


def _fingerprint(certificate: x509.Certificate) -> str:
    digest = certificate.fingerprint(hashes.SHA256()).hex().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))
