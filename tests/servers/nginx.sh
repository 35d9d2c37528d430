#!/usr/bin/env bash
# Starts nginx in the foreground, with all of its own in one directory.
#
#   tests/servers/nginx.sh DIR PORT      serves DIR/root: PORT in clear, PORT+1 by TLS, PORT+2 by TLS for who shows a certificate
#
# DIR/tls has ca.pem, the own authority, and client.pem, a certificate with its key. Below /closed/ the user `me` with the
# password `secret` is let in; lists below /json/ are those for programs; /old leads to the TLS side, and /down of that leads back to the clear one.
set -euo pipefail
dir=$(realpath "$1") port=$2
mkdir -p "$dir"/{root,tls,tmp}
cd "$dir/tls"
sign() { # NAME EXTENSIONS
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -out "$1.pem" -days 2 -extfile <(printf '%b' "$2")
}
{
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj "/CN=own authority"
    sign server 'subjectAltName=DNS:localhost,IP:127.0.0.1'
    sign me 'extendedKeyUsage=clientAuth'
} 2>/dev/null
cat me.pem me.key >client.pem
echo "me:$(openssl passwd -apr1 secret)" >htpasswd
chmod 644 htpasswd
if [ "$(id -u)" = 0 ]; then user='user root;'; else user=; fi
# What is below /dav/ is written to, where the module is there that lists by WebDAV.
dav= load= ext=/usr/lib/nginx/modules/ngx_http_dav_ext_module.so
if [ -e "$ext" ]; then
    load="load_module $ext;"
    dav="location /dav/ { alias $dir/root/; client_max_body_size 0; dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS; }"
fi
cat >"$dir/nginx.conf" <<CONF
$load
daemon off; pid $dir/pid; error_log $dir/error.log; $user
events { }
http {
    access_log $dir/access.log;
    client_body_temp_path $dir/tmp/body; proxy_temp_path $dir/tmp/proxy; fastcgi_temp_path $dir/tmp/fastcgi;
    uwsgi_temp_path $dir/tmp/uwsgi; scgi_temp_path $dir/tmp/scgi;
    root $dir/root; autoindex on;
    ssl_certificate $dir/tls/server.pem; ssl_certificate_key $dir/tls/server.key;
    server {
        listen 127.0.0.1:$port;
        location /closed/ { auth_basic closed; auth_basic_user_file $dir/tls/htpasswd; alias $dir/root/; }
        location /json/ { alias $dir/root/; autoindex_format json; }
        $dav
        location /old/ { rewrite ^/old/(.*) https://localhost:$((port + 1))/\$1 redirect; }
    }
    server {
        listen 127.0.0.1:$((port + 1)) ssl http2;
        location /down/ { rewrite ^/down/(.*) http://localhost:$port/\$1 redirect; }
    }
    server {
        listen 127.0.0.1:$((port + 2)) ssl;
        ssl_client_certificate $dir/tls/ca.pem; ssl_verify_client on;
    }
}
CONF
exec nginx -c "$dir/nginx.conf" -e "$dir/error.log"
