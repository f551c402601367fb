"""Operation of a peer: identity, certificates, state on disk, audit and monitoring."""
