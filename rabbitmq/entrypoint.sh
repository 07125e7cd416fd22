#!/bin/bash
# Gives the users of definitions.json their passwords, then starts RabbitMQ as the image would.
#
#   RABBITMQ_PRODUCER_PASSWORD, RABBITMQ_WORKER_PASSWORD, RABBITMQ_OPERATOR_PASSWORD   all required, no defaults
#   HARELINE_DEFINITIONS       the template (default: definitions.json beside this script)
#   HARELINE_DEFINITIONS_OUT   what rabbitmq.conf loads (default: /var/lib/rabbitmq/hareline-definitions.json)
#
# In docker-compose.yml:  entrypoint: ["bash", "/etc/rabbitmq/hareline/entrypoint.sh"]   command: ["rabbitmq-server"]
set -euo pipefail

template=${HARELINE_DEFINITIONS:-$(dirname "$0")/definitions.json}
out=${HARELINE_DEFINITIONS_OUT:-/var/lib/rabbitmq/hareline-definitions.json}

# Bytes from hexadecimal digits.
bytes() { printf "$(sed 's/../\\x&/g' <<<"$1")"; }

# As RabbitMQ stores a password: base64(salt + sha256(salt + password)).
hash() {
    local salt digest
    salt=$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
    digest=$({ bytes "$salt"; printf %s "$1"; } | sha256sum | cut -c1-64)
    bytes "$salt$digest" | base64 -w0
}

definitions=$(<"$template")
for user in producer worker operator; do
    variable="RABBITMQ_${user^^}_PASSWORD"
    if [ -z "${!variable:-}" ]; then
        echo "$variable is not set: put a password for RabbitMQ's user '$user' into .env" >&2
        exit 64
    fi
    empty="\"name\": \"$user\","$'\n'"      \"password_hash\": \"\""
    if [[ $definitions != *"$empty"* ]]; then
        echo "$template has no user '$user' with an empty password_hash: see tests/unit/test_rabbitmq_topology.py" >&2
        exit 65
    fi
    definitions=${definitions/"$empty"/"${empty%\"\"}\"$(hash "${!variable}")\""}
done
umask 077
printf '%s\n' "$definitions" >"$out"
if [ "$(id -u)" = 0 ] && id rabbitmq >/dev/null 2>&1; then
    chown rabbitmq: "$out"
fi

exec docker-entrypoint.sh "$@"
