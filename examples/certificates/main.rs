//! Creates test certificates: an authority, a server certificate and a client certificate.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Parser;
use msnb::app::Failure;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// Creates test certificates: the authority ca.pem, and server.pem and client.pem with their keys.
///
/// The authority's key is discarded, so each run creates a new authority. In production, use certificates of your own
/// authority.
#[derive(Debug, Parser)]
struct Args {
    /// The output directory, created if it does not exist; existing files are overwritten.
    directory: PathBuf,
    /// A name or IP address of the server, in addition to 127.0.0.1, ::1 and localhost; may be repeated.
    #[arg(long = "server", value_name = "NAME")]
    servers: Vec<String>,
    /// The client's name.
    #[arg(long, value_name = "NAME", default_value = "consumer.test")]
    client: String,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn main() -> Result<(), Failure> {
    let Args { directory, mut servers, client } = Args::parse();
    fs::create_dir_all(&directory)?;
    // If two authorities had the same name, certificates of one would fail verification against the other with a
    // misleading error.
    let mut params = named(&format!("msnb test authority {:08x}", rand::random::<u32>()), Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = Authority::self_signed(params, KeyPair::generate()?)?;
    fs::write(directory.join("ca.pem"), authority.pem())?;
    servers.extend(["127.0.0.1", "::1", "localhost"].map(str::to_owned));
    issue(&authority, &directory, "server", servers, ExtendedKeyUsagePurpose::ServerAuth)?;
    issue(&authority, &directory, "client", vec![client], ExtendedKeyUsagePurpose::ClientAuth)?;
    let at = directory.display();
    println!(
        "wrote ca.pem, server.pem, server.key, client.pem and client.key to {at}; run each command in its own terminal:"
    );
    println!(
        "  cargo run --features tls --bin provider -- --tls-cert {at}/server.pem --tls-key {at}/server.key --client-ca {at}/ca.pem"
    );
    println!(
        "  cargo run --features tls --bin consumer -- --tls-ca {at}/ca.pem --client-cert {at}/client.pem --client-key {at}/client.key"
    );
    Ok(())
}

fn issue(
    authority: &Authority,
    directory: &Path,
    file: &str,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(), Failure> {
    let mut params = named(&format!("msnb test {file}"), names)?;
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    fs::write(directory.join(format!("{file}.pem")), certificate.pem())?;
    write_secret(&directory.join(format!("{file}.key")), &key.serialize_pem())?;
    Ok(())
}

fn named(common_name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

/// Writes a file that only this user can read.
fn write_secret(path: &Path, content: &str) -> io::Result<()> {
    // Remove an existing file first, because overwriting would keep its permissions.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(content.as_bytes())
}
