use std::collections::{BTreeMap, HashMap};

use rpc_core::{DynCaller, Status, Streaming, descriptor::Contract, rpc_service};
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Serialize, Deserialize)]
struct Order {
    id: Id,
    total: u128,
    mark: char,
    lines: Vec<Line>,
    note: Option<String>,
    nested: Option<Vec<Option<u8>>>,
    grid: Vec<Vec<i16>>,
    point: (f64, f32),
    hash: [u8; 32],
    #[serde(default)]
    count: u32,
    by_good: BTreeMap<String, Vec<u64>>,
    by_point: HashMap<(i8, i8), bool>,
    #[serde(rename = "firstName")]
    first: String,
    pay: Pay,
    state: State,
    nothing: (),
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Hash)]
struct Id(u64);

#[derive(Serialize, Deserialize)]
struct Line(String, u32);

/// A newtype that contains itself.
#[derive(Serialize, Deserialize)]
struct Tree(Vec<Tree>);

#[derive(Serialize, Deserialize)]
enum Pay {
    Cash,
    Card { number: String },
    Split(u8, Id),
    Vouchers(Vec<String>),
}

#[derive(Serialize, Deserialize)]
enum State {
    New,
    InDelivery,
}

/// Takes orders.
#[rpc_service(name = "shop.Orders", version = "1.0")]
trait Orders {
    /// Places an order.
    async fn place(&self, order: Order, is_test: bool) -> Result<Id, State>;
    async fn find_tree(&self, id: Id) -> Tree;
    #[rpc(one_way)]
    async fn note(&self);
    async fn extend(&self, with: serde_json::Value);
    async fn talk(&self, room: String, items: Streaming<Option<String>>) -> Result<Streaming<Vec<u8>>, Status>;
}

const EXPECTED: &str = r#"syntax = "proto3";

package shop.orders.v1_0;

import "google/protobuf/struct.proto";

// Takes orders.
service Orders {
  // Places an order.
  // Error: State
  rpc Place(PlaceRequest) returns (PlaceResponse);
  rpc FindTree(FindTreeRequest) returns (FindTreeResponse);
  rpc Note(NoteRequest) returns (NoteResponse);
  rpc Extend(ExtendRequest) returns (ExtendResponse);
  rpc Talk(stream TalkRequest) returns (stream TalkResponse);
}

message PlaceRequest {
  Order order = 1;
  bool is_test = 2 [json_name = "is_test"];
}

message PlaceResponse {
  uint64 value = 1;
}

message FindTreeRequest {
  uint64 id = 1;
}

message FindTreeResponse {
  Tree value = 1;
}

message NoteRequest {}

message NoteResponse {}

message ExtendRequest {
  google.protobuf.Value with = 1;
}

message ExtendResponse {}

message TalkArguments {
  string room = 1;
}

message TalkItem {
  optional string value = 1;
}

message TalkRequest {
  oneof part {
    TalkArguments arguments = 1;
    TalkItem item = 2;
  }
}

message TalkResponse {
  bytes value = 1;
}

message Line {
  string field_0 = 1;
  uint32 field_1 = 2;
}

message OrderNestedSomeItem {
  optional uint32 value = 1;
}

message OrderNestedSome {
  repeated OrderNestedSomeItem value = 1;
}

message OrderGridItem {
  repeated int32 value = 1;
}

message OrderPoint {
  double field_0 = 1;
  float field_1 = 2;
}

message OrderByGoodValue {
  repeated uint64 value = 1;
}

message OrderByPointKey {
  int32 field_0 = 1;
  int32 field_1 = 2;
}

message OrderByPointEntry {
  OrderByPointKey key = 1;
  bool value = 2;
}

message Unit {}

message Order {
  uint64 id = 1;
  string total = 2;
  string mark = 3;
  repeated Line lines = 4;
  optional string note = 5;
  optional OrderNestedSome nested = 6;
  repeated OrderGridItem grid = 7;
  OrderPoint point = 8;
  bytes hash = 9;
  optional uint32 count = 10;
  map<string, OrderByGoodValue> by_good = 11 [json_name = "by_good"];
  repeated OrderByPointEntry by_point = 12 [json_name = "by_point"];
  string firstName = 13;
  Pay pay = 14;
  State state = 15;
  Unit nothing = 16;
}

message PayCard {
  string number = 1;
}

message PaySplit {
  uint32 field_0 = 1;
  uint64 field_1 = 2;
}

message PayVouchers {
  repeated string value = 1;
}

message Pay {
  oneof variant {
    Unit cash = 1 [json_name = "Cash"];
    PayCard card = 2 [json_name = "Card"];
    PaySplit split = 3 [json_name = "Split"];
    PayVouchers vouchers = 4 [json_name = "Vouchers"];
  }
}

message Tree {
  repeated Tree value = 1;
}

enum State {
  STATE_UNSPECIFIED = 0;
  STATE_NEW = 1;
  STATE_IN_DELIVERY = 2;
}
"#;

#[test]
fn contract_becomes_proto() {
    assert_eq!(proto(OrdersClient::<DynCaller>::contract()).to_string(), EXPECTED);
}

#[test]
fn numbers_are_positions_without_reserved_ones() {
    let fields = (0..20_000).map(|n| format!(r#"{{"name":"f{n}","type":"u8"}}"#)).collect::<Vec<_>>().join(",");
    let json =
        format!(r#"{{"name":"a","version":"1","methods":[{{"name":"m","parameters":[{fields}],"result":"unit"}}]}}"#);
    let file = proto(&Contract::from_json(&json).unwrap());
    let fields = &file.messages.iter().find(|message| message.name == "MRequest").unwrap().fields;
    assert_eq!([fields[0].number, fields[18_998].number, fields[18_999].number], [1, 18_999, 20_000]);
}

#[test]
fn hostile_names_and_newtypes_have_a_file() {
    let chain = |number: usize, next: usize| format!(r#""T{number}":{{"struct":{{"newtype":{{"named":"T{next}"}}}}}}"#);
    let count = 50_000;
    let types = (0..count).map(|number| chain(number, (number + 1) % count)).collect::<Vec<_>>().join(",");
    let method = r#"{"name":"rpc \"; }","docs":"a\n} message X {","parameters":[{"name":"1 = 2;","type":{"named":"T0"}},{"name":"1 = 3;","type":{"named":"missing"}}],"result":{"named":"T7"}}"#;
    let json = format!(r#"{{"name":"","version":"","methods":[{method},{method}],"types":{{{types}}}}}"#);
    let text = proto(&Contract::from_json(&json).unwrap()).to_string();
    assert!(text.starts_with("syntax = \"proto3\";\n\npackage x.v;\n"), "{}", &text[..40]);
    assert!(text.contains("  // a\n  // } message X {\n  rpc Rpc(RpcRequest) returns (RpcResponse);"));
    assert!(text.contains("  rpc Rpc2(Rpc2Request) returns (Rpc2Response);"));
    assert!(text.contains("x1___2_ = 1 [json_name = \"1 = 2;\"];"), "{}", &text[..900]);
}
