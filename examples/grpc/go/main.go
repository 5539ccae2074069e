// Calls the services of two providers in Rust with the code that protoc generates from their .proto files.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"client/feed"
	"client/goods"
	"client/greeter"
)

func main() {
	provider, feeds := "127.0.0.1:7788", "127.0.0.1:7789"
	if len(os.Args) == 3 {
		provider, feeds = os.Args[1], os.Args[2]
	}
	if err := run(provider, feeds); err != nil {
		log.Fatal(err)
	}
}

func run(provider, feeds string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	shop, err := connect(provider)
	if err != nil {
		return err
	}
	defer shop.Close()
	if err := call(ctx, shop); err != nil {
		return err
	}
	stream, err := connect(feeds)
	if err != nil {
		return err
	}
	defer stream.Close()
	client := feed.NewFeedClient(stream)
	for _, step := range []func(context.Context, feed.FeedClient) error{prices, upload, talk, deadline, cancellation} {
		if err := step(ctx, client); err != nil {
			return err
		}
	}
	return nil
}

func connect(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// call calls methods without streams, and prints the errors of the services.
func call(ctx context.Context, connection *grpc.ClientConn) error {
	names := greeter.NewGreeterClient(connection)
	hello, err := names.Hello(ctx, &greeter.HelloRequest{Name: "Zoë"})
	if err != nil {
		return err
	}
	fmt.Println("hello:", hello.Value)
	_, err = names.Hello(ctx, &greeter.HelloRequest{})
	fmt.Println("empty name:", status.Code(err), status.Convert(err).Message())

	catalog := goods.NewGoodsClient(connection)
	found, err := catalog.FindGoods(ctx, &goods.FindGoodsRequest{Id: 1})
	if err != nil {
		return err
	}
	fmt.Println("good 1:", found.Value.Name, found.Value.Price)
	_, err = catalog.FindGoods(ctx, &goods.FindGoodsRequest{Id: 404})
	// The error of the service is the detail of the status, as a message of its own type.
	for _, detail := range status.Convert(err).Details() {
		if missing, ok := detail.(*goods.GoodsError); ok {
			fmt.Println("good 404:", status.Code(err), "not found", missing.GetNotFound().Id)
		}
	}
	return nil
}

// prices reads a stream of the callee.
func prices(ctx context.Context, client feed.FeedClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Prices(ctx, &feed.PricesRequest{Good: "tea"})
	if err != nil {
		return err
	}
	var last uint64
	for count := 0; count < 3; count++ {
		price, err := stream.Recv()
		if err != nil {
			return err
		}
		if count > 0 && price.Value.Number != last+1 {
			return fmt.Errorf("price %d follows price %d", price.Value.Number, last)
		}
		last = price.Value.Number
	}
	fmt.Println("prices: 3 in order")
	return nil
}

// upload sends a stream: first the arguments, then the items.
func upload(ctx context.Context, client feed.FeedClient) error {
	stream, err := client.Upload(ctx)
	if err != nil {
		return err
	}
	arguments := &feed.UploadArguments{Name: "go.bin"}
	if err := stream.Send(&feed.UploadRequest{Part: &feed.UploadRequest_Arguments{Arguments: arguments}}); err != nil {
		return err
	}
	for range 1000 {
		if err := stream.Send(&feed.UploadRequest{Part: &feed.UploadRequest_Item{Item: make([]byte, 1000)}}); err != nil {
			return err
		}
	}
	receipt, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	fmt.Println("uploaded:", receipt.Value.Bytes)
	return nil
}

// talk sends and receives a stream at the same time.
func talk(ctx context.Context, client feed.FeedClient) error {
	stream, err := client.Talk(ctx)
	if err != nil {
		return err
	}
	arguments := &feed.TalkArguments{Room: "go", Author: "Bo"}
	if err := stream.Send(&feed.TalkRequest{Part: &feed.TalkRequest_Arguments{Arguments: arguments}}); err != nil {
		return err
	}
	for _, text := range []string{"one", "two"} {
		if err := stream.Send(&feed.TalkRequest{Part: &feed.TalkRequest_Item{Item: text}}); err != nil {
			return err
		}
		remark, err := stream.Recv()
		if err != nil {
			return err
		}
		fmt.Println("remark:", remark.Value.Author, remark.Value.Text)
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the room has not ended: %w", err)
	}
	return nil
}

// deadline reads a stream without an end until its deadline passes.
func deadline(ctx context.Context, client feed.FeedClient) error {
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	stream, err := client.Prices(ctx, &feed.PricesRequest{Good: "tea"})
	for err == nil {
		_, err = stream.Recv()
	}
	fmt.Println("deadline:", status.Code(err))
	return nil
}

// cancellation ends a stream without an end.
func cancellation(ctx context.Context, client feed.FeedClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Prices(ctx, &feed.PricesRequest{Good: "tea"})
	if err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	fmt.Println("cancelled:", status.Code(err))
	return nil
}
