#!/usr/bin/env bash
# Starts vsftpd in the foreground, with all of its own in one directory.
#
#   tests/servers/vsftpd.sh DIR PORT [explicit]     serves DIR/root to who comes as `anonymous`; DIR/root/up takes writes
#
# It knows no MLSD and no MFMT. With `explicit` it insists on TLS, and on a connection for data being the same session as that
# for commands; DIR/tls gets ca.pem, the own authority. It has to be started by root.
set -euo pipefail
dir=$(realpath "$1") port=$2 kind=${3:-clear}
mkdir -p "$dir"/{root/up,tls,empty}
chmod 755 "$dir" "$dir/root"
# It refuses a root that can be written to by who is let in.
chown ftp "$dir/root/up"
tls=
if [ "$kind" = explicit ]; then
    cd "$dir/tls"
    key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    {
        openssl req -x509 "${key[@]}" -keyout ca.key -out ca.pem -days 2 -subj "/CN=own authority"
        openssl req "${key[@]}" -keyout server.key -out server.csr -subj "/CN=server"
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 \
            -extfile <(echo subjectAltName=DNS:localhost,IP:127.0.0.1)
    } 2>/dev/null
    tls="ssl_enable=YES
allow_anon_ssl=YES
force_anon_data_ssl=YES
force_anon_logins_ssl=YES
require_ssl_reuse=YES
rsa_cert_file=$dir/tls/server.pem
rsa_private_key_file=$dir/tls/server.key"
fi
cat >"$dir/vsftpd.conf" <<CONF
listen=YES
listen_address=127.0.0.1
listen_port=$port
background=NO
anonymous_enable=YES
local_enable=NO
anon_root=$dir/root
no_anon_password=YES
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
anon_umask=022
secure_chroot_dir=$dir/empty
ftp_username=ftp
utf8_filesystem=YES
run_as_launching_user=NO
isolate=NO
isolate_network=NO
seccomp_sandbox=NO
$tls
CONF
exec vsftpd "$dir/vsftpd.conf"
