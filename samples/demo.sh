#!/bin/sh
# A conversation in lines. It knows nothing of networks: the client is its standard input and output, and who that
# is stands in its environment.

echo "Hello, ${TCPREMOTEIP:-stranger}! You are connection ${TCPPAR_CONNECTION_ID:-?}, and process $$ is all yours."
echo 'Type a line to get it back, or "quit" to leave.'

return=$(printf '\r')
while IFS= read -r line || [ -n "$line" ]; do
    line=${line%"$return"}  # telnet ends its lines with both characters
    [ "$line" = quit ] && break
    printf '[%s] %s\n' "$$" "$line"
done
echo "Goodbye from process $$."
