#!/bin/sh
# Generates the packages greeter, goods and feed with the plugins that go.mod pins.
set -e
set -- --go_out=. --go_opt=module=client --go-grpc_out=. --go-grpc_opt=module=client
for pair in demo.Greeter:greeter shop.Goods:goods shop.Feed:feed; do
    file=${pair%:*}-1.0.proto
    package=M$file=client/${pair#*:}
    set -- "$@" --go_opt="$package" --go-grpc_opt="$package" "$file"
done
protoc -I ../proto --plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" \
    --plugin=protoc-gen-go-grpc="$(go tool -n protoc-gen-go-grpc)" "$@"
