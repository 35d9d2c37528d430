"""Opens what is sealed in a .st container, written from FORMAT.md alone, "Sealing". For st_ref.py.

Needs the module `cryptography`, which has everything but XChaCha20: that is ChaCha20 behind HChaCha20, below.
"""
import struct

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV, ChaCha20Poly1305
from keys_vectors import derive, unlock

AES, XCHACHA = 1, 2
PADDED = 1


def hchacha20(key, nonce):
    s = [*struct.unpack("<16I", b"expand 32-byte k" + key + nonce)]

    def quarter(a, b, c, d):
        for x, y, z, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = s[x] + s[y] & 0xFFFFFFFF
            turned = s[z] ^ s[x]
            s[z] = turned << by & 0xFFFFFFFF | turned >> 32 - by

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<8I", *s[:4], *s[12:])


def undo(cipher, key, aad, sealed):
    if cipher == AES:
        return AESGCMSIV(key).decrypt(sealed[:12], sealed[12:], aad)
    if cipher == XCHACHA:
        inner = ChaCha20Poly1305(hchacha20(key, sealed[:16]))
        return inner.decrypt(bytes(4) + sealed[16:24], sealed[24:], aad)
    raise ValueError(f"unknown cipher {cipher}")


class Seal:
    """What opens the pieces of one container. `secrets` are tried in turn: how, and what is known."""

    def __init__(self, payload, secrets):
        self.uid, _, self.flags, count = struct.unpack_from("<16sHBB", payload)
        self.ciphers = struct.unpack_from(f"<{count}H", payload, 20)
        for how, known in secrets:
            try:
                self.master, self.labels = unlock(payload, how, known)
                return
            except AssertionError:
                pass
        raise ValueError("no key that was given opens it")

    def key(self, purpose):
        return derive(purpose, self.master, self.uid)

    def open(self, kind, aad, sealed):
        try:
            for cipher in reversed(self.ciphers):
                sealed = undo(cipher, self.key(f"{kind} cipher {cipher}"), aad, sealed)
        except InvalidTag:
            raise ValueError("a seal is broken") from None
        if not self.flags & PADDED:
            return sealed
        bare = sealed.rstrip(b"\0")
        if bare[-1:] != b"\x80":
            raise ValueError("a padding is wrong")
        return bare[:-1]

    def fits(self, header):
        """Whether a header of the file is as who has a key wrote it."""
        return blake3(header[:80], key=self.key("header mac")).digest() == header[80:112]


def age_identity(text):
    """The 32 bytes of the first secret key of age in a file."""
    digits = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    line = next(line for line in text.split() if line.startswith("AGE-SECRET-KEY-1"))
    values = [digits.index(c) for c in line.lower().removeprefix("age-secret-key-1")[:-6]]
    bits = "".join(f"{value:05b}" for value in values)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, 256, 8))
