#!/usr/bin/env python3
"""The keys of a sealed container, written from FORMAT.md alone: known answers, and a second reader.

    keys_vectors.py                     prints the vectors, of which the tests of the code have copies
    keys_vectors.py open PAYLOAD HOW SECRET...
                                        opens the payload of a KEYS record (hexadecimal) and prints the master key and the
                                        labels. HOW SECRET: passphrase TEXT, keyfile HEX, both TEXT HEX, x25519 HEX,
                                        ssh HEX (the seed)
"""

import base64
import hashlib
import struct
import sys

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

PASSPHRASE, X25519, KEYFILE, BOTH, SSH = 1, 2, 3, 4, 5
LABEL = {X25519: "x25519", SSH: "ssh-ed25519"}


def derive(purpose, *parts):
    return blake3(b"".join(parts), derive_key_context="stmount st v1 " + purpose).digest()


def argon2(passphrase, kib, passes, lanes, salt):
    return Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=kib).derive(passphrase)


def keyfile(contents):
    return derive("keyfile", contents)


# ---- recipients ---------------------------------------------------------------------------------------------------------


def public(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agree(secret, theirs):
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(theirs))


def ssh_secret(seed):
    return hashlib.sha512(seed).digest()[:32]  # X25519 clamps it


def ssh_public(point):
    """Edwards to Montgomery: u = (1 + y) / (1 - y)."""
    p = 2**255 - 19
    y = int.from_bytes(point, "little") & (2**255 - 1)
    return ((1 + y) * pow(1 - y, -1, p) % p).to_bytes(32, "little")


def bech32(hrp, data):
    digits = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    bits = "".join(f"{b:08b}" for b in data)
    values = [int(bits[i : i + 5].ljust(5, "0"), 2) for i in range(0, len(bits), 5)]
    check = 1
    for v in [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp] + values + [0] * 6:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ v
        for i, g in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= g if top >> i & 1 else 0
    values += [(check ^ 1) >> 5 * (5 - i) & 31 for i in range(6)]
    return hrp + "1" + "".join(digits[v] for v in values)


# ---- slots --------------------------------------------------------------------------------------------------------------


def slot(kind, front, kek, master):
    body = front + AESGCMSIV(kek).encrypt(bytes(12), master, bytes([kind, 0]) + front)
    return bytes([kind, 0]) + struct.pack("<H", len(body)) + body


def kek_of(kind, front, how, secrets):
    """The key that these secrets give for a slot that begins like this; None where they are for another kind."""
    if kind in (PASSPHRASE, BOTH) and how == {PASSPHRASE: "passphrase", BOTH: "both"}[kind]:
        stretched = argon2(secrets[0], *struct.unpack("<3I", front[:12]), front[12:])
        parts = [stretched] + [keyfile(s) for s in secrets[1:]]
        return derive("slot passphrase" + (" and keyfile" if kind == BOTH else ""), *parts)
    if kind == KEYFILE and how == "keyfile":
        return derive("slot keyfile", front, keyfile(secrets[0]))
    if (kind, how) in ((X25519, "x25519"), (SSH, "ssh")):
        secret = secrets[0] if kind == X25519 else ssh_secret(secrets[0])
        return derive("slot " + LABEL[kind], agree(secret, front), front, public(secret))
    return None


def payload(uid, flags, ciphers, slots, labels, master, nonce):
    inner = b"".join(struct.pack("<QH", added, len(text)) + text for added, text in labels)
    sealed = nonce + AESGCMSIV(derive("labels", master, uid)).encrypt(nonce, inner, b"labels")
    out = uid + struct.pack("<HBB", 1, flags, len(ciphers)) + struct.pack(f"<{len(ciphers)}H", *ciphers)
    out += struct.pack("<H", len(slots)) + b"".join(slots) + struct.pack("<I", len(sealed)) + sealed
    return out + blake3(out, key=derive("keys mac", master, uid)).digest()


def unlock(data, how, secrets):
    """The master key and the labels."""
    uid, (version, _flags, ciphers), at = data[:16], struct.unpack("<HBB", data[16:20]), 20
    assert version == 1
    at += 2 * ciphers
    (count,) = struct.unpack("<H", data[at : at + 2])
    at, master = at + 2, None
    for _ in range(count):
        kind, flags, size = struct.unpack("<BBH", data[at : at + 4])
        body, at = data[at + 4 : at + 4 + size], at + 4 + size
        kek = kek_of(kind, body[:-48], how, secrets) if flags == 0 else None
        try:
            master = AESGCMSIV(kek).decrypt(bytes(12), body[-48:], bytes([kind, 0]) + body[:-48]) if kek else master
        except InvalidTag:
            pass
    assert master, "none of the slots opens"
    (size,) = struct.unpack("<I", data[at : at + 4])
    sealed, end = data[at + 4 : at + 4 + size], at + 4 + size
    assert blake3(data[:end], key=derive("keys mac", master, uid)).digest() == data[end:], "the MAC is wrong"
    inner = AESGCMSIV(derive("labels", master, uid)).decrypt(sealed[:12], sealed[12:], b"labels")
    labels = []
    while inner:
        added, size = struct.unpack("<QH", inner[:10])
        labels.append((added, inner[10 : 10 + size].decode()))
        inner = inner[10 + size :]
    assert len(labels) == count
    return master, labels


# ---- vectors ------------------------------------------------------------------------------------------------------------


def vectors():
    count = iter(range(1, 256))
    draw = lambda n: bytes(next(count) for _ in range(n))  # "random" bytes: 01 02 03 ...
    master, uid = bytes(range(32)), bytes(range(0xA0, 0xB0))
    passphrase, contents = b"correct horse battery staple", bytes(range(64))
    age, seed = bytes(range(0x40, 0x60)), bytes(range(0x60, 0x80))
    point = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    cost = struct.pack("<3I", 64, 3, 2)
    secrets = {
        PASSPHRASE: ("passphrase", [passphrase]),
        X25519: ("x25519", [age]),
        KEYFILE: ("keyfile", [contents]),
        BOTH: ("both", [passphrase, contents]),
        SSH: ("ssh", [seed]),
    }
    slots = []
    for kind, (how, known) in secrets.items():
        if kind in LABEL:
            theirs = public(age) if kind == X25519 else ssh_public(point.public_bytes_raw())
            ephemeral = draw(32)
            front = public(ephemeral)
            kek = derive("slot " + LABEL[kind], agree(ephemeral, theirs), front, theirs)
            assert kek == kek_of(kind, front, how, known)
        else:
            front = (b"" if kind == KEYFILE else cost) + draw(16)
            kek = kek_of(kind, front, how, known)
        slots.append(slot(kind, front, kek, master))
    labels = [(1_700_000_000 + n, b"slot %d" % n) for n in range(5)]
    whole = payload(uid, 1, [1, 2], slots, labels, master, draw(12))
    for how, known in secrets.values():
        assert unlock(whole, how, known)[0] == master
    blob = b"".join(struct.pack(">I", len(s)) + s for s in (b"ssh-ed25519", point.public_bytes_raw()))
    yield "recipient", bech32("age", public(age))
    yield "identity", bech32("age-secret-key-", age).upper()
    yield "ssh recipient", "ssh-ed25519 " + base64.b64encode(blob).decode()
    yield "keyfile", keyfile(contents).hex()
    yield "argon2id", argon2(passphrase, 64, 3, 2, bytes(range(1, 17))).hex()
    yield "labels key", derive("labels", master, uid).hex()
    yield "mac key", derive("keys mac", master, uid).hex()
    for one in slots:
        yield f"slot {one[0]}", one.hex()
    yield "payload", whole.hex()


def main(args):
    if args[:1] == ["open"]:
        data, how, *given = args[1:]
        texts = {"passphrase": 1, "both": 1}.get(how, 0)
        secrets = [s.encode() if n < texts else bytes.fromhex(s) for n, s in enumerate(given)]
        master, labels = unlock(bytes.fromhex(data), how, secrets)
        print(master.hex())
        for _added, text in labels:
            print(text)
    else:
        for name, value in vectors():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main(sys.argv[1:])
