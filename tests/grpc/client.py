"""Calls the services of the test grpc::partners with grpcio: generated code, streams, statuses, reflection and health."""

import sys

import demo_pb2
import demo_pb2_grpc
import feed_pb2
import feed_pb2_grpc
import grpc
import shop_pb2
import shop_pb2_grpc
from google.protobuf import descriptor_pool
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main():
    channel = grpc.insecure_channel(sys.argv[1])
    grpc.channel_ready_future(channel).result(timeout=30)

    greeter = demo_pb2_grpc.GreeterStub(channel)
    reply, call = greeter.Hello.with_call(demo_pb2.HelloRequest(name="Zoë"), timeout=30, metadata=[("tenant", "a")])
    print(f"hello: {reply.value}")
    print(f"status: {call.code().name}")
    try:
        greeter.Hello(demo_pb2.HelloRequest(), timeout=30)
    except grpc.RpcError as error:
        print(f"empty name: {error.code().name} {error.details()} delivery {trailer(error, 'msnb-delivery')}")

    goods = shop_pb2_grpc.GoodsStub(channel)
    good = goods.FindGoods(shop_pb2.FindGoodsRequest(id=1), timeout=30).value
    print(f"good 1: {good.name} {good.price}")
    try:
        goods.FindGoods(shop_pb2.FindGoodsRequest(id=404), timeout=30)
    except grpc.RpcError as error:
        details = status_pb2.Status.FromString(trailer(error, "grpc-status-details-bin")).details[0]
        not_found = shop_pb2.GoodsError()
        details.Unpack(not_found)
        print(f"good 404: {error.code().name} {error.details()} details {not_found.not_found.id}")

    feed = feed_pb2_grpc.FeedStub(channel)
    prices = feed.Prices(feed_pb2.PricesRequest(good="tea", after=0), timeout=30)
    print("prices:", [(price.value.number, price.value.cents) for price in prices])
    try:
        next(feed.Prices(feed_pb2.PricesRequest(good="coffee"), timeout=30))
    except grpc.RpcError as error:
        print(f"no prices: {error.code().name} {error.details()}")
    parts = [feed_pb2.UploadRequest(arguments=feed_pb2.UploadArguments(name="f"))]
    parts += [feed_pb2.UploadRequest(item=bytes(1000)) for _ in range(1000)]
    receipt = feed.Upload(iter(parts), timeout=30).value
    print(f"uploaded: {receipt.bytes}")
    remarks = [feed_pb2.TalkRequest(arguments=feed_pb2.TalkArguments(room="r", author="Bo"))]
    remarks += [feed_pb2.TalkRequest(item=text) for text in ["one", "two"]]
    print("remarks:", [f"{remark.value.author} {remark.value.text}" for remark in feed.Talk(iter(remarks), timeout=30)])
    endless = feed.Prices(feed_pb2.PricesRequest(good="endless"), timeout=30)
    next(endless)
    endless.cancel()
    print("cancelled:", endless.code().name)
    long = "a" * 1_000_000
    compressed = greeter.Hello(demo_pb2.HelloRequest(name=long), timeout=30, compression=grpc.Compression.Gzip)
    print("compressed:", compressed.value == f"Hello {long}")

    database = ProtoReflectionDescriptorDatabase(channel)
    print("services:", ", ".join(sorted(database.get_services())))
    pool = descriptor_pool.DescriptorPool(database)
    for name in database.get_services():
        methods = pool.FindServiceByName(name).methods
        print(f"described {name}: {', '.join(method.name for method in methods)}")
    described = pool.FindMessageTypeByName("shop.goods.v1_0.Good")
    print("equal:", [field.name for field in described.fields] == [field.name for field in good.DESCRIPTOR.fields])

    health = health_pb2_grpc.HealthStub(channel)
    state = health.Check(health_pb2.HealthCheckRequest(service="demo.greeter.v1_0.Greeter"), timeout=30).status
    print("health:", health_pb2.HealthCheckResponse.ServingStatus.Name(state))


def trailer(error, name):
    return dict(error.trailing_metadata())[name]


if __name__ == "__main__":
    main()
