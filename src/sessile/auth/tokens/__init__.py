"""Tokens that end with their session: RFC 9068 access tokens, their keys, introspection, revocation, DPoP.

jose        four algorithms, public keys, strict base64url
keys        the keys that sign, shared by all nodes through the vault
"""
