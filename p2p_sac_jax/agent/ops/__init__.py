"""Identities, certificates, audit log and monitoring of a deployed peer."""
