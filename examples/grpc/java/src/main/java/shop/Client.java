package shop;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.Status;
import demo.greeter.v1_0.DemoGreeter10.HelloRequest;
import demo.greeter.v1_0.GreeterGrpc;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.util.Iterator;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import shop.feed.v1_0.FeedGrpc;
import shop.feed.v1_0.ShopFeed10.PricesRequest;
import shop.feed.v1_0.ShopFeed10.PricesResponse;
import shop.feed.v1_0.ShopFeed10.Remark;
import shop.feed.v1_0.ShopFeed10.TalkArguments;
import shop.feed.v1_0.ShopFeed10.TalkRequest;
import shop.feed.v1_0.ShopFeed10.TalkResponse;
import shop.feed.v1_0.ShopFeed10.UploadArguments;
import shop.feed.v1_0.ShopFeed10.UploadRequest;
import shop.feed.v1_0.ShopFeed10.UploadResponse;
import shop.goods.v1_0.GoodsGrpc;
import shop.goods.v1_0.ShopGoods10.FindGoodsRequest;
import shop.goods.v1_0.ShopGoods10.GoodsError;

/** Calls the services of two providers in Rust with the code that protoc generates from their .proto files. */
public final class Client {
    public static void main(String[] arguments) throws Exception {
        ManagedChannel shop = connect(arguments.length == 2 ? arguments[0] : "127.0.0.1:7788");
        ManagedChannel feed = connect(arguments.length == 2 ? arguments[1] : "127.0.0.1:7789");
        call(shop);
        prices(feed);
        upload(feed);
        talk(feed);
        deadline(feed);
        cancellation(feed);
        shop.shutdownNow();
        feed.shutdownNow();
    }

    private static ManagedChannel connect(String address) {
        return ManagedChannelBuilder.forTarget(address).usePlaintext().build();
    }

    /** Calls methods without streams, and prints the errors of the services. */
    private static void call(ManagedChannel channel) throws Exception {
        var greeter = GreeterGrpc.newBlockingStub(channel).withDeadlineAfter(60, TimeUnit.SECONDS);
        System.out.println("hello: " + greeter.hello(HelloRequest.newBuilder().setName("Zoë").build()).getValue());
        try {
            greeter.hello(HelloRequest.getDefaultInstance());
        } catch (StatusRuntimeException error) {
            System.out.println("empty name: " + error.getStatus().getCode() + " " + error.getStatus().getDescription());
        }
        var goods = GoodsGrpc.newBlockingStub(channel).withDeadlineAfter(60, TimeUnit.SECONDS);
        var good = goods.findGoods(FindGoodsRequest.newBuilder().setId(1).build()).getValue();
        System.out.println("good 1: " + good.getName() + " " + good.getPrice());
        try {
            goods.findGoods(FindGoodsRequest.newBuilder().setId(404).build());
        } catch (StatusRuntimeException error) {
            // The error of the service is the detail of the status, as a message of its own type.
            Status status = StatusProto.fromThrowable(error);
            Any detail = status.getDetails(0);
            long id = detail.unpack(GoodsError.class).getNotFound().getId();
            System.out.println("good 404: " + error.getStatus().getCode() + " not found " + id);
        }
    }

    /** Reads a stream of the callee. */
    private static void prices(ManagedChannel channel) {
        try (var context = Context.current().withCancellation()) {
            context.run(() -> {
                Iterator<PricesResponse> stream = tea(FeedGrpc.newBlockingStub(channel));
                long first = stream.next().getValue().getNumber();
                for (long number = first + 1; number < first + 3; number++) {
                    if (stream.next().getValue().getNumber() != number) {
                        throw new IllegalStateException("a price is missing before " + number);
                    }
                }
            });
        }
        System.out.println("prices: 3 in order");
    }

    /** Sends a stream: first the arguments, then the items. */
    private static void upload(ManagedChannel channel) throws Exception {
        var receipt = new CompletableFuture<UploadResponse>();
        StreamObserver<UploadRequest> stream = FeedGrpc.newStub(channel).upload(new StreamObserver<>() {
            @Override
            public void onNext(UploadResponse response) {
                receipt.complete(response);
            }

            @Override
            public void onError(Throwable error) {
                receipt.completeExceptionally(error);
            }

            @Override
            public void onCompleted() {}
        });
        var arguments = UploadArguments.newBuilder().setName("java.bin");
        stream.onNext(UploadRequest.newBuilder().setArguments(arguments).build());
        var part = UploadRequest.newBuilder().setItem(ByteString.copyFrom(new byte[1000])).build();
        for (int count = 0; count < 1000; count++) {
            stream.onNext(part);
        }
        stream.onCompleted();
        System.out.println("uploaded: " + receipt.get(60, TimeUnit.SECONDS).getValue().getBytes());
    }

    /** Sends and receives a stream at the same time. */
    private static void talk(ManagedChannel channel) throws Exception {
        BlockingQueue<Remark> remarks = new ArrayBlockingQueue<>(16);
        var end = new CompletableFuture<Void>();
        StreamObserver<TalkRequest> stream = FeedGrpc.newStub(channel).talk(new StreamObserver<>() {
            @Override
            public void onNext(TalkResponse response) {
                remarks.add(response.getValue());
            }

            @Override
            public void onError(Throwable error) {
                end.completeExceptionally(error);
            }

            @Override
            public void onCompleted() {
                end.complete(null);
            }
        });
        var arguments = TalkArguments.newBuilder().setRoom("java").setAuthor("Bo");
        stream.onNext(TalkRequest.newBuilder().setArguments(arguments).build());
        for (String text : new String[] {"one", "two"}) {
            stream.onNext(TalkRequest.newBuilder().setItem(text).build());
            Remark remark = remarks.poll(60, TimeUnit.SECONDS);
            System.out.println("remark: " + remark.getAuthor() + " " + remark.getText());
        }
        stream.onCompleted();
        end.get(60, TimeUnit.SECONDS);
    }

    /** Reads a stream without an end until its deadline passes. */
    private static void deadline(ManagedChannel channel) {
        var stream = tea(FeedGrpc.newBlockingStub(channel).withDeadlineAfter(200, TimeUnit.MILLISECONDS));
        System.out.println("deadline: " + endOf(stream));
    }

    /** Ends a stream without an end. */
    private static void cancellation(ManagedChannel channel) throws Exception {
        try (var context = Context.current().withCancellation()) {
            context.call(() -> {
                var stream = tea(FeedGrpc.newBlockingStub(channel));
                stream.next();
                context.cancel(null);
                System.out.println("cancelled: " + endOf(stream));
                return null;
            });
        }
    }

    private static Iterator<PricesResponse> tea(FeedGrpc.FeedBlockingStub feed) {
        return feed.prices(PricesRequest.newBuilder().setGood("tea").build());
    }

    /** Returns the status with which a stream ends. */
    private static io.grpc.Status.Code endOf(Iterator<PricesResponse> stream) {
        try {
            while (stream.hasNext()) {
                stream.next();
            }
            return io.grpc.Status.Code.OK;
        } catch (StatusRuntimeException error) {
            return error.getStatus().getCode();
        }
    }
}
