//! Server reflection: the files of the server are those of the contracts.

use std::process::{Command, Stdio};

use futures_util::stream;
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use rpc_core::DynCaller;
use tests::{
    in_time,
    probe::{Probe, ProbingClient},
};
use tonic::Code;

use super::{Caller, serving, start};

/// `ServerReflectionRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Question {
    #[prost(string, optional, tag = "3")]
    file: Option<String>,
    #[prost(string, optional, tag = "4")]
    symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    services: Option<String>,
}

/// `ServerReflectionResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "6")]
    services: Option<Services>,
    #[prost(message, optional, tag = "7")]
    error: Option<Failure>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    services: Vec<super::Text>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Failure {
    #[prost(int32, tag = "1")]
    code: i32,
}

fn services() -> Question {
    Question { services: Some(String::new()), ..Question::default() }
}

fn symbol(name: &str) -> Question {
    Question { symbol: Some(name.to_owned()), ..Question::default() }
}

async fn ask(grpc: &Caller, path: &'static str, questions: Vec<Question>) -> Result<Vec<Answer>, tonic::Status> {
    let mut answers = grpc.both::<_, Answer>(path, stream::iter(questions)).await?;
    let mut all = Vec::new();
    while let Some(answer) = in_time(answers.message()).await? {
        all.push(answer);
    }
    Ok(all)
}

const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const V1ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

#[tokio::test]
async fn reflection_lists_services_and_finds_symbols() {
    let probe = Probe::default();
    let (_serving, grpc) = start(&probe).await;
    for path in [V1, V1ALPHA] {
        let answers = ask(&grpc, path, vec![services()]).await.unwrap();
        let names: Vec<_> = answers[0].services.as_ref().unwrap().services.iter().map(|one| &one.value[..]).collect();
        let expected = [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "test.probe.v1_0.Probe",
        ];
        assert_eq!(names, expected);
    }
    let known = [
        "test.probe.v1_0.Probe",
        "test.probe.v1_0.Probe.Echo",
        "test.probe.v1_0.Seen",
        "grpc.health.v1.HealthCheckResponse",
        "google.protobuf.Struct.FieldsEntry",
        "grpc.reflection.v1.ServerReflection",
    ];
    let answers = ask(&grpc, V1, known.iter().map(|name| symbol(name)).collect()).await.unwrap();
    for (name, answer) in known.iter().zip(answers) {
        let file = FileDescriptorProto::decode(&answer.files.expect(name).files[0][..]).unwrap();
        assert!(name.starts_with(file.package()), "{name}");
    }
    let file = Question { file: Some("test/probe/v1_0.proto".to_owned()), ..Question::default() };
    let answers = ask(&grpc, V1, vec![file, symbol("test.None"), Question::default()]).await.unwrap();
    let files = &answers[0].files.as_ref().unwrap().files;
    let names: Vec<_> =
        files.iter().map(|file| FileDescriptorProto::decode(&file[..]).unwrap().name().to_owned()).collect();
    assert_eq!(names, ["test/probe/v1_0.proto", "google/protobuf/struct.proto"]);
    let errors: Vec<_> = answers[1..].iter().map(|answer| answer.error.as_ref().unwrap().code).collect();
    assert_eq!(errors, [Code::NotFound as i32, Code::InvalidArgument as i32]);
}

#[tokio::test]
async fn reflection_follows_the_settings_of_the_server() {
    let probe = Probe::default();
    let disabled = tests::serving::Serving::start(serving(&probe).reflection(false)).await;
    let grpc = Caller::connect(disabled.address()).await;
    assert_eq!(ask(&grpc, V1, vec![services()]).await.unwrap_err().code(), Code::Unimplemented);
    let tokens = rpc_core::Tokens::new().with("ann", "a-long-secret-of-ann's").unwrap();
    let restricted = serving(&probe).require_token(tokens);
    let restricted = tests::serving::Serving::start(restricted).await;
    let grpc = Caller::connect(restricted.address()).await;
    assert_eq!(ask(&grpc, V1, vec![services()]).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn described_file_is_that_of_the_contract() {
    let probe = Probe::default();
    let (_serving, grpc) = start(&probe).await;
    let answers = ask(&grpc, V1, vec![symbol("test.probe.v1_0.Probe")]).await.unwrap();
    let mut described = FileDescriptorProto::decode(&answers[0].files.as_ref().unwrap().files[0][..]).unwrap();
    if Command::new("protoc").arg("--version").stdout(Stdio::null()).status().is_err() {
        return println!("SKIPPED: needs protoc");
    }
    let directory = tempfile::tempdir().unwrap();
    let text = rpc_schema::proto(ProbingClient::<DynCaller>::contract()).to_string();
    std::fs::create_dir_all(directory.path().join("test/probe")).unwrap();
    std::fs::write(directory.path().join("test/probe/v1_0.proto"), &text).unwrap();
    let output = Command::new("protoc")
        .current_dir(directory.path())
        .args(["--descriptor_set_out=out", "test/probe/v1_0.proto"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let set = FileDescriptorSet::decode(&std::fs::read(directory.path().join("out")).unwrap()[..]).unwrap();
    described.dependency.clear();
    assert_eq!(described, FileDescriptorProto { dependency: Vec::new(), ..set.file[0].clone() });
}
