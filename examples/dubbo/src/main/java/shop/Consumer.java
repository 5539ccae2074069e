package shop;

import com.google.protobuf.ByteString;
import demo.greeter.v1_0.DemoGreeter10.HelloRequest;
import demo.greeter.v1_0.Greeter;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.dubbo.common.constants.CommonConstants;
import org.apache.dubbo.common.stream.StreamObserver;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.RpcException;
import org.apache.dubbo.rpc.StatusRpcException;
import org.apache.dubbo.rpc.TriRpcStatus;
import shop.feed.v1_0.Feed;
import shop.feed.v1_0.ShopFeed10.PricesRequest;
import shop.feed.v1_0.ShopFeed10.PricesResponse;
import shop.feed.v1_0.ShopFeed10.TalkArguments;
import shop.feed.v1_0.ShopFeed10.TalkRequest;
import shop.feed.v1_0.ShopFeed10.TalkResponse;
import shop.feed.v1_0.ShopFeed10.UploadArguments;
import shop.feed.v1_0.ShopFeed10.UploadRequest;
import shop.feed.v1_0.ShopFeed10.UploadResponse;
import shop.goods.v1_0.Goods;
import shop.goods.v1_0.ShopGoods10.FindGoodsRequest;

/**
 * Calls providers in Rust by Triple: at {@code tri://} addresses, the first with greeter and goods and the second with streams,
 * or those that {@code nacos://} lists.
 */
public final class Consumer {
    public static void main(String[] arguments) {
        int status = 0;
        try {
            run(arguments);
        } catch (Exception error) {
            error.printStackTrace();
            status = 1;
        }
        // Dubbo's threads would keep the process alive.
        System.exit(status);
    }

    private static void run(String[] arguments) throws Exception {
        String shop = arguments.length > 0 ? arguments[0] : "tri://127.0.0.1:7788";
        ApplicationConfig application = new ApplicationConfig("shop-consumer");
        application.setQosEnable(false);
        application.setLogger("slf4j");
        DubboBootstrap.getInstance().application(application);
        call(reference(Greeter.class, shop), reference(Goods.class, shop));
        if (arguments.length > 1) {
            Feed feed = reference(Feed.class, arguments[1]);
            prices(feed);
            upload(feed);
            talk(feed);
        }
        DubboBootstrap.getInstance().stop();
    }

    private static <T> T reference(Class<T> service, String url) {
        ReferenceConfig<T> reference = new ReferenceConfig<>();
        reference.setInterface(service);
        // The code that was generated from the .proto file, and not a proxy of the Java interface.
        reference.setProxy(CommonConstants.NATIVE_STUB);
        reference.setProtocol(CommonConstants.TRIPLE);
        reference.setTimeout(10_000);
        if (url.startsWith("nacos:")) {
            reference.setRegistry(new RegistryConfig(url));
        } else {
            reference.setUrl(url);
        }
        return reference.get();
    }

    /** Calls methods without streams, and prints the errors of the services. */
    private static void call(Greeter greeter, Goods goods) {
        RpcContext.getClientAttachment().setAttachment("tenant", "a");
        System.out.println("hello: " + greeter.hello(HelloRequest.newBuilder().setName("Zoë").build()).getValue());
        try {
            greeter.hello(HelloRequest.getDefaultInstance());
        } catch (RpcException error) {
            TriRpcStatus status = statusOf(error);
            System.out.println("empty name: " + status.code + " " + status.description);
        }
        var good = goods.findGoods(FindGoodsRequest.newBuilder().setId(1).build()).getValue();
        System.out.println("good 1: " + good.getName() + " " + good.getPrice());
    }

    /** Returns the status of the response, which Dubbo wraps in other exceptions. */
    private static TriRpcStatus statusOf(RpcException error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof StatusRpcException status) {
                return status.getStatus();
            }
        }
        throw error;
    }

    /** Reads a stream of the callee. */
    private static void prices(Feed feed) throws Exception {
        var prices = new Received<PricesResponse>();
        feed.prices(PricesRequest.newBuilder().setGood("tea").build(), prices);
        long first = prices.next().getValue().getNumber();
        boolean inOrder = prices.next().getValue().getNumber() == first + 1
            && prices.next().getValue().getNumber() == first + 2;
        System.out.println("prices: 3 in order " + inOrder);
    }

    /** Sends a stream: first the arguments, then the items. */
    private static void upload(Feed feed) throws Exception {
        var receipt = new Received<UploadResponse>();
        StreamObserver<UploadRequest> stream = feed.upload(receipt);
        stream.onNext(UploadRequest.newBuilder().setArguments(UploadArguments.newBuilder().setName("dubbo.bin")).build());
        var part = UploadRequest.newBuilder().setItem(ByteString.copyFrom(new byte[1000])).build();
        for (int count = 0; count < 1000; count++) {
            stream.onNext(part);
        }
        stream.onCompleted();
        System.out.println("uploaded: " + receipt.next().getValue().getBytes());
    }

    /** Sends and receives a stream at the same time. */
    private static void talk(Feed feed) throws Exception {
        var remarks = new Received<TalkResponse>();
        StreamObserver<TalkRequest> stream = feed.talk(remarks);
        var arguments = TalkArguments.newBuilder().setRoom("dubbo").setAuthor("Bo");
        stream.onNext(TalkRequest.newBuilder().setArguments(arguments).build());
        for (String text : new String[] {"one", "two"}) {
            stream.onNext(TalkRequest.newBuilder().setItem(text).build());
            var remark = remarks.next().getValue();
            System.out.println("remark: " + remark.getAuthor() + " " + remark.getText());
        }
        stream.onCompleted();
        remarks.end.get(60, TimeUnit.SECONDS);
    }

    /** The items of a stream. */
    private static final class Received<T> implements StreamObserver<T> {
        private final BlockingQueue<T> items = new ArrayBlockingQueue<>(1024);
        private final CompletableFuture<Void> end = new CompletableFuture<>();

        private T next() throws Exception {
            T item = items.poll(60, TimeUnit.SECONDS);
            if (item == null) {
                throw new IllegalStateException("no item has arrived");
            }
            return item;
        }

        @Override
        public void onNext(T item) {
            // A reader that needs few items of an endless stream drops the others.
            items.offer(item);
        }

        @Override
        public void onError(Throwable error) {
            end.completeExceptionally(error);
        }

        @Override
        public void onCompleted() {
            end.complete(null);
        }
    }
}
