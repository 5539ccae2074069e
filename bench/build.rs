//! Generates the echo of the frameworks that generate code, when they are compared. Neither needs a tool that is not a crate.

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

    /// Glue for messages that are written by hand.
    fn tonic() {
        let echo = Method::builder()
            .name("echo")
            .route_name("Echo")
            .input_type("crate::peers::tonic::EchoRequest")
            .output_type("crate::peers::tonic::EchoReply")
            .codec_path("::tonic_prost::ProstCodec")
            .build();
        let service = Service::builder().name("Echo").package("bench").method(echo).build();
        Builder::new().compile(&[service]);
    }

    /// Messages and glue, without the one part that is unsafe, which is for several services on one port and not used here: the
    /// workspace forbids unsafe code, and no attribute allows it again.
    fn volo() {
        volo_build::Builder::thrift().add_service("idl/echo.thrift").write().expect("the contract is legal");
        let out = env::var_os("OUT_DIR").expect("cargo sets it");
        let path = Path::new(&out).join("volo_gen.rs");
        let text = fs::read_to_string(&path).expect("it was just written");
        // Where lines break depends on the rustfmt.toml that is found from the target directory.
        let begin = text.find(ROUTED).and_then(|at| text[..at].rfind("impl<T>"));
        let begin = begin.expect("volo-build 0.12 writes it; another may need no cut, or another cut");
        let end = begin + text[begin..].find(NEXT).expect("as above");
        fs::write(&path, text[..begin].to_owned() + &text[end..]).expect("it could be written before");
    }

    const ROUTED: &str = "::volo::service::Service<::volo_thrift::context::ServerContext, ::volo_thrift::Bytes>";
    const NEXT: &str = "pub struct MkEchoGenericClient;";
}
