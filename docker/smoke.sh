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
scratch=$(mktemp --directory)

if [[ -z ${COMPOSE:-} ]]; then
    COMPOSE=docker-compose
    if docker compose version >/dev/null 2>&1; then COMPOSE="docker compose"; fi
fi
compose() { $COMPOSE "$@"; }
ask() { python3 docker/smoke/ask.py "$@"; }
gate() { compose ps --all --quiet gate; }
state() { docker inspect --format "$1" "$(gate)"; }
say() { printf '%(%H:%M:%S)T  %-6s %s\n' -1 "$1" "$2"; }

# One line for each check: whether it holds, and the figure.
check() { # WHAT, then a command whose last line is the figure
    local what=$1 verdict=ok figure
    shift
    figure=$("$@" 2>&1) || { verdict=WRONG && wrong=$((wrong + 1)); }
    say "$verdict" "$what: $(tail --lines 1 <<<"$figure")"
}

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
is_healthy() {
    for second in $(seq 120); do
        [[ $(state '{{.State.Health.Status}}') == healthy ]] && echo "after $second s" && return
        sleep 1
    done
    compose logs --tail 20 gate
    return 1
}
is_confined() {
    local user root
    user=$(docker exec "$(gate)" id --user)
    root=$(docker exec --user 0 "$(gate)" touch /opt/oodgate/written 2>&1) || true
    echo "user $user, capabilities dropped: $(state '{{.HostConfig.CapDrop}}'), ${root:-the root can be written}"
    [[ $user == 10001 && $root == *"Read-only file system"* ]]
}
refuses_what_is_no_image() {
    printf 'not an image' | docker exec --interactive "$(gate)" python -c '
import sys, urllib.request, urllib.error
body = sys.stdin.buffer.read()
try:
    urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8000/v1/predict", body, {"Content-Type": "image/png"}))
except urllib.error.HTTPError as error:
    print("status", error.code)
    sys.exit(error.code != 400)
sys.exit("accepted")
'
}
kill_the_service() { # not by docker kill, after which Docker does not restart a container
    docker exec "$(gate)" python -c '
import os, pathlib
for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    pid = int(entry.parent.name)
    if pid > 1 and b"serve" in entry.read_bytes().split(b"\0"):
        os.kill(pid, 9)
' 2>/dev/null || true
}
keep_it_down() { # for longer than the five seconds between two scrapes
    for _ in $(seq 6); do
        kill_the_service
        sleep 1
    done
}
evidence() { ask value 'max(oodgate_drift_evidence{horizon="long"})'; }
drift_is_back() { # EVIDENCE before
    local after
    ask has 'min(oodgate_drift_alarm) == 1' 30 || return
    after=$(evidence)
    printf 'alarms still raised, evidence (log10) %.1f before and %.1f after\n' "$1" "$after"
    awk -v before="$1" -v after="$after" 'BEGIN { exit !(after > 0.8 * before) }'
}
was_restarted() { echo "restarts: $(state '{{.RestartCount}}')" && [[ $(state '{{.RestartCount}}') != 0 ]]; }
was_none_lost() { # summary of traffic.py
    echo "exit status $(state '{{.State.ExitCode}}') after $1 s, $(cat "$2")"
    [[ $(state '{{.State.ExitCode}}') == 0 ]] && grep --quiet '"lost": 0' "$2"
}
[[ ${KEEP:-} == 1 ]] || trap 'compose down --volumes --timeout 30 >/dev/null 2>&1; rm -r "$scratch"' EXIT

compose build gate >"$scratch/build" 2>&1 || { cat "$scratch/build" && exit 1; }
compose up --detach gate prometheus alertmanager >"$scratch/up" 2>&1 || { cat "$scratch/up" && exit 1; }
check "the gate is healthy" is_healthy
check "it has no rights" is_confined
check "Prometheus reads its metrics" ask has 'up{job="oodgate"} == 1' 60

say send "in-distribution: $(send "$id_folder" --rate "$rate" --seconds "${ID_SECONDS:-120}")"
sleep 45 # a scrape, an evaluation and the time that the alert waits
check "in-distribution images alone raise no drift alarm" ask quiet OodgateDriftAlarm 10

send "$ood_folder" --rate "$rate" --seconds 150 >"$scratch/ood" &
check "out-of-distribution images raise it within two minutes" ask fires OodgateDriftAlarm 120
wait $!
say send "out-of-distribution: $(cat "$scratch/ood")"

check "an upload that is no image is refused" refuses_what_is_no_image
say send "in-distribution: $(send "$id_folder" --rate "$rate" --seconds 45)"
check "rules" ask rules
mapfile -t lacking < <(docker exec --interactive "$(gate)" python - <docker/smoke/lacking.py)
check "dashboard" ask panels "${lacking[@]}"

before=$(evidence)
send "$id_folder" --rate "$rate" --seconds 30 >"$scratch/killed" &
sleep 5
keep_it_down &
check "a gate that is killed under load is missed" ask outage 60
wait
say send "around the kill: $(cat "$scratch/killed")"
check "it is healthy again" is_healthy
check "Docker restarted it" was_restarted
check "it knows of the drift" drift_is_back "$before"

send "$id_folder" --rate "$((4 * rate))" --seconds 60 --senders 8 >"$scratch/stopped" &
sleep 5
SECONDS=0
docker stop --time 30 "$(gate)" >"$scratch/stop"
took=$SECONDS
wait $! || true
check "a gate that is stopped under load answers what it took" was_none_lost "$took" "$scratch/stopped"

say "$([[ $wrong == 0 ]] && echo ok || echo WRONG)" "$wrong checks failed"
exit "$((wrong > 0))"
