#!/bin/sh
# A program as written for tcpserver: all that it knows of its client stands in the environment.
IFS= read -r line
printf '%s %s:%s -> %s:%s %s\n' "$PROTO" "$TCPREMOTEIP" "$TCPREMOTEPORT" "$TCPLOCALIP" "$TCPLOCALPORT" "$line"
