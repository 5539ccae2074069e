//! `msnb describe` and `msnb export` with the formats of other systems, which their own compilers read.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    process::{Command, Stdio},
};

use rpc_core::{DynCaller, Status, Streaming, rpc_service};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tests::process::Provider;

use super::{GREETER, fails, output};

/// A contract with each kind of type.
#[rpc_service(name = "test.Types", version = "1.0-beta")]
trait Types {
    /// Has a comment with */ and "quotes".
    async fn integers(&self, a: bool, b: i8, c: i64, d: i128, e: u64) -> u128;
    async fn scalars(&self, f: f32, g: char, h: String, new: ()) -> f64;
    async fn containers(
        &self,
        nested: Vec<Vec<Option<u8>>>,
        optional: Option<Option<Vec<u16>>>,
        tuple: (u8, (String, Vec<bool>)),
        array: [Shape; 3],
    ) -> Result<Vec<Option<Tree>>, Refused>;
    async fn maps(
        &self,
        map: BTreeMap<u32, Vec<Shape>>,
        by_struct: HashMap<Key, Option<f64>>,
        by_enum: BTreeMap<Level, Page<Page<u8>>>,
    ) -> BTreeMap<u8, ()>;
    async fn scan(&self, from: Option<Key>) -> Result<Streaming<Vec<u64>, Refused>, Status>;
    async fn load(&self, into: String, items: Streaming<Option<Shape>>) -> Result<(u8, u8), Status>;
    async fn talk(&self, items: Streaming<String>) -> Streaming<Level>;
    #[rpc(one_way, name = "fireAndForget")]
    async fn fire(&self, any: serde_json::Value);
}

#[derive(Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Line { from: (i32, i32), to: Option<(i32, i32)> },
    Path(Vec<(i32, i32)>, bool),
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Hash)]
struct Key(u8, String);

#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Low,
    #[serde(rename = "very-high")]
    High,
}

#[derive(Serialize, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    #[serde(rename = "next-page", default)]
    next: u64,
}

#[derive(Serialize, Deserialize)]
struct Tree {
    children: Vec<Tree>,
}

#[derive(Serialize, Deserialize)]
enum Refused {
    Later { seconds: u32 },
    Never,
}

/// Returns whether a program runs.
fn is_available(program: &str) -> bool {
    let mut command = Command::new(program);
    let available = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !available {
        eprintln!("SKIPPED: this machine has no {program}");
    }
    available
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Writes the contract to a file, and returns its path.
fn contract(directory: &Path) -> String {
    let file = directory.join("types.json");
    fs::write(&file, TypesClient::<DynCaller>::contract().to_json()).unwrap();
    file.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn protoc_reads_exported_files() {
    let provider = Provider::start("memory:").await;
    let (address, directory) = (provider.address().to_string(), tempfile::tempdir().unwrap());
    let out = directory.path().join("proto");
    let to = ["--proto", "--output", out.to_str().unwrap()];
    output(&[&["export", "--address", &address][..], &to].concat()).await;
    output(&[&["export", &contract(directory.path())][..], &to].concat()).await;
    let mut names: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["demo.Greeter-1.0.proto", "shop.Goods-1.0.proto", "test.Types-1.0-beta.proto"]);
    let described = output(&["describe", GREETER, "--address", &address, "--proto"]).await;
    assert_eq!(described, fs::read_to_string(out.join("demo.Greeter-1.0.proto")).unwrap());
    assert!(
        described.contains("package demo.greeter.v1_0;") && described.contains("rpc Hello(HelloRequest)"),
        "{described}"
    );
    if is_available("protoc") {
        // Some packages of protoc lack the files of Google.
        let include = directory.path().join("include");
        fs::create_dir_all(include.join("google/protobuf")).unwrap();
        fs::write(include.join("google/protobuf/struct.proto"), STRUCT).unwrap();
        for name in names {
            let set = directory.path().join("descriptors");
            run(Command::new("protoc")
                .arg("-I")
                .arg(&out)
                .arg("-I")
                .arg(&include)
                .arg("-o")
                .arg(&set)
                .arg(out.join(&name)));
        }
    }
    let both = ["export", GREETER, "shop.Goods:1.0", "--address", &address, "--proto"];
    let (code, _, stderr) = super::msnb(&both).await;
    assert!(code == 2 && stderr.contains("one service") && stderr.contains("--output"), "{stderr}");
}

/// The part of Google's file that exported files use.
const STRUCT: &str = r#"syntax = "proto3";
package google.protobuf;
message Struct { map<string, Value> fields = 1; }
message Value {
  oneof kind {
    NullValue null_value = 1;
    double number_value = 2;
    string string_value = 3;
    bool bool_value = 4;
    Struct struct_value = 5;
    ListValue list_value = 6;
  }
}
enum NullValue { NULL_VALUE = 0; }
message ListValue { repeated Value values = 1; }
"#;

#[tokio::test]
async fn typescript_compiler_reads_exported_types() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("types.ts");
    output(&["export", &contract(directory.path()), "--typescript", "--output", file.to_str().unwrap()]).await;
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("export namespace TypesV1_0_beta {"), "{text}");
    assert!(text.contains("    talk(items: AsyncIterable<string>): AsyncIterable<Level>;"), "{text}");
    fs::write(directory.path().join("use.ts"), USE).unwrap();
    let Some(compiler) = typescript_compiler() else { return };
    run(Command::new("node")
        .arg(compiler)
        .args(["--noEmit", "--strict", "--target", "es2022"])
        .args([file.as_path(), &directory.path().join("use.ts")]));
}

/// A program that uses the exported types.
const USE: &str = r#"import { TypesV1_0_beta as T } from "./types";

export async function run(types: T.Types): Promise<bigint> {
  const shape: T.Shape = { Line: { from: [1, 2], to: null } };
  const sum: number = await types.integers(true, 1, 2, 3, 4);
  const scaled: number = await types.scalars(1.5, "a", "b", null);
  for await (const page of types.scan([1, "a"])) page.map((value: number) => value + 1);
  const level: T.Level = "very-high";
  await types.fireAndForget({ shape, level });
  return BigInt(sum + scaled);
}
"#;

/// Returns the path of the TypeScript compiler, which npm installs once.
fn typescript_compiler() -> Option<std::path::PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/tools/typescript");
    let compiler = tools.join("node_modules/typescript/lib/tsc.js");
    if !compiler.is_file() {
        fs::create_dir_all(&tools).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&tools).arg("typescript@5.9.3");
        let installed = npm.output();
        if !installed.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: npm cannot install the TypeScript compiler: {installed:?}");
            return None;
        }
    }
    is_available("node").then_some(compiler)
}

#[tokio::test]
async fn openapi_document_has_all_services() {
    let provider = Provider::start("memory:").await;
    let (address, directory) = (provider.address().to_string(), tempfile::tempdir().unwrap());
    let exported = output(&["export", "--openapi", "--address", &address]).await;
    let document: Value = serde_json::from_str(&exported).unwrap();
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/demo.Greeter:1.0/hello", "/shop.Goods:1.0/find_goods"]);
    let described = output(&["describe", GREETER, "--openapi", "--address", &address]).await;
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described["paths"]["/demo.Greeter:1.0/hello"], document["paths"]["/demo.Greeter:1.0/hello"]);

    // Every reference has a schema.
    let types = output(&["export", &contract(directory.path()), "--openapi"]).await;
    let document: Value = serde_json::from_str(&types).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let references = types.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap());
    let missing: Vec<_> = references.filter(|name| !schemas.contains_key(*name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
    assert_eq!(schemas["test.Types-1.0-beta.Level"], json!({ "type": "string", "enum": ["Low", "very-high"] }));

    let (code, _, stderr) = super::msnb(&["export", "--openapi"]).await;
    assert!(code == 2 && stderr.contains("nothing is to be exported"), "{stderr}");
    let (code, _, stderr) = super::msnb(&["export", "/missing", "--openapi"]).await;
    assert!(code == 2 && stderr.contains("cannot read /missing"), "{stderr}");
    let (code, _, stderr) = super::msnb(&["export", GREETER]).await;
    assert!(code == 2 && stderr.contains("--proto|--openapi|--typescript"), "{stderr}");
    fails(&["describe", "demo.None:1.0", "--address", &address], 4, &["NotFound"]).await;
}
