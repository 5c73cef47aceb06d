#!/usr/bin/env bash
# The deployment, tried out with a real Docker engine: traffic, alerts, dashboard, a killed and a stopped gate.
#
#   docker/smoke.sh ID_FOLDER [OOD_FOLDER]
#
# ID_FOLDER holds images like those that the bundle was calibrated on; noise is sent where no OOD_FOLDER is given.
# COMPOSE names the command of Compose, KEEP=1 leaves everything running at the end.
set -euo pipefail

id_folder=$(realpath "${1:?give a folder of in-distribution images}")
ood_folder=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."
export COMPOSE_PROJECT_NAME=oodgate-smoke GRAFANA_PASSWORD=${GRAFANA_PASSWORD:-unused}
rate=${RATE:-8}
wrong=0

if [[ -z ${COMPOSE:-} ]]; then
    COMPOSE=docker-compose
    if docker compose version >/dev/null 2>&1; then COMPOSE="docker compose"; fi
fi
compose() { $COMPOSE "$@"; }
say() { printf '\n%(%H:%M:%S)T  %s\n' -1 "$*"; }
check() { "$@" || wrong=$((wrong + 1)); }
ask() { python3 docker/smoke/ask.py "$@"; }
gate() { compose ps -q gate; }

# Inside the gate's own network, so that a connection that is refused is one that the gate refused.
send() { # FOLDER or nothing, then options of traffic.py
    local folder=$1 mount=()
    shift
    if [[ -n $folder ]]; then
        mount=(--volume "$folder:/images:ro")
        set -- --folder /images "$@"
    fi
    docker run --rm --interactive --network "container:$(gate)" "${mount[@]}" --user 10001 --entrypoint python \
        oodgate:cpu - "$@" <docker/smoke/traffic.py
}
wait_healthy() {
    for _ in $(seq 120); do
        [[ $(docker inspect --format '{{.State.Health.Status}}' "$(gate)") == healthy ]] && return
        sleep 1
    done
    compose logs --tail 20 gate
    return 1
}
[[ ${KEEP:-} == 1 ]] || trap 'compose down --volumes --timeout 30 >/dev/null 2>&1' EXIT

say "build and start"
compose build gate
compose up --detach gate prometheus alertmanager
wait_healthy
ask has 'up{job="oodgate"} == 1' --within 60

say "in-distribution images alone raise no drift alarm"
send "$id_folder" --rate "$rate" --seconds "${ID_SECONDS:-120}"
sleep 45 # a scrape, an evaluation and the time that the alert waits
check ask quiet OodgateDriftAlarm

say "out-of-distribution images raise it within two minutes"
send "$ood_folder" --rate "$rate" --seconds 150 &
check ask fires OodgateDriftAlarm --within 120
wait $!

say "every recording rule has data, every query of the dashboard gives a series"
printf 'not an image' | docker run --rm --interactive --network "container:$(gate)" --entrypoint python oodgate:cpu -c '
import sys, urllib.request, urllib.error
body = sys.stdin.buffer.read()
request = urllib.request.Request("http://127.0.0.1:8000/v1/predict", body, {"Content-Type": "image/png"})
try:
    urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    print("an upload that is no image:", error.code)
'
send "$id_folder" --rate "$rate" --seconds 45
check ask rules
check ask dashboard

say "a gate that is killed under load is seen to be down, and comes back"
send "$id_folder" --rate "$rate" --seconds 30 &
sleep 5
docker exec "$(gate)" python -c '
import os, pathlib
for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    pid = int(entry.parent.name)
    if pid > 1 and b"serve" in entry.read_bytes().split(b"\0"):
        os.kill(pid, 9)
'
check ask has 'changes(process_start_time_seconds{job="oodgate"}[2m]) > 0 or min_over_time(up{job="oodgate"}[1m]) == 0' --within 60
wait $! || true
wait_healthy
check ask has 'up{job="oodgate"} == 1' --within 30
restarts=$(docker inspect --format '{{.RestartCount}}' "$(gate)")
echo "restarts: $restarts"
check test "$restarts" = 1

say "a gate that is stopped under load answers what it took"
summary=$(mktemp)
send "$id_folder" --rate "$((4 * rate))" --seconds 60 --senders 8 >"$summary" &
sleep 5
stopped=$(gate)
docker stop --time 30 "$stopped" >/dev/null
wait $! || true
cat "$summary"
check grep --quiet '"lost": 0' "$summary"
status=$(docker inspect --format '{{.State.ExitCode}}' "$stopped")
echo "exit status: $status"
check test "$status" = 0

say "$wrong wrong"
exit "$((wrong > 0))"
