#!/bin/sh
# Train what docs/receptive-fields.md compares: a cascade and a flat network of every receptive field, on 64x64 faces.
#
#     sh examples/receptive_fields.sh                 # into runs/receptive-fields; the same command continues it
#     FIELDS="5 13" sh examples/receptive_fields.sh elsewhere --steps 100
#
# The first argument is the folder; others go to every `wavdiff train`. FIELDS are the receptive fields, WAVDIFF the command.
set -eu

folder=${1:-runs/receptive-fields}
[ $# -eq 0 ] || shift
train="${WAVDIFF:-wavdiff} train"

# The low-pass network sees the whole low-pass image; all cascades share it.
$train --config receptive-field-cascade --scales low --out "$folder/low" "$@"
for field in ${FIELDS:-5 9 13 23}; do
    $train --config receptive-field-cascade --set "model.details.receptive_field=$field" \
        --scales 1,0 --base "$folder/low/model" --out "$folder/cascade-$field" "$@"
    $train --config receptive-field-flat --set "model.lowpass.receptive_field=$field" --out "$folder/flat-$field" "$@"
done
