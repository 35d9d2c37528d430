#!/usr/bin/env python3
"""A server of FTP by pyftpdlib, on the loopback.

    ftpd.py DIR PORT clear|implicit|explicit [no-mlsd] [no-rest] [strict] [few]

serves DIR/root in clear, by implicit TLS, or by explicit TLS, which it insists on. `anonymous` reads; `me` with the password
`secret` does all. DIR/tls gets ca.pem, the own authority, where it is not there.

    no-mlsd   listings by LIST alone
    no-rest   no offsets
    strict    nobody is let in without a name
    few       two connections at a time
"""

import os
import subprocess
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

place, port, kind, switches = os.path.realpath(sys.argv[1]), int(sys.argv[2]), sys.argv[3], set(sys.argv[4:])
root, tls = os.path.join(place, "root"), os.path.join(place, "tls")


def certificate():
    os.makedirs(tls, exist_ok=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=tls, check=True, stderr=subprocess.DEVNULL)

    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=own authority")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    with open(os.path.join(tls, "names"), "w") as names:
        names.write("subjectAltName=DNS:localhost,IP:127.0.0.1")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "server.pem", "-days", "2", "-extfile", "names")
    with open(os.path.join(tls, "both.pem"), "w") as both:
        for part in ("server.key", "server.pem"):
            both.write(open(os.path.join(tls, part)).read())


class Explicit(TLS_FTPHandler):
    tls_control_required = True
    tls_data_required = True


class Implicit(TLS_FTPHandler):
    # Nothing is said before TLS is there.
    def handle(self):
        self.secure_connection(self.ssl_context)

    def handle_ssl_established(self):
        super().handle()


def dress(handler):
    handler.authorizer = DummyAuthorizer()
    handler.authorizer.add_user("me", "secret", root, perm="elradfmwMT")
    if "strict" not in switches:
        handler.authorizer.add_anonymous(root)
    handler.auth_failed_timeout = 0.1
    handler.use_sendfile = False
    commands = dict(handler.proto_cmds)
    for switch, gone in (("no-mlsd", ("MLSD", "MLST")), ("no-rest", ("REST",))):
        if switch in switches:
            for command in gone:
                del commands[command]
    handler.proto_cmds = commands
    return handler


handler = dress({"clear": FTPHandler, "implicit": Implicit, "explicit": Explicit}[kind])
if kind != "clear":
    if not os.path.exists(os.path.join(tls, "both.pem")):
        certificate()
    handler.certfile = os.path.join(tls, "both.pem")
server = ThreadedFTPServer(("127.0.0.1", port), handler)
server.max_cons_per_ip = 2 if "few" in switches else 0
server.serve_forever()
