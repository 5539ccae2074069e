//! Generates the echo services of tonic and volo for the feature `compare`. Both generators are crates; no other tool
//! is needed.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=idl");
    #[cfg(feature = "compare")]
    compare::generate();
}

#[cfg(feature = "compare")]
mod compare {
    use std::{env, fs, path::Path};

    use tonic_build::manual::{Builder, Method, Service};

    pub(super) fn generate() {
        tonic();
        volo();
    }

    /// Generates client and server stubs for hand-written messages.
    fn tonic() {
        let echo = Method::builder()
            .name("echo")
            .route_name("Echo")
            .input_type("crate::peers::tonic::EchoRequest")
            .output_type("crate::peers::tonic::EchoReply")
            .codec_path("::tonic_prost::ProstCodec")
            .build();
        let service = Service::builder().name("Echo").package("bench").method(echo).build();
        let items = Method::builder()
            .name("items")
            .route_name("Items")
            .input_type("crate::streams::tonic::ItemsRequest")
            .output_type("crate::streams::tonic::Item")
            .codec_path("::tonic_prost::ProstCodec")
            .server_streaming()
            .build();
        let streams = Service::builder().name("Items").package("bench").method(items).build();
        Builder::new().compile(&[service, streams]);
    }

    /// Generates messages and stubs, and removes the only unsafe part, which serves several services on one port and is
    /// not used here: the workspace forbids unsafe code, and no attribute can allow it again.
    fn volo() {
        volo_build::Builder::thrift().add_service("idl/echo.thrift").write().expect("the contract is valid");
        let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
        let path = Path::new(&out).join("volo_gen.rs");
        let text = fs::read_to_string(&path).expect("volo-build has written the file");
        // Line breaks depend on the rustfmt.toml that applies to the target directory, so search for short texts only.
        let begin = text.find(ROUTED).and_then(|at| text[..at].rfind("impl<T>"));
        let begin = begin.expect("volo-build 0.12 generates this impl; other versions need another cut or none");
        let end = begin + text[begin..].find(NEXT).expect("volo-build 0.12 generates this type after the impl");
        fs::write(&path, text[..begin].to_owned() + &text[end..]).expect("volo-build could write the file");
    }

    const ROUTED: &str = "::volo::service::Service<::volo_thrift::context::ServerContext, ::volo_thrift::Bytes>";
    const NEXT: &str = "pub struct MkEchoGenericClient;";
}
