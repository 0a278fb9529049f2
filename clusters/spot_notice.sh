#!/bin/sh
# On an AWS spot instance: tells Ray when the instance is about to be taken away, two minutes before. The slots of a search
# then write a checkpoint at once and move to another node (search/notice.py). Started by cluster.yaml on each worker.
metadata=${SPOT_METADATA:-http://169.254.169.254/latest}
while sleep "${SPOT_PAUSE_S:-5}"; do
    token=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") || continue
    curl -sf -m 2 -o /dev/null -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/spot/instance-action" || continue
    exec ray drain-node --reason=DRAIN_NODE_REASON_PREEMPTION --reason-message='the spot instance is taken back' \
        --deadline-remaining-seconds=110
done
