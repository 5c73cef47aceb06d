#!/usr/bin/env bash
# Look up what the image installs, torch included, in the published advisories; needs pip-audit, whose options it takes.
# Exit status: 0 no advisory, 1 there are some, 2 they could not be read for every package.
set -euo pipefail
cd "$(dirname "$0")"
folder=$(mktemp --directory)
trap 'rm -r "$folder"' EXIT

# All versions are known, so nothing is resolved. --strict: a mirror without advisories must not look like none.
audit=(pip-audit --strict --disable-pip --no-deps --progress-spinner off "$@")
# A package that is locked in two versions, for two versions of Python, needs two lists.
{
    sed -nE 's/^ARG (TORCH|TORCHVISION)_VERSION=/\L\1==/p' Dockerfile
    grep --no-filename --only-matching --extended-regexp '^[[:alnum:]._-]+==[^ ;]+' ./*requirements.txt
} | sort --unique | awk -F == -v folder="$folder" '{ print >(folder "/" ++seen[$1] ".txt") }'

for list in "$folder"/*.txt; do
    if ! report=$("${audit[@]}" --requirement "$list" 2>"$folder/errors"); then
        [[ $report ]] && echo "$report" && exit 1
        echo "not audited, the advisories cannot be read from here: $(tail --lines 1 "$folder/errors")" >&2
        exit 2
    fi
done
echo "no known advisory for the $(cat "$folder"/*.txt | wc --lines) packages of the image"
