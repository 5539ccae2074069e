// The contract bench.Echo:1.0 for volo-thrift.
namespace rs echo

struct EchoRequest {
    1: required i64 id,
    2: required string name,
    3: required binary payload,
}

struct EchoReply {
    1: required i64 id,
    2: required string name,
    3: required binary payload,
}

service Echo {
    EchoReply echo(1: EchoRequest request),
}
