"""What certificates say, and whether two peers accept each other's."""

import ssl

from cryptography import x509

from p2p_sac_jax.agent.ops import identity as files
from p2p_sac_jax.agent.ops.authority import HOSTS


def handshake(server, client):
    """Mutual TLS in memory; returns both ends' view of the other's common name."""
    contexts = []
    for folder, protocol in (
        (server, ssl.PROTOCOL_TLS_SERVER),
        (client, ssl.PROTOCOL_TLS_CLIENT),
    ):
        context = ssl.SSLContext(protocol)
        context.load_cert_chain(folder / files.CERTIFICATE, folder / files.TLS_KEY)
        context.load_verify_locations(folder / files.AUTHORITY)
        context.verify_mode = ssl.CERT_REQUIRED
        contexts.append(context)
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        contexts[0].wrap_bio(a, b, server_side=True),
        contexts[1].wrap_bio(b, a, server_hostname="127.0.0.1"),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return [dict(rdn[0] for rdn in end.getpeercert()["subject"]) for end in ends]


def own_hosts(folder):
    text = (folder / files.CERTIFICATE).read_bytes()
    names = x509.load_pem_x509_certificate(text).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return {str(name.value) for name in names.value} - set(HOSTS)
