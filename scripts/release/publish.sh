#!/usr/bin/env bash
# Copies a release to where it is served, so that readers never see half of it:
#
#     publish.sh RELEASE TARGET
#
# RELEASE is a folder that `hubexport release` has filled. TARGET is another folder, or one of rsync's, like
# user@host:/srv/hub, and need not be empty. First come the files, then SHA256SUMS, and last index.json, which publishes
# them. Nothing is deleted. Unless all that TARGET lists is in RELEASE, with the same digests, nothing is copied.
set -euo pipefail
export LC_ALL=C

fail() { # WHAT WHY FIX
  printf 'ERROR %s\n  why: %s\n  fix: %s\n' "$@" >&2
  exit 1
}

is_remote() { # As rsync sees it: a colon before the first slash.
  [[ ${target%%/*} == *:* ]]
}

copy() { # Copies the files that stdin names, each in one step, unless they are there already.
  if is_remote; then
    rsync --checksum --chmod=D755,F644 --files-from=- "$release/" "$target/"
    return
  fi
  while IFS= read -r name; do
    if ! cmp --silent "$release/$name" "$target/$name"; then
      mkdir -p "$(dirname "$target/$name")"
      install -m 644 "$release/$name" "$target/.publishing"
      mv "$target/.publishing" "$target/$name"
    fi
  done
}

check() { # Sees whether a folder holds all that its SHA256SUMS lists.
  (cd "$1" && sha256sum --check --quiet --strict SHA256SUMS) || fail "$1 is damaged" "see above" "$2"
}

[[ $# == 2 && -f $1/index.json && -f $1/SHA256SUMS ]] ||
  fail "publish.sh $*" "a release and a target are wanted" "say publish.sh RELEASE TARGET"
release=$1 target=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

check "$release" "run the same hubexport release again"

touch "$scratch/SHA256SUMS"
if is_remote; then
  rsync --ignore-missing-args "$target/SHA256SUMS" "$scratch/"
elif [[ -f $target/SHA256SUMS ]]; then
  cp "$target/SHA256SUMS" "$scratch/"
fi
if lost=$(sort "$scratch/SHA256SUMS" | comm -23 - <(sort "$release/SHA256SUMS") | cut -c 67- | grep .); then
  fail "$target is not an earlier state of $release" \
    "published files would change or disappear: $(tr '\n' ' ' <<<"$lost")" \
    "copy what is in $target to $release, and run hubexport release there"
fi

cut -c 67- "$release/SHA256SUMS" | copy
copy <<<SHA256SUMS
copy <<<index.json

is_remote || check "$target" "run the same publish.sh again"
